"""Changing security descriptors, attributes and times in a scratch without a mount.

An entry of the chain is copied up like by overlayfs, but only if something of it really changes. A
symbolic link is changed itself, never what it leads to. Directories are visited before what is in
them, so that what is inherited is what they have now. Marks: docs/formats/scratch.md section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

from windowsfilter.engines.portable.scratch import by_hand
from windowsfilter.engines.portable.scratch.below import Below
from windowsfilter.engines.portable.scratch.content import Contents
from windowsfilter.engines.portable.scratch.copyup import UpperWriter
from windowsfilter.engines.portable.scratch.described import Described
from windowsfilter.engines.portable.scratch.merge import Merge, Merged, Merger, Orphans, Place
from windowsfilter.engines.portable.scratch.metadata import Metadata
from windowsfilter.engines.portable.scratch.upper import (
    UpperDirectory,
    UpperEntry,
    UpperKind,
    changed,
    shown,
)
from windowsfilter.engines.portable.scratch.view import ScratchView
from windowsfilter.engines.portable.tree import ROOT
from windowsfilter.errors import EntryNotFound
from windowsfilter.ntfs.attributes import FileAttribute
from windowsfilter.ntfs.names import fold


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What to set on one entry; None leaves it. Times are FILETIME."""

    descriptor: bytes | None = None
    """Empty: none at all."""
    attributes: int | None = None
    creation: int | None = None
    access: int | None = None
    write: int | None = None
    change: int | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """An entry as it is, for whoever decides what to set on it."""

    path: bytes
    metadata: Metadata
    parent: Metadata
    """Of the directory that it is in."""
    kind: UpperKind

    @property
    def shown(self) -> str:
        """The path for a message."""
        return shown(self.path)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory to Windows: links to directories are."""
        attributes = self.metadata.attributes()
        return self.kind is UpperKind.DIRECTORY or bool(attributes & FileAttribute.DIRECTORY)


Choice = Callable[[Subject], Setting | None]
"""What to set on an entry, None if nothing."""


@dataclass(slots=True)
class _Level:
    """A directory that is being looked into."""

    above: _Level | None
    merged: Merged | None
    path: bytes
    metadata: Metadata
    lower: int | None
    there: int | None
    places: list[Place]
    opened: ExitStack
    own: UpperDirectory | None
    """The upper's own, where there is one: it is made when something in it must change."""


