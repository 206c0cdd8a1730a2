"""The documents of an image: index, manifest, config, and a docker archive's manifest.json.

Parsing is strict and bounded (`json_values`), keeps what the store needs, and leaves the raw bytes
with the caller's value: they are what the digests are made of, so they are never written anew.
Descriptors are checked when parsed: digest well-formed, size not negative.
Sources: OCI image-spec (descriptor, image-index, manifest, config); distribution's manifest schema
2; moby image/spec v1.2 and image/tarexport.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from windowsfilter.digests import DiffID, Digest
from windowsfilter.errors import FormatError
from windowsfilter.images import media_types
from windowsfilter.images.json_values import MAX_SIZE, convert, decode, encode, fields, fold
from windowsfilter.images.platforms import Platform

MAX_MANIFEST = 4 << 20  # bytes; what registries accept
MAX_INDEX = 4 << 20
MAX_CONFIG = 8 << 20

# Old registries and clients did not say what a config or layer is.
_UNSAID = frozenset({"", "application/octet-stream"})

_PLATFORM = {
    "os": "os",
    "architecture": "architecture",
    "variant": "variant",
    "os.version": "os_version",
    "os.features": "os_features",
}
_DESCRIPTOR = {
    "mediatype": "media_type",
    "digest": "digest",
    "size": "size",
    "urls": "urls",
    "annotations": "annotations",
    "platform": "platform",
    "artifacttype": "artifact_type",
}
_MANIFEST = {
    "schemaversion": "schema_version",
    "mediatype": "media_type",
    "artifacttype": "artifact_type",
    "config": "config",
    "layers": "layers",
    "manifests": "manifests",
    "fslayers": "fs_layers",
}
_CONFIG = {"rootfs": "rootfs"}
_ROOTFS = {"type": "type", "diff_ids": "diff_ids"}
_ARCHIVE_ITEM = {
    "config": "config",
    "repotags": "repo_tags",
    "layers": "layers",
    "layersources": "layer_sources",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What one document says about another, or about a layer's blob."""

    digest: Digest
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE)]
    media_type: str = ""
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    artifact_type: str = ""

    def build(self) -> dict[str, Any]:
        """The JSON object, keys in the order Go writes them."""
        built: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.urls:
            built["urls"] = list(self.urls)
        if self.annotations:
            built["annotations"] = dict(sorted(self.annotations.items()))
        if self.platform is not None:
            built["platform"] = build_platform(self.platform)
        if self.artifact_type:
            built["artifactType"] = self.artifact_type
        return built


@dataclass(frozen=True, slots=True)
class Index:
    """A list of manifests, or of further indexes."""

    raw: bytes = field(repr=False)
    media_type: str
    manifests: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform. `media_type` is never empty."""

    raw: bytes = field(repr=False)
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def digest(self) -> Digest:
        """The manifest's own digest."""
        return Digest.of(self.raw)

    @property
    def foreign_type(self) -> str | None:
        """A media type that images do not have; None if this is an image.

        Attestations, charts and encrypted images travel as manifests, too.
        """
        if self.config.media_type not in {*media_types.CONFIGS, *_UNSAID}:
            return self.config.media_type
        for layer in self.layers:
            if not media_types.is_layer(layer.media_type) and layer.media_type not in _UNSAID:
                return layer.media_type
        return None


