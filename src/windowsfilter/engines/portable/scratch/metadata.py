"""Windows metadata of what a scratch holds: kept from where it came, or as Windows would make it.

Rules: docs/formats/scratch.md section 4. An entry keeps every PAX record its origin had in its
tar, also those we do not know; only what was really changed in the scratch is written anew.
"""

from __future__ import annotations

import base64
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from windowsfilter.engines.portable.index import Kind, Record
from windowsfilter.engines.portable.scratch.below import Below
from windowsfilter.engines.portable.scratch.upper import (
    Namespace,
    ScratchRefused,
    UpperDirectory,
    UpperEntry,
    UpperKind,
)
from windowsfilter.engines.portable.shown import are_shown_permissions, permissions
from windowsfilter.engines.portable.tree import ROOT
from windowsfilter.ntfs import filetime
from windowsfilter.ntfs.attributes import FileAttribute
from windowsfilter.wire.tar import pax

ATTRIBUTES = b"MSWINDOWS.fileattr"
RAW_DESCRIPTOR = b"MSWINDOWS.rawsd"
TEXT_DESCRIPTOR = b"MSWINDOWS.sd"
MOUNT_POINT = b"MSWINDOWS.mountpoint"
CREATION_TIME = b"LIBARCHIVE.creationtime"

_MAX_RECORDS = 1 << 20  # bounded when they came in
_NS = 1_000_000_000
_PERMISSIONS = 0o7777
_DIRECTORY = int(FileAttribute.DIRECTORY)
_REPARSE_POINT = int(FileAttribute.REPARSE_POINT)
_ARCHIVE = int(FileAttribute.ARCHIVE)
_NORMAL = int(FileAttribute.NORMAL)
_U32 = struct.Struct("<I")
_I64 = struct.Struct("<q")

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

    def descriptor(self) -> dict[bytes, bytes]:
        """The records that a new entry in this directory inherits."""
        for key in (RAW_DESCRIPTOR, TEXT_DESCRIPTOR):
            if key in self.records:
                return {key: self.records[key]}
        return {}

    def attributes(self) -> int:
        return int(self.records.get(ATTRIBUTES, b"0"))

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

    def same(self, entry: UpperEntry, slot: int, *, times: bool) -> bool:
        """Whether an upper's entry has the metadata that the tree's `slot` is shown with."""
        record = self._below.tree.record(slot)
        if record is None:
            return True  # nothing was known of it
        if entry.kind is not UpperKind.SYMLINK and self._mode(entry, slot, record) != record.mode:
            return False
        if (self._user(entry, record.uid), self._group(entry, record.gid)) != (
            record.uid,
            record.gid,
        ):
            return False
        if times and not _same_time(entry.stat.st_mtime_ns, record.write):
            return False
        return not self._windows(entry, slot, record)

    def of_origin(
        self, slot: int, entry: UpperEntry | None, *, path: bytes, data_changed: bool
    ) -> Metadata:
        """The metadata of something that comes from the tree. `entry` is None if it is untouched."""
        record = self._below.tree.record(slot)
        ref = self._below.tree.ref(slot)
        assert record is not None and ref is not None
        index = self._below.tree.layers[ref[0]].index
        records = dict(pax.parse_ordered(index.pax(ref[1]), 0, _MAX_RECORDS))
        records.setdefault(ATTRIBUTES, b"%d" % record.attributes)
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
        records.update(self._windows(entry, slot, record))
        if RAW_DESCRIPTOR in records:
            records.pop(TEXT_DESCRIPTOR, None)
        mode = record.mode
        if entry.kind is not UpperKind.SYMLINK:
            mode = self._mode(entry, slot, record)
        write = record.write
        if not _same_time(entry.stat.st_mtime_ns, write):
            write = _filetime(entry.stat.st_mtime_ns, path)
        if data_changed:
            attributes = (int(records[ATTRIBUTES]) | _ARCHIVE) & ~_NORMAL
            records[ATTRIBUTES] = b"%d" % attributes
            mode = mode | stat.S_IFREG if entry.kind is UpperKind.FILE else mode
        return Metadata(
            mode=mode,
            uid=self._user(entry, record.uid),
            gid=self._group(entry, record.gid),
            write=write,
            access=write if data_changed else record.access,
            change=_filetime(entry.stat.st_ctime_ns, path),
            records=records,
        )

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
        write = _filetime(entry.stat.st_mtime_ns, path)
        mode, attributes = _new_mode(entry, directory_link)
        creation = place.birth(entry)
        records = {
            **parent.descriptor(),
            ATTRIBUTES: b"%d" % attributes,
            CREATION_TIME: filetime.format_pax_time(write if creation is None else creation),
        }
        records.update(_set_by_hand(path, entry))
        return Metadata(
            mode=mode,
            uid=self._user(entry, 0),
            gid=self._group(entry, 0),
            write=write,
            access=write,
            change=_filetime(entry.stat.st_ctime_ns, path),
            records=records,
        )

    def implied(self, parent: Metadata) -> Metadata:
        """The metadata of a directory that no tar describes, in a directory with `parent`'s."""
        records = {
            **parent.descriptor(),
            ATTRIBUTES: b"%d" % _DIRECTORY,
            CREATION_TIME: filetime.format_pax_time(parent.write),
        }
        return Metadata(
            mode=stat.S_IFDIR,
            uid=0,
            gid=0,
            write=parent.write,
            access=parent.write,
            change=parent.write,
            records=records,
        )

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

    def _windows(self, entry: UpperEntry, slot: int, record: Record) -> dict[bytes, bytes]:
        """Records for `windows.*` attributes that were set to something else than shown."""
        ref = self._below.tree.ref(slot)
        assert ref is not None
        path = self._below.tree.path(slot)
        changed = _set_by_hand(path, entry)
        if changed.get(ATTRIBUTES) == b"%d" % record.attributes:
            del changed[ATTRIBUTES]
        if changed.get(CREATION_TIME) == filetime.format_pax_time(record.creation):
            del changed[CREATION_TIME]
        if RAW_DESCRIPTOR in changed:
            value = self._below.tree.layers[ref[0]].index.value(record.sd)
            if entry.metadata["windows.sd"] == value:
                del changed[RAW_DESCRIPTOR]
        return changed


def kind_of(record: Record | None) -> Kind:
    """What the record of an inode is; an implied directory has none."""
    return Kind.DIRECTORY if record is None else Kind(record.kind)


def _set_by_hand(path: bytes, entry: UpperEntry) -> dict[bytes, bytes]:
    """Records for the `windows.*` attributes that an entry has, whatever their origin."""
    records: dict[bytes, bytes] = {}
    given = entry.metadata
    try:
        if "windows.attr" in given:
            (attributes,) = _U32.unpack(given["windows.attr"])
            records[ATTRIBUTES] = b"%d" % attributes
        if "windows.crtime" in given:
            (creation,) = _I64.unpack(given["windows.crtime"])
            records[CREATION_TIME] = filetime.format_pax_time(creation)
    except struct.error:
        raise ScratchRefused(path, "has a windows.* attribute of a wrong length") from None
    if given.get("windows.sd"):
        records[RAW_DESCRIPTOR] = base64.b64encode(given["windows.sd"])
    return records


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
