"""Wrong input for the command, and proof that a refusal leaves the store as it was."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import images
from tests.support.command import Command, Done, write_layout

# What belongs to no image: the database (its rows are compared by `images`), locks, the reserve.
_CHANGING = ("catalog.db", "catalog.db-wal", "catalog.db-shm", "lock", "reserve")


def contents(root: Path) -> dict[str, str]:
    """Path below `root` -> digest, or what else is there."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            kind = path.lstat()
            key = str(path.relative_to(root))
            if key in _CHANGING:
                continue
            found[key] = f"{stat.filemode(kind.st_mode)} "
            if stat.S_ISREG(kind.st_mode):
                found[key] += hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@contextmanager
def unchanged(command: Command) -> Iterator[None]:
    """The store has the same files, images and layers after the body as before."""

    def state() -> dict[str, object]:
        listed = {"images": command.json("images"), "layers": command.json("layer", "ls")}
        return {**listed, **contents(command.root)}

    before = state()
    yield
    after = state()
    changes = {key for key in before | after if before.get(key) != after.get(key)}
    assert not changes, [(key, before.get(key), after.get(key)) for key in sorted(changes)]
    assert list((command.root / "tmp").iterdir()) == []


def refused(command: Command, *arguments: str | Path, code: int = 3) -> str:
    """Run what must fail and leave the store alone; returns its one line of complaint."""
    with unchanged(command):
        done: Done = command(*arguments)
    assert done.code == code, (done.code, done.err)
    assert done.out == b""
    assert done.err.startswith("windowsfilter: ")
    assert done.err.count("\n") == 1, done.err
    assert "this is a bug" not in done.err
    return done.err


def one_bad_layer(folder: Path, layer: bytes | Iterable[bytes]) -> Path:
    """A layout with a good base layer and this one upon it."""
    bad = layer if isinstance(layer, bytes) else b"".join(layer)
    return write_layout(folder, images.BASE, bad, tag="bad:1")
