"""Security identifiers: bytes, text, and the two-letter aliases of SDDL.

A SID names a user, a group, a level or a capability: an authority of 48 bits and up to 15
subauthorities of 32 bits. In text `S-1-5-32-544`; SDDL also says `BA`. Some aliases mean a SID
below a domain that the text does not tell (`DA` is `<domain>-512`).
Not in scope: looking names up, which only a running Windows can do.
Sources: MS-DTYP 2.4.2; sddl.h of the Windows SDK; authorities from 2^32 up as Windows 11 prints them.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import lru_cache

from windowsfilter.errors import FormatError

MAX_SUBAUTHORITIES = 15
"""SID_MAX_SUB_AUTHORITIES of winnt.h."""
MAX_BYTES = 8 + 4 * MAX_SUBAUTHORITIES

_FORMATS = tuple(struct.Struct(f"<{count}I") for count in range(MAX_SUBAUTHORITIES + 1))
_MAX_AUTHORITY = 2**48 - 1
_MAX_SUBAUTHORITY = 2**32 - 1
# Bounded, so that int() never meets endless digits; leading zeros are nobody's habit.
_NUMBER = re.compile(r"(?:0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})\Z")


@dataclass(frozen=True, slots=True)
class Sid:
    """A SID, any that fits the bytes; whether anybody bears it is not our question.

    Raises FormatError for numbers that do not fit.
    """

    authority: int
    subauthorities: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.authority <= _MAX_AUTHORITY:
            raise FormatError(f"SID authority {self.authority:#x} does not fit 48 bits")
        if len(self.subauthorities) > MAX_SUBAUTHORITIES:
            raise FormatError(
                f"SID with {len(self.subauthorities)} subauthorities, {MAX_SUBAUTHORITIES} fit"
            )
        for number in self.subauthorities:
            if not 0 <= number <= _MAX_SUBAUTHORITY:
                raise FormatError(f"SID subauthority {number:#x} does not fit 32 bits")

    @classmethod
    def parse(cls, data: bytes, *, at: int = 0) -> tuple[Sid, int]:
        """The SID at the front of `data` and the bytes it takes.

        `at` is where `data` starts; errors report it. Raises FormatError for another revision,
        more than 15 subauthorities, and a SID that `data` ends before.
        """
        if len(data) < 8:
            raise FormatError(f"SID cut off after {len(data)} bytes", offset=at + len(data))
        if data[0] != 1:
            raise FormatError(f"SID of revision {data[0]}", offset=at)
        if data[1] > MAX_SUBAUTHORITIES:
            raise FormatError(
                f"SID with {data[1]} subauthorities, {MAX_SUBAUTHORITIES} fit", offset=at + 1
            )
        size = 8 + 4 * data[1]
        if len(data) < size:
            raise FormatError(f"SID of {size} bytes cut off", offset=at + len(data))
        return _decoded(bytes(data[:size])), size

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return 8 + 4 * len(self.subauthorities)

    def build(self) -> bytes:
        """The bytes: the authority is big-endian, the rest little-endian."""
        count = len(self.subauthorities)
        head = bytes((1, count)) + self.authority.to_bytes(6, "big")
        return head + _FORMATS[count].pack(*self.subauthorities)

    @classmethod
    def from_text(cls, text: str) -> Sid:
        """The SID of `S-1-…`; each number is decimal or `0x…`. Aliases: see `alias_sid`.

        The grammar asks for one subauthority at least, though the bytes do not. Raises FormatError, without an offset, for anything else.
        """
        shown = text[:200]
        parts = text.split("-") if len(text) <= 512 else []
        if len(parts) < 4 or parts[0] not in ("S", "s") or parts[1] != "1":
            raise FormatError(f"not a SID: {shown!r}")
        numbers = []
        for part in parts[2:]:
            if not _NUMBER.match(part):
                raise FormatError(f"not a SID: {shown!r}")
            numbers.append(int(part, 16 if part[:2] in ("0x", "0X") else 10))
        return cls(numbers[0], tuple(numbers[1:]))

    def __str__(self) -> str:
        """`S-1-5-32-544`. Authorities from 2^32 up are hexadecimal, as Windows prints them."""
        authority = self.authority
        first = str(authority) if authority <= _MAX_SUBAUTHORITY else f"0x{authority:X}"
        return "-".join(("S-1", first, *map(str, self.subauthorities)))

    def child(self, rid: int) -> Sid:
        """The SID below this one: a domain's account, a group's member."""
        return Sid(self.authority, (*self.subauthorities, rid))


@lru_cache(maxsize=1024)
def _decoded(data: bytes) -> Sid:
    """A checked SID. Cached, because the descriptors of a layer name the same few again and again."""
    return Sid(int.from_bytes(data[2:8], "big"), _FORMATS[data[1]].unpack_from(data, 8))


def alias_sid(alias: str, *, domain: Sid | None = None) -> Sid | None:
    """The SID of a two-letter alias in either case; None if there is no such alias.

    `domain` stands for account domain, machine and forest root alike. Raises FormatError for an
    alias that needs a domain when none is given.
    """
    alias = alias.upper()
    sid = _ALIASES.get(alias)
    if sid is not None:
        return sid
    rid = RELATIVE_ALIASES.get(alias)
    if rid is None:
        return None
    if domain is None:
        raise FormatError(f"alias {alias} means a SID of a domain, and no domain is given")
    return domain.child(rid)


def alias_of(sid: Sid, *, domain: Sid | None = None) -> str | None:
    """The alias that SDDL prints for `sid`; those below a domain only where it is given."""
    found = _PRINTED.get(sid)
    if found is not None or domain is None or not sid.subauthorities:
        return found
    rid = sid.subauthorities[-1]
    return _RELATIVE_BY_RID.get(rid) if domain.child(rid) == sid else None


_FIXED = {
    "AA": "S-1-5-32-579",
    "AC": "S-1-15-2-1",
    "AN": "S-1-5-7",
    "AO": "S-1-5-32-548",
    "AS": "S-1-18-1",
    "AU": "S-1-5-11",
    "BA": "S-1-5-32-544",
    "BG": "S-1-5-32-546",
    "BO": "S-1-5-32-551",
    "BU": "S-1-5-32-545",
    "CD": "S-1-5-32-574",
    "CG": "S-1-3-1",
    "CO": "S-1-3-0",
    "CY": "S-1-5-32-569",
    "ED": "S-1-5-9",
    "ER": "S-1-5-32-573",
    "ES": "S-1-5-32-576",
    "HA": "S-1-5-32-578",
    "HI": "S-1-16-12288",
    "HO": "S-1-5-32-584",
    "IS": "S-1-5-32-568",
    "IU": "S-1-5-4",
    "LS": "S-1-5-19",
    "LU": "S-1-5-32-559",
    "LW": "S-1-16-4096",
    "ME": "S-1-16-8192",
    "MP": "S-1-16-8448",
    "MS": "S-1-5-32-577",
    "MU": "S-1-5-32-558",
    "NO": "S-1-5-32-556",
    "NS": "S-1-5-20",
    "NU": "S-1-5-2",
    "OW": "S-1-3-4",
    "PO": "S-1-5-32-550",
    "PS": "S-1-5-10",
    "PU": "S-1-5-32-547",
    "RA": "S-1-5-32-575",
    "RC": "S-1-5-12",
    "RD": "S-1-5-32-555",
    "RE": "S-1-5-32-552",
    "RM": "S-1-5-32-580",
    "RU": "S-1-5-32-554",
    "SH": "S-1-5-32-585",
    "SI": "S-1-16-16384",
    "SO": "S-1-5-32-549",
    "SS": "S-1-18-2",
    "SU": "S-1-5-6",
    "SY": "S-1-5-18",
    "UD": "S-1-5-84-0-0-0-0-0",
    "WD": "S-1-1-0",
    "WR": "S-1-5-33",
}
# Of the newest SDK only: older systems could not read them, so they are understood, never printed.
_NOT_PRINTED = frozenset({"HO", "SH"})

RELATIVE_ALIASES = {
    "LA": 500,
    "LG": 501,
    "RO": 498,
    "DA": 512,
    "DU": 513,
    "DG": 514,
    "DC": 515,
    "DD": 516,
    "CA": 517,
    "SA": 518,
    "EA": 519,
    "PA": 520,
    "CN": 522,
    "AP": 525,
    "KA": 526,
    "EK": 527,
    "RS": 553,
}
"""Alias → RID below a domain: the machine's LA LG, the forest root's RO SA EA EK, else the account's."""

