"""Content digests as images and layers use them: Digest, DiffID, ChainID.

Only sha256 is accepted: digests name paths in the store, so their text is checked before use.
Source: OCI image-spec, descriptor.md ("Digests") and config.md ("Layer ChainID").
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Self

from windowsfilter.errors import FormatError

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}\Z")


class Digest(str):
    """`sha256:` and 64 lowercase hex digits; anything else raises FormatError."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not _SHA256.match(text):
            algorithm, colon, _ = text.partition(":")
            if colon and algorithm != "sha256" and re.fullmatch(r"[a-z0-9+._-]{1,32}", algorithm):
                raise FormatError(f"digest algorithm {algorithm!r} is not supported, only sha256")
            raise FormatError(f"not a sha256 digest: {text[:100]!r}")
        return super().__new__(cls, text)

    @property
    def hex(self) -> str:
        """The 64 digits without the algorithm."""
        return self[7:]

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The digest of `data`."""
        return cls.from_hex(hashlib.sha256(data).hexdigest())

    @classmethod
    def from_hex(cls, digits: str) -> Self:
        """The digest with these 64 digits."""
        return cls(f"sha256:{digits}")


class DiffID(Digest):
    """Digest of a layer's uncompressed tar."""

    __slots__ = ()


class ChainID(Digest):
    """Identity of a layer together with all layers below it."""

    __slots__ = ()


def chain_ids(diff_ids: Iterable[DiffID]) -> list[ChainID]:
    """ChainID of every prefix of `diff_ids` (base layer first), in the same order."""
    chain: list[ChainID] = []
    for diff_id in diff_ids:
        below = chain[-1] if chain else None
        chain.append(
            ChainID(diff_id) if below is None else ChainID.of(f"{below} {diff_id}".encode())
        )
    return chain


def chain_id(diff_ids: Sequence[DiffID]) -> ChainID:
    """ChainID of a non-empty chain, base layer first."""
    return chain_ids(diff_ids)[-1]
