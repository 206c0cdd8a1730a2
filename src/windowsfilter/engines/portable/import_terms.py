"""What an import is told beforehand: limits, expectations, whom to tell how far it is.

Apart from `importer`, because everybody names these and few run an import: commands that only read
start without the tar reader and the compression libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from windowsfilter.digests import DiffID, Digest

Progress = Callable[[int], None]
"""Told how many more source bytes were consumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an import takes before it refuses; each has an option of the same name."""

    max_entries: int = 2_000_000
    """Windows base layers have 100,000 to 300,000. Memory grows by about 250 bytes an entry."""
    max_ratio: int = 200
    """Uncompressed to compressed bytes, counted after the first 64 MiB."""
    max_bytes: int = 1 << 40
    """Uncompressed bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is known of a layer beforehand and must turn out true; None is not checked."""

    diff_id: DiffID | None = None
    digest: Digest | None = None
    """Of the bytes as they arrive."""
    size: int | None = None
    """Bytes as they arrive."""
    usable_metadata: bool = True
    """Whether security descriptors, EAs and reparse points must be well-formed. Where they need not be,
    what cannot be used is kept and listed among the tree's problems."""


DEFAULT_LIMITS = Limits()
NOTHING_EXPECTED = Expected()
