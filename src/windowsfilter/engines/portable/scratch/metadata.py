"""Windows metadata of what a scratch holds: kept from where it came, or as Windows would make it.

Rules: docs/formats/scratch.md section 4. An entry keeps every PAX record its origin had in its
tar, also those we do not know; only what was really changed in the scratch is written anew.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from windowsfilter.engines.portable import windows_metadata
from windowsfilter.engines.portable.index import Index, Kind, Record
from windowsfilter.engines.portable.scratch import by_hand
from windowsfilter.engines.portable.scratch.below import Below
from windowsfilter.engines.portable.scratch.by_hand import ByHand
from windowsfilter.engines.portable.scratch.changed_records import (
    apply,
    check_attributes,
    ea_changes,
    inherited,
    reparse_changes,
    set_changes,
)
from windowsfilter.engines.portable.scratch.upper import (
    Namespace,
    ScratchRefused,
    UpperDirectory,
    UpperEntry,
    UpperKind,
)
from windowsfilter.engines.portable.shown import are_shown_permissions, permissions
from windowsfilter.engines.portable.shown_metadata import REPARSE
from windowsfilter.engines.portable.tree import ROOT
from windowsfilter.errors import FormatError
from windowsfilter.ntfs import filetime
from windowsfilter.ntfs.attributes import FileAttribute
from windowsfilter.wire.backuptar.records import (
    CREATION_TIME,
    FILE_ATTRIBUTES,
    RAW_DESCRIPTOR,
    RAW_REPARSE,
    TEXT_DESCRIPTOR,
    attributes_of,
    descriptor_of,
)

_KEPT_DESCRIPTORS = 1024
_NS = 1_000_000_000
_PERMISSIONS = 0o7777
_DIRECTORY = int(FileAttribute.DIRECTORY)
_REPARSE_POINT = int(FileAttribute.REPARSE_POINT)
_ARCHIVE = int(FileAttribute.ARCHIVE)
_NORMAL = int(FileAttribute.NORMAL)
_SPARSE_FILE = int(FileAttribute.SPARSE_FILE)

# Times that file systems put in place of those they cannot hold: ext4's and 32-bit first and last
# seconds, xfs's last. Source: s_time_min and s_time_max of fs/ext4/super.c, fs/xfs/xfs_super.c.
_CLAMPS = tuple(
    seconds * _NS for seconds in (-(1 << 31), (1 << 31) - 1, (1 << 34) - (1 << 31) - 1, 16299260424)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Everything a tar says of an entry but its name, type, link target and data."""

    mode: int
    uid: int
    gid: int
    write: int
    """FILETIME, as are the others."""
    access: int
    change: int
    records: Mapping[bytes, bytes] = field(default_factory=dict)

    def descriptor(self) -> bytes | None:
        """The security descriptor. Raises FormatError for one that cannot be used."""
        return descriptor_of(self.records)

    def attributes(self) -> int:
        return attributes_of(self.records) or 0

    def creation(self) -> int:
        """FILETIME; the write time where it is not said."""
        text = self.records.get(CREATION_TIME)
        return self.write if text is None else _pax_filetime(text)

    def not_after(self, latest: int) -> Metadata:
        """The same with no time later than `latest`."""
        records = dict(self.records)
        creation = records.get(CREATION_TIME)
        if creation is not None and _pax_filetime(creation) > latest:
            records[CREATION_TIME] = filetime.format_pax_time(latest)
        return replace(
            self,
            write=min(self.write, latest),
            access=min(self.access, latest),
            change=min(self.change, latest),
            records=records,
        )