_ALIASES = {alias: Sid.from_text(text) for alias, text in _FIXED.items()}
_PRINTED = {sid: alias for alias, sid in _ALIASES.items() if alias not in _NOT_PRINTED}
_RELATIVE_BY_RID = {rid: alias for alias, rid in RELATIVE_ALIASES.items()}

EVERYONE = _ALIASES["WD"]
CREATOR_OWNER = _ALIASES["CO"]
CREATOR_GROUP = _ALIASES["CG"]
OWNER_RIGHTS = _ALIASES["OW"]
ANONYMOUS = _ALIASES["AN"]
AUTHENTICATED_USERS = _ALIASES["AU"]
SELF = _ALIASES["PS"]
SYSTEM = _ALIASES["SY"]
LOCAL_SERVICE = _ALIASES["LS"]
NETWORK_SERVICE = _ALIASES["NS"]
ADMINISTRATORS = _ALIASES["BA"]
USERS = _ALIASES["BU"]
GUESTS = _ALIASES["BG"]
ALL_APP_PACKAGES = _ALIASES["AC"]
ALL_RESTRICTED_APP_PACKAGES = Sid(15, (2, 2))
LOW_LEVEL = _ALIASES["LW"]
MEDIUM_LEVEL = _ALIASES["ME"]
HIGH_LEVEL = _ALIASES["HI"]
SYSTEM_LEVEL = _ALIASES["SI"]
UNTRUSTED_LEVEL = Sid(16, (0,))
VIRTUAL_MACHINES = Sid(5, (83, 0))
TRUSTED_INSTALLER = Sid(5, (80, 956008885, 3418522649, 1831038044, 1853292631, 2271478464))
CONTAINER_ADMINISTRATOR = Sid(5, (93, 2, 1))
CONTAINER_USER = Sid(5, (93, 2, 2))
