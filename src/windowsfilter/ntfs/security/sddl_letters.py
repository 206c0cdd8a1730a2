"""The words of SDDL that are the same everywhere: ACE types, ACE flags, rights, SIDs.

Sources: sddl.h of the Windows SDK 10.0.26100; MS-DTYP 2.5.1.1; the order in which Windows prints them.
"""

from __future__ import annotations

from windowsfilter.ntfs.security.complaints import NotExpressible
from windowsfilter.ntfs.security.flags import (
    FILE_ALL_ACCESS,
    FILE_GENERIC_EXECUTE,
    FILE_GENERIC_READ,
    FILE_GENERIC_WRITE,
    KEY_ALL_ACCESS,
    KEY_EXECUTE,
    KEY_READ,
    KEY_WRITE,
    AceType,
)
from windowsfilter.ntfs.sids import Sid, alias_of

ACE_TYPES = {
    "A": AceType.ACCESS_ALLOWED,
    "D": AceType.ACCESS_DENIED,
    "AU": AceType.SYSTEM_AUDIT,
    "AL": AceType.SYSTEM_ALARM,
    "OA": AceType.ACCESS_ALLOWED_OBJECT,
    "OD": AceType.ACCESS_DENIED_OBJECT,
    "OU": AceType.SYSTEM_AUDIT_OBJECT,
    "OL": AceType.SYSTEM_ALARM_OBJECT,
    "XA": AceType.ACCESS_ALLOWED_CALLBACK,
    "XD": AceType.ACCESS_DENIED_CALLBACK,
    "ZA": AceType.ACCESS_ALLOWED_CALLBACK_OBJECT,
    "XU": AceType.SYSTEM_AUDIT_CALLBACK,
    "ML": AceType.MANDATORY_LABEL,
    "RA": AceType.RESOURCE_ATTRIBUTE,
    "SP": AceType.SCOPED_POLICY_ID,
    "TL": AceType.PROCESS_TRUST_LABEL,
    "FL": AceType.ACCESS_FILTER,
}
ACE_TYPE_LETTERS = {kind: letters for letters, kind in ACE_TYPES.items()}

ACE_FLAGS = {
    "OI": 0x1,
    "CI": 0x2,
    "NP": 0x4,
    "IO": 0x8,
    "ID": 0x10,
    "CR": 0x20,
    "SA": 0x40,
    "TP": 0x40,  # the same bit, in access filters
    "FA": 0x80,
}

RIGHTS = {
    "CC": 0x1,
    "DC": 0x2,
    "LC": 0x4,
    "SW": 0x8,
    "RP": 0x10,
    "WP": 0x20,
    "DT": 0x40,
    "LO": 0x80,
    "CR": 0x100,
    "SD": 0x10000,
    "RC": 0x20000,
    "WD": 0x40000,
    "WO": 0x80000,
    "GA": 0x10000000,
    "GX": 0x20000000,
    "GW": 0x40000000,
    "GR": 0x80000000,
}
"""Right → bit, in the order of printing."""
COMPOSITE_RIGHTS = {
    "FA": FILE_ALL_ACCESS,
    "FR": FILE_GENERIC_READ,
    "FW": FILE_GENERIC_WRITE,
    "FX": FILE_GENERIC_EXECUTE,
    "KA": KEY_ALL_ACCESS,
    "KR": KEY_READ,
    "KW": KEY_WRITE,
}
"""Letters for masks of many bits, printed when a mask is exactly that."""
LABEL_RIGHTS = {"NW": 0x1, "NR": 0x2, "NX": 0x4}
"""What a mandatory label keeps lower levels from."""

ALL_RIGHTS = RIGHTS | COMPOSITE_RIGHTS | {"KX": KEY_EXECUTE}  # KX equals KR and is never printed
ALL_LABEL_RIGHTS = ALL_RIGHTS | LABEL_RIGHTS

_COMPOSITES_BY_MASK = {mask: letters for letters, mask in COMPOSITE_RIGHTS.items()}
_WITH_LETTERS = sum(RIGHTS.values())
_LABEL_BITS = sum(LABEL_RIGHTS.values())


def print_rights(mask: int, *, is_label: bool = False) -> str:
    """A mask as Windows prints it: a composite, letters for each bit, or one hexadecimal number."""
    if is_label and not mask & ~_LABEL_BITS:
        return "".join(letters for letters, bit in LABEL_RIGHTS.items() if mask & bit)
    composite = _COMPOSITES_BY_MASK.get(mask)
    if composite is not None:
        return composite
    if mask & ~_WITH_LETTERS:
        return f"{mask:#x}"
    return "".join(letters for letters, bit in RIGHTS.items() if mask & bit)


def print_ace_flags(flags: int, kind: AceType) -> str:
    """The letters of an ACE's flags; every bit has some."""
    skipped = "SA" if kind == AceType.ACCESS_FILTER else "TP"
    return "".join(
        letters for letters, bit in ACE_FLAGS.items() if flags & bit and letters != skipped
    )


def print_sid(sid: Sid, domain: Sid | None) -> str:
    """The alias, or the numbers. Raises NotExpressible where the grammar has no text."""
    alias = alias_of(sid, domain=domain)
    if alias is not None:
        return alias
    if not sid.subauthorities:
        raise NotExpressible(f"the SID {sid}, which has no subauthority")
    return str(sid)