class MetadataOf:
    """Finds the metadata of merged names. `owner` is the user the upper directory belongs to."""

    def __init__(self, below: Below, namespace: Namespace, owner: tuple[int, int]) -> None:
        self._below = below
        # Without root nothing can belong to anyone else, so ownership says nothing.
        self._uid = owner[0] if namespace is Namespace.USER else None
        self._gid = owner[1] if namespace is Namespace.USER else None
        self._inherited: dict[tuple[bytes | bool | None, ...], dict[bytes, bytes]] = {}

    def same(self, entry: UpperEntry, slot: int, *, times: bool) -> bool:
        """Whether an upper's entry has the metadata that the tree's `slot` is shown with.

        `times`: a write time that only differs counts. One that was set in so many words always does.
        """
        path = self._below.tree.path(slot)
        hand = by_hand.read(path, entry)
        record = self._below.tree.record(slot)
        if record is None:
            return hand.is_nothing  # nothing was known of it
        if entry.kind is not UpperKind.SYMLINK and self._mode(entry, slot, record) != record.mode:
            return False
        if (self._user(entry, record.uid), self._group(entry, record.gid)) != (
            record.uid,
            record.gid,
        ):
            return False
        now, exactly = entry.stat.st_mtime_ns, hand.exactly
        if exactly.write is None and times and not _same_time(now, record.write):
            return False
        for given, was in (
            (exactly.write, record.write),
            (exactly.access, record.access),
            (exactly.change, record.change),
        ):
            if given is not None and given != was:
                return False
        return not self._changes(path, entry, hand, slot, data_changed=False)

    def of_origin(
        self,
        slot: int,
        entry: UpperEntry | None,
        *,
        path: bytes,
        data_changed: bool,
        sparse: bool = False,
    ) -> Metadata:
        """The metadata of something that comes from the tree. `entry` is None if it is untouched.

        `sparse`: other data, with holes.
        """
        record = self._below.tree.record(slot)
        assert record is not None
        index, number = self._indexed(slot)
        records = index.records(number)
        records.setdefault(FILE_ATTRIBUTES, b"%d" % record.attributes)
        records.setdefault(CREATION_TIME, filetime.format_pax_time(record.creation))
        kept = Metadata(
            mode=record.mode,
            uid=record.uid,
            gid=record.gid,
            write=record.write,
            access=record.access,
            change=record.change,
            records=records,
        )
        if entry is None:
            return kept
        hand = by_hand.read(path, entry)
        changes = self._changes(path, entry, hand, slot, data_changed=data_changed, sparse=sparse)
        apply(records, changes)
        mode = record.mode
        if entry.kind is not UpperKind.SYMLINK:
            mode = self._mode(entry, slot, record)
        if data_changed and entry.kind is UpperKind.FILE:
            mode = mode | stat.S_IFREG
        write = record.write
        if not _same_time(entry.stat.st_mtime_ns, write):
            write = _filetime(entry.stat.st_mtime_ns, path)
        changed = Metadata(
            mode=mode,
            uid=self._user(entry, record.uid),
            gid=self._group(entry, record.gid),
            write=write,
            access=write if data_changed else record.access,
            change=_filetime(entry.stat.st_ctime_ns, path),
            records=records,
        )
        return _with_times(changed, hand)

    def of_new(
        self,
        entry: UpperEntry,
        place: UpperDirectory,
        parent: Metadata,
        *,
        directory_link: bool = False,
    ) -> Metadata:
        """The metadata of something that was made in the scratch, in a directory with `parent`'s.

        `directory_link`: a symlink that leads to a directory.
        """
        path = place.child(entry.name)
        hand = by_hand.read(path, entry)
        write = _filetime(entry.stat.st_mtime_ns, path)
        mode, attributes = _new_mode(entry, directory_link)
        if entry.kind is UpperKind.FILE and place.is_sparse(entry):
            attributes |= _SPARSE_FILE
        creation = place.birth(entry)
        records = {
            FILE_ATTRIBUTES: b"%d" % attributes,
            CREATION_TIME: filetime.format_pax_time(write if creation is None else creation),
        }
        if hand.descriptor is None:
            is_directory = entry.kind is UpperKind.DIRECTORY or directory_link
            records.update(self.inherit(parent, path, is_directory=is_directory))
        _set_all(records, path, entry, hand)
        made = Metadata(
            mode=mode,
            uid=self._user(entry, 0),
            gid=self._group(entry, 0),
            write=write,
            access=write,
            change=_filetime(entry.stat.st_ctime_ns, path),
            records=records,
        )
        return _with_times(made, hand)

    def implied(self, parent: Metadata, path: bytes, entry: UpperEntry | None = None) -> Metadata:
        """The metadata of a directory that no tar describes, in a directory with `parent`'s.

        `entry`: the upper's, if it has the directory.
        """
        records = {
            FILE_ATTRIBUTES: b"%d" % _DIRECTORY,
            CREATION_TIME: filetime.format_pax_time(parent.write),
        }
        hand = None if entry is None else by_hand.read(path, entry)
        if hand is None or hand.descriptor is None:
            records.update(self.inherit(parent, path, is_directory=True))
        found = Metadata(
            mode=stat.S_IFDIR,
            uid=0,
            gid=0,
            write=parent.write,
            access=parent.write,
            change=parent.write,
            records=records,
        )
        if entry is None or hand is None:
            return found
        _set_all(records, path, entry, hand)
        return _with_times(found, hand)

    def inherit(self, parent: Metadata, path: bytes, *, is_directory: bool) -> dict[bytes, bytes]:
        """The records of the descriptor that something new gets in a directory with `parent`'s.

        None where the directory has none: NTFS decides when the layer is applied. Raises
        ScratchRefused, naming `path`, where the directory's cannot be used.
        """
        key = *(parent.records.get(key) for key in (RAW_DESCRIPTOR, TEXT_DESCRIPTOR)), is_directory
        known = self._inherited.get(key)
        if known is None:
            try:
                known = inherited(parent.descriptor(), is_directory=is_directory)
            except FormatError as error:
                raise ScratchRefused(
                    path, f"inherits from its directory, whose descriptor cannot be used: {error}"
                ) from error
            if len(self._inherited) >= _KEPT_DESCRIPTORS:
                self._inherited.clear()
            self._inherited[key] = known
        return known

    # -- single values ------------------------------------------------------------------------

    def _mode(self, entry: UpperEntry, slot: int, record: Record) -> int:
        """The tar's mode where the permissions are as shown, else the permissions of now."""
        is_directory = entry.kind is UpperKind.DIRECTORY
        now = entry.stat.st_mode & _PERMISSIONS
        if now == permissions(record.mode, directory=is_directory):
            return record.mode
        # Only their owner gets past the top directories of a mount.
        top = is_directory and self._below.tree.parents[slot] == ROOT
        if top and are_shown_permissions(now, record.mode, directory=True):
            return record.mode
        return (record.mode & ~_PERMISSIONS) | stat.S_IFMT(entry.stat.st_mode) | now

    def _user(self, entry: UpperEntry, before: int) -> int:
        return before if entry.stat.st_uid == self._uid else entry.stat.st_uid

    def _group(self, entry: UpperEntry, before: int) -> int:
        return before if entry.stat.st_gid == self._gid else entry.stat.st_gid

    def _indexed(self, slot: int) -> tuple[Index, int]:
        """The index that has the slot's entry, and the entry's number there."""
        ref = self._below.tree.ref(slot)
        assert ref is not None
        return self._below.tree.layers[ref[0]].index, ref[1]

    def _changes(
        self,
        path: bytes,
        entry: UpperEntry,
        hand: ByHand,
        slot: int,
        *,
        data_changed: bool,
        sparse: bool = False,
    ) -> dict[bytes, bytes | None]:
        """Records that are not the origin's: of what was set to something else than shown, and of
        what follows from other data.
        """
        index, number = self._indexed(slot)
        record, records = index.record(number), index.records(number)
        shown = dict(windows_metadata.shown_attributes(index, number, record))
        given = hand
        if hand.descriptor is not None and hand.descriptor == index.value(record.sd):
            given = replace(given, descriptor=None)
        if hand.creation == record.creation:
            given = replace(given, creation=None)
        if hand.reparse is not None and hand.reparse == shown.get(REPARSE):
            given = replace(given, reparse=None)
        changes = set_changes(path, given)
        changes |= ea_changes(path, hand, records, shown.keys())
        attributes = record.attributes if hand.attributes is None else hand.attributes
        reparse = reparse_changes(path, given, entry)
        if data_changed:
            attributes = (attributes | _ARCHIVE) & ~_NORMAL
            if sparse:
                attributes |= _SPARSE_FILE
            if RAW_REPARSE in records and not reparse:
                # Whoever owns the reparse point, a filter, would have made a plain file of it; a link
                # with another target has another one.
                reparse = {RAW_REPARSE: None}
        if reparse and entry.kind is not UpperKind.SYMLINK:
            attributes = _with_reparse_point(attributes, reparse[RAW_REPARSE] is not None)
        if hand.exactly.attributes is not None:
            attributes = hand.exactly.attributes
        changes.pop(FILE_ATTRIBUTES, None)
        if (attributes ^ record.attributes) & _DIRECTORY:  # what a layer says of itself stays
            check_attributes(path, attributes, entry)
        if attributes != record.attributes:
            changes[FILE_ATTRIBUTES] = b"%d" % attributes
        return changes | reparse


