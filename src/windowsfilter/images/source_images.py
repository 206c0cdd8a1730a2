"""Images as a source offers them: documents read and checked, layers as streams to be read.

Layers are not read here. Whoever reads one checks the digests that come with it: `digest` is of
the bytes as stored, `diff_id` of what is left when they are unpacked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from windowsfilter.digests import DiffID, Digest
from windowsfilter.errors import FormatError
from windowsfilter.images.documents import Config, Manifest
from windowsfilter.images.platforms import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLayer:
    """One layer of an image; the same layer may be offered by several images."""

    diff_id: DiffID
    digest: Digest | None
    """Of the bytes as stored; None where the source does not say (old docker archives)."""
    size: int | None
    """Bytes as stored; None where the layer is absent and nobody says."""
    media_type: str
    """As the source has it, possibly wrong or empty: look at the bytes."""
    urls: tuple[str, ...] = ()
    """Where a foreign layer can be had."""
    name: str
    """For messages: which layer of what."""
    opener: Callable[[], BinaryIO] | None = field(repr=False, default=None)

    @property
    def present(self) -> bool:
        """False for foreign layers that were left out, and for missing blobs."""
        return self.opener is not None

    def open(self) -> BinaryIO:
        """The layer as stored, packed or not, from its start; the caller closes it.

        Each call gives a stream of its own, which works until the source is closed. Raises
        FormatError if the layer is absent, saying where it can be had.
        """
        if self.opener is None:
            raise FormatError(self.why_missing())
        return self.opener()

    def why_missing(self) -> str:
        """What to tell a user about this absent layer."""
        if not self.urls:
            return f"{self.name} is missing"
        places = ", ".join(url[:500] for url in self.urls[:5])
        return (
            f"{self.name} is not included: it is a foreign layer, to be fetched from {places}"
            " (save or copy the image with its foreign layers)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceImage:
    """One image for one platform."""

    references: tuple[str, ...]
    """Familiar form, sorted; possibly none."""
    config: Config
    manifest: Manifest | None
    """None for docker archives that have no manifests."""
    layers: tuple[SourceLayer, ...]
    """Base layer first, one for each diffID of the config."""

    @property
    def platform(self) -> Platform:
        return self.config.platform

    @property
    def missing(self) -> tuple[SourceLayer, ...]:
        """The layers that the source does not hold."""
        return tuple(layer for layer in self.layers if not layer.present)


def check_layer_count(described: int, config: Config, what: str) -> None:
    """FormatError unless there is one layer for each diffID."""
    if described != len(config.diff_ids):
        raise FormatError(
            f"{what} has {described} layers, but its config {config.digest}"
            f" names {len(config.diff_ids)} diffIDs"
        )
