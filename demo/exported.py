"""A volume that was exported, as ntfs-3g shows it, against the model and what the layers say."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.checks import file_digest
from demo.layertree import Kind
from demo.model import Model
from demo.report import check
from windowsfilter import Image

_PROGRAMS = ("mkntfs", "ntfs-3g")


@dataclass(slots=True)
class VolumeFacts:
    """How much a comparison has looked at."""

    files: int = 0
    streams: int = 0
    data: int = 0


def missing() -> str | None:
    """Why nothing can be exported here, None if it can."""
    if os.geteuid():
        return "exporting needs root"
    lacking = [name for name in _PROGRAMS if shutil.which(name) is None]
    return f"exporting needs the package ntfs-3g ({', '.join(lacking)})" if lacking else None


@contextmanager
def mounted(volume: Path, folder: Path) -> Iterator[None]:
    """The volume at a folder, read-only."""
    options = "ro,streams_interface=windows,noatime,nosuid,nodev"
    subprocess.run(["ntfs-3g", "-o", options, volume, folder], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def compare(folder: Path, model: Model, image: Image) -> VolumeFacts:
    """Every file and stream: bytes by the model, attributes and all four times by the layers."""
    facts = VolumeFacts()
    everything = model.below("Files")
    # The utility VM's names of a file are not on the volume.
    links = Counter(seen.inode for seen in everything if seen.kind is not Kind.STREAM)
    hashed: set[int] = set()
    for seen in everything:
        path = seen.path.removeprefix("Files/")
        place = folder / path
        if seen.kind not in (Kind.FILE, Kind.STREAM):
            check(os.path.lexists(place), f"the volume lacks {path}")
            continue
        if seen.inode not in hashed or seen.kind is Kind.STREAM:
            check(file_digest(place) == seen.sha256, f"{path} has other bytes")
            facts.data += seen.size
            hashed.add(seen.inode)
        if seen.kind is Kind.STREAM:
            facts.streams += 1
            continue
        facts.files += 1
        names = place.stat().st_nlink
        check(names == links[seen.inode], f"{path} has {names} names")
        said = image.path(path).lstat()
        creation, write, access, change = struct.unpack(
            "<4Q", os.getxattr(place, "system.ntfs_times")
        )
        check(
            (creation, access, write, change)
            == (
                said.creation_time,
                said.last_access_time,
                said.last_write_time,
                said.change_time,
            ),
            f"{path} has other times",
        )
        attributes = int.from_bytes(os.getxattr(place, "system.ntfs_attrib"), "little")
        check(attributes == said.attributes or not said.attributes, f"{path}: other attributes")
    return facts
