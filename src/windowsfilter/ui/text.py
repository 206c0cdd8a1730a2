"""Names of files and layers as text: for terminals, pipes and JSON.

NTFS names are any 16-bit units, so a name may hold lone surrogates and control characters. Pipes and
files get the bytes as they are (WTF-8), terminals get escapes, so that a name cannot move the cursor
or turn the reading direction round; JSON has its own escapes.
"""

from __future__ import annotations

import re

# C0, DEL, C1; line and paragraph separators; what turns the direction of text round or hides in
# it; lone surrogates, which no encoding knows.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def decode(name: bytes) -> str:
    """A name of the package (WTF-8) as text; lone surrogates stay what they are."""
    try:
        return name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return name.decode("utf-8", "backslashreplace")


def encode(text: str) -> bytes:
    """The bytes of text that `decode` made."""
    return text.encode("utf-8", "surrogatepass")


def escaped(text: str) -> str:
    r"""`text` fit for a terminal and for one line: `\x1b`, `\u202e` instead of the character."""
    return _UNSAFE.sub(_escape, text)


def escaped_in_json(document: str) -> str:
    r"""JSON text with `\uXXXX` for what would disturb a terminal or has no encoding.

    Such characters occur inside strings only, where the escape means the same; the line breaks
    between the elements stay.
    """
    return _UNSAFE.sub(_escape_in_json, document)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _escape_in_json(found: re.Match[str]) -> str:
    return found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}"