def _set_all(records: dict[bytes, bytes], path: bytes, entry: UpperEntry, hand: ByHand) -> None:
    """Put what was set into the records of something that has no origin."""
    apply(records, set_changes(path, hand))
    check_attributes(path, attributes_of(records) or 0, entry)
    apply(records, ea_changes(path, hand, {}, ()))
    reparse = reparse_changes(path, hand, entry)
    if reparse:
        apply(records, reparse)
        attributes = _with_reparse_point(attributes_of(records) or 0, RAW_REPARSE in records)
        records[FILE_ATTRIBUTES] = b"%d" % attributes


def _with_reparse_point(attributes: int, there: bool) -> int:
    return attributes | _REPARSE_POINT if there else attributes & ~_REPARSE_POINT


def kind_of(record: Record | None) -> Kind:
    """What the record of an inode is; an implied directory has none."""
    return Kind.DIRECTORY if record is None else Kind(record.kind)


def _with_times(metadata: Metadata, hand: ByHand) -> Metadata:
    """The same with the times that were set exactly."""
    exactly = hand.exactly
    return replace(
        metadata,
        write=metadata.write if exactly.write is None else exactly.write,
        access=metadata.access if exactly.access is None else exactly.access,
        change=metadata.change if exactly.change is None else exactly.change,
    )


