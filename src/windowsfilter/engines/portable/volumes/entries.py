"""What an entry of a merged tree means to NTFS: descriptor, attributes, EAs, reparse data, times.

Everything comes from the index and the raw PAX records. Entries without a descriptor get what
Windows would give them: inherited from the directory they are in.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

from windowsfilter.engines.portable.index import Kind, Record, RecordFlag
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.engines.portable.volumes.kept import Kept
from windowsfilter.errors import FormatError
from windowsfilter.ntfs import sids
from windowsfilter.ntfs.attributes import FileAttribute
from windowsfilter.ntfs.eas import ExtendedAttribute
from windowsfilter.ntfs.security import SecurityDescriptor
from windowsfilter.ntfs.security.inheritance import new_descriptor
from windowsfilter.wire.backuptar import records
from windowsfilter.wire.tar import pax

DEFAULT_ROOT = SecurityDescriptor.from_sddl(
    "O:SYG:SYD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;BU)"
    "(A;CI;LC;;;BU)(A;CIIO;DC;;;BU)(A;OICIIO;GA;;;CO)"
).build()
r"""Of a root without a descriptor: what the root of a Windows drive `C:` has."""

ROOT_ATTRIBUTES = int(FileAttribute.HIDDEN | FileAttribute.SYSTEM)
"""Of a root without attributes: what Windows' own roots have."""
SETTABLE = int(
    FileAttribute.READONLY
    | FileAttribute.HIDDEN
    | FileAttribute.SYSTEM
    | FileAttribute.ARCHIVE
    | FileAttribute.TEMPORARY
    | FileAttribute.OFFLINE
    | FileAttribute.NOT_CONTENT_INDEXED
)
"""What a program may set; everything else tells of a state that something else brought about."""
COMPRESSED = int(FileAttribute.COMPRESSED)
ARCHIVE = int(FileAttribute.ARCHIVE)
SPARSE = int(FileAttribute.SPARSE_FILE)
REPARSE_POINT = int(FileAttribute.REPARSE_POINT)
EA = int(FileAttribute.RECALL_ON_OPEN)  # the same bit; NTFS keeps it for entries with EAs
DIRECTORY = int(FileAttribute.DIRECTORY)
NORMAL = int(FileAttribute.NORMAL)

_OWNER, _GROUP = sids.ADMINISTRATORS, sids.SYSTEM
MAX_EAS = 0xFFFF
"""Bytes of all EAs of a file: NTFS counts them in 16 bits."""

_HAS_ATTRIBUTES = int(RecordFlag.ATTRIBUTES)
_LINKS = (int(Kind.SYMLINK), int(Kind.JUNCTION))
_DIRECTORIES = (int(Kind.DIRECTORY), int(Kind.JUNCTION))
_EA_MARKS = (records.EA_PREFIX, records.RAW_EAS)
_TIMES = struct.Struct("<4Q")
_U64 = (1 << 64) - 1
_KEPT_DESCRIPTORS = 1 << 16


