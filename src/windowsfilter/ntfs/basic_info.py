"""FILE_BASIC_INFO: the four times and the attributes of a file.

Times are FILETIME, 100 ns since 1601-01-01 UTC, as unsigned 64-bit numbers. When they are set, 0
means "leave as it is" and all ones "stop updating"; attributes of 0 mean "leave as they are".
Source: FILE_BASIC_INFO of winbase.h and wdm.h.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Self

from windowsfilter.errors import FormatError

_LAYOUT = struct.Struct("<QQQQI4x")
SIZE = _LAYOUT.size


class BasicInfo(NamedTuple):
    """One file's times and its FILE_ATTRIBUTE_* mask. A tuple, because layers have so many."""

    creation: int
    access: int
    write: int
    change: int
    attributes: int

    @classmethod
    def parse(cls, data: bytes, *, at: int = 0) -> Self:
        """The value of exactly SIZE bytes; `at` is their offset, for the error."""
        if len(data) != SIZE:
            raise FormatError(
                f"basic information of {len(data)} bytes instead of {SIZE}", offset=at
            )
        return cls(*_LAYOUT.unpack(data))

    def build(self) -> bytes:
        """The SIZE bytes that SetFileInformationByHandle takes."""
        try:
            return _LAYOUT.pack(*self)
        except struct.error:
            raise FormatError(f"times or attributes out of range: {self}") from None
