"""Single paths of a scratch, looked up in any case: what is there now, whoever it comes from."""

from __future__ import annotations

from contextlib import ExitStack

from windowsfilter.engines.portable.links import parse_target
from windowsfilter.engines.portable.scratch_below import Below
from windowsfilter.engines.portable.scratch_links import windows_target
from windowsfilter.engines.portable.scratch_merge import Merged, Merger, Orphans, Place
from windowsfilter.engines.portable.scratch_upper import UpperDirectory, UpperKind
from windowsfilter.engines.portable.tree import ROOT
from windowsfilter.ntfs.names import fold

_MAX_LINKS = 40  # as many as Linux follows
_REPARSE_DIRECTORY = 0x10


class ScratchView:
    """Looks paths up. `root` is the open upper directory; what changes in it is seen."""

    def __init__(self, below: Below, root: UpperDirectory) -> None:
        self._below = below
        self._root = root
        orphans = Orphans()
        orphans.collecting = False
        self._merger = Merger(below, orphans)

    def find(self, path: bytes) -> Merged | None:
        """What is at a `/`-separated path in any case; None if nothing is.

        The result's upper directory is not open any more: `reopen` it by its `path`.
        """
        keys = [fold(leaf) for leaf in path.split(b"/") if leaf]
        found: Merged | None = None
        with ExitStack() as stack:
            above = b""
            state: tuple[list[Place], int | None, int | None] = ([Place(self._root)], ROOT, ROOT)
            for key in keys:
                found = self._step(state, above, key)
                if found is None:
                    return None
                above = above + b"/" + found.leaf if above else found.leaf
                opened = []
                for directory, entry, exact in found.descend:
                    inner = stack.enter_context(directory.open_directory(entry))
                    opened.append(Place(inner, exact))
                inside = found.there if self._below.is_directory(found.there) else None
                state = (opened, found.lower, inside)
        return found

    def leads_to_directory(self, path: bytes, target: bytes) -> bool:
        """Whether the Windows target of a link at `path` is a directory, over other links too."""
        volume, inside = _volume(path)
        if volume is None:
            return False
        at = inside[:-1]
        for _ in range(_MAX_LINKS):
            parsed = parse_target(target)
            if parsed is None:
                return False
            absolute, leaves = parsed
            at = _normalize([] if absolute else at, leaves)
            found, rest, holder = self._along(volume, at)
            if found is None:
                return not at
            link = self._target(found)
            if link is None:
                return not rest and self._is_directory(found)
            if not rest and self._is_directory_link(found):
                return True
            # The rest of the path goes on from where the link leads.
            at, target = holder, b"\\".join([link, *rest])
        return False

    def _step(
        self, state: tuple[list[Place], int | None, int | None], above: bytes, key: bytes
    ) -> Merged | None:
        places, lower, there = state
        merge = self._merger.merge(places, lower, there, above)
        for name in merge.names:
            if name.key == key:
                return name
        slot = self._below.kid(lower, key) if lower == there else None
        if slot is None or any(slot == gone for _, gone in merge.whiteouts):
            return None
        return self._merger.base(key, slot, there=slot)

    def _along(
        self, volume: bytes, leaves: list[bytes]
    ) -> tuple[Merged | None, list[bytes], list[bytes]]:
        """The first link on a path or its end; what is left of the path; the directory it is in."""
        found = None
        for count in range(1, len(leaves) + 1):
            found = self.find(b"/".join([volume, *leaves[:count]]))
            if found is None or self._target(found) is not None:
                return found, leaves[count:], leaves[: count - 1]
        return found, [], leaves[:-1]

    def _target(self, found: Merged) -> bytes | None:
        """The Windows target of a link, None for everything else."""
        if found.upper is None:
            return None if found.origin is None else self._below.shown.target(found.origin)
        if found.upper.kind is not UpperKind.SYMLINK:
            return None
        assert found.place is not None
        with self._root.reopen(found.place.path) as place:
            target = place.readlink(found.upper)
        origin = found.origin
        if origin is not None and self._below.shown.readlink(origin) == target:
            return self._below.shown.target(origin)
        return windows_target(target, found.place.child(found.upper.name))

    def _is_directory(self, found: Merged) -> bool:
        if found.upper is not None:
            return found.upper.kind is UpperKind.DIRECTORY
        return self._below.is_directory(found.origin)

    def _is_directory_link(self, found: Merged) -> bool:
        record = None if found.origin is None else self._below.tree.record(found.origin)
        return record is not None and bool(record.attributes & _REPARSE_DIRECTORY)


def _volume(path: bytes) -> tuple[bytes | None, list[bytes]]:
    """The directory that is a volume's root, and the components of `path` in it."""
    leaves = path.split(b"/")
    for count in (1, 2):
        if fold(b"/".join(leaves[:count])) in (b"FILES", b"UTILITYVM/FILES"):
            return b"/".join(leaves[:count]), leaves[count:]
    return None, []


def _normalize(start: list[bytes], leaves: list[bytes]) -> list[bytes]:
    """`leaves` seen from `start`; `..` at the root stays there, as on Windows."""
    path = list(start)
    for leaf in leaves:
        if leaf != b"..":
            path.append(leaf)
        elif path:
            path.pop()
    return path
