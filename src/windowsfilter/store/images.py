"""An image's record, `images/sha256/<hex>/image.json`: tags, layers, platform, kept originals.

Bytes in, values out, and the folder's file names; what configs and manifests mean is the affair of
`windowsfilter.images`. Keys and rules: docs/formats/store.md section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from windowsfilter.digests import Digest
from windowsfilter.errors import FormatError
from windowsfilter.layers import records
from windowsfilter.layers.ids import is_id

VERSION = 1

RECORD_FILE = "image.json"
CONFIG_FILE = "config.json"
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedLayer:
    """The original compressed bytes of a layer, kept beside its blob."""

    digest: Digest
    size: int
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """What is known about one image. Layers and `compressed` are base first."""

    id: Digest  # of the config
    created: int  # unix ns of the first load or commit
    layers: tuple[str, ...]  # layer ids
    references: Mapping[str, int] = field(default_factory=dict)  # tag -> since when, unix ns
    platform: Mapping[str, object] = field(default_factory=dict)
    manifest_digest: Digest | None = None
    manifest_media_type: str | None = None
    compressed: tuple[CompressedLayer | None, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)  # keys of newer writers

    def __post_init__(self) -> None:
        for layer in self.layers:
            if not is_id(layer):
                raise FormatError(f"image {self.id}: {layer[:100]!r} is no layer id")
        if self.compressed and len(self.compressed) != len(self.layers):
            raise FormatError(
                f"image {self.id}: {len(self.layers)} layers, "
                f"{len(self.compressed)} compressed ones"
            )

    @classmethod
    def parse(cls, data: bytes, what: str = "image record") -> Self:
        """Read a record. `what` names it in errors: FormatError for anything out of order."""
        fields = records.Fields.parse(data, what, version=VERSION)
        return cls(
            id=fields.digest("id"),
            created=fields.integer("created"),
            layers=fields.texts("layers"),
            references=fields.integer_mapping("references"),
            platform=fields.mapping("platform"),
            manifest_digest=fields.optional_digest("manifest_digest"),
            manifest_media_type=fields.optional_text("manifest_media_type"),
            compressed=tuple(_parse_compressed(item, what) for item in fields.items("compressed")),
            extra=fields.rest(),
        )

    def build(self) -> bytes:
        """The record's bytes; `parse` undoes it."""
        known: dict[str, object] = {
            "id": self.id,
            "created": self.created,
            "layers": self.layers,
            "references": dict(self.references),
            "platform": dict(self.platform),
            "manifest_digest": self.manifest_digest,
            "manifest_media_type": self.manifest_media_type,
            "compressed": [
                item and {"digest": item.digest, "size": item.size, "media_type": item.media_type}
                for item in self.compressed
            ],
        }
        return records.build(VERSION, known, self.extra)


def _parse_compressed(item: object, what: str) -> CompressedLayer | None:
    if item is None:
        return None
    fields = records.Fields(item, f"{what}: compressed layer")
    return CompressedLayer(
        digest=fields.digest("digest"),
        size=fields.integer("size"),
        media_type=fields.text("media_type"),
    )
