"""A little disk space kept back, so that things can be removed from a store whose disk is full.

Removing needs room itself: SQLite's log and shared memory, a folder in `tmp`. The reserve is a file of
allocated blocks that is given up when the disk is nearly full, and made again when there is room.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

# Enough for the log of removing some thousand layers.
RESERVE_BYTES = 4 << 20
# With so much free there is no shortage, and a reserve does not create one.
PLENTY_BYTES = 64 << 20

FILE = "reserve"

_log = logging.getLogger(__name__)


class Reserve:
    """The reserve of the store at `root`. Failing to keep one is no error."""

    def __init__(self, root: Path) -> None:
        self._path = root / FILE

    def spend(self) -> bool:
        """Give the reserve up if the disk is nearly full; whether it was."""
        if self._free() >= RESERVE_BYTES:
            return False
        with suppress(OSError):
            self._path.unlink()
            _log.warning("the disk of %s is full; using the space in reserve", self._path.parent)
            return True
        return False

    def keep(self) -> None:
        """Make the reserve if it is missing and there is plenty of room."""
        if self._path.exists() or self._free() < PLENTY_BYTES:
            return
        with suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
                else:
                    os.write(descriptor, bytes(RESERVE_BYTES))
            finally:
                os.close(descriptor)

    def _free(self) -> int:
        if not hasattr(os, "statvfs"):
            return PLENTY_BYTES
        info = os.statvfs(self._path.parent)
        return info.f_bavail * info.f_frsize