class MetadataEditor:
    """Reads and changes the metadata of one scratch; `writer` writes into its upper, `root`."""

    def __init__(
        self,
        below: Below,
        root: UpperDirectory,
        view: ScratchView,
        writer: UpperWriter,
        contents: Contents,
    ) -> None:
        self._below = below
        self._root = root
        self._writer = writer
        self._contents = contents
        self._described = Described(below, root, view)
        orphans = Orphans()
        orphans.collecting = False
        self._merger = Merger(below, orphans)

    def look(self, path: bytes) -> Subject:
        """What is at a path. Raises EntryNotFound."""
        with ExitStack() as stack:
            level, merged = self._descend(path, stack)
            return self._subject(level, merged)

    def change(self, path: bytes, choice: Choice, *, recursive: bool = False) -> None:
        """Set what `choice` says on the entry at a path, with `recursive` on all below it too."""
        with ExitStack() as stack:
            level, merged = self._descend(path, stack)
            pending = [(level, iter([merged]))]
            try:
                while pending:
                    level, names = pending[-1]
                    found = next(names, None)
                    if found is None:
                        pending.pop()
                        if pending:  # the first level is the stack's
                            level.opened.close()
                        continue
                    metadata = self._visit(level, found, choice)
                    if recursive and self._kind(found) is UpperKind.DIRECTORY:
                        inner = self._enter(level, found, metadata)
                        pending.append((inner, self._names(inner)))
            finally:
                for level, _ in reversed(pending[1:]):
                    level.opened.close()

    # -- one entry ----------------------------------------------------------------------------

    def _visit(self, level: _Level, found: Merged, choice: Choice) -> Metadata:
        """Set what is wanted on one name; returns what it has then."""
        subject = self._subject(level, found)
        setting = choice(subject)
        if setting is None:
            return subject.metadata
        self._copy_up(level, found)
        place, entry = found.place, found.upper
        assert place is not None and entry is not None
        found.upper = self._set(place, entry, setting, subject.path)
        return self._subject(level, found).metadata

    def _set(
        self, place: UpperDirectory, entry: UpperEntry, setting: Setting, path: bytes
    ) -> UpperEntry:
        before = by_hand.read(path, entry).exactly
        if setting.write is not None:
            self._writer.set_write_time(place, entry, setting.write)
            entry = _again(place, entry)
        exactly = replace(
            before,
            written_ns=entry.stat.st_mtime_ns,
            access=before.access if setting.access is None else setting.access,
            write=before.write if setting.write is None else setting.write,
            change=setting.change,  # if nobody says what it is, it is now
            attributes=before.attributes if setting.attributes is None else setting.attributes,
        )
        marks: dict[str, bytes | None] = {
            by_hand.SET: exactly.build() if exactly.sets_anything else None
        }
        if setting.descriptor is not None:
            marks[by_hand.DESCRIPTOR] = setting.descriptor
        if setting.attributes is not None:
            marks[by_hand.ATTRIBUTES] = by_hand.U32.pack(setting.attributes)
        if setting.creation is not None:
            marks[by_hand.CREATION] = by_hand.I64.pack(setting.creation)
        self._writer.set_metadata(place, entry, marks)
        return _again(place, entry)

    def _subject(self, level: _Level, found: Merged) -> Subject:
        path = level.path + b"/" + found.leaf if level.path else found.leaf
        kind, data_changed = self._kind(found), False
        if kind is UpperKind.FILE and found.upper is not None and found.origin is not None:
            assert found.place is not None
            data_changed = not self._contents.same_data(found.place, found.upper, found.origin)
        metadata = self._described.of(found, path, level.metadata, data_changed=data_changed)
        return Subject(path, metadata, level.metadata, kind)

    def _kind(self, found: Merged) -> UpperKind:
        if found.upper is not None:
            return found.upper.kind
        if found.origin is None or found.lower is not None:
            return UpperKind.DIRECTORY
        return self._below.kind(found.origin)

    # -- copying up ---------------------------------------------------------------------------

    def _copy_up(self, level: _Level, found: Merged) -> None:
        """Give the upper an entry of its own for a name, if it has none."""
        if found.upper is not None:
            return
        above = self._own(level)
        slot = self._below.kid(level.lower, found.key)
        assert slot is not None
        name = self._below.shown.name(slot)
        kind = self._kind(found)
        if kind is UpperKind.DIRECTORY:
            self._writer.copy_up_directory(above, slot)
        elif kind is UpperKind.SYMLINK:
            assert found.origin is not None
            target = self._below.shown.readlink(found.origin)
            self._writer.make_symlink(above, name, target, origin=found.origin)
        else:
            assert found.origin is not None
            ref = self._below.tree.ref(found.origin)
            assert ref is not None
            data = self._contents.read_base(ref)
            self._writer.make_file(above, name, data, origin=found.origin, same=True)
        found.place, found.upper = above, above.entry(name)
        if found.upper is None:
            raise changed(above.child(name))

    def _own(self, level: _Level) -> UpperDirectory:
        if level.own is None:
            assert level.above is not None and level.merged is not None
            self._copy_up(level.above, level.merged)
            self._open_own(level, level.merged)
        assert level.own is not None
        return level.own

    def _open_own(self, level: _Level, merged: Merged) -> None:
        assert merged.place is not None and merged.upper is not None
        level.own = level.opened.enter_context(merged.place.open_directory(merged.upper))

    # -- walking ------------------------------------------------------------------------------

    def _descend(self, path: bytes, stack: ExitStack) -> tuple[_Level, Merged]:
        """The directory that a path is in, and the name there; all is open until `stack` closes."""
        if b":" in path:
            raise EntryNotFound(
                f"{shown(path)!r}: a stream has no metadata of its own; name the file it belongs to"
            )
        root = stack.enter_context(self._root.reopen(b""))
        places = [Place(root)]
        metadata = self._described.of_root()
        level = _Level(None, None, b"", metadata, ROOT, ROOT, places, stack, root)
        leaves = [leaf for leaf in path.split(b"/") if leaf]
        for number, leaf in enumerate(leaves):
            found = self._look_up(level, fold(leaf))
            if found is None:
                break
            if number == len(leaves) - 1:
                return level, found
            if self._kind(found) is not UpperKind.DIRECTORY:
                break
            level = self._enter(level, found, self._subject(level, found).metadata)
            stack.push(level.opened)
        raise EntryNotFound(f"{shown(path)!r}: the scratch has no such entry")

    def _enter(self, above: _Level, merged: Merged, metadata: Metadata) -> _Level:
        path = above.path + b"/" + merged.leaf if above.path else merged.leaf
        there = merged.there if self._below.is_directory(merged.there) else None
        level = _Level(above, merged, path, metadata, merged.lower, there, [], ExitStack(), None)
        try:
            if merged.upper is not None:
                self._open_own(level, merged)
                assert level.own is not None
                level.places.append(Place(level.own))
            for directory, entry, exact in merged.descend:
                if not exact:
                    opened = level.opened.enter_context(directory.open_directory(entry))
                    level.places.append(Place(opened, exact))
        except BaseException:
            level.opened.close()
            raise
        return level

    def _merge(self, level: _Level) -> Merge:
        return self._merger.merge(level.places, level.lower, level.there, level.path)

    def _names(self, level: _Level) -> Iterator[Merged]:
        """Everything in a directory, by the bytes of names."""
        merge = self._merge(level)
        found = {name.key: name for name in merge.names}
        if level.lower is not None and level.lower == level.there:
            gone = {slot for _, slot in merge.whiteouts}
            for key in self._below.tree.kids.get(level.lower, {}):
                slot = self._below.kid(level.lower, key)
                if key not in found and slot is not None and slot not in gone:
                    found[key] = self._merger.base(key, slot, there=slot)
        return iter(sorted(found.values(), key=lambda name: name.leaf))

    def _look_up(self, level: _Level, key: bytes) -> Merged | None:
        merge = self._merge(level)
        for name in merge.names:
            if name.key == key:
                return name
        slot = self._below.kid(level.lower, key) if level.lower == level.there else None
        if slot is None or any(slot == gone for _, gone in merge.whiteouts):
            return None
        return self._merger.base(key, slot, there=slot)


def _again(place: UpperDirectory, entry: UpperEntry) -> UpperEntry:
    """The entry as it is now."""
    found = place.entry(entry.name)
    if found is None:
        raise changed(place.child(entry.name))
    return found
