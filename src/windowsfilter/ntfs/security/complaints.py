"""What is wrong with a text, and what a text cannot say."""

from __future__ import annotations

from windowsfilter.errors import FormatError


class SddlError(FormatError):
    """The text is no SDDL. `offset` counts characters, from 0."""

    def __init__(self, what: str, *, offset: int) -> None:
        super().__init__(f"{what} (at character {offset})")
        self.offset = offset


class NotExpressible(FormatError):
    """SDDL has no words for it; the message says for what. The bytes are as good as ever."""
