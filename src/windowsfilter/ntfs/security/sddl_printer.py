"""A security descriptor as SDDL, the canonical text of Windows: sections in the order O G D S, no blanks.

What has no letters raises NotExpressible. What has no place in SDDL but means nothing to Windows' checks (slack,
order, revisions), or is told in other ways (defaulted bits, the resource manager's byte), is left out:
`SecurityDescriptor.sddl_is_exact` tells.
Source: published outputs of Windows.
"""

from __future__ import annotations

from windowsfilter.errors import FormatError
from windowsfilter.ntfs.security.aces import Ace, OpaqueAce
from windowsfilter.ntfs.security.acls import Acl
from windowsfilter.ntfs.security.claim_text import print_claim
from windowsfilter.ntfs.security.claims import Claim
from windowsfilter.ntfs.security.complaints import NotExpressible
from windowsfilter.ntfs.security.condition_printer import print_condition
from windowsfilter.ntfs.security.conditions import Condition
from windowsfilter.ntfs.security.descriptor import SecurityDescriptor
from windowsfilter.ntfs.security.flags import (
    CALLBACK_ACE_TYPES,
    SACL_ACE_TYPES,
    AceType,
    ControlFlag,
)
from windowsfilter.ntfs.security.sddl_letters import (
    ACE_TYPE_LETTERS,
    print_ace_flags,
    print_rights,
    print_sid,
)
from windowsfilter.ntfs.sids import EVERYONE, Sid

_DACL_FLAGS = (
    (int(ControlFlag.DACL_PROTECTED), "P"),
    (int(ControlFlag.DACL_AUTO_INHERIT_REQ), "AR"),
    (int(ControlFlag.DACL_AUTO_INHERITED), "AI"),
)


def print_sddl(descriptor: SecurityDescriptor, *, domain: Sid | None = None) -> str:
    """The text. Raises NotExpressible, which names the ACE."""
    control = int(descriptor.control)
    pieces: list[str] = []
    if descriptor.owner is not None:
        pieces.append(f"O:{print_sid(descriptor.owner, domain)}")
    if descriptor.group is not None:
        pieces.append(f"G:{print_sid(descriptor.group, domain)}")
    if control & ControlFlag.DACL_PRESENT:
        pieces.append(_acl("D", control, descriptor.dacl, domain))
    if control & ControlFlag.SACL_PRESENT:
        # The SACL's control bits are each the DACL's, one to the left.
        pieces.append(_acl("S", control >> 1, descriptor.sacl, domain))
    return "".join(pieces)


def _acl(section: str, control: int, acl: Acl | None, domain: Sid | None) -> str:
    flags = "".join(letters for bit, letters in _DACL_FLAGS if control & bit)
    if acl is None:
        return f"{section}:{flags}NO_ACCESS_CONTROL"
    pieces = [f"{section}:{flags}"]
    for index, ace in enumerate(acl.aces):
        try:
            pieces.append(_ace(ace, domain, is_sacl=section == "S"))
        except NotExpressible as error:
            raise NotExpressible(f"SDDL cannot say ACE {index} of {section}: {error}") from error
    return "".join(pieces)


def _ace(ace: Ace | OpaqueAce, domain: Sid | None, *, is_sacl: bool) -> str:
    letters = ACE_TYPE_LETTERS.get(ace.type) if isinstance(ace, Ace) else None
    if letters is None or isinstance(ace, OpaqueAce):
        raise NotExpressible(f"ACE type {int(ace.type):#x} has no letters")
    if is_sacl != (ace.type in SACL_ACE_TYPES):
        raise NotExpressible(f"ACE type {letters} in {'an SACL' if is_sacl else 'a DACL'}")
    fields = (
        letters,
        print_ace_flags(ace.flags, ace.type),
        print_rights(ace.mask, is_label=ace.type == AceType.MANDATORY_LABEL),
        str(ace.object_type or ""),
        str(ace.inherited_object_type or ""),
        print_sid(ace.sid, domain),
    )
    return f"({';'.join(fields)}{_data(ace, domain)})"


def _data(ace: Ace, domain: Sid | None) -> str:
    """The seventh field with its semicolon, where the type has one."""
    try:
        if ace.type == AceType.RESOURCE_ATTRIBUTE:
            if ace.sid != EVERYONE:
                raise NotExpressible(f"a resource attribute of {ace.sid}")
            return f";{print_claim(Claim.parse(ace.data), domain=domain)}"
        if ace.type in CALLBACK_ACE_TYPES or (ace.type == AceType.ACCESS_FILTER and ace.data):
            return f";{print_condition(Condition.parse(ace.data), domain=domain)}"
    except NotExpressible:
        raise
    except FormatError as error:
        raise NotExpressible(f"its data: {error}") from error
    return ""
