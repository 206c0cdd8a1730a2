"""What the demonstration's container does to its files, once in words and twice in deeds.

The same changes are made to the model, and to a real scratch: through the kernel's mount, as a
container would, or without root through the Python library.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from demo.content import CMAKE, PYTHON, ZIG
from demo.layertree import Kind, Written
from demo.model import Model
from windowsfilter import Scratch

CHANGED: Final = f"{ZIG}/lib/std/std.zig"
NEW_TEXT: Final = b"// changed in a container\r\n"
DELETED: Final = f"{ZIG}/lib/libcxx/LICENSE.TXT"
DELETED_FOLDER: Final = f"{CMAKE}/share/cmake-3.31/Templates"
MOVED: Final = f"{ZIG}/README.md"
MOVED_TO: Final = f"{ZIG}/lib/Read me.md"
NEW_FILE: Final = f"{PYTHON}/Lib/site-packages/demo/__init__.py"
STREAM: Final = f"{CHANGED}:review"
STREAM_TEXT: Final = b"read by two people\r\n"
RESPELLED: Final = "Files/Users/Public/empty"
# The layer spells it so; a chain shows the first spelling as long as a name stays.
RESPELLED_TO: Final = "Files/Users/Public/EMPTY"
# Linux lets a container make `windows` beside `Windows`; to Windows they are one folder.
LOOK_ALIKE: Final = "Files/windows/new in another case.txt"
LOOK_ALIKE_SHOWN: Final = "Files/Windows/new in another case.txt"


class Hands(Protocol):
    """Something that can change a scratch. Paths are as in the tar."""

    def write(self, path: str, data: bytes) -> None: ...

    def remove(self, path: str) -> None:
        """A file, or a folder with all in it."""

    def rename(self, path: str, to: str) -> None: ...

    def make_folder(self, path: str) -> None: ...


def work(hands: Hands) -> None:
    """Everything the container does."""
    hands.write(CHANGED, NEW_TEXT)
    hands.write(STREAM, STREAM_TEXT)
    hands.remove(DELETED)
    hands.remove(DELETED_FOLDER)
    hands.rename(MOVED, MOVED_TO)
    hands.rename(RESPELLED, RESPELLED_TO)
    hands.make_folder(NEW_FILE.rpartition("/")[0])
    hands.write(NEW_FILE, b"")
    hands.make_folder(LOOK_ALIKE.rpartition("/")[0])
    hands.write(LOOK_ALIKE, NEW_TEXT)


def changes() -> set[tuple[str, str]]:
    """What a diff must then list, apart from the folders that lead there: (kind, path)."""
    return {
        ("modify", CHANGED),
        ("delete", DELETED),
        ("delete", DELETED_FOLDER),
        ("delete", MOVED),
        ("add", MOVED_TO),
        ("modify", RESPELLED_TO),
        ("add", NEW_FILE.rpartition("/")[0]),
        ("add", NEW_FILE),
        ("add", LOOK_ALIKE_SHOWN),
    }


def apply_to(model: Model) -> None:
    """The same work, done to the model."""
    moved = model[MOVED]
    for path in (DELETED, DELETED_FOLDER, MOVED):
        model.remove(path)
    model.put(Written(Kind.DIRECTORY, NEW_FILE.rpartition("/")[0]))
    for path, data in {
        CHANGED: NEW_TEXT,
        NEW_FILE: b"",
        LOOK_ALIKE: NEW_TEXT,
        RESPELLED_TO: b"",
    }.items():
        digest = hashlib.sha256(data).hexdigest()
        model.put(Written(Kind.FILE, path, len(data), digest))
    digest = hashlib.sha256(STREAM_TEXT).hexdigest()
    model.put(Written(Kind.STREAM, STREAM, len(STREAM_TEXT), digest))
    model.put(Written(Kind.FILE, MOVED_TO, moved.size, moved.sha256))


class MountedHands:
    """Changes a scratch through its mount; `folder` shows the volume, what is under `Files`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, path: str, data: bytes) -> None:
        self._at(path).write_bytes(data)

    def remove(self, path: str) -> None:
        place = self._at(path)
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink()

    def rename(self, path: str, to: str) -> None:
        self._at(path).rename(self._at(to))

    def make_folder(self, path: str) -> None:
        self._at(path).mkdir(exist_ok=True)

    def _at(self, path: str) -> Path:
        return self._folder / _volume(path)


class LibraryHands:
    """Changes a scratch through the Python library, which needs neither root nor a mount."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch

    def write(self, path: str, data: bytes) -> None:
        self._scratch.write_bytes(_volume(path), data)

    def remove(self, path: str) -> None:
        self._scratch.remove(_volume(path), recursive=True)

    def rename(self, path: str, to: str) -> None:
        self._scratch.rename(_volume(path), _volume(to))

    def make_folder(self, path: str) -> None:
        self._scratch.mkdir(_volume(path), exist_ok=True)


def _volume(path: str) -> str:
    return path.removeprefix("Files/")


def parents(paths: set[str]) -> Iterator[str]:
    """Every folder above these paths."""
    for path in paths:
        while "/" in path:
            path = path.rpartition("/")[0]
            yield path
