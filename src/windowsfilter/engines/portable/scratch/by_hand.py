"""What was set on an entry of a scratch through its `windows.*` attributes.

Overlayfs copies the attributes that a mount shows, and `setfattr` or our own commands change them. So most
of what is found here is as it was shown; whoever asks compares with the origin. Values:
docs/formats/scratch.md section 4.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Self

from windowsfilter.engines.portable import shown_metadata
from windowsfilter.engines.portable.scratch.upper import ScratchRefused, UpperEntry, UpperKind
from windowsfilter.ntfs.eas import MAX_NAME

DESCRIPTOR = "windows.sd"
ATTRIBUTES = "windows.attr"
CREATION = "windows.crtime"
SET = "windows.set"
EA_COUNT = shown_metadata.EA_COUNT.decode()
REPARSE = shown_metadata.REPARSE.decode()
_EA_PREFIX = shown_metadata.EA_PREFIX.decode()

U32 = struct.Struct("<I")
I64 = struct.Struct("<q")
_SET = struct.Struct("<qIqqqq")
_NONE = -1
_NS = 1_000_000_000
# Characters that NTFS refuses in the name of an EA (MS-FSCC 2.4.15).
_NOT_IN_EA_NAMES = bytes(range(0x20)) + b'\\/:*?"<>|,+=[];'


@dataclass(frozen=True, slots=True, kw_only=True)
class SetExactly:
    """What was asked for in so many words: it holds until the file is written again.

    Linux has no place for an access or change time that stays what it was set to, and a write sets the
    archive attribute. `written_ns` is the file's own write time when this was set: with any other, it is
    out of date.
    """

    written_ns: int
    access: int | None = None
    """FILETIME, as are the next two."""
    write: int | None = None
    change: int | None = None
    attributes: int | None = None

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Raises struct.error for another length."""
        seconds, fraction, *rest = _SET.unpack(value)
        access, write, change, attributes = (None if each == _NONE else each for each in rest)
        return cls(
            written_ns=seconds * _NS + fraction,
            access=access,
            write=write,
            change=change,
            attributes=attributes,
        )

    @property
    def sets_anything(self) -> bool:
        return self != SetExactly(written_ns=self.written_ns)

    def build(self) -> bytes:
        given = (self.access, self.write, self.change, self.attributes)
        values = (_NONE if each is None else each for each in given)
        return _SET.pack(*divmod(self.written_ns, _NS), *values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    """The `windows.*` attributes of an entry, taken apart; None and empty: there is none."""

    descriptor: bytes | None
    """Empty bytes: none, whatever the origin has."""
    attributes: int | None
    creation: int | None
    """FILETIME."""
    exactly: SetExactly
    eas: dict[bytes, bytes]
    """Name -> value."""
    eas_shown: bool
    """Whether the EAs of the origin were shown, so that those that are missing were taken away."""
    reparse: bytes | None
    """Empty bytes: none, whatever the origin has."""

    @property
    def is_nothing(self) -> bool:
        """Whether nothing at all was set."""
        rest = (self.descriptor, self.attributes, self.creation, self.reparse)
        return (
            not self.eas and all(each is None for each in rest) and not self.exactly.sets_anything
        )


def read(path: bytes, entry: UpperEntry) -> ByHand:
    """What the entry's attributes say. Raises ScratchRefused, naming it, for what they cannot hold."""
    given = entry.metadata
    try:
        attributes = U32.unpack(given[ATTRIBUTES])[0] if ATTRIBUTES in given else None
        creation = I64.unpack(given[CREATION])[0] if CREATION in given else None
        exactly = SetExactly(written_ns=entry.stat.st_mtime_ns)
        if SET in given:
            found = SetExactly.parse(given[SET])
            if found.written_ns == exactly.written_ns:
                exactly = found
            elif entry.kind is UpperKind.DIRECTORY:  # something was made in it, nothing read
                exactly = replace(exactly, access=found.access)
    except struct.error:
        raise ScratchRefused(path, "has a windows.* attribute of a wrong length") from None
    times = (creation, exactly.access, exactly.write, exactly.change)
    if any(time is not None and time < 0 for time in times):
        raise ScratchRefused(path, "has a windows.* attribute with a time that Windows cannot hold")
    return ByHand(
        descriptor=given.get(DESCRIPTOR),
        attributes=attributes,
        creation=creation,
        exactly=exactly,
        eas=_eas(path, given),
        eas_shown=EA_COUNT in given,
        reparse=given.get(REPARSE),
    )


def _eas(path: bytes, given: dict[str, bytes]) -> dict[bytes, bytes]:
    eas: dict[bytes, bytes] = {}
    for key in sorted(given):
        if not key.startswith(_EA_PREFIX):
            continue
        name = shown_metadata.ea_of_attribute(key.encode("utf-8", "surrogateescape"))
        if name is None or len(name) > MAX_NAME:
            raise ScratchRefused(
                path, f"has an attribute {key[:80]!r}, which names no EA in lower-case hex"
            )
        eas[name] = given[key]
    return eas


def check_ea_name(path: bytes, name: bytes) -> None:
    """Raise ScratchRefused for the name of a new EA that NTFS refuses."""
    if name.translate(None, _NOT_IN_EA_NAMES) != name:
        raise ScratchRefused(path, f"has an EA {name!r}, a name that NTFS refuses")
