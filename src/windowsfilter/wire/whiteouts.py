"""Whiteouts: the tar entries that say "this name of a parent layer is gone".

An entry `.wh.NAME` deletes NAME beside it; `.wh..wh..opq` deletes everything the parents have
in its directory. Only the last component of a name counts. The prefix is exact; NAME is
compared as NTFS compares names, by whoever merges layers. Source: OCI image-spec, layer.md,
"Whiteouts"; go-winio's importer for "prefix is lower case".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from windowsfilter.errors import FormatError

PREFIX: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"


@dataclass(frozen=True, slots=True)
class Whiteout:
    """What a whiteout deletes: one name, or with `opaque` all there is."""

    name: bytes
    """The deleted leaf, in the spelling of the tar; empty if opaque."""
    opaque: bool = False


def parse(leaf: bytes) -> Whiteout | None:
    """The whiteout that a last name component stands for, None if it is an ordinary name.

    Raises FormatError for `.wh.` alone, and for `.` and `..` behind it.
    """
    if not leaf.startswith(PREFIX):
        return None
    if leaf == OPAQUE:
        return Whiteout(b"", opaque=True)
    name = leaf[len(PREFIX) :]
    if name in (b"", b".", b".."):
        raise FormatError(f"whiteout of the name {name.decode()!r}")
    return Whiteout(name)


def build(leaf: bytes) -> bytes:
    """The whiteout's name for a deleted leaf.

    Raises FormatError for a name that has no whiteout: empty, `.`, `..`, with a `/`, and `.wh..opq`,
    whose whiteout means another thing.
    """
    if leaf in (b"", b".", b"..", OPAQUE[len(PREFIX) :]) or b"/" in leaf:
        raise FormatError(f"no whiteout can be named for {leaf!r}")
    return PREFIX + leaf
