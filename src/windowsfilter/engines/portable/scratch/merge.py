"""One directory of a scratch: what its upper and the tree below make of each name together.

This is the decision table of docs/formats/scratch.md, sections 2 and 3; row numbers in comments are
its rows. Overlayfs compares names exactly and leaves marks accordingly; Windows compares them
folded. Both views meet here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from windowsfilter.engines.portable.scratch.below import Below
from windowsfilter.engines.portable.scratch.upper import (
    ScratchRefused,
    UpperDirectory,
    UpperEntry,
    UpperKind,
    shown,
)
from windowsfilter.ntfs.names import check_component, fold, plain_stream, utf16_units
from windowsfilter.wire import whiteouts

MAX_PATH_UNITS = 32_767
TOP_LEVEL = (b"FILES", b"HIVES", b"UTILITYVM")


@dataclass(frozen=True, slots=True)
class Place:
    """An upper directory that takes part in a merge.

    `exact` is False for one that overlayfs took for a new directory although Windows would not
    (row 9): its whiteouts and marks mean nothing.
    """

    directory: UpperDirectory
    exact: bool = True


@dataclass(frozen=True, slots=True)
class StreamMark:
    """A stream that an upper directory holds, or with `entry` None one that it takes away."""

    name: bytes
    directory: bytes
    """Path of the upper directory it lies in."""
    entry: UpperEntry | None


@dataclass(slots=True)
class Merged:
    """One name of a directory as Windows would see it. `None` is explained where it can be."""

    key: bytes
    leaf: bytes
    """The real name, spelled as it is to be written."""
    place: UpperDirectory | None = None
    upper: UpperEntry | None = None
    """What the upper has; None where the tree shows through."""
    descend: list[tuple[UpperDirectory, UpperEntry, bool]] = field(default_factory=list)
    """Upper directories to merge below this one: where, which, whether exact."""
    origin: int | None = None
    """Slot whose entry gives the metadata, and the data if `upper` is None; None: new."""
    lower: int | None = None
    """Slot of the directory that shows through."""
    there: int | None = None
    """Slot the tree has at this path."""
    streams: list[StreamMark] = field(default_factory=list)


@dataclass(slots=True)
class Merge:
    """All names of a directory that matter, in byte order, and what it deletes."""

    names: list[Merged]
    whiteouts: list[tuple[bytes, int]]
    """(name, slot it had in the tree), in byte order."""


@dataclass(slots=True)
class _Candidate:
    directory: UpperDirectory
    exact_place: bool
    entry: UpperEntry
    slot: int | None
    """The lower entry that is shown under exactly this name."""

    @property
    def path(self) -> bytes:
        return self.directory.child(self.entry.name)

    @property
    def is_directory(self) -> bool:
        return self.entry.kind is UpperKind.DIRECTORY


class Orphans:
    """Streams whose file is not beside them any more, by the inode of the file they had."""

    def __init__(self) -> None:
        self.found: dict[int, list[StreamMark]] = {}
        self.adopted: set[int] = set()
        self.collecting = True
        """A scratch is merged twice where there are streams: to find orphans, to give them away."""

    def add(self, inode: int, mark: StreamMark) -> None:
        if self.collecting:
            self.found.setdefault(inode, []).append(mark)


class Merger:
    """Merges directories of one scratch."""

    def __init__(self, below: Below, orphans: Orphans) -> None:
        self._below = below
        self._orphans = orphans

    def merge(
        self, places: Sequence[Place], lower: int | None, there: int | None, path: bytes
    ) -> Merge:
        """What is in the directory at `path`.

        `lower` and `there` are slots of directories of the tree: the one that shows through, and
        the one that the path has without the scratch. Raises ScratchRefused by name.
        """
        return _Directory(self._below, self._orphans, lower, there, path).merge(places)

    def base(self, key: bytes, slot: int, *, there: int | None) -> Merged:
        """A name of the tree as it shows through."""
        merged = _base(self._below, key, slot)
        merged.there = there
        return merged


class _Directory:
    def __init__(
        self, below: Below, orphans: Orphans, lower: int | None, there: int | None, path: bytes
    ) -> None:
        self.below = below
        self.orphans = orphans
        self.lower = lower
        self.there = there
        self.path = path
        self.gone: set[int] = set()
        """Slots of lower entries that were removed under their exact names (row 1)."""
        self.streams: dict[bytes, list[tuple[_Candidate, bytes]]] = {}
        """Folded file name -> its streams in the upper, with their names."""

    def merge(self, places: Iterable[Place]) -> Merge:
        merged = {key: self._name(key, found) for key, found in self._read(places).items()}
        self._attach_streams(merged)
        if self.lower is not None and self.lower != self.there:
            self._show_through(merged)
        for name in merged.values():
            name.there = self._there(name.key)
            self._check_path(name)
            self._adopt(name)
        return Merge(sorted(merged.values(), key=lambda name: name.leaf), self._whiteouts(merged))

    # -- reading ------------------------------------------------------------------------------

    def _read(self, places: Iterable[Place]) -> dict[bytes, list[_Candidate]]:
        """Upper entries by folded real name; whiteouts and streams are put aside."""
        names: dict[bytes, list[_Candidate]] = {}
        for place in places:
            for entry in place.directory.entries():
                slot = None
                if self.lower is not None and place.exact:
                    slot = self.below.shown.entry(self.lower, entry.name)
                found = _Candidate(place.directory, place.exact, entry, slot)
                if slot is None and b":" in entry.name:
                    self._read_stream(found)
                elif entry.kind is not UpperKind.WHITEOUT:
                    key = fold(entry.name if slot is None else self.below.tree.names[slot])
                    names.setdefault(key, []).append(found)
                elif slot is not None:  # else row 2
                    self.gone.add(slot)
        return names

    def _read_stream(self, found: _Candidate) -> None:
        """Row 38: what stands behind the colon must be one stream's name."""
        name = found.entry.name
        owner, _, stream = name.partition(b":")
        stream = plain_stream(stream)
        if not owner or not stream or b":" in stream or check_stream(stream) is not None:
            raise ScratchRefused(found.path, "is neither a file name nor FILE:STREAM to Windows")
        if found.entry.kind not in (UpperKind.FILE, UpperKind.WHITEOUT):
            raise ScratchRefused(
                found.path, f"is a {found.entry.kind.value}, streams are plain files"
            )
        self.streams.setdefault(fold(owner), []).append((found, stream))

    # -- one name -----------------------------------------------------------------------------

    def _name(self, key: bytes, found: list[_Candidate]) -> Merged:
        below = self.below.kid(self.lower, key)
        exact = [one for one in found if one.slot is not None]
        if exact and len(found) > 1:
            return self._one_directory(key, exact[0], found)
        if len(found) > 1:
            raise _clash(found[0].path, found[1].path)  # row 11
        if exact:
            return self._exact(key, found[0])
        if below is None or below in self.gone:
            return self._fresh(key, found[0])
        return self._other_spelling(key, found[0], below)

    def _exact(self, key: bytes, found: _Candidate) -> Merged:
        """Rows 3 to 6, 13, 15 to 18, 23, 24: the upper has the name as the tree spells it."""
        slot = found.slot
        assert slot is not None
        merged = self._of(key, self.below.tree.names[slot], found)
        if found.is_directory and merged.lower is None and not found.entry.opaque:
            merged.lower = slot if self.below.is_directory(slot) else None
        if merged.origin is None:
            merged.origin = merged.lower  # an implied directory has no entry to be copied up
        return merged

    def _fresh(self, key: bytes, found: _Candidate) -> Merged:
        """Rows 5, 7, 14, 18: nothing of this name shows through."""
        leaf = found.entry.name
        if leaf.startswith(whiteouts.PREFIX):
            raise ScratchRefused(found.path, "would be a whiteout in a layer")  # row 26
        reason = check_component(leaf)
        if reason is not None:
            raise ScratchRefused(found.path, f"is no name to Windows: it {reason}")
        merged = self._of(key, leaf, found)
        if merged.origin is None:
            merged.origin = merged.lower
        return merged

    def _other_spelling(self, key: bytes, found: _Candidate, below: int) -> Merged:
        """Rows 8 to 10: Windows would not have made a second name."""
        leaf = self.below.tree.names[below]
        if found.is_directory and self.below.is_directory(below):
            if found.entry.redirect is None:
                merged = Merged(key, leaf, origin=below, lower=below)
                merged.descend.append((found.directory, found.entry, False))
                return merged
        elif found.entry.kind is UpperKind.FILE and self.below.is_file(below):
            merged = self._of(key, leaf, found)
            if merged.origin is None:
                merged.origin = self.below.tree.inode(below)
            return merged
        raise _clash(found.path, found.directory.child(leaf))

    def _one_directory(self, key: bytes, exact: _Candidate, found: list[_Candidate]) -> Merged:
        """Row 12: a directory of the tree, and one that was made beside it."""
        others = [one for one in found if one is not exact]
        merged = self._exact(key, exact)
        mergeable = merged.lower == exact.slot and all(
            one.is_directory and one.entry.redirect is None for one in others
        )
        if not mergeable or len(others) > 1:
            raise _clash(exact.path, others[0].path)
        merged.descend.append((others[0].directory, others[0].entry, False))
        return merged

    def _of(self, key: bytes, leaf: bytes, found: _Candidate) -> Merged:
        """What the upper's entry says of itself."""
        entry = found.entry
        merged = Merged(key, leaf, place=found.directory, upper=entry)
        if entry.entry is not None:
            merged.origin = self.below.slot_of(found.path, entry.entry)
            if self.below.kind(merged.origin) is not entry.kind:
                merged.origin = None  # a mark that was copied by hand to another kind of thing
        if found.is_directory:
            merged.descend.append((found.directory, entry, True))
            if entry.redirect is not None and not entry.opaque:
                merged.lower = self.below.redirected(found.path, self.lower, entry.redirect)
        return merged

    # -- names that the upper does not have -----------------------------------------------------

    def _show_through(self, merged: dict[bytes, Merged]) -> None:
        """Row 18: in a renamed directory everything from below is news."""
        assert self.lower is not None
        for key, slot in self.below.tree.kids[self.lower].items():
            hidden = key in merged or slot in self.gone or self.below.tree.is_dangling(slot)
            if not hidden:
                merged[key] = _base(self.below, key, slot)

    def _there(self, key: bytes) -> int | None:
        if self.there is None:
            return None
        return self.below.tree.kids.get(self.there, {}).get(key)

    def _whiteouts(self, merged: Mapping[bytes, Merged]) -> list[tuple[bytes, int]]:
        if self.there is None:
            return []
        names = self.below.tree.names
        kids = self.below.tree.kids.get(self.there, {})
        if self.lower == self.there:
            missing = [slot for slot in self.gone if fold(names[slot]) not in merged]
        else:
            missing = [slot for key, slot in kids.items() if key not in merged]
        for slot in missing:
            if not may_delete(self.path):  # row 29
                raise ScratchRefused(
                    _join(self.path, names[slot]), "was deleted, which a layer cannot say"
                )
        return sorted((names[slot], slot) for slot in missing)

    # -- streams ------------------------------------------------------------------------------

    def _attach_streams(self, merged: dict[bytes, Merged]) -> None:
        for key, found in self.streams.items():
            owner = merged.get(key)
            if owner is None:
                slot = self.below.kid(self.lower, key)
                if slot is None or slot in self.gone:
                    self._orphaned(found, slot)
                    continue
                owner = merged[key] = _base(self.below, key, slot)
            owner.streams = self._marks(found)

    def _marks(self, found: list[tuple[_Candidate, bytes]]) -> list[StreamMark]:
        marks: dict[bytes, StreamMark] = {}
        paths: dict[bytes, bytes] = {}
        for candidate, name in found:
            key = fold(name)
            if key in marks:
                raise _clash(paths[key], candidate.path)
            gone = candidate.entry.kind is UpperKind.WHITEOUT
            marks[key] = StreamMark(
                name, candidate.directory.path, None if gone else candidate.entry
            )
            paths[key] = candidate.path
        return list(marks.values())

    def _orphaned(self, found: list[tuple[_Candidate, bytes]], slot: int | None) -> None:
        """Rows 35 to 37: the file went, its streams went with it."""
        if slot is None:
            for candidate, _ in found:
                if candidate.entry.kind is not UpperKind.WHITEOUT:
                    raise ScratchRefused(
                        candidate.path, "is a stream of a file that does not exist"
                    )
            return
        inode = self.below.tree.inode(slot)
        for mark in self._marks(found):
            self.orphans.add(inode, mark)

    def _adopt(self, name: Merged) -> None:
        """Row 35: streams left behind where the file was before it was moved."""
        left = None if name.origin is None else self.orphans.found.get(name.origin)
        if left and (name.there is None or self.below.tree.inode(name.there) != name.origin):
            assert name.origin is not None
            self.orphans.adopted.add(name.origin)
            own = {fold(mark.name) for mark in name.streams}
            name.streams += [mark for mark in left if fold(mark.name) not in own]

    # -- limits -------------------------------------------------------------------------------

    def _check_path(self, name: Merged) -> None:
        path = _join(self.path, name.leaf)
        if not self.path and name.there is None and name.key not in TOP_LEVEL:
            raise ScratchRefused(path, "is outside of Files, Hives and UtilityVM")  # row 28
        if not self.path and name.upper and name.upper.kind is not UpperKind.DIRECTORY:
            raise ScratchRefused(path, "is no directory, and layers begin with directories")
        if len(path) > MAX_PATH_UNITS and utf16_units(path) > MAX_PATH_UNITS:
            raise ScratchRefused(path, "is a path longer than Windows can hold")


def check_stream(name: bytes) -> str | None:
    """Why NTFS cannot hold a stream of this name; None if it can. Control characters it can."""
    if not name or any(char in name for char in (b"\\", b"/", b":", b"\0")):
        return "is empty or contains a separator"
    if not name.isascii():
        try:
            name.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            return f"is not UTF-8 at byte {error.start}"
    return "is too long" if utf16_units(name) > 255 else None


def _base(below: Below, key: bytes, slot: int) -> Merged:
    lower = slot if below.is_directory(slot) else None
    return Merged(key, below.tree.names[slot], origin=below.tree.inode(slot), lower=lower)


def may_delete(path: bytes) -> bool:
    """Whether whiteouts may stand in a directory: the reference refuses others on import."""
    parts = fold(path).split(b"/")
    return parts[0] == b"FILES" or parts[:2] == [b"UTILITYVM", b"FILES"]


def _clash(one: bytes, other: bytes) -> ScratchRefused:
    return ScratchRefused(other, f"and {shown(one)!r} are the same name to Windows")


def _join(path: bytes, leaf: bytes) -> bytes:
    return path + b"/" + leaf if path else leaf
