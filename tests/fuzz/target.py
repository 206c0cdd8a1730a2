"""What a fuzzed entry point is, and what its errors must say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from windowsfilter.errors import FormatError


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An entry point.

    `run` takes the bytes; `seeds` are good inputs to begin with; `words` is what is worth putting
    into an input; `max_size` bounds it; `runs` is how many a test run does, for a few seconds.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]
    words: tuple[bytes, ...] = ()
    max_size: int = 4096
    runs: int = 50_000


def check_place(error: FormatError, size: int) -> None:
    """An error in bytes tells where in them it is."""
    assert error.offset is not None, f"no offset: {error}"
    assert 0 <= error.offset <= size, f"{error} in {size} bytes"
