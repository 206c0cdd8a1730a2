"""The PAX records that follow from what was set on an entry of a scratch, and from its directory.

Values that no layer can hold are refused here, naming the entry. Rules: docs/formats/scratch.md section 4.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from dataclasses import replace

from windowsfilter.engines.portable.scratch import by_hand
from windowsfilter.engines.portable.scratch.by_hand import ByHand
from windowsfilter.engines.portable.scratch.upper import ScratchRefused, UpperEntry, UpperKind
from windowsfilter.engines.portable.shown_metadata import ea_attribute
from windowsfilter.errors import FormatError
from windowsfilter.ntfs import filetime
from windowsfilter.ntfs.attributes import FileAttribute
from windowsfilter.ntfs.eas import ExtendedAttribute, build_list
from windowsfilter.ntfs.reparse import ReparsePoint
from windowsfilter.ntfs.security import SecurityDescriptor
from windowsfilter.ntfs.security.inheritance import DEFAULT_DACL, new_descriptor
from windowsfilter.ntfs.sids import ADMINISTRATORS, SYSTEM
from windowsfilter.wire.backuptar.records import (
    CREATION_TIME,
    EA_PREFIX,
    FILE_ATTRIBUTES,
    RAW_DESCRIPTOR,
    RAW_EAS,
    RAW_REPARSE,
    TEXT_DESCRIPTOR,
    descriptor_records,
    eas_of,
    eas_records,
)

# There is no user here whose token says who owns what is new. This is what builders of images use,
# and whom an administrator's files belong to.
NEW_OWNER = ADMINISTRATORS
NEW_GROUP = SYSTEM

_MAX_EAS = 64 << 10  # of one file on NTFS, as a list

Changes = Mapping[bytes, bytes | None]
"""Record -> its new value, None where it goes."""


def apply(records: dict[bytes, bytes], changes: Changes) -> None:
    for key, value in changes.items():
        if value is None:
            records.pop(key, None)
        else:
            records[key] = value


def set_changes(path: bytes, hand: ByHand) -> dict[bytes, bytes | None]:
    """Records of the descriptor, the attributes and the creation time that were set."""
    changes: dict[bytes, bytes | None] = {}
    attributes = hand.attributes if hand.exactly.attributes is None else hand.exactly.attributes
    if attributes is not None:
        changes[FILE_ATTRIBUTES] = b"%d" % attributes
    if hand.creation is not None:
        changes[CREATION_TIME] = filetime.format_pax_time(hand.creation)
    if hand.descriptor is not None:
        changes |= {RAW_DESCRIPTOR: None, TEXT_DESCRIPTOR: None}
        try:
            if hand.descriptor:
                SecurityDescriptor.parse(hand.descriptor)
                changes |= descriptor_records(hand.descriptor)
        except FormatError as error:
            raise ScratchRefused(
                path, f"has a windows.sd attribute that is no security descriptor: {error}"
            ) from error
    return changes


def check_attributes(path: bytes, attributes: int, entry: UpperEntry) -> None:
    """Refuse a file that says it is a directory, or the other way round; links are either.

    Importers go by the attribute: the file would become a directory, and its data be lost.
    """
    if entry.kind is UpperKind.SYMLINK:
        return
    is_directory = entry.kind is UpperKind.DIRECTORY
    if bool(attributes & FileAttribute.DIRECTORY) != is_directory:
        raise ScratchRefused(
            path,
            f"is a {entry.kind.value}, but its windows.attr or windows.set attribute says otherwise",
        )


def ea_changes(
    path: bytes, hand: ByHand, records: Mapping[bytes, bytes], shown: Collection[bytes]
) -> dict[bytes, bytes | None]:
    """Records of the EAs, if they are others than the origin's, whose `records` these are.

    `shown` are the attributes that a mount has of the origin. An EA keeps its flags as long as the
    file has one of that name, because no attribute tells them.
    """
    try:
        before = eas_of(records)
    except FormatError:
        before = ()  # damaged, hence not shown
        if not hand.eas:
            return {}
    given = _by_folded_name(path, hand.eas)
    after = []
    for ea in before:
        new = given.pop(ea.name.upper(), None)
        if new is not None:
            after.append(replace(ea, value=new[1]))
        elif not hand.eas_shown or ea_attribute(ea.name) not in shown:
            after.append(ea)
    for name, value in given.values():
        by_hand.check_ea_name(path, name)
        after.append(ExtendedAttribute(name, value))
    if tuple(after) == before:
        return {}
    try:
        if len(build_list(after)) > _MAX_EAS:
            raise FormatError(f"more than {_MAX_EAS} bytes")
        made = eas_records(after)
    except FormatError as error:
        raise ScratchRefused(path, f"has EAs that NTFS cannot hold: {error}") from error
    gone = [key for key in records if key == RAW_EAS or key.startswith(EA_PREFIX)]
    return {**dict.fromkeys(gone), **made}


def _by_folded_name(path: bytes, eas: Mapping[bytes, bytes]) -> dict[bytes, tuple[bytes, bytes]]:
    """Name in upper case -> name and value: NTFS stores names in upper case."""
    found: dict[bytes, tuple[bytes, bytes]] = {}
    for name, value in sorted(eas.items()):
        if found.setdefault(name.upper(), (name, value))[0] != name:
            raise ScratchRefused(path, f"has the EA {name!r} twice, in names that differ in case")
    return found


def reparse_changes(path: bytes, hand: ByHand, entry: UpperEntry) -> dict[bytes, bytes | None]:
    """The record of a reparse point that was set, or taken away by setting nothing."""
    if not hand.reparse:
        return {} if hand.reparse is None else {RAW_REPARSE: None}
    try:
        point = ReparsePoint.parse(hand.reparse)
    except FormatError as error:
        raise ScratchRefused(
            path, f"has a windows.reparse attribute that is no reparse buffer: {error}"
        ) from error
    if point.is_link or entry.kind is UpperKind.SYMLINK:
        raise ScratchRefused(path, "has a link's reparse point as an attribute; make it a link")
    return {RAW_REPARSE: base64.b64encode(hand.reparse)}


def inherited(parent: bytes | None, *, is_directory: bool) -> dict[bytes, bytes]:
    if parent is None:
        return {}
    made = new_descriptor(
        SecurityDescriptor.parse(parent),
        is_directory=is_directory,
        owner=NEW_OWNER,
        group=NEW_GROUP,
        default_dacl=DEFAULT_DACL,
    )
    return descriptor_records(made.build())