def _new_mode(entry: UpperEntry, directory_link: bool) -> tuple[int, int]:
    """Mode as the reference writes it, permissions added; and Win32 attributes."""
    if entry.kind is UpperKind.DIRECTORY:
        return stat.S_IFDIR | entry.stat.st_mode & _PERMISSIONS, _DIRECTORY
    if entry.kind is UpperKind.SYMLINK:
        if directory_link:
            return stat.S_IFLNK | stat.S_IFDIR, _REPARSE_POINT | _DIRECTORY
        return stat.S_IFLNK, _REPARSE_POINT | _ARCHIVE
    return stat.S_IFREG | entry.stat.st_mode & _PERMISSIONS, _ARCHIVE


def _same_time(ns: int, write: int) -> bool:
    """Whether a file system could have made `ns` of the FILETIME `write`."""
    exact = filetime.to_unix_ns(write)
    if ns == exact:
        return True
    return ns in _CLAMPS and (exact < ns if ns < 0 else exact > ns)


def _filetime(ns: int, path: bytes) -> int:
    try:
        return filetime.from_unix_ns(ns)
    except ValueError as error:
        raise ScratchRefused(path, f"has a time that Windows cannot hold: {error}") from error


def _pax_filetime(text: bytes) -> int:
    return filetime.from_unix_ns(filetime.parse_pax_time(text))
