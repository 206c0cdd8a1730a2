"""Extended attributes: lists of FILE_FULL_EA_INFORMATION, as NTFS and backup streams have them.

An entry is a header of 8 bytes, the name, a NUL and the value; entries begin at multiples of 4.
Names are bytes in an OEM code page, in practice ASCII; NTFS makes them upper case when it stores
them. Source: FILE_FULL_EA_INFORMATION (wdm.h), MS-FSCC 2.4.15; what is tolerated follows go-winio's
ea.go (DecodeExtendedAttributes), the padding of the last entry its EncodeExtendedAttributes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from windowsfilter.errors import FormatError, LimitExceeded

NEED_EA = 0x80
"""Flag: who does not understand this attribute must not open the file."""
MAX_NAME = 255
MAX_VALUE = 65_535
MAX_LIST = 128 << 10
"""Bytes of a list. NTFS itself holds 64 KiB; the reference writes a little more."""
_MAX_OVERLAPPING = 64 << 20  # what entries that overlap may come to, taken together
_HEADER = struct.Struct("<IBBH")  # offset of the next entry, flags, name and value size


@dataclass(frozen=True, slots=True)
class ExtendedAttribute:
    """One extended attribute."""

    name: bytes
    value: bytes
    flags: int = 0


def parse_list(
    data: bytes, *, at: int = 0, overlapping: bool = False
) -> tuple[ExtendedAttribute, ...]:
    """The attributes of a list in their order; empty bytes are an empty list.

    `at` is the list's offset, for errors. What follows the last entry is ignored. `overlapping`
    takes entries that begin inside the one before, as the reference does.
    Raises FormatError for sizes that lead outside of the list.
    """
    found: list[ExtendedAttribute] = []
    start = taken = 0
    while start < len(data):
        left = len(data) - start
        if left < _HEADER.size:
            raise FormatError(f"extended attribute cut after {left} bytes", offset=at + start)
        step, flags, name_size, value_size = _HEADER.unpack_from(data, start)
        size = _HEADER.size + name_size + 1 + value_size
        if size > left:
            raise FormatError(
                f"extended attribute of {size} bytes, {left} are left", offset=at + start
            )
        if step > left or (step and step < size and not overlapping):
            raise FormatError(
                f"extended attribute of {size} bytes with the next one {step} bytes on",
                offset=at + start,
            )
        taken += size
        if taken > _MAX_OVERLAPPING:
            raise LimitExceeded("extended attributes that overlap too often", offset=at + start)
        name_end = start + _HEADER.size + name_size
        value_at = name_end + 1
        name = bytes(data[start + _HEADER.size : name_end])
        found.append(ExtendedAttribute(name, bytes(data[value_at : value_at + value_size]), flags))
        if not step:
            break
        start += step
    return tuple(found)


def check(attribute: ExtendedAttribute) -> None:
    """Raise FormatError for a name or a value that no list can hold."""
    if len(attribute.name) > MAX_NAME:
        raise FormatError(f"extended attribute with a name of {len(attribute.name)} bytes")
    if len(attribute.value) > MAX_VALUE:
        raise FormatError(
            f"extended attribute {attribute.name!r} with a value of {len(attribute.value)} bytes"
        )


def build_list(attributes: Iterable[ExtendedAttribute]) -> bytes:
    """The list of these attributes, in their order; every entry padded, the last one too.

    Raises FormatError for a name or a value that is too long, naming it.
    """
    entries = []
    for attribute in attributes:
        check(attribute)
        size = _HEADER.size + len(attribute.name) + 1 + len(attribute.value)
        entries.append((size + (-size & 3), attribute))
    parts = []
    for number, (padded, attribute) in enumerate(entries, 1):
        name, value = attribute.name, attribute.value
        step = padded if number < len(entries) else 0
        header = _HEADER.pack(step, attribute.flags, len(name), len(value))
        parts.append((header + name + b"\0" + value).ljust(padded, b"\0"))
    return b"".join(parts)
