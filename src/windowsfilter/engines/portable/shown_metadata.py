"""Windows metadata as extended attributes: which there are, what they hold, how much of them.

One rule for EROFS images, the FUSE server, copy-ups without a mount, and for telling what somebody
took away in a scratch. Names are without their namespace, `trusted.` or `user.`; numbers are
little-endian. Beside `sd`, `attr`, `crtime` and `entry` (erofs/xattrs.py) an entry may have:

* `windows.ea.<name in hex>`: the value of an extended attribute of Windows (EA). The name is hex because
  EA names are bytes of any code page, without case, while Linux takes neither for granted.
* `windows.eas`: u32, how many EAs the entry has, shown or not. It stands for "EAs are shown here": only
  where it is, one that is missing was taken away.
* `windows.reparse`: the reparse buffer of what Linux does not see as a link.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

from windowsfilter.ntfs.eas import ExtendedAttribute
from windowsfilter.ntfs.reparse import ReparsePoint

VERSION = 1
"""Names these rules: part of the key of every image made with them."""

EA_PREFIX = b"windows.ea."
EA_COUNT = b"windows.eas"
REPARSE = b"windows.reparse"

MAX_INODE_BYTES = 2048
"""All attributes of one inode: ext4 must hold them after a copy-up, in one block with its own."""
MAX_DESCRIPTOR = MAX_INODE_BYTES - 128
MAX_EA_VALUE = 512
MAX_EA_NAME = (255 - len("trusted.") - len(EA_PREFIX)) // 2
"""Linux takes names of 255 bytes, namespace included."""

_FIXED = 4 * 40  # entry, attr, crtime, eas: header, name, value
_HEADER = 16  # of an attribute in ext4, the largest of all file systems here
_COUNT = struct.Struct("<I")
_EA_SUFFIX = re.compile(rb"(?:[0-9a-f]{2})+\Z")

Attributes = list[tuple[bytes, bytes]]


def ea_attribute(name: bytes) -> bytes:
    """The attribute that shows the EA of this name."""
    return EA_PREFIX + name.hex().encode()


def ea_of_attribute(attribute: bytes) -> bytes | None:
    """The EA's name in an attribute that begins with EA_PREFIX; None if it is not its lower-case hex."""
    suffix = attribute.removeprefix(EA_PREFIX)
    return bytes.fromhex(suffix.decode()) if _EA_SUFFIX.match(suffix) else None


def shown(
    eas: Iterable[ExtendedAttribute], reparse: ReparsePoint | None, *, descriptor: int
) -> Attributes:
    """(attribute, value) of an entry's EAs and reparse point, as far as there is room for them.

    `descriptor` is the size of its security descriptor, which comes first. What is left out is still
    in the index; a copy-up must never fail.
    """
    room = MAX_INODE_BYTES - _FIXED
    if descriptor <= MAX_DESCRIPTOR:
        room -= _cost(b"windows.sd", descriptor)
    found: Attributes = []
    listed = list(eas)
    if listed:
        found.append((EA_COUNT, _COUNT.pack(len(listed))))
    candidates = [
        (ea_attribute(ea.name), ea.value)
        for ea in listed
        if len(ea.value) <= MAX_EA_VALUE and 0 < len(ea.name) <= MAX_EA_NAME
    ]
    if reparse is not None:
        candidates.append((REPARSE, reparse.build()))
    taken = set()
    for name, value in candidates:
        cost = _cost(name, len(value))
        if cost <= room and name not in taken:
            room -= cost
            taken.add(name)
            found.append((name, value))
    return found


def _cost(name: bytes, size: int) -> int:
    return _HEADER + (len(name) + 3 & ~3) + (size + 3 & ~3)
