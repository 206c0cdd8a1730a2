"""Reading SDDL from front to back, with a place for every complaint.

What the parts of SDDL share: blanks, SIDs, integers, quoted strings and escaped names. Nothing here looks
back or recurses, so that time and memory are linear in the text.
Not in scope: what the parts mean (sddl_reader.py, condition_reader.py, claim_text.py).
"""

from __future__ import annotations

import re

from windowsfilter.errors import FormatError
from windowsfilter.ntfs.security.complaints import SddlError
from windowsfilter.ntfs.sids import Sid, alias_sid

MAX_SDDL_CHARACTERS = 0x100000
"""What fits the 64 KiB of a descriptor takes less than 400,000 characters in its longest canonical form."""

BLANKS = "\t\n\v\f\r "
_BLANKS = re.compile(r"[\t-\r ]*")
# One number more than fits (17), so that the complaint is about that.
_NUMERIC_SID = re.compile(r"[Ss]-[\t-\r ]*1(?:-[\t-\r ]*(?:0[xX][0-9a-fA-F]+|[0-9]+)){1,17}")
_ALIAS = re.compile(r"[A-Za-z]{2}")
_INTEGER = re.compile(r"([+-]?)(?:0[xX]([0-9a-fA-F]+)|0([0-7]+)(?![0-9])|(0|[1-9][0-9]*))")
_STRING = re.compile(r'"([^"]*)"')
_MAX_DIGITS = 22  # of 64 bits, octal

# Characters that a name spells as %xxxx, and those that it may spell as they are.
_ESCAPE = re.compile(r"%([0-9a-fA-F]{4})")
_NAME = re.compile(r'(?:[^\x00-\x20\x7f!&()<>=|%"]++|%[0-9a-fA-F]{4})+')
_TO_ESCAPE = re.compile(r'[^\x21-\x7e]|[!"&()<=>|%]')

BASE_8, BASE_10, BASE_16 = 1, 2, 3


class Scanner:
    """A text and how far it has been read. Every complaint is an SddlError."""

    def __init__(self, text: str, *, domain: Sid | None = None) -> None:
        if len(text) > MAX_SDDL_CHARACTERS:
            raise SddlError(
                f"SDDL of {len(text)} characters, {MAX_SDDL_CHARACTERS} are the limit",
                offset=MAX_SDDL_CHARACTERS,
            )
        self.text = text
        self.place = 0
        self._domain = domain

    @property
    def at_end(self) -> bool:
        return self.place >= len(self.text)

    def error(self, what: str, *, at: int | None = None) -> SddlError:
        return SddlError(what, offset=self.place if at is None else at)

    def skip_blanks(self) -> None:
        found = _BLANKS.match(self.text, self.place)
        assert found is not None
        self.place = found.end()

    def looks_at(self, word: str) -> bool:
        return self.text.startswith(word, self.place)

    def take(self, word: str) -> bool:
        """Read `word` if it comes next."""
        if not self.text.startswith(word, self.place):
            return False
        self.place += len(word)
        return True

    def expect(self, word: str) -> None:
        if not self.take(word):
            raise self.error(f"{word!r} expected, found {self.shown()}")

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Read what `pattern` matches, if it does."""
        found = pattern.match(self.text, self.place)
        if found is not None:
            self.place = found.end()
        return found

    def shown(self) -> str:
        """What comes next, for a complaint."""
        return ascii(self.text[self.place : self.place + 20]) if not self.at_end else "the end"

    def sid(self) -> tuple[Sid, bool]:
        """A SID in numbers or as an alias, and whether it was an alias."""
        start = self.place
        found = self.match(_NUMERIC_SID)
        if found is not None:
            end = found.end()
            # In `O:S-1-2-0x20D:` the D opens the DACL, though it is a digit, too.
            if self.text[end - 1] == "D" and self.looks_at(":"):
                self.place = end = end - 1
            digits = self.text[start:end].translate(_WITHOUT_BLANKS)
            try:
                return Sid.from_text(digits), False
            except FormatError as error:
                raise self.error(str(error), at=start) from error
        found = None if self.text.startswith("-", start + 1) else self.match(_ALIAS)
        if found is None:
            raise self.error(f"SID expected, found {self.shown()}")
        try:
            sid = alias_sid(found[0], domain=self._domain)
        except FormatError as error:
            raise self.error(str(error), at=start) from error
        if sid is None:
            raise self.error(f"unknown SID alias {found[0]!a}", at=start)
        return sid, True

    def integer(self) -> tuple[str, int, int]:
        """Sign (`+`, `-` or nothing), magnitude and base (8, 10 or 16 as BASE_…).

        Whether it fits is the caller's question; endless digits are refused here.
        """
        start = self.place
        found = self.match(_INTEGER)
        if found is None:
            raise self.error(f"number expected, found {self.shown()}")
        sign, hexadecimal, octal, decimal = found.groups()
        digits = hexadecimal or octal or decimal
        significant = digits.lstrip("0") or "0"
        if len(significant) > _MAX_DIGITS:
            raise self.error(f"number of {len(significant)} digits does not fit 64 bits", at=start)
        if hexadecimal:
            return sign, int(significant, 16), BASE_16
        if octal:
            return sign, int(significant, 8), BASE_8
        return sign, int(significant), BASE_10

    def string(self) -> str:
        """A quoted string: no escapes, no quotation mark inside, no NUL."""
        start = self.place
        found = self.match(_STRING)
        if found is None:
            what = "string without an end" if self.looks_at('"') else "string expected"
            raise self.error(what)
        if "\0" in found[1]:
            raise self.error("NUL in a string", at=start + 1 + found[1].index("\0"))
        return found[1]

    def name(self) -> str:
        """An attribute's name in which `%xxxx` is one 16-bit unit."""
        found = self.match(_NAME)
        if found is None:
            raise self.error(f"name expected, found {self.shown()}")
        return unescaped(found[0])


def unescaped(name: str) -> str:
    """The name of `%`-escaped text; two escaped halves of a pair become one character."""
    if "%" not in name:
        return name
    text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), name)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def escaped(name: str) -> str:
    """The canonical spelling of a name: what is not plain ASCII or has a meaning as `%xxxx`."""
    return _TO_ESCAPE.sub(_escape, name)


def _escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"%{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


_WITHOUT_BLANKS = dict.fromkeys(map(ord, BLANKS))
