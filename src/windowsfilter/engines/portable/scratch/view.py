"""Single paths of a scratch, looked up in any case: what is there now, whoever it comes from."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass

from windowsfilter.engines.portable.links import parse_target
from windowsfilter.engines.portable.scratch.below import Below
from windowsfilter.engines.portable.scratch.links import windows_target
from windowsfilter.engines.portable.scratch.merge import Merged, Merger, Orphans, Place
from windowsfilter.engines.portable.scratch.upper import UpperDirectory, UpperKind
from windowsfilter.engines.portable.tree import ROOT
from windowsfilter.ntfs.names import fold

_MAX_LINKS = 40  # as many as Linux follows
_REPARSE_DIRECTORY = 0x10


@dataclass(slots=True)
class _State:
    """A directory that is being looked into; fields as in `Merger.merge`."""

    places: list[Place]
    lower: int | None
    there: int | None
    path: bytes


@dataclass(slots=True)
class _Table:
    """What a directory was found to hold."""

    names: dict[bytes, Merged]
    """By folded name: everything that is not simply the tree's."""
    gone: set[int]
    """Slots of the tree's entries that are deleted."""
    lower: int | None
    there: int | None


class ScratchView:
    """Looks paths up. `root` is the open upper directory.

    `keep` directories are remembered; with 0, changes in the upper are seen at once.
    """

    def __init__(self, below: Below, root: UpperDirectory, *, keep: int = 0) -> None:
        self._below = below
        self._root = root
        orphans = Orphans()
        orphans.collecting = False
        self._merger = Merger(below, orphans)
        self._keep = keep
        self._tables: OrderedDict[bytes, _Table | None] = OrderedDict()

    def find(self, path: bytes) -> Merged | None:
        """What is at a `/`-separated path in any case; None if nothing is, or for the root.

        The result's upper directory is not open any more: `reopen` it by its `path`.
        """
        above, _, leaf = path.strip(b"/").rpartition(b"/")
        table = self._directory(above) if leaf else None
        return None if table is None else self._look_up(table, fold(leaf))

    def trail(self, path: bytes) -> list[Merged] | None:
        """Everything on the way to a path, the topmost directory first, as `find` gives it."""
        trail: list[Merged] = []
        with ExitStack() as stack:
            state = _State([Place(self._root)], ROOT, ROOT, b"")
            for leaf in path.split(b"/"):
                if not leaf:
                    continue
                found = self._look_up(self._table(state), fold(leaf))
                if found is None:
                    return None
                trail.append(found)
                state = self._enter(state, found, stack)
        return trail

    def names(self, path: bytes) -> list[Merged] | None:
        """Everything in the directory at a path, by the bytes of names; None if it is none."""
        table = self._directory(path.strip(b"/"))
        if table is None:
            return None
        found = dict(table.names)
        if table.lower == table.there and table.lower is not None:
            for key in self._below.tree.kids.get(table.lower, {}):
                one = self._look_up(table, key)
                if one is not None:
                    found[key] = one
        return sorted(found.values(), key=lambda name: name.leaf)

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

    def _directory(self, path: bytes) -> _Table | None:
        """What the directory at a path holds; None if there is none."""
        key = fold(path)
        if key in self._tables:
            self._tables.move_to_end(key)
            return self._tables[key]
        table: _Table | None = None
        with ExitStack() as stack:
            state = _State([Place(self._root)], ROOT, ROOT, b"")
            for leaf in filter(None, path.split(b"/")):
                found = self._look_up(self._table(state), fold(leaf))
                if found is None or not self._is_directory(found):
                    break
                state = self._enter(state, found, stack)
            else:
                table = self._table(state)
        if self._keep:
            self._tables[key] = table
            if len(self._tables) > self._keep:
                self._tables.popitem(last=False)
        return table

    def _enter(self, state: _State, found: Merged, stack: ExitStack) -> _State:
        opened = [
            Place(stack.enter_context(directory.open_directory(entry)), exact)
            for directory, entry, exact in found.descend
        ]
        there = found.there if self._below.is_directory(found.there) else None
        path = state.path + b"/" + found.leaf if state.path else found.leaf
        return _State(opened, found.lower, there, path)

    def _table(self, state: _State) -> _Table:
        merge = self._merger.merge(state.places, state.lower, state.there, state.path)
        return _Table(
            {name.key: name for name in merge.names},
            {slot for _, slot in merge.whiteouts},
            state.lower,
            state.there,
        )

    def _look_up(self, table: _Table, key: bytes) -> Merged | None:
        found = table.names.get(key)
        if found is not None or table.lower != table.there:
            return found
        slot = self._below.kid(table.lower, key)
        if slot is None or slot in table.gone:
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
        return found.lower is not None

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
