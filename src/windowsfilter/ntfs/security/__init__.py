"""Security descriptors: their bytes, their text (SDDL), and what a new file inherits."""

from windowsfilter.ntfs.security.aces import Ace, OpaqueAce
from windowsfilter.ntfs.security.acls import Acl
from windowsfilter.ntfs.security.complaints import NotExpressible, SddlError
from windowsfilter.ntfs.security.descriptor import MAX_DESCRIPTOR_BYTES, SecurityDescriptor
from windowsfilter.ntfs.security.flags import AccessRight, AceFlag, AceType, ControlFlag

__all__ = [
    "MAX_DESCRIPTOR_BYTES",
    "AccessRight",
    "Ace",
    "AceFlag",
    "AceType",
    "Acl",
    "ControlFlag",
    "NotExpressible",
    "OpaqueAce",
    "SddlError",
    "SecurityDescriptor",
]