class Entries:
    """Answers for the slots of a tree. Raises FormatError for records that are not what they say."""

    def __init__(self, tree: Tree, root: int, kept: Kept) -> None:
        """`root` is the slot that becomes the root of the volume."""
        self._tree = tree
        self._root = root
        self._kept = kept
        self._inherited: dict[tuple[bytes, bool], bytes] = {}
        self._of_directories: dict[int, bytes] = {}

    def record(self, slot: int) -> Record | None:
        """The record of the slot's inode; None for an implied directory."""
        return self._tree.record(slot)

    def is_directory(self, slot: int) -> bool:
        """Whether it is a directory to Windows: junctions and links to directories are."""
        kind = self._tree.kinds[self._tree.inode(slot)]
        if kind in _DIRECTORIES:
            return True
        record = self._tree.record(slot)
        return kind in _LINKS and record is not None and bool(record.attributes & DIRECTORY)

    def descriptor(self, slot: int) -> bytes:
        """The security descriptor, the entry's own or what it inherits."""
        slot = self._tree.inode(slot)
        own = self._own_descriptor(slot)
        if own is not None:
            return own
        if slot == self._root or slot == self._tree.ROOT:
            return DEFAULT_ROOT
        return self.inherited(self._tree.parents[slot], is_directory=self.is_directory(slot))

    def completed(self, slot: int) -> bytes:
        """Its own descriptor encoded anew, with the owner and group that Windows adds where none is.

        NTFS stores none without them: who restores one on Windows sets only the parts that it has.
        """
        found = SecurityDescriptor.parse(self.descriptor(slot))
        return replace(found, owner=found.owner or _OWNER, group=found.group or _GROUP).build()

    def inherited(self, parent: int, *, is_directory: bool) -> bytes:
        """What Windows gives to something new in a directory."""
        chain = [parent]  # directories without a descriptor, up to one that has one
        while (above := self._directory_descriptor(chain[-1])) is None:
            chain.append(self._tree.parents[chain[-1]])
        for slot in reversed(chain[:-1]):
            above = self._new(above, is_directory=True)
            self._of_directories[slot] = above
        return self._new(above, is_directory=is_directory)

    def attributes(self, slot: int) -> int | None:
        """The FILE_ATTRIBUTE_* mask; None where the tar has none or says to leave it as it is."""
        record = self._tree.record(slot)
        if record is None or not record.flags & _HAS_ATTRIBUTES:
            return None
        return record.attributes or None

    def times(self, slot: int) -> tuple[bytes, int]:
        """(creation, write and access time as ntfs-3g takes them, change time), FILETIME."""
        record = self._tree.record(slot)
        if record is None:
            return _TIMES.pack(0, 0, 0, 0), 0
        change = record.change & _U64
        packed = _TIMES.pack(
            record.creation & _U64, record.write & _U64, record.access & _U64, change
        )
        return packed, change

    def has_eas(self, slot: int) -> bool:
        """Whether there are records of extended attributes, good or bad."""
        raw = self._pax(slot)
        return any(mark in raw for mark in _EA_MARKS)

    def eas(self, slot: int) -> tuple[ExtendedAttribute, ...]:
        """The extended attributes."""
        return records.eas_of(_parsed(self._pax(slot))) if self.has_eas(slot) else ()

    def is_reparse_point(self, slot: int) -> bool:
        """Whether there is reparse data, good or bad."""
        is_link = self._tree.kinds[self._tree.inode(slot)] in _LINKS
        return is_link or records.RAW_REPARSE in self._pax(slot)

    def reparse_data(self, slot: int) -> bytes | None:
        """The REPARSE_DATA_BUFFER, None for an entry that is no reparse point."""
        is_link = self._tree.kinds[self._tree.inode(slot)] in _LINKS
        raw = self._pax(slot)
        if not is_link and records.RAW_REPARSE not in raw:
            return None
        ref = self._tree.ref(self._tree.inode(slot))
        link = b"" if ref is None else self._kept.link(ref)
        point = records.reparse_of(_parsed(raw), link, is_link=is_link)
        return None if point is None else point.build()

    def _own_descriptor(self, slot: int) -> bytes | None:
        ref, record = self._tree.ref(slot), self._tree.record(slot)
        if ref is None or record is None:
            return None
        if record.sd:
            return self._kept.descriptor(ref[0], record.sd)
        raw = self._pax(slot)
        return records.descriptor_of(_parsed(raw)) if records.TEXT_DESCRIPTOR in raw else None

    def _directory_descriptor(self, slot: int) -> bytes | None:
        """The descriptor a directory is known to have; None where it is to be inherited."""
        found = self._of_directories.get(slot)
        if found is None:
            found = self._own_descriptor(slot)
            if found is None and slot in (self._root, self._tree.ROOT):
                found = DEFAULT_ROOT
            if found is not None:
                self._of_directories[slot] = found
        return found

    def _new(self, parent: bytes, *, is_directory: bool) -> bytes:
        key = parent, is_directory
        found = self._inherited.get(key)
        if found is None:
            try:
                above: SecurityDescriptor | None = SecurityDescriptor.parse(parent)
            except FormatError:  # nothing can be inherited from it, and it is refused by itself
                above = None
            if len(self._inherited) >= _KEPT_DESCRIPTORS:
                self._inherited.clear()
            found = self._inherited[key] = new_descriptor(
                above, is_directory=is_directory, owner=_OWNER, group=_GROUP
            ).build()
        return found

    def _pax(self, slot: int) -> bytes:
        ref = self._tree.ref(self._tree.inode(slot))
        return b"" if ref is None else self._kept.pax(ref)


def stored_eas(attributes: Sequence[ExtendedAttribute]) -> bytes:
    """The list as NTFS stores it: unlike Windows' calls, it links the last entry to the end."""
    parts = []
    for attribute in attributes:
        name, value = attribute.name, attribute.value
        body = struct.pack("<BBH", attribute.flags, len(name), len(value)) + name + b"\0" + value
        body += b"\0" * (-len(body) % 4)
        parts.append(struct.pack("<I", 4 + len(body)) + body)
    return b"".join(parts)


def _parsed(raw: bytes) -> dict[bytes, bytes]:
    return dict(pax.parse_ordered(raw, at=0, max_records=len(raw)))
