r"""Names between tar and Windows: UTF-8 with `/` there, 16-bit units with `\` here.

NTFS takes any 16-bit unit, so half of a surrogate pair may stand alone. In a tar that is WTF-8, as
the reference writes it; in `str` a lone surrogate. Two halves in a row are always one character.
"""

from __future__ import annotations

import re

from windowsfilter.errors import FormatError
from windowsfilter.ntfs.names import utf16_units

MAX_UNITS = 32_767
"""The longest path Windows has, in UTF-16 units; each takes one to three bytes of UTF-8."""

_HOSTILE = re.compile(
    rb"\0|^[/\\]|[/\\][/\\]|(?:^|[/\\])\.\.?(?:[/\\]|\Z)|:[^/\\]*[/\\]|^[A-Za-z]:|(?:^|[/\\]):"
)


def name_text(name: bytes) -> str:
    """A name of the tar as text. Raises FormatError for bytes that are no (W)TF-8."""
    try:
        text = name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise FormatError(f"name that is not UTF-8 at its byte {error.start}") from None
    return _paired(text) if b"\xed" in name else text


def refusal(path: bytes) -> str | None:
    r"""Why a path of a tar leads out of the layer or is something else to Windows, in words.

    None for a path that does not. Both `/` and `\` separate; a colon may be in the last component.
    """
    if not path:
        return "an empty name"
    if len(path) > MAX_UNITS and utf16_units(path) > MAX_UNITS:
        return "a name longer than a Windows path can be"
    if _HOSTILE.search(path) is None:
        return None
    if b"\0" in path:
        return "a name with a NUL byte"
    components = path.replace(b"\\", b"/").split(b"/")
    if not components[0]:
        return "an absolute name"
    if b".." in components:
        return "a name with '..'"
    if b"." in components or b"" in components:
        return "a name with an empty or '.' component"
    if any(component.startswith(b":") for component in components):
        return "a stream of a file without a name"
    if any(b":" in component for component in components[:-1]):
        return "a name below a stream"
    return "a name with a drive letter"


def name_bytes(name: str) -> bytes:
    """A name as a tar has it."""
    try:
        return name.encode("utf-8")
    except UnicodeEncodeError:
        return _paired(name).encode("utf-8", "surrogatepass")


def as_reference(name: bytes) -> str:
    """Bytes as the reference shows them to Windows: U+FFFD for each that is not UTF-8."""
    text = name.decode("utf-8", "surrogateescape")
    return "".join("\ufffd" if "\udc80" <= char <= "\udcff" else char for char in text)


def _paired(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