@dataclass(frozen=True, slots=True)
class Config:
    """What an image is made of and how it is started."""

    raw: bytes = field(repr=False)
    platform: Platform
    diff_ids: tuple[DiffID, ...]
    """Base layer first."""
    document: dict[str, Any] = field(repr=False)
    """The whole document, keys as they were spelled."""

    @property
    def digest(self) -> Digest:
        """The config's digest, which is the image's id."""
        return Digest.of(self.raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveItem:
    """One image in a docker archive's manifest.json; `config` and `layers` are member names."""

    config: str
    layers: tuple[str, ...] = ()
    repo_tags: tuple[str, ...] = ()
    layer_sources: dict[str, Descriptor] = field(default_factory=dict)
    """Where foreign layers come from, by diffID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _RootFS:
    diff_ids: tuple[DiffID, ...] = ()
    type: str = "layers"


def parse_index(data: bytes, *, what: str) -> Index:
    """Read an OCI index or Docker manifest list; FormatError names `what`."""
    found = fields(decode(data, what=what, limit=MAX_INDEX), _MANIFEST, what)
    _check_version(found, what)
    # One document that is an index to one reader and a manifest to the next (CVE-2021-41190).
    if "config" in found or "layers" in found:
        raise FormatError(f"{what} is an index and a manifest at once")
    media_type = _own_type(found, media_types.INDEXES, media_types.OCI_INDEX, what)
    listed = _list(found.get("manifests", []), f"{what}, manifests")
    return Index(data, media_type, _descriptors(listed, f"{what}, manifest"))


def parse_manifest(data: bytes, *, what: str) -> Manifest:
    """Read an OCI or Docker (schema 2) manifest; FormatError names `what`."""
    found = fields(decode(data, what=what, limit=MAX_MANIFEST), _MANIFEST, what)
    _check_version(found, what)
    if "manifests" in found:
        raise FormatError(f"{what} is an index where a manifest should be")
    if "config" not in found:
        raise FormatError(f"{what} names no config")
    media_type = _own_type(found, media_types.MANIFESTS, media_types.OCI_MANIFEST, what)
    layers = _list(found.get("layers", []), f"{what}, layers")
    return Manifest(
        data,
        media_type,
        _descriptor(found["config"], f"{what}, config"),
        _descriptors(layers, f"{what}, layer"),
    )


def parse_config(data: bytes, *, what: str) -> Config:
    """Read an image config; FormatError names `what`."""
    document = decode(data, what=what, limit=MAX_CONFIG)
    found = fields(document, _CONFIG, what)
    root = fields(found.pop("rootfs", {}), _ROOTFS, f"{what}, rootfs")
    rootfs = convert(root, _RootFS, f"{what}, rootfs")
    if rootfs.type not in {"layers", ""}:
        raise FormatError(f"{what}: rootfs of type {rootfs.type[:100]!r}, only 'layers' is known")
    return Config(data, _platform(document, what), rootfs.diff_ids, document)


def parse_archive_items(data: bytes, *, what: str) -> tuple[ArchiveItem, ...]:
    """Read a docker archive's manifest.json; FormatError names `what`."""
    items = _list(decode(data, what=what, limit=MAX_INDEX), what)
    parsed: list[ArchiveItem] = []
    for number, item in enumerate(items):
        name = f"{what}, image {number}"
        found = fields(item, _ARCHIVE_ITEM, name)
        sources = found.pop("layer_sources", {})
        if not isinstance(sources, dict):
            raise FormatError(f"{name}: LayerSources is not a JSON object")
        found["layer_sources"] = {}
        archive_item = convert(found, ArchiveItem, name)
        for diff_id, source in sources.items():
            archive_item.layer_sources[diff_id] = _descriptor(source, f"{name}, source {diff_id}")
        parsed.append(archive_item)
    return tuple(parsed)


def build_platform(platform: Platform) -> dict[str, Any]:
    """The JSON object of a descriptor's platform."""
    built: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os}
    if platform.os_version:
        built["os.version"] = platform.os_version
    if platform.os_features:
        built["os.features"] = list(platform.os_features)
    if platform.variant:
        built["variant"] = platform.variant
    return built


def build_index(manifests: Sequence[Descriptor]) -> bytes:
    """An OCI index of these."""
    return encode(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_INDEX,
            "manifests": [descriptor.build() for descriptor in manifests],
        }
    )


def build_manifest(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    """An OCI manifest of these, base layer first."""
    return encode(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": config.build(),
            "layers": [layer.build() for layer in layers],
        }
    )


def build_child_config(
    parent: Config, diff_id: DiffID, *, created: str, created_by: str, comment: str = ""
) -> bytes:
    """The config of `parent` with one more layer on top; everything else as the parent has it.

    `created` is a time as RFC 3339 writes it.
    """
    history_entry = {"created": created, "created_by": created_by}
    if comment:
        history_entry["comment"] = comment
    rest: dict[str, Any] = {}
    history: list[Any] = []
    for key, value in parent.document.items():
        name = fold(key)
        if name == "history":
            history = _list(value or [], "history of the parent's config")
        elif name not in {"rootfs", "created"}:
            rest[key] = value
    diff_ids = [*parent.diff_ids, diff_id]
    return encode(
        {
            **rest,
            "created": created,
            "history": [*history, history_entry],
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    )


def _check_version(found: dict[str, Any], what: str) -> None:
    version = found.get("schema_version", 2)
    is_number = isinstance(version, int) and not isinstance(version, bool)
    if (is_number and version == 1) or "fs_layers" in found:
        raise FormatError(f"{what} is a Docker schema 1 manifest, which is not supported")
    if not is_number or version != 2:
        raise FormatError(f"{what} has schemaVersion {version!r:.100}, only 2 is known")


def _own_type(found: dict[str, Any], known: frozenset[str], default: str, what: str) -> str:
    own = found.get("media_type", "") or default
    if not isinstance(own, str) or own not in known:
        raise FormatError(f"{what} calls itself {own!r:.200}")
    return own


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise FormatError(f"{what}: not a JSON array")
    return value


def _platform(value: object, what: str) -> Platform:
    return convert(fields(value, _PLATFORM, what), _PlatformFields, what).value()


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlatformFields:
    """A platform as documents have it: everything may be missing."""

    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    def value(self) -> Platform:
        return Platform(self.os, self.architecture, self.variant, self.os_version, self.os_features)


def _descriptor(value: object, what: str) -> Descriptor:
    found = fields(value, _DESCRIPTOR, what)
    platform = found.pop("platform", None)
    if platform is not None:
        found["platform"] = _platform(platform, f"{what}, platform")
    return convert(found, Descriptor, what)


def _descriptors(values: list[Any], what: str) -> tuple[Descriptor, ...]:
    return tuple(_descriptor(value, f"{what} {number}") for number, value in enumerate(values))
