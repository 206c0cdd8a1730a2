"""Names as NTFS compares them and as Windows accepts them.

A name is `bytes`: UTF-8, or WTF-8 where a 16-bit unit is half of a surrogate pair alone, because
NTFS takes any unit. Components are separated by `/`, as in a tar.
Sources: the upcase table (upcase.py); "Naming Files, Paths, and Namespaces" of the Win32
documentation for what Windows refuses.
"""

from __future__ import annotations

import re
from functools import cache

from windowsfilter.ntfs import upcase

MAX_UNITS = 255
"""16-bit units in one component: NTFS stores the length in one byte."""

_DATA_TYPE = b":$DATA"
_FORBIDDEN = re.compile(rb'[\x00-\x1f<>:"|?*\\/]')
# COM0 and LPT0 are not devices; the superscript digits are.
_DEVICE = re.compile(
    r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[1-9\u00b9\u00b2\u00b3])\Z", re.IGNORECASE
)


def fold(name: bytes) -> bytes:
    """The key under which NTFS finds `name`, a component or a whole path.

    Two names are one name to Windows exactly when their keys are equal. Bytes that are not
    WTF-8 cannot stand on NTFS; they stay, so that such names equal only themselves.
    """
    if name.isascii():
        return name.upper()
    try:
        text = name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        if b"/" in name:
            return b"/".join(map(fold, name.split(b"/")))
        return name.upper()
    if b"\xed" in name:
        # Two halves of a pair in a row are one character to NTFS, however they were encoded.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return text.translate(_changes()).encode("utf-8", "surrogatepass")


def utf16_units(leaf: bytes) -> int:
    """How many 16-bit units NTFS needs for `leaf`; bytes that are not WTF-8 count one each."""
    if leaf.isascii():
        return len(leaf)
    try:
        text = leaf.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return len(leaf)
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def check_component(leaf: bytes) -> str | None:
    """Why Windows cannot hold a file of this name, in words; None if it can.

    Reserved device names are another question: NTFS holds them (`is_reserved_device`).
    """
    if not leaf:
        return "is empty"
    if leaf in (b".", b".."):
        return "means a directory, it names nothing"
    found = _FORBIDDEN.search(leaf)
    if found:
        char = found[0]
        shown = char.decode() if char > b"\x1f" else f"U+{char[0]:04X}"
        return f"contains {shown}"
    if leaf[-1:] in b". ":
        return "ends in a dot" if leaf.endswith(b".") else "ends in a space"
    if not leaf.isascii():
        try:
            leaf.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            return f"is not UTF-8 at byte {error.start}"
    units = utf16_units(leaf)
    if units > MAX_UNITS:
        return f"has {units} UTF-16 units, {MAX_UNITS} is the limit"
    return None


def plain_stream(name: bytes) -> bytes:
    """A stream's name without the type that Windows puts behind those of data streams, `:$DATA`."""
    size = len(_DATA_TYPE)
    return name[:-size] if name[-size:].upper() == _DATA_TYPE else name


def is_reserved_device(leaf: bytes) -> bool:
    """Whether Win32 takes `leaf` for a device (`NUL`, `com1.txt`) whatever directory it is in."""
    base = leaf.partition(b".")[0].partition(b":")[0].rstrip(b" ")
    return _DEVICE.match(base.decode("utf-8", "replace")) is not None


@cache
def _changes() -> dict[int, int]:
    return upcase.changes()
