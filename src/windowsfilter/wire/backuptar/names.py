r"""Names between tar and Windows: UTF-8 with `/` there, 16-bit units with `\` here.

NTFS takes any 16-bit unit, so half of a surrogate pair may stand alone. In a tar that is WTF-8, as
the reference writes it; in `str` a lone surrogate. Two halves in a row are always one character.
"""

from __future__ import annotations

from windowsfilter.errors import FormatError


def name_text(name: bytes) -> str:
    """A name of the tar as text. Raises FormatError for bytes that are no (W)TF-8."""
    try:
        text = name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise FormatError(f"name that is not UTF-8 at its byte {error.start}") from None
    return _paired(text) if b"\xed" in name else text


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
