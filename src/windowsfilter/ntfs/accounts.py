r"""Names of well-known accounts and groups, as Windows shows them in English: `BUILTIN\Users`.

Only SIDs that mean the same on every machine; what a domain or a machine gives out has no name
here. Source: "Security identifiers" of the Windows Server documentation; "Well-known SIDs" of the
Win32 documentation.
"""

from __future__ import annotations

from windowsfilter.ntfs.sids import (
    CONTAINER_ADMINISTRATOR,
    CONTAINER_USER,
    TRUSTED_INSTALLER,
    VIRTUAL_MACHINES,
    Sid,
)

_NAMES = {
    "S-1-1-0": "Everyone",
    "S-1-2-0": "LOCAL",
    "S-1-2-1": "CONSOLE LOGON",
    "S-1-3-0": "CREATOR OWNER",
    "S-1-3-1": "CREATOR GROUP",
    "S-1-3-4": "OWNER RIGHTS",
    "S-1-5-2": "NT AUTHORITY\\NETWORK",
    "S-1-5-3": "NT AUTHORITY\\BATCH",
    "S-1-5-4": "NT AUTHORITY\\INTERACTIVE",
    "S-1-5-6": "NT AUTHORITY\\SERVICE",
    "S-1-5-7": "NT AUTHORITY\\ANONYMOUS LOGON",
    "S-1-5-9": "NT AUTHORITY\\ENTERPRISE DOMAIN CONTROLLERS",
    "S-1-5-10": "NT AUTHORITY\\SELF",
    "S-1-5-11": "NT AUTHORITY\\Authenticated Users",
    "S-1-5-12": "NT AUTHORITY\\RESTRICTED",
    "S-1-5-18": "NT AUTHORITY\\SYSTEM",
    "S-1-5-19": "NT AUTHORITY\\LOCAL SERVICE",
    "S-1-5-20": "NT AUTHORITY\\NETWORK SERVICE",
    "S-1-5-32-544": "BUILTIN\\Administrators",
    "S-1-5-32-545": "BUILTIN\\Users",
    "S-1-5-32-546": "BUILTIN\\Guests",
    "S-1-5-32-547": "BUILTIN\\Power Users",
    "S-1-5-32-551": "BUILTIN\\Backup Operators",
    "S-1-5-32-555": "BUILTIN\\Remote Desktop Users",
    "S-1-5-32-568": "BUILTIN\\IIS_IUSRS",
    "S-1-15-2-1": "APPLICATION PACKAGE AUTHORITY\\ALL APPLICATION PACKAGES",
    "S-1-15-2-2": "APPLICATION PACKAGE AUTHORITY\\ALL RESTRICTED APPLICATION PACKAGES",
    str(TRUSTED_INSTALLER): "NT SERVICE\\TrustedInstaller",
    str(VIRTUAL_MACHINES): "NT VIRTUAL MACHINE\\Virtual Machines",
    str(CONTAINER_ADMINISTRATOR): "User Manager\\ContainerAdministrator",
    str(CONTAINER_USER): "User Manager\\ContainerUser",
}
_BY_SID = {Sid.from_text(text): name for text, name in _NAMES.items()}


def account_name(sid: Sid) -> str | None:
    r"""`BUILTIN\Users`, `Everyone`; None for a SID that has no such name."""
    return _BY_SID.get(sid)


def short_name(sid: Sid) -> str:
    """The name without its authority, `Users`; the SID itself where there is none."""
    name = _BY_SID.get(sid)
    return str(sid) if name is None else name.rpartition("\\")[2]


def full_name(sid: Sid) -> str:
    r"""`BUILTIN\Users (S-1-5-32-545)`; the SID alone where it has no name."""
    name = _BY_SID.get(sid)
    return str(sid) if name is None else f"{name} ({sid})"
