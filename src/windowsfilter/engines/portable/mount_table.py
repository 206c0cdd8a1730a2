"""What the kernel says is mounted where, as this process sees it.

For looking only: detached mounts and those of other mount namespaces are not in the table. Source:
proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of the table."""

    place: Path
    kind: str
    """The file system: `erofs`, `overlay`, `fuse.windowsfilter`, ..."""

    @property
    def is_fuse(self) -> bool:
        return self.kind == "fuse" or self.kind.startswith("fuse.")


def read() -> list[Mounted]:
    """Every mount, in the order of mounting; empty where there is no such table."""
    try:
        lines = _TABLE.read_bytes().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        before, _, after = line.partition(b" - ")
        place = _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), before.split()[4])
        found.append(Mounted(Path(os.fsdecode(place)), os.fsdecode(after.split()[0])))
    return found


def at(place: Path) -> Mounted | None:
    """What is mounted at `place` (an absolute path without links), the topmost if several."""
    return next((mount for mount in reversed(read()) if mount.place == place), None)
