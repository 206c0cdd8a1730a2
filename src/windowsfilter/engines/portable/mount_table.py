"""What the kernel says is mounted where, as this process sees it.

For looking only: detached mounts and those of other mount namespaces are not in the table; who needs
what is in the store's holds. Source: proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(rb"\\([0-7]{3})")
_OVERLAY_SOURCE = "windowsfilter:"
_FUSE_KIND = "fuse.windowsfilter"


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of the table."""

    place: Path
    kind: str
    """The file system: `erofs`, `overlay`, `fuse.windowsfilter`, ..."""
    source: str = ""
    """What was mounted: an image file, a loop device, or a name."""
    subtree: str = "/"
    """What of the file system is shown: `/Files` for a volume view."""

    @property
    def is_fuse(self) -> bool:
        return self.kind == "fuse" or self.kind.startswith("fuse.")

    def name(self, chains: Path) -> str | None:
        """Which of our mounts this is, None if it is somebody else's.

        The key of an image in the folder `chains`, what an overlay was named, or the FUSE server's
        name.
        """
        if self.kind == "erofs":
            image = Path(_backing_file(self.source))
            return image.parent.name if image.parent.parent == chains.absolute() else None
        if self.kind == "overlay" and self.source.startswith(_OVERLAY_SOURCE):
            return self.source.removeprefix(_OVERLAY_SOURCE)
        return self.source if self.kind == _FUSE_KIND else None


def read() -> list[Mounted]:
    """Every mount, in the order of mounting; empty where there is no such table."""
    try:
        lines = _TABLE.read_bytes().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        before, _, after = line.partition(b" - ")
        fields, rest = before.split(b" "), after.split(b" ")
        if len(fields) > 5 and len(rest) > 1:
            found.append(
                Mounted(
                    place=Path(_text(fields[4])),
                    kind=_text(rest[0]),
                    source=_text(rest[1]),
                    subtree=_text(fields[3]),
                )
            )
    return found


def at(place: Path) -> Mounted | None:
    """What is mounted at `place` (an absolute path without links), the topmost if several."""
    return next((mount for mount in reversed(read()) if mount.place == place), None)


def _text(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), field))


def _backing_file(source: str) -> str:
    """The file behind a loop device, or `source` itself."""
    name = source.removeprefix("/dev/")
    if name.startswith("loop") and "/" not in name:
        try:
            return Path("/sys/block", name, "loop", "backing_file").read_text().rstrip("\n")
        except OSError:
            pass
    return source
