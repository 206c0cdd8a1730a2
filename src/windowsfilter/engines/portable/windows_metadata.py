"""What an entry of a layer says of itself to Windows, read from the index, and what cannot be used.

PAX records are decoded where they are asked for: the index keeps them raw, so nothing is lost that is
not understood. What they mean: `wire.backuptar.records`. Attributes and times are fields of the index.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import suppress

from windowsfilter.engines.portable.index import Index, Kind, Record, RecordFlag
from windowsfilter.engines.portable.shown_metadata import MAX_DESCRIPTOR, Attributes, shown
from windowsfilter.errors import FormatError
from windowsfilter.ntfs.eas import ExtendedAttribute
from windowsfilter.wire.backuptar import records
from windowsfilter.wire.backuptar.records import Records

LINKS = frozenset((int(Kind.SYMLINK), int(Kind.JUNCTION)))
"""Kinds that the tar has as symbolic links."""

_ENTRY = struct.Struct("<II")
_U32 = struct.Struct("<I")
_I64 = struct.Struct("<q")
_EXTRAS = int(RecordFlag.EAS | RecordFlag.REPARSE)


def shown_attributes(index: Index, number: int, record: Record) -> Attributes:
    """(attribute, value) of the EAs and the reparse buffer that mounts show of an entry."""
    if not record.flags & _EXTRAS:
        return []
    found = index.records(number)
    eas: tuple[ExtendedAttribute, ...] = ()
    point = None
    with suppress(FormatError):
        eas = records.eas_of(found)
    if record.flags & RecordFlag.REPARSE:
        with suppress(FormatError):
            is_link = record.kind in LINKS
            point = records.reparse_of(found, index.link(number), is_link=is_link)
    return shown(eas, point, descriptor=len(index.value(record.sd)))


def all_attributes(index: Index, ref: tuple[int, int], record: Record) -> Attributes:
    """(attribute, value) of everything that mounts show of an entry: `ref` is its layer and record."""
    found = [(b"windows.entry", _ENTRY.pack(*ref))]
    if record.flags & RecordFlag.ATTRIBUTES:
        found.append((b"windows.attr", _U32.pack(record.attributes)))
    if record.flags & RecordFlag.CREATION:
        found.append((b"windows.crtime", _I64.pack(record.creation)))
    descriptor = index.value(record.sd)
    if descriptor and len(descriptor) <= MAX_DESCRIPTOR:
        found.append((b"windows.sd", descriptor))
    return found + shown_attributes(index, ref[1], record)


def problems(found: Records, link: bytes, *, is_link: bool) -> Iterator[str]:
    """What of an entry's records cannot be used, and why. `link` is the target of a link."""
    readers: tuple[tuple[str, Callable[[], object]], ...] = (
        ("security descriptor", lambda: records.descriptor_of(found)),
        ("extended attributes", lambda: records.eas_of(found)),
        ("reparse point", lambda: records.reparse_of(found, link, is_link=is_link)),
    )
    for what, read in readers:
        try:
            read()
        except FormatError as error:
            yield f"its {what} cannot be used: {error}"
