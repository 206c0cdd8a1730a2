"""Self-relative security descriptors: who owns a file, who may do what, and what is audited.

A descriptor is a header of 20 bytes with control bits and four offsets: owner, group, SACL, DACL. The
components may stand in any order, with gaps, or share bytes. `parse` keeps the bytes, and `build`
gives them back until something is changed; only then is the descriptor laid out anew, as the SDDL
converter of Windows does it: header, SACL, DACL, owner, group.
Sources: MS-DTYP 2.4.6; RtlValidRelativeSecurityDescriptor for what Windows refuses.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

from windowsfilter.errors import FormatError
from windowsfilter.ntfs.security.acls import Acl
from windowsfilter.ntfs.security.flags import ControlFlag
from windowsfilter.ntfs.sids import Sid

MAX_DESCRIPTOR_BYTES = 0x10000
"""NTFS stores no larger one, and nothing larger is read from a layer."""

_HEADER = struct.Struct("<BBHIIII")  # revision, Sbz1, control, owner, group, SACL, DACL
_OWNER_FIELD, _GROUP_FIELD, _SACL_FIELD, _DACL_FIELD = 4, 8, 12, 16
_SELF_RELATIVE = int(ControlFlag.SELF_RELATIVE)
_DACL_PRESENT = int(ControlFlag.DACL_PRESENT)
_SACL_PRESENT = int(ControlFlag.SACL_PRESENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityDescriptor:
    """A descriptor. `control` are ControlFlag bits.

    DACL_PRESENT with `dacl` None is a NULL DACL, everybody may do everything; with an empty `Acl` nobody
    may do anything; without the bit there is no DACL. The same holds for the SACL.
    SELF_RELATIVE, and PRESENT for an ACL that is given, are always set. `rm_control` is the byte of the
    resource manager, Sbz1 in the header.
    """

    control: int = _SELF_RELATIVE
    owner: Sid | None = None
    group: Sid | None = None
    dacl: Acl | None = None
    sacl: Acl | None = None
    rm_control: int = 0
    # The bytes it was parsed from. Not an argument, so that `dataclasses.replace` leaves them behind.
    _raw: bytes | None = field(init=False, compare=False, repr=False, default=None)

    def __post_init__(self) -> None:
        control = self.control | _SELF_RELATIVE
        if self.dacl is not None:
            control |= _DACL_PRESENT
        if self.sacl is not None:
            control |= _SACL_PRESENT
        if control != self.control:
            object.__setattr__(self, "control", control)

    @classmethod
    def parse(cls, data: bytes, *, at: int = 0) -> SecurityDescriptor:
        """The descriptor that `data` is; bytes that belong to no component are allowed.

        `at` is where `data` starts; errors report it. Raises FormatError for whatever Windows would
        refuse: another revision, not self-relative, components outside or off a multiple of 4, and what
        `Acl.parse` and `Sid.parse` refuse; and for more than 64 KiB.
        """
        if len(data) > MAX_DESCRIPTOR_BYTES:
            raise FormatError(
                f"security descriptor of {len(data)} bytes, {MAX_DESCRIPTOR_BYTES} is the limit",
                offset=at + MAX_DESCRIPTOR_BYTES,
            )
        if len(data) < _HEADER.size:
            raise FormatError(
                f"security descriptor cut off after {len(data)} bytes", offset=at + len(data)
            )
        data = bytes(data)
        revision, rm_control, control, owner, group, sacl, dacl = _HEADER.unpack_from(data)
        if revision != 1:
            raise FormatError(f"security descriptor of revision {revision}", offset=at)
        if not control & _SELF_RELATIVE:
            raise FormatError("security descriptor is not self-relative", offset=at + 2)
        descriptor = cls(
            control=control,
            owner=_sid(data, owner, _OWNER_FIELD, at),
            group=_sid(data, group, _GROUP_FIELD, at),
            sacl=_acl(data, sacl, _SACL_FIELD, at) if control & _SACL_PRESENT else None,
            dacl=_acl(data, dacl, _DACL_FIELD, at) if control & _DACL_PRESENT else None,
            rm_control=rm_control,
        )
        object.__setattr__(descriptor, "_raw", data)
        return descriptor

    def build(self) -> bytes:
        """The bytes it was parsed from, or, for a new or changed one, a canonical layout.

        Raises FormatError where something does not fit, and for more than 64 KiB.
        """
        return self._raw if self._raw is not None else self._encoded()

    @classmethod
    def from_sddl(cls, text: str, *, domain: Sid | str | None = None) -> SecurityDescriptor:
        """The descriptor of an SDDL text, laid out as the converter of Windows does it.

        `domain` is what aliases such as DA stand below; without it they are refused. Raises SddlError, a
        FormatError whose `offset` counts characters, for text that is no SDDL or does not fit.
        """
        from windowsfilter.ntfs.security.sddl_reader import read_sddl

        return read_sddl(text, domain=Sid.from_text(domain) if isinstance(domain, str) else domain)

    def to_sddl(self, *, domain: Sid | str | None = None) -> str:
        """The canonical SDDL text, as Windows prints it. Aliases below `domain` only where it is given.

        Raises NotExpressible, a FormatError, for what has no letters (`build` still gives its
        bytes). What SDDL has no place for is left out; see `sddl_is_exact`.
        """
        from windowsfilter.ntfs.security.sddl_printer import print_sddl

        return print_sddl(self, domain=Sid.from_text(domain) if isinstance(domain, str) else domain)

    def sddl_is_exact(self) -> bool:
        """Whether `to_sddl` says all that the descriptor means.

        Layout does not count: order, gaps, slack, ACL revisions. Whether even the bytes come back tells
        `SecurityDescriptor.from_sddl(text).build() == self.build()`.
        """
        try:
            text = self.to_sddl()
            return self.from_sddl(text).build() == self.normalised().build()
        except FormatError:
            return False

    def normalised(self) -> SecurityDescriptor:
        """The same in canonical layout: no gaps, no slack, least ACL revisions, zeros where due.

        Everything that means something to Windows stays, the resource manager's byte included.
        """
        return replace(self, dacl=_tidied(self.dacl), sacl=_tidied(self.sacl))

    def _encoded(self) -> bytes:
        parts: list[bytes] = []
        place = _HEADER.size
        offsets = []
        for component in (self.sacl, self.dacl, self.owner, self.group):
            if component is None:
                offsets.append(0)
                continue
            part = component.build()
            part += bytes(-len(part) % 4)  # slack of an odd length
            offsets.append(place)
            parts.append(part)
            place += len(part)
        if place > MAX_DESCRIPTOR_BYTES:
            raise FormatError(
                f"security descriptor of {place} bytes, {MAX_DESCRIPTOR_BYTES} is the limit"
            )
        sacl, dacl, owner, group = offsets
        try:
            head = _HEADER.pack(1, self.rm_control, self.control, owner, group, sacl, dacl)
        except struct.error as error:
            raise FormatError(f"control {self.control:#x} does not fit: {error}") from error
        return head + b"".join(parts)


def _component(data: bytes, offset: int, field_at: int, at: int) -> int:
    """The checked offset of a component."""
    if offset < _HEADER.size or offset % 4 or offset >= len(data):
        raise FormatError(
            f"offset {offset} of a component in a security descriptor of {len(data)} bytes",
            offset=at + field_at,
        )
    return offset


def _sid(data: bytes, offset: int, field_at: int, at: int) -> Sid | None:
    if offset == 0:
        return None
    start = _component(data, offset, field_at, at)
    return Sid.parse(data[start : start + 68], at=at + start)[0]


def _acl(data: bytes, offset: int, field_at: int, at: int) -> Acl | None:
    if offset == 0:
        return None
    return Acl.parse(data, _component(data, offset, field_at, at), at=at)[0]


def _tidied(acl: Acl | None) -> Acl | None:
    return None if acl is None else Acl.of(acl.aces)
