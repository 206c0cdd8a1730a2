"""Comparisons that do not trust the program: with the kernel's eyes, and with plain tar and gzip."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.layertree import Kind
from demo.model import Model, Seen
from demo.report import check
from windowsfilter import Image

_MAX_LINUX_NAME = 255
_CHUNK = 1 << 20


@dataclass(slots=True)
class MountFacts:
    """How much a comparison of a mount has looked at."""

    files: int = 0
    folders: int = 0
    symlinks: int = 0
    data: int = 0
    linked: int = 0
    """Names whose file has more than one."""
    aliased: int = 0
    """Names too long for Linux, shown under another one."""


def compare_mount(folder: Path, model: Model) -> MountFacts:
    """Everything below the mount against the model's volume, file by file and byte by byte."""
    facts = MountFacts()
    expected = {
        seen.path.removeprefix("Files/"): seen
        for seen in model.below("Files")
        if seen.kind is not Kind.STREAM
    }
    long_names = {
        path for path in expected if len(path.rpartition("/")[2].encode()) > _MAX_LINUX_NAME
    }
    links = model.links()
    unexpected = []
    for path, item in _walk(folder):
        seen = expected.pop(path, None)
        if seen is None:
            unexpected.append((path, item))
        else:
            _compare_entry(folder, item, seen, links[seen.inode], facts)
    for path, item in unexpected:
        owner = next((long for long in long_names if _same_folder(long, path)), None)
        check(owner is not None, f"the mount has {path}, which is in no layer")
        long_names.discard(str(owner))
        _compare_entry(folder, item, expected.pop(str(owner)), 1, facts)
        facts.aliased += 1
    check(not expected, f"the mount lacks {sorted(expected)[:5]} of {len(expected)} names")
    return facts


def compare_library(image: Image, model: Model) -> int:
    """Every file of the model's volume, read through the library. Returns how many there are."""
    files = [seen for seen in model.below("Files") if seen.kind in (Kind.FILE, Kind.STREAM)]
    for seen in files:
        with image.path(seen.path.removeprefix("Files/")).open() as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        check(digest == seen.sha256, f"{seen.path} has other bytes")
    return len(files)


def _walk(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every name below `folder` with its path relative to it."""
    waiting = [(str(folder), "")]
    while waiting:
        place, prefix = waiting.pop()
        with os.scandir(place) as items:
            for item in items:
                path = f"{prefix}{item.name}"
                yield path, item
                if item.is_dir(follow_symlinks=False):
                    waiting.append((item.path, f"{path}/"))


def _same_folder(path: str, other: str) -> bool:
    return path.rpartition("/")[0] == other.rpartition("/")[0]


def _compare_entry(
    folder: Path, item: os.DirEntry[str], seen: Seen, links: int, facts: MountFacts
) -> None:
    status = item.stat(follow_symlinks=False)
    if seen.kind is Kind.DIRECTORY:
        check(item.is_dir(follow_symlinks=False), f"{item.path} should be a folder")
        facts.folders += 1
    elif seen.kind is Kind.SYMLINK:
        check(item.is_symlink(), f"{item.path} should be a symbolic link")
        _compare_target(folder, item, seen.target)
        facts.symlinks += 1
    else:
        check(item.is_file(follow_symlinks=False), f"{item.path} should be a file")
        check(status.st_size == seen.size, f"{item.path} has {status.st_size} bytes")
        check(status.st_nlink == links, f"{item.path} has {status.st_nlink} names, not {links}")
        check(file_digest(Path(item.path)) == seen.sha256, f"{item.path} has other bytes")
        facts.files += 1
        facts.data += status.st_size
        facts.linked += links > 1


def _compare_target(folder: Path, item: os.DirEntry[str], target: str) -> None:
    """A target inside the volume leads there; any other is Windows text that leads nowhere."""
    text = os.readlink(item.path)
    if target.startswith("C:\\"):
        wanted = folder / target.removeprefix("C:\\").replace("\\", "/")
        check(not text.startswith("/"), f"{item.path} leads out of the mount: {text}")
        check(os.path.samefile(item.path, wanted), f"{item.path} leads to {text}")
    elif "\\" in target:
        check(text == target, f"{item.path} should be the text {target}, is {text}")
        check(not os.path.exists(item.path), f"{item.path} leads somewhere on this host")


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(slots=True)
class SavedLayer:
    """One layer of a saved image, as plain gzip and tar see it."""

    diff_id: str
    members: list[tarfile.TarInfo]


def read_saved(path: Path, *, members_of: int) -> list[SavedLayer]:
    """The layers of an OCI image in a tar, base first, with nothing but the standard library.

    Every digest is checked. Members are listed for layer `members_of` alone.
    """
    with tarfile.open(path) as archive:

        def blob(descriptor: dict[str, Any]) -> Any:
            file = archive.extractfile(
                f"blobs/sha256/{descriptor['digest'].removeprefix('sha256:')}"
            )
            check(file is not None, f"{path} lacks {descriptor['digest']}")
            return file

        def document(descriptor: dict[str, Any]) -> Any:
            data = blob(descriptor).read()
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            check(digest == descriptor["digest"], f"{digest} calls itself {descriptor['digest']}")
            return json.loads(data)

        index = archive.extractfile("index.json")
        check(index is not None, f"{path} has no index.json")
        (described,) = json.load(index)["manifests"]  # type: ignore[arg-type]  # checked above
        manifest = document(described)
        config = document(manifest["config"])
        layers = []
        for number, layer in enumerate(manifest["layers"]):
            members = _members(blob(layer)) if number == members_of else []
            layers.append(SavedLayer(_diff_id(blob(layer)), members))
        check(
            [layer.diff_id for layer in layers] == config["rootfs"]["diff_ids"],
            "the saved layers are not those of the configuration",
        )
        return layers


def _diff_id(packed: Any) -> str:
    digest = hashlib.sha256()
    with gzip.open(packed) as tar:
        while chunk := tar.read(_CHUNK):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def _members(packed: Any) -> list[tarfile.TarInfo]:
    with gzip.open(packed) as unpacked, tarfile.open(fileobj=unpacked) as tar:
        return tar.getmembers()
