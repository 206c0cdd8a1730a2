"""Access control lists: ACEs in order, and bytes after them that nobody reads.

Header: revision, a zero byte, size of the whole, number of ACEs, two zero bytes. Everything that Windows
accepts in it is kept: revisions 2 to 4, fields that should be zero, slack after the last ACE.
Source: MS-DTYP 2.4.5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from windowsfilter.errors import FormatError
from windowsfilter.ntfs.security.aces import Ace, OpaqueAce, parse_ace
from windowsfilter.ntfs.security.flags import OBJECT_ACE_TYPES

ACL_REVISION = 2
ACL_REVISION_DS = 4
"""What an ACL with object ACEs must have at least."""
_MAX_REVISION = 4
_MAX_BYTES = 0xFFFF

_HEADER = struct.Struct("<BBHHH")  # revision, Sbz1, size, ACE count, Sbz2


@dataclass(frozen=True, slots=True, kw_only=True)
class Acl:
    """An ACL; `aces` in the order in which Windows asks them. See `Acl.of` for a new one.

    A NULL ACL (no restriction at all) is none of these: its descriptor says so, see
    `SecurityDescriptor.control`.
    """

    revision: int = ACL_REVISION
    aces: tuple[Ace | OpaqueAce, ...] = ()
    sbz1: int = 0
    sbz2: int = 0
    slack: bytes = b""

    @classmethod
    def of(cls, aces: Iterable[Ace | OpaqueAce]) -> Acl:
        """An ACL as the SDDL converter of Windows makes it: revision 4 with object ACEs, else 2."""
        aces = tuple(aces)
        return cls(revision=_least_revision(aces), aces=aces)

    @classmethod
    def parse(cls, data: bytes, start: int = 0, *, at: int = 0) -> tuple[Acl, int]:
        """The ACL at `start` of `data` and the bytes it takes, slack included.

        `at` is where `data` starts; errors report it. Raises FormatError for another revision, a size
        that lies, ACEs that reach outside, and whatever `parse_ace` and `Sid.parse` refuse.
        """
        if len(data) - start < _HEADER.size:
            raise FormatError("ACL header cut off", offset=at + len(data))
        revision, sbz1, size, count, sbz2 = _HEADER.unpack_from(data, start)
        if not ACL_REVISION <= revision <= _MAX_REVISION:
            raise FormatError(f"ACL of revision {revision}", offset=at + start)
        end = start + size
        if size < _HEADER.size or end > len(data):
            raise FormatError(f"ACL of {size} bytes does not fit", offset=at + start + 2)
        place = start + _HEADER.size
        if count * 4 > end - place:
            raise FormatError(f"ACL of {size} bytes with {count} ACEs", offset=at + start + 4)
        aces = []
        for _ in range(count):
            ace, place = parse_ace(data, place, end, at=at)
            aces.append(ace)
        slack = data[place:end]
        acl = cls(revision=revision, aces=tuple(aces), sbz1=sbz1, sbz2=sbz2, slack=slack)
        return acl, size

    def build(self) -> bytes:
        """The bytes. The revision is raised to 4 where object ACEs need it.

        Raises FormatError for more than 65,535 bytes and for numbers that do not fit.
        """
        body = b"".join([ace.build() for ace in self.aces]) + self.slack
        size = _HEADER.size + len(body)
        if size > _MAX_BYTES:
            raise FormatError(f"ACL of {size} bytes, {_MAX_BYTES} fit")
        revision = max(self.revision, _least_revision(self.aces))
        if revision > _MAX_REVISION:
            raise FormatError(f"ACL of revision {revision}")
        try:
            return _HEADER.pack(revision, self.sbz1, size, len(self.aces), self.sbz2) + body
        except struct.error as error:
            raise FormatError(f"ACL with a number that does not fit: {error}") from error


def _least_revision(aces: tuple[Ace | OpaqueAce, ...]) -> int:
    return ACL_REVISION_DS if any(ace.type in OBJECT_ACE_TYPES for ace in aces) else ACL_REVISION
