"""SDDL to a security descriptor, as the converter of Windows compiles it.

    [O:sid] [G:sid] [D:flags(ace)…] [S:flags(ace)…]        in any order, each at most once
    ace = (type;flags;rights;object GUID;inherited GUID;sid[;condition or claim])

Section letters are capitals; everything else is read in either case. Blanks are taken where Windows takes
them: around sections and ACL flags, between ACEs, in front of an ACE's fields, after an alias.
Refused, though Windows takes them: numbers that do not fit (it makes them fit), negative rights, hexadecimal
revisions.
Sources: MS-DTYP 2.5.1.1; published inputs and outputs of Windows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from windowsfilter.errors import FormatError
from windowsfilter.ntfs.security.aces import Ace
from windowsfilter.ntfs.security.acls import Acl
from windowsfilter.ntfs.security.claim_text import read_claim
from windowsfilter.ntfs.security.complaints import SddlError
from windowsfilter.ntfs.security.condition_reader import read_condition
from windowsfilter.ntfs.security.descriptor import SecurityDescriptor
from windowsfilter.ntfs.security.flags import (
    CALLBACK_ACE_TYPES,
    OBJECT_ACE_TYPES,
    SACL_ACE_TYPES,
    AceType,
    ControlFlag,
)
from windowsfilter.ntfs.security.scanner import Scanner
from windowsfilter.ntfs.security.sddl_letters import (
    ACE_FLAGS,
    ACE_TYPES,
    ALL_LABEL_RIGHTS,
    ALL_RIGHTS,
)
from windowsfilter.ntfs.sids import EVERYONE, Sid

if TYPE_CHECKING:
    from uuid import UUID

_NO_ACCESS_CONTROL = "NO_ACCESS_CONTROL"
# ASCII only: to str.upper and re.IGNORECASE there are other letters that are S, and one that is FL.
_ACL_FLAG = re.compile(r"NO_ACCESS_CONTROL|AR|AI|P", re.IGNORECASE | re.ASCII)
_FIELD = re.compile(r"[^;()\x80-\U0010ffff]*")
_NUMBER = re.compile(
    r"(?:0[xX](?P<hex>[0-9a-fA-F]+)|(?P<octal>0[0-7]*)|(?P<decimal>[1-9][0-9]*))\Z"
)
_GUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\Z")
_CONTROL = {
    "P": int(ControlFlag.DACL_PROTECTED),
    "AR": int(ControlFlag.DACL_AUTO_INHERIT_REQ),
    "AI": int(ControlFlag.DACL_AUTO_INHERITED),
}


def read_sddl(text: str, *, domain: Sid | None = None) -> SecurityDescriptor:
    """The descriptor that `text` describes, encoded. Raises SddlError."""
    scanner = Scanner(text, domain=domain)
    control = 0
    sids: dict[str, Sid] = {}
    acls: dict[str, Acl | None] = {}
    while True:
        scanner.skip_blanks()
        if scanner.at_end:
            break
        start = scanner.place
        section = text[start]
        if section not in "OGDS" or not text.startswith(":", start + 1):
            raise scanner.error(f"O:, G:, D: or S: expected, found {scanner.shown()}")
        if section in sids or section in acls:
            raise scanner.error(f"a second {section}:")
        scanner.place += 2
        scanner.skip_blanks()
        if section in "OG":
            sids[section], _ = scanner.sid()
            continue
        flags, acls[section] = _read_acl(scanner, is_sacl=section == "S")
        if section == "D":
            control |= flags | ControlFlag.DACL_PRESENT
        else:
            # These bits of the SACL are each the DACL's, one to the left.
            control |= flags << 1 | ControlFlag.SACL_PRESENT
    return _encoded(
        SecurityDescriptor(
            control=control,
            owner=sids.get("O"),
            group=sids.get("G"),
            dacl=acls.get("D"),
            sacl=acls.get("S"),
        ),
        scanner,
    )


def _encoded(descriptor: SecurityDescriptor, scanner: Scanner) -> SecurityDescriptor:
    """The descriptor with its bytes, which shows that they fit."""
    try:
        return SecurityDescriptor.parse(descriptor.build())
    except FormatError as error:
        raise scanner.error(str(error)) from error


def _read_acl(scanner: Scanner, *, is_sacl: bool) -> tuple[int, Acl | None]:
    """Control bits, those of a DACL, and the ACL; None is a NULL ACL."""
    flags = 0
    is_null = False
    scanner.skip_blanks()
    while (found := scanner.match(_ACL_FLAG)) is not None:
        word = found[0].upper()
        if word == _NO_ACCESS_CONTROL:
            is_null = True
        else:
            flags |= _CONTROL[word]
        scanner.skip_blanks()
    aces: list[Ace] = []
    while scanner.looks_at("("):
        if is_null:
            raise scanner.error(f"an ACE after {_NO_ACCESS_CONTROL}")
        aces.append(_read_ace(scanner, is_sacl=is_sacl))
        scanner.skip_blanks()
    return flags, None if is_null else Acl.of(aces)


def _read_ace(scanner: Scanner, *, is_sacl: bool) -> Ace:
    scanner.expect("(")
    start, word = _field(scanner)
    kind = ACE_TYPES.get(word.upper())
    if kind is None:
        raise scanner.error(f"unknown ACE type {word[:20]!a}", at=start)
    if is_sacl != (kind in SACL_ACE_TYPES):
        place = "an SACL" if is_sacl else "a DACL"
        raise scanner.error(f"ACE type {word} in {place}", at=start)
    flags = _letters(scanner, *_field(scanner), ACE_FLAGS, "ACE flag")
    start, word = _field(scanner)
    mask = _mask(scanner, start, word, kind)
    guids = [_guid(scanner, kind), _guid(scanner, kind)]
    scanner.skip_blanks()
    start = scanner.place
    sid, is_alias = scanner.sid()
    if is_alias:
        scanner.skip_blanks()
    if kind == AceType.RESOURCE_ATTRIBUTE and sid != EVERYONE:
        raise scanner.error("a resource attribute is everyone's (WD)", at=start)
    data = _read_data(scanner, kind)
    scanner.expect(")")
    return Ace(
        type=kind,
        flags=flags,
        mask=mask,
        sid=sid,
        object_type=guids[0],
        inherited_object_type=guids[1],
        data=data,
    )


def _field(scanner: Scanner) -> tuple[int, str]:
    """A field without the blanks in front of it, and where it starts; its semicolon is read, too."""
    scanner.skip_blanks()
    start = scanner.place
    found = scanner.match(_FIELD)
    assert found is not None
    scanner.expect(";")
    return start, found[0]


def _letters(scanner: Scanner, start: int, text: str, table: dict[str, int], what: str) -> int:
    """The bits of letters in pairs; blanks, but no tabs, may stand before each pair."""
    bits = 0
    place = 0
    while place < len(text):
        if text[place] == " ":
            place += 1
            if place == len(text):
                raise scanner.error("blanks after the last letters", at=start + place)
            continue
        bit = table.get(text[place : place + 2].upper())
        if bit is None:
            raise scanner.error(f"unknown {what} {text[place : place + 2]!a}", at=start + place)
        bits |= bit
        place += 2
    return bits


def _mask(scanner: Scanner, start: int, text: str, kind: AceType) -> int:
    """Rights as letters or as one number."""
    if not text[:1].isdigit():
        table = ALL_LABEL_RIGHTS if kind == AceType.MANDATORY_LABEL else ALL_RIGHTS
        return _letters(scanner, start, text, table, "right")
    found = _NUMBER.match(text)
    if found is None:
        raise scanner.error(f"not a number: {text[:20]!a}", at=start)
    digits = found["hex"] or found["octal"] or found["decimal"]
    base = 16 if found["hex"] else 8 if found["octal"] else 10
    significant = digits.lstrip("0") or "0"
    mask = int(significant, base) if len(significant) <= 11 else 2**32
    if mask >= 2**32:
        raise scanner.error(f"rights {text[:20]} do not fit 32 bits", at=start)
    return mask


def _guid(scanner: Scanner, kind: AceType) -> UUID | None:
    start = scanner.place
    _, text = _field(scanner)
    if not text:
        return None
    # Blanks may stand for an absent GUID, but not in front of one.
    if not _GUID.match(text) or not scanner.text.startswith(text, start):
        raise scanner.error(f"not a GUID: {text[:40]!a}", at=start)
    if kind not in OBJECT_ACE_TYPES:
        raise scanner.error("a GUID in an ACE that is about no kind of object", at=start)
    from uuid import UUID

    return UUID(text)


def _read_data(scanner: Scanner, kind: AceType) -> bytes:
    """The condition or claim after the SID, as bytes."""
    is_needed = kind in CALLBACK_ACE_TYPES or kind == AceType.RESOURCE_ATTRIBUTE
    if not is_needed and not (kind == AceType.ACCESS_FILTER and scanner.looks_at(";")):
        return b""
    scanner.expect(";")
    scanner.skip_blanks()
    start = scanner.place
    try:
        if kind == AceType.RESOURCE_ATTRIBUTE:
            data = read_claim(scanner).build()
        else:
            data = read_condition(scanner).build()
    except SddlError:
        raise
    except FormatError as error:
        raise scanner.error(str(error), at=start) from error
    scanner.skip_blanks()
    return data + bytes(-len(data) % 4)
