"""Our mounts in this process's mount table. For finding leftovers, never for deciding who needs what.

Detached mounts and those of other namespaces are not in it; the store's holds know those.
Source: proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(rb"\\([0-7]{3})")
_OVERLAY_SOURCE = "windowsfilter:"
_FUSE_KIND = "fuse.windowsfilter"


@dataclass(frozen=True, slots=True)
class TableEntry:
    """One of our mounts. `name` is a chain image's key, or what an overlay was named."""

    target: Path
    kind: str
    """File system: erofs, overlay, or that of our FUSE server."""
    name: str
    subtree: str
    """What of the file system is shown: `/`, or `/Files` for a volume view."""


def our_mounts(chains: Path) -> list[TableEntry]:
    """Mounts of images below `chains`, overlays that we named, and FUSE mounts, oldest first."""
    try:
        data = _TABLE.read_bytes()
    except OSError:
        return []
    return list(_ours(data, Path(os.path.abspath(chains))))


def is_mount_point(target: Path) -> bool:
    """Whether anything at all is mounted exactly at `target`."""
    wanted = os.fsencode(os.path.abspath(target))
    return any(
        _unescape(line.split(b" ")[4]) == wanted for line in _TABLE.read_bytes().splitlines()
    )


def _ours(data: bytes, chains: Path) -> Iterator[TableEntry]:
    for line in data.splitlines():
        before, _, after = line.partition(b" - ")
        fields, rest = before.split(b" "), after.split(b" ")
        if len(fields) < 6 or len(rest) < 2:
            continue
        kind, source = rest[0].decode(), os.fsdecode(_unescape(rest[1]))
        name = None
        if kind == "erofs":
            name = _key(_backing_file(source), chains)
        elif kind == "overlay" and source.startswith(_OVERLAY_SOURCE):
            name = source.removeprefix(_OVERLAY_SOURCE)
        elif kind == _FUSE_KIND:
            name = source
        if name is not None:
            target = Path(os.fsdecode(_unescape(fields[4])))
            yield TableEntry(target, kind, name, os.fsdecode(_unescape(fields[3])))


def _key(source: str, chains: Path) -> str | None:
    """The chain image's key if the source is one of ours."""
    path = Path(source)
    return path.parent.name if path.parent.parent == chains else None


def _backing_file(source: str) -> str:
    """The file behind a loop device, or `source` itself."""
    name = source.removeprefix("/dev/")
    if name.startswith("loop") and "/" not in name:
        try:
            return Path("/sys/block", name, "loop", "backing_file").read_text().rstrip("\n")
        except OSError:
            pass
    return source


def _unescape(text: bytes) -> bytes:
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), text)
