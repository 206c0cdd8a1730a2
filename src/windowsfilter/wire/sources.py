"""The file objects that bytes are read from: blocking ones, which need not seek."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from windowsfilter.errors import UsageError


class Readable(Protocol):
    """What a source must be able to do. Fewer bytes than asked for are fine, none are the end."""

    def read(self, size: int, /) -> bytes | None: ...


def reader_of(source: Readable) -> Callable[[int], bytes]:
    """A source's `read` that cannot mistake for the end what has no data yet.

    It raises UsageError where a source that does not block gives None.
    """

    def read(size: int) -> bytes:
        data = source.read(size)
        if data is None:
            raise UsageError(
                "read: a source that does not block has no data; only blocking ones do"
            )
        return data

    return read
