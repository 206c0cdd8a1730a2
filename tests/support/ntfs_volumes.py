"""NTFS volumes as ntfs-3g shows them: everything of every entry, for comparing.

An independent reader: what the package wrote is seen here through ntfs-3g's mount alone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import stat
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Entry:
    """One name on a volume."""

    record: int
    """Number of its MFT record: names with the same one are hard links."""
    is_directory: bool
    attributes: int
    creation: int
    write: int
    access: int
    change: int
    descriptor: bytes
    reparse: bytes
    eas: bytes
    blocks: int
    data: bytes = b""
    streams: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def times(self) -> tuple[int, int, int, int]:
        """Creation, access, write, change, as in an index."""
        return self.creation, self.access, self.write, self.change


@contextmanager
def mounted(volume: Path, place: Path) -> Iterator[Path]:
    """The volume at `place`, read-only."""
    place.mkdir(exist_ok=True)
    options = "ro,streams_interface=windows,noatime,nosuid,nodev"
    subprocess.run(["ntfs-3g", "-o", options, volume, place], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def read(volume: Path, place: Path) -> dict[bytes, Entry]:
    """Path -> entry of everything on a volume; the root is b"". No link is followed."""
    found: dict[bytes, Entry] = {}
    with mounted(volume, place):
        pending = [(os.open(place, os.O_RDONLY | os.O_DIRECTORY), b"")]
        found[b""] = _entry(pending[0][0], b".")
        while pending:
            folder, above = pending.pop()
            for name in os.listdir(folder):
                leaf = os.fsencode(name)
                path = above + b"/" + leaf if above else leaf
                entry = found[path] = _entry(folder, leaf)
                if entry.is_directory and not entry.reparse:
                    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
                    pending.append((os.open(leaf, flags, dir_fd=folder), path))
            os.close(folder)
    for entry in found.values():
        _read_data(volume, entry)
    return found


def check(volume: Path) -> None:
    """What ntfs-3g has for a file system check: nothing is wrong with the volume."""
    # The second counts every cluster, and who has it.
    for command in (["ntfsfix", "-n"], ["ntfsresize", "--info", "--force"]):
        done = subprocess.run([*command, volume], capture_output=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    audit = subprocess.run(["ntfssecaudit", "-a", volume], capture_output=True, check=False).stdout
    # Its second copy of the descriptors it reads beyond the end if that is a multiple of 16.
    for part in (b"$SDS-1", b"$SII", b"$SDH"):
        assert b"\n0 errors in " + part in audit, audit
    assert b"All keys are present in all lists" in audit, audit


def get_attribute(path: bytes, name: bytes) -> bytes:
    """An extended attribute of any size, b"" where there is none.

    Python's `os.getxattr` tries with 128 bytes, and gets an error from ntfs-3g that it gives up on.
    """
    size = _libc.getxattr(path, name, None, 0)
    if size < 0:
        number = ctypes.get_errno()
        if number == errno.ENODATA:
            return b""
        raise OSError(number, os.strerror(number), path, None, os.fsdecode(name))
    buffer = ctypes.create_string_buffer(size)
    size = _libc.getxattr(path, name, buffer, size)
    assert size >= 0
    return buffer.raw[:size]


def _entry(folder: int, name: bytes) -> Entry:
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
    try:
        path = b"/proc/self/fd/%d" % descriptor
        creation, write, access, change = struct.unpack(
            "<4Q", get_attribute(path, b"system.ntfs_times")
        )
        status = os.fstat(descriptor)
        return Entry(
            record=status.st_ino,
            is_directory=stat.S_ISDIR(status.st_mode),
            attributes=int.from_bytes(get_attribute(path, b"system.ntfs_attrib"), "little"),
            creation=creation,
            write=write,
            access=access,
            change=change,
            descriptor=get_attribute(path, b"system.ntfs_acl"),
            reparse=get_attribute(path, b"system.ntfs_reparse_data"),
            eas=get_attribute(path, b"system.ntfs_ea"),
            blocks=status.st_blocks,
        )
    finally:
        os.close(descriptor)


def _read_data(volume: Path, entry: Entry) -> None:
    """Data and streams, by record number: what a reparse point hides from a mount, too."""
    told = subprocess.run(
        ["ntfsinfo", "-f", "-i", str(entry.record), volume], capture_output=True, check=True
    ).stdout
    names = []
    for part in told.split(b"Dumping attribute ")[1:]:
        if part.startswith(b"$DATA"):
            given = re.search(rb"Attribute name:\s*'(.*)'\n", part)
            names.append(given[1] if given else b"")
    for name in dict.fromkeys(names):
        which: list[str | bytes] = ["-n", name] if name else []
        data = subprocess.run(
            ["ntfscat", "-q", "-i", str(entry.record), "-a", "128", *which, volume],
            capture_output=True,
            check=True,
        ).stdout
        if name:
            entry.streams[name] = data
        else:
            entry.data = data
