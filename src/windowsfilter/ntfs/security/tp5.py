"""One ACE more in the DACL of a security descriptor that stands as SDDL text.

Before Windows Server 2016 was out (builds up to 14300, "TP5"), Docker let Hyper-V containers
read a layer's files by adding an ACE for the virtual machines' group to the SDDL of each tar entry.
In scope: that edit, for whoever imports such layers. Not in scope: SDDL itself (sddl.py). A text
is looked at here only for where its sections and ACEs begin and end; the rest stays as written.
Source: `addAceToSddlDacl` in Docker's windows.go (1.12), and what the Go original answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from windowsfilter.errors import FormatError

LAST_BUILD = 14300
"""The last build of Windows whose layers want the ACE."""

DIRECTORY_ACE = "(A;OICI;0x1200a9;;;S-1-5-83-0)"
"""Read and execute for NT VIRTUAL MACHINE\\Virtual Machines, on a directory and all below it."""

FILE_ACE = "(A;;0x1200a9;;;S-1-5-83-0)"
"""The same for a file."""

_PARENTHESIS = re.compile(r"[()]")
# Strings of conditions and claims may hold anything but a quote, so they are stepped over whole. A
# quote that none follows is caught as itself.
_ACE_MARK = re.compile(r'"[^"]*"|[()"]')
_SECTION_OR_ACE = re.compile(r"[:(]")
_SPACES = re.compile(r"[\t-\r ]*")
_DACL_FLAGS = re.compile(r"(?:P|AR|AI|[\t-\r ])*", re.IGNORECASE)
_NO_ACCESS_CONTROL = "NO_ACCESS_CONTROL"


def add_ace_to_sddl_dacl(sddl: str, ace: str, *, go: bool = False) -> tuple[str, bool]:
    """Add `ace`, written `(A;...)`, to the DACL in `sddl`; also say whether the DACL now has it.

    It goes before the first plain allow ACE, else behind the last ACE. The text comes back
    unchanged with True when the ACE is there already, and with False when there is no list that it
    could go into: no DACL, or one that lets everybody in.

    With `go` the answer is the reference's, letter for letter: it knows no flags, strings or
    blanks, gives up on some good texts and makes malformed ones of others. Without it flags and
    strings are understood, and a text whose sections or parentheses are wrong raises FormatError
    (`offset` counts characters).
    """
    return _as_the_reference(sddl, ace) if go else _where_it_belongs(sddl, ace)


def _as_the_reference(sddl: str, ace: str) -> tuple[str, bool]:
    start = sddl.find("D:")
    if start < 0:
        return sddl, False
    end = sddl.find("S:", start)
    dacl = sddl[start:] if end < 0 else sddl[start:end]
    if ace in dacl:
        return sddl, True
    at = 2
    while at + 1 < len(dacl):
        if dacl[at] != "(":
            return sddl, False
        if dacl[at + 1] == "A":
            break
        # The letter after the parenthesis is not looked at, even if it is one itself.
        at = _end_of_reference_ace(dacl, at + 2)
    at += start
    return sddl[:at] + ace + sddl[at:], True


def _end_of_reference_ace(dacl: str, at: int) -> int:
    depth = 1
    for mark in _PARENTHESIS.finditer(dacl, at):
        depth += 1 if mark[0] == "(" else -1
        if depth == 0:
            return mark.end()
    return len(dacl)


def _where_it_belongs(sddl: str, ace: str) -> tuple[str, bool]:
    dacl: tuple[int, int] | None = None
    for letter, start, end in _sections(sddl):
        if letter == "D":
            if dacl is not None:
                raise FormatError("a second DACL", offset=start - 2)
            dacl = start, end
    if dacl is None:
        return sddl, False
    start, end = dacl
    flags = _DACL_FLAGS.match(sddl, start, end)
    assert flags is not None  # it matches nothing at all, too
    at = flags.end()
    if sddl[at:end].rstrip().upper() == _NO_ACCESS_CONTROL:
        return sddl, False
    # Behind flags, but before the blanks that may follow them.
    place = start + len(sddl[start:at].rstrip())
    before_allow: int | None = None
    for ace_start, ace_end in _aces(sddl, at, end):
        text = sddl[ace_start:ace_end]
        if text == ace:
            return sddl, True
        if before_allow is None and text[1 : text.find(";")].strip().upper() == "A":
            before_allow = ace_start
        place = ace_end
    if before_allow is not None:
        place = before_allow
    return sddl[:place] + ace + sddl[place:], True


def _sections(sddl: str) -> Iterator[tuple[str, int, int]]:
    """Letter, start and end of the text of each section, in the order they stand."""
    letter = ""
    start = at = len(sddl) - len(sddl.lstrip())
    while found := _SECTION_OR_ACE.search(sddl, at):
        if found[0] == "(":
            at = _end_of_ace(sddl, found.start())
            continue
        head = found.start() - 1
        if head < start or sddl[head] not in "OGDS":
            raise FormatError("a colon without O, G, D or S before it", offset=found.start())
        if letter:
            yield letter, start, head
        elif head > start:
            raise FormatError("text before the first section", offset=start)
        letter, start = sddl[head], found.end()
        at = start
    if letter:
        yield letter, start, len(sddl)
    elif start < len(sddl):
        raise FormatError("text without a section", offset=start)


def _aces(sddl: str, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Start and end of each ACE between two places, which hold nothing else but blanks."""
    while True:
        spaces = _SPACES.match(sddl, at, end)
        at = spaces.end() if spaces else at
        if at == end:
            return
        if sddl[at] != "(":
            raise FormatError("not an ACE", offset=at)
        start, at = at, _end_of_ace(sddl, at)
        if ";" not in sddl[start:at]:
            raise FormatError("an ACE without fields", offset=start)
        yield start, at


def _end_of_ace(sddl: str, start: int) -> int:
    """Where the ACE that begins at `start` is over."""
    depth = 0
    for mark in _ACE_MARK.finditer(sddl, start):
        if mark[0] == "(":
            depth += 1
        elif mark[0] == ")":
            depth -= 1
            if depth == 0:
                return mark.end()
        elif mark[0] == '"':
            raise FormatError("a string without an end", offset=mark.start())
    raise FormatError("an ACE without an end", offset=start)
