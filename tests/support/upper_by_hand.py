"""An upper directory made by hand, as overlayfs would leave it, for the decision table's tests."""

from __future__ import annotations

import os
import stat

from tests.support import chains
from tests.support.scratches import TestScratch

LONG = "長" * 200
BASE = [
    chains.folder("Files", sd=chains.OWNER_SYSTEM),
    chains.folder("Files/Windows", sd=chains.OWNER_SYSTEM),
    chains.file("Files/Windows/notes", b"notes"),
    chains.file("Files/Windows/notes:keep", b"kept"),
    chains.file("Files/Windows/other", b"other"),
    chains.folder("Files/Windows/System"),
    chains.file("Files/Windows/System/dll", b"dll"),
    chains.file("Files/Windows/System/dll:mark", b"of dll"),
    chains.hard_link("Files/Windows/linked", "Files/Windows/other"),
    chains.symlink("Files/Windows/away", r"D:\away"),
    chains.symlink("Files/Windows/near", "notes"),
    chains.folder("Files/Empty"),
    chains.file(f"Files/{LONG}", b"long"),
    chains.folder("UtilityVM"),
    chains.folder("UtilityVM/Files"),
    chains.file("UtilityVM/Files/tool", b"tool"),
    chains.file("Hives/Sam_Delta", b"hive"),
]


class Hand:
    """Makes what overlayfs would make."""

    def __init__(self, work: TestScratch) -> None:
        self.work = work
        self.upper = work.upper

    def folder(self, path: str, *, origin: str | None = None, **marks: bytes) -> None:
        """A directory copied up from where it is, or from `origin`; "" is a new one."""
        origin = path if origin is None else origin
        if not (self.upper / path).exists():
            (self.upper / path).mkdir()
            if origin:
                self.work.come_from(path, origin)
        for name, value in marks.items():
            self.work.mark(path, f"overlay.{name}", value)

    def above(self, path: str) -> None:
        """Copy up every directory above a path that is not in the upper yet."""
        parts = path.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            folder = "/".join(parts[:count])
            if not (self.upper / folder).exists():
                known = self.work.tree.lookup(folder.encode()) is not None
                self.folder(folder, origin=None if known else "")

    def file(self, path: str, data: bytes, *, origin: str = "") -> None:
        self.above(path)
        place = self.upper / path
        place.write_bytes(data)
        if origin:
            self.work.come_from(path, origin)
            os.utime(place, ns=(chains.A_TIME_NS, chains.A_TIME_NS))

    def whiteout(self, path: str) -> None:
        self.above(path)
        os.mknod(self.upper / path, stat.S_IFCHR, os.makedev(0, 0))
