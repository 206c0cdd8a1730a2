"""The PAX records of Windows layers, and what they say of an entry.

All functions take an entry's records, key -> value as bytes, and have an inverse that makes records.
What standard records cannot say travels in two more that known readers ignore: `MSWINDOWS.reparse`
and `MSWINDOWS.eas`, whole buffers, written when and only when something would be lost without them.
Source: go-winio's backuptar/tar.go; OCI image-spec, layer.md, "Windows Specific File Attributes".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Final

from windowsfilter.errors import FormatError
from windowsfilter.ntfs import eas
from windowsfilter.ntfs.eas import ExtendedAttribute
from windowsfilter.ntfs.reparse import (
    MAX_BUFFER,
    LinkNames,
    ReparsePoint,
    ReparseTag,
    link_names,
    link_point,
)
from windowsfilter.ntfs.security import SecurityDescriptor
from windowsfilter.wire.backuptar.names import name_bytes, name_text

FILE_ATTRIBUTES: Final = b"MSWINDOWS.fileattr"
RAW_DESCRIPTOR: Final = b"MSWINDOWS.rawsd"
TEXT_DESCRIPTOR: Final = b"MSWINDOWS.sd"
MOUNT_POINT: Final = b"MSWINDOWS.mountpoint"
EA_PREFIX: Final = b"MSWINDOWS.xattr."
RAW_EAS: Final = b"MSWINDOWS.eas"
RAW_REPARSE: Final = b"MSWINDOWS.reparse"
CREATION_TIME: Final = b"LIBARCHIVE.creationtime"
PREFIX: Final = b"MSWINDOWS."

TAR_KEYS: Final = frozenset(
    (
        b"path", b"linkpath", b"size", b"uid", b"gid", b"uname", b"gname",
        b"mtime", b"atime", b"ctime",
    )
)  # fmt: skip
"""Records that belong to the tar itself, and are made anew when an entry is written."""
MAX_DESCRIPTOR: Final = 64 << 10
"""Bytes of a security descriptor: NTFS stores no larger one."""
_ATTRIBUTES = re.compile(rb"0*([0-9]{1,10})\Z")
_U32 = 0xFFFFFFFF

Records = Mapping[bytes, bytes]


def is_standard(key: bytes) -> bool:
    """Whether a record is one of those that this module reads and writes."""
    return key in _STANDARD or key.startswith(EA_PREFIX)


def is_carried(key: bytes, value: bytes) -> bool:
    """Whether a record says something that no stream and no `BasicInfo` does."""
    return not is_standard(key) or (key == RAW_DESCRIPTOR and not value)


_STANDARD = frozenset(
    (
        FILE_ATTRIBUTES, RAW_DESCRIPTOR, TEXT_DESCRIPTOR, MOUNT_POINT, RAW_EAS, RAW_REPARSE,
        CREATION_TIME,
    )
)  # fmt: skip


def decode_base64(key: bytes, text: bytes) -> bytes:
    """The bytes of a record's value; line ends in it are ignored, as the reference does.

    Raises FormatError naming the record for foreign characters and wrong padding.
    """
    digits = text.translate(None, b"\r\n")
    try:
        data = base64.b64decode(digits, validate=True)
        # Python takes more of the padding than there should be.
        if len(digits) != (len(data) + 2) // 3 * 4:
            raise binascii.Error("Incorrect padding")
    except binascii.Error as error:
        shown = key[:80].decode("utf-8", "backslashreplace")
        raise FormatError(f"{shown} is not base64: {error}") from error
    return data


def attributes_of(records: Records) -> int | None:
    """The FILE_ATTRIBUTE_* mask, None where there is none. Raises FormatError beyond 32 bits."""
    text = records.get(FILE_ATTRIBUTES)
    if text is None:
        return None
    found = _ATTRIBUTES.match(text)
    number = int(found[1]) if found else _U32 + 1
    if number > _U32:
        raise FormatError(f"{FILE_ATTRIBUTES.decode()} is {text[:40]!r}")
    return number


def descriptor_of(records: Records) -> bytes | None:
    """The self-relative security descriptor, checked; None where there is none.

    The old textual record counts only where the binary one is missing, even if that is empty.
    Raises FormatError for what is no descriptor.
    """
    raw = records.get(RAW_DESCRIPTOR)
    if raw is not None:
        data = decode_base64(RAW_DESCRIPTOR, raw)
        if not data:
            return None
        try:
            SecurityDescriptor.parse(data)
        except FormatError as error:
            raise FormatError(f"{RAW_DESCRIPTOR.decode()}: {error}") from error
        return data
    return text_descriptor_of(records)


def text_descriptor_of(records: Records) -> bytes | None:
    """The descriptor of the old textual record, as bytes; None where there is none."""
    text = records.get(TEXT_DESCRIPTOR)
    if text is None:
        return None
    try:
        return SecurityDescriptor.from_sddl(text.decode("utf-8")).build()
    except (FormatError, UnicodeDecodeError) as error:
        raise FormatError(f"{TEXT_DESCRIPTOR.decode()}: {error}") from error


def descriptor_records(descriptor: bytes | None) -> dict[bytes, bytes]:
    """The records of a descriptor, none for None."""
    if descriptor is None:
        return {}
    return {RAW_DESCRIPTOR: base64.b64encode(descriptor)}


def has_eas(records: Records) -> bool:
    """Whether there may be extended attributes: `eas_of` is the costly question."""
    for key in records:
        if key[:16] == EA_PREFIX:
            return True
    return RAW_EAS in records


def standard_eas_of(records: Records) -> tuple[ExtendedAttribute, ...]:
    """The extended attributes that known readers see, by the bytes of their names.

    Raises FormatError for names and values that no list can hold.
    """
    found = []
    for key in sorted(records):
        if key.startswith(EA_PREFIX):
            attribute = ExtendedAttribute(key[len(EA_PREFIX) :], decode_base64(key, records[key]))
            eas.check(attribute)
            found.append(attribute)
    return tuple(found)


def eas_of(records: Records) -> tuple[ExtendedAttribute, ...]:
    """All extended attributes, with their flags and in their order where the tar has both.

    Raises FormatError for a list that is none, and for one that contradicts the standard records:
    then somebody changed one of the two.
    """
    standard = standard_eas_of(records)
    text = records.get(RAW_EAS)
    if text is None:
        return standard
    raw = decode_base64(RAW_EAS, text)
    if len(raw) > eas.MAX_LIST:
        raise FormatError(f"{RAW_EAS.decode()}: a list of {len(raw)} bytes")
    try:
        found = eas.parse_list(raw)
    except FormatError as error:
        raise FormatError(f"{RAW_EAS.decode()}: {error}") from error
    if _by_name(found) != _by_name(standard):
        raise FormatError(f"{RAW_EAS.decode()} contradicts the {EA_PREFIX.decode()}* records")
    return found


def eas_records(found: Iterable[ExtendedAttribute]) -> dict[bytes, bytes]:
    """The records of extended attributes. Raises FormatError for what no list can hold."""
    found = tuple(found)
    values = _by_name(found)
    records = {EA_PREFIX + name: base64.b64encode(value) for name, value in values.items()}
    if len(values) < len(found) or any(attribute.flags for attribute in found):
        records[RAW_EAS] = base64.b64encode(eas.build_list(found))
    return records


def reparse_of(records: Records, linkname: bytes, *, is_link: bool) -> ReparsePoint | None:
    r"""The reparse point of an entry; `is_link` for one of the tar's type symlink.

    `linkname` is the entry's link target, in which `/` counts as `\`. None for an entry without one.
    Raises FormatError for a buffer that is none or that contradicts the link target.
    """
    standard = None
    if is_link:
        standard = link_point(link_text(linkname), mount_point=MOUNT_POINT in records)
        if len(standard.data) + 8 > MAX_BUFFER:
            raise FormatError(f"link target of {len(linkname)} bytes, too long for a reparse point")
    text = records.get(RAW_REPARSE)
    if text is None:
        return standard
    raw = decode_base64(RAW_REPARSE, text)
    try:
        point = ReparsePoint.parse(raw)
        names = LinkNames.parse(point) if point.is_link else None
    except FormatError as error:
        raise FormatError(f"{RAW_REPARSE.decode()}: {error}") from error
    if standard is None and names is None:
        return point
    if (
        standard is None
        or names is None
        or standard.tag != point.tag
        or _as_read(names.target) != LinkNames.parse(standard).print_name
    ):
        raise FormatError(f"{RAW_REPARSE.decode()} contradicts the entry's type or link target")
    return point


def reparse_records(point: ReparsePoint) -> tuple[bytes | None, dict[bytes, bytes]]:
    """(link target, records) of a reparse point; the target is None for one that is no link.

    An entry with a target is of the tar's type symlink. Raises FormatError for data that is none.
    """
    raw = {RAW_REPARSE: base64.b64encode(point.build())}
    if not point.is_link:
        return None, raw
    mount_point = point.tag == ReparseTag.MOUNT_POINT
    names = LinkNames.parse(point)
    records = {MOUNT_POINT: b"1"} if mount_point else {}
    if point.reserved or names != link_names(_as_read(names.target), mount_point=mount_point):
        records |= raw
    return name_bytes(names.target), records


def link_text(linkname: bytes) -> str:
    r"""A link target as Windows has it: `/` becomes `\`, as the reference reads it."""
    return _as_read(name_text(linkname))


def _as_read(target: str) -> str:
    return target.replace("/", "\\")


def _by_name(found: Iterable[ExtendedAttribute]) -> dict[bytes, bytes]:
    """Name -> value of those that a record can be named for; of one name the last counts."""
    return {
        attribute.name: attribute.value
        for attribute in found
        if b"=" not in attribute.name and b"\0" not in attribute.name
    }
