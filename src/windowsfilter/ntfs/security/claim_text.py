"""Resource attribute claims as text: `("name",TS,0x0,"value")`.

Sources: MS-DTYP 2.5.1.1; published outputs of Windows for what the grammar leaves open.
"""

from __future__ import annotations

import re

from windowsfilter.ntfs.security.claims import Claim, ClaimType, ClaimValue
from windowsfilter.ntfs.security.complaints import NotExpressible
from windowsfilter.ntfs.security.condition_reader import octets_of
from windowsfilter.ntfs.security.scanner import Scanner, escaped
from windowsfilter.ntfs.security.sddl_letters import print_sid
from windowsfilter.ntfs.sids import Sid

_LETTERS = {
    "TI": ClaimType.INT64,
    "TU": ClaimType.UINT64,
    "TS": ClaimType.STRING,
    "TD": ClaimType.SID,
    "TB": ClaimType.BOOLEAN,
    "TX": ClaimType.OCTETS,
}
_TYPE_LETTERS = {kind: letters for letters, kind in _LETTERS.items()}
_TYPE = re.compile(r"[A-Za-z]{2}")
_DIGITS = re.compile(r"[0-9a-fA-F#]*")
_LIMITS = {
    ClaimType.INT64: (-(2**63), 2**63),
    ClaimType.UINT64: (0, 2**64),
    ClaimType.BOOLEAN: (0, 2),
}


def read_claim(scanner: Scanner) -> Claim:
    """The claim that comes next, in its parentheses. Raises SddlError."""
    scanner.expect("(")
    scanner.skip_blanks()
    scanner.expect('"')
    name = scanner.name()
    scanner.expect('"')
    _comma(scanner)
    start = scanner.place
    found = scanner.match(_TYPE)
    kind = _LETTERS.get(found[0].upper()) if found else None
    if kind is None:
        raise scanner.error("unknown type of a claim", at=start)
    _comma(scanner)
    start = scanner.place
    sign, flags, _ = scanner.integer()
    if sign or flags >= 2**32:
        raise scanner.error("flags of a claim do not fit 32 bits", at=start)
    values: list[ClaimValue] = []
    scanner.skip_blanks()
    while not scanner.take(")"):
        _comma(scanner)
        values.append(_read_value(scanner, kind))
        scanner.skip_blanks()
    return Claim(name, kind, flags, tuple(values))


def _comma(scanner: Scanner) -> None:
    scanner.skip_blanks()
    scanner.expect(",")
    scanner.skip_blanks()


def _read_value(scanner: Scanner, kind: ClaimType) -> ClaimValue:
    if kind == ClaimType.STRING:
        return scanner.string()
    if kind == ClaimType.SID:
        return scanner.sid()[0]
    if kind == ClaimType.OCTETS:
        found = scanner.match(_DIGITS)
        return octets_of(found[0] if found else "")
    start = scanner.place
    sign, magnitude, _ = scanner.integer()
    value = -magnitude if sign == "-" else magnitude
    low, limit = _LIMITS[kind]
    if not low <= value < limit:
        raise scanner.error(f"number does not fit a claim of {_TYPE_LETTERS[kind]}", at=start)
    return value


def print_claim(claim: Claim, *, domain: Sid | None = None) -> str:
    """The canonical text. Raises NotExpressible where there is none."""
    letters = _TYPE_LETTERS.get(claim.type)
    if letters is None:
        raise NotExpressible(f"a claim of type {claim.type.name}")
    if not claim.name:
        raise NotExpressible("a claim without a name")
    values = "".join(f",{_printed(value, claim.type, domain)}" for value in claim.values)
    return f'("{escaped(claim.name)}",{letters},{claim.flags:#x}{values})'


def _printed(value: ClaimValue, kind: ClaimType, domain: Sid | None) -> str:
    match value:
        case int():
            if kind == ClaimType.BOOLEAN and value > 1:
                raise NotExpressible(f"a boolean claim of the value {value}")
            return str(value)
        case str():
            if '"' in value:
                raise NotExpressible("a claim's string with a quotation mark in it")
            return f'"{value}"'
        case Sid():
            return print_sid(value, domain)
        case bytes():
            return value.hex()
