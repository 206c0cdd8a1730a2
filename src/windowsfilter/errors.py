"""Every error this package raises on purpose, by who is at fault.

Three culprits under one root: the caller (exit code 2), bytes that came from outside (3), the
machine (4). Programs catch by category, people read the message, scripts read the exit code.
"""

from __future__ import annotations


class WindowsFilterError(Exception):
    """Root of everything this package raises on purpose."""

    exit_code = 1


class UsageError(WindowsFilterError):
    """The caller asked for something impossible: a wrong name, a busy layer, a bad option."""

    exit_code = 2


class LayerNotFound(UsageError, LookupError):
    """No layer has this id."""


class ImageNotFound(UsageError, LookupError):
    """No image has this tag or id."""


class ScratchNotFound(UsageError, LookupError):
    """No scratch has this name."""


class EntryNotFound(UsageError, LookupError):
    """The layer or image has no entry at this path."""


class AlreadyExists(UsageError):
    """The name or id is taken."""


class LayerInUse(UsageError):
    """A child, a scratch, an image or a mount still needs the layer."""


class FormatError(WindowsFilterError, ValueError):
    """Bytes from outside are wrong. `offset` is where, counted in the stream that was read."""

    exit_code = 3

    def __init__(self, what: str, *, offset: int | None = None) -> None:
        super().__init__(what if offset is None else f"{what} (at byte {offset})")
        self.offset = offset


class DigestMismatch(FormatError):
    """Content does not have the digest that names it."""


class LimitExceeded(FormatError):
    """Well-formed input beyond a documented limit; the message names the option that lifts it."""


class HostError(WindowsFilterError, OSError):
    """The machine refused: a system call, a missing feature, a full disk."""

    exit_code = 4


class StoreDamaged(HostError):
    """The store's own files are not what they were when they were written."""
