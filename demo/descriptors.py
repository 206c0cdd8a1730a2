"""A handful of Windows security descriptors, as the demonstration's files carry them.

Self-relative binary form (MS-DTYP 2.4.6): header, then the discretionary ACL, owner and group.
"""

from __future__ import annotations

import struct
from typing import Final

_HEADER = struct.Struct("<BBHIIII")  # revision, 0, control, offsets of owner, group, SACL, DACL
_ACL = struct.Struct("<BBHHH")  # revision, 0, bytes, entries, 0
_ACE = struct.Struct("<BBHI")  # type, flags, bytes, access mask; the SID follows

_SELF_RELATIVE = 0x8000
_DACL_PRESENT = 0x0004
_DACL_AUTO_INHERITED = 0x0400
_DACL_PROTECTED = 0x1000

_FULL, _MODIFY, _READ = 0x1F01FF, 0x1301BF, 0x1200A9
_THIS_ONLY, _INHERIT, _INHERIT_ONLY, _INHERITED = 0x00, 0x03, 0x0B, 0x10


def _sid(*parts: int) -> bytes:
    """A SID of the NT authority (S-1-5-…) in binary."""
    return struct.pack(f"<BB6s{len(parts)}I", 1, len(parts), b"\0\0\0\0\0\5", *parts)


_SYSTEM: Final = _sid(18)
_ADMINISTRATORS: Final = _sid(32, 544)
_USERS: Final = _sid(32, 545)
_CONTAINER_USER: Final = _sid(93, 2, 2)  # S-1-5-93-2-2, the user of Nano Server's containers
_TRUSTED_INSTALLER: Final = _sid(80, 956008885, 3418522649, 1831038044, 1853292631, 2271478464)


def _descriptor(owner: bytes, aces: list[tuple[int, int, bytes]], control: int) -> bytes:
    """A descriptor that allows each (flags, mask, sid); the owner is the group too."""
    body = b"".join(
        _ACE.pack(0, flags, _ACE.size + len(sid), mask) + sid for flags, mask, sid in aces
    )
    acl = _ACL.pack(2, 0, _ACL.size + len(body), len(aces), 0) + body
    owner_at = _HEADER.size + len(acl)
    control |= _SELF_RELATIVE | _DACL_PRESENT
    return (
        _HEADER.pack(1, 0, control, owner_at, owner_at + len(owner), 0, _HEADER.size)
        + acl
        + owner
        + owner
    )


SYSTEM_FILE: Final = _descriptor(
    _TRUSTED_INSTALLER,
    [
        (_THIS_ONLY, _FULL, _TRUSTED_INSTALLER),
        (_THIS_ONLY, _READ, _ADMINISTRATORS),
        (_THIS_ONLY, _READ, _SYSTEM),
        (_THIS_ONLY, _READ, _USERS),
    ],
    _DACL_PROTECTED,
)
SYSTEM_FOLDER: Final = _descriptor(
    _TRUSTED_INSTALLER,
    [
        (_INHERIT, _FULL, _TRUSTED_INSTALLER),
        (_THIS_ONLY, _MODIFY, _SYSTEM),
        (_INHERIT_ONLY, _FULL, _SYSTEM),
        (_INHERIT, _READ, _USERS),
    ],
    _DACL_PROTECTED,
)
PROGRAM_FILE: Final = _descriptor(
    _SYSTEM,
    [
        (_INHERITED, _FULL, _SYSTEM),
        (_INHERITED, _FULL, _ADMINISTRATORS),
        (_INHERITED, _READ, _USERS),
    ],
    _DACL_AUTO_INHERITED,
)
PROGRAM_FOLDER: Final = _descriptor(
    _SYSTEM,
    [
        (_INHERIT | _INHERITED, _FULL, _SYSTEM),
        (_INHERIT | _INHERITED, _FULL, _ADMINISTRATORS),
        (_INHERIT | _INHERITED, _READ, _USERS),
    ],
    _DACL_AUTO_INHERITED,
)
USER_FILE: Final = _descriptor(
    _CONTAINER_USER,
    [(_INHERITED, _FULL, _SYSTEM), (_INHERITED, _FULL, _CONTAINER_USER)],
    _DACL_AUTO_INHERITED,
)
USER_FOLDER: Final = _descriptor(
    _CONTAINER_USER,
    [(_INHERIT, _FULL, _SYSTEM), (_INHERIT, _FULL, _CONTAINER_USER)],
    _DACL_PROTECTED,
)
