"""Load: images from outside into the store, layer by layer, each durable before the next.

Order (docs/formats/store.md section 5): holds on everything the image will rely on, then blobs, the
layers' records, the image's record, its tags. A load that fails leaves the store as it was.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from windowsfilter.digests import ChainID, DiffID, chain_id
from windowsfilter.engines.portable.blobs import BlobManifest
from windowsfilter.engines.portable.import_terms import DEFAULT_LIMITS, Expected, Limits
from windowsfilter.errors import FormatError, HostError, WindowsFilterError
from windowsfilter.images import documents, references
from windowsfilter.images.source_images import SourceImage, SourceLayer
from windowsfilter.layers.manifest import LayerManifest, LayerState, Owner
from windowsfilter.store.core import Core, Progress, counter
from windowsfilter.store.holds import ANY, HoldKind
from windowsfilter.store.images import CompressedLayer, ImageRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How to load. `verify` off accepts layers that are not what the config says, and Windows
    metadata that cannot be used.
    """

    verify: bool = True
    keep_compressed: bool = False
    limits: Limits = DEFAULT_LIMITS
    tags: tuple[str, ...] = ()


def load_image(
    core: Core, source: SourceImage, options: LoadOptions, progress: Progress | None
) -> ImageRecord:
    """Store one image and its layers; returns its record with all its tags."""
    missing = source.missing
    if missing:
        raise FormatError("load image: " + "; ".join(layer.why_missing() for layer in missing))
    tags = [references.normalise(tag) for tag in (*source.references, *options.tags)]
    config = source.config
    objects = [(HoldKind.IMAGE, config.digest.hex)]
    objects += [(HoldKind.BLOB, layer.diff_id.hex) for layer in source.layers]
    objects += [
        (HoldKind.LAYER, chain_id(config.diff_ids[: number + 1]).hex)
        for number in range(len(config.diff_ids))
    ]
    if not options.verify:  # the layers may turn out to be others than the config says
        objects += [(HoldKind.BLOB, ANY), (HoldKind.LAYER, ANY)]
    stored: list[StoredLayer] = []
    blobs: list[DiffID] = []
    try:
        with core.holds.held(objects, "load"):
            _load_layers(core, source, options, progress, blobs, stored)
            record = _record(source, stored)
            raw = source.manifest.raw if source.manifest else None
            core.images.add(record, config=config.raw, manifest=raw)
            core.images.tag(record.id, tags)
            return core.catalog.image(record.id)
    except BaseException:
        # Complete layers of an image that failed are of no use to anybody, unless somebody else
        # has come to need them meanwhile.
        core.garbage.collect((layer.id for layer in stored), blobs=blobs)
        raise


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer that is in the store now."""

    id: str
    blob: BlobManifest
    compressed: CompressedLayer | None


def _load_layers(
    core: Core,
    source: SourceImage,
    options: LoadOptions,
    progress: Progress | None,
    blobs: list[DiffID],
    stored: list[StoredLayer],
) -> None:
    """Append each blob to `blobs` and each layer to `stored` as soon as it is there, base first."""
    for number, layer in enumerate(source.layers, 1):
        label = f"layer {number}/{len(source.layers)}"
        blob = ensure_blob(core, layer, options, label, progress)
        blobs.append(blob.diff_id)
        parent = stored[-1].id if stored else None
        layer_id = add_sealed_layer(core, blob, chain_id(blobs), parent)
        compressed = _as_it_came(blob, layer, keep=options.keep_compressed)
        stored.append(StoredLayer(layer_id, blob, compressed))


def _as_it_came(blob: BlobManifest, layer: SourceLayer, *, keep: bool) -> CompressedLayer | None:
    """What the image's manifest calls the layer, if a save can write just that again."""
    kept = blob.original
    if kept is not None and kept.digest == layer.digest:
        return CompressedLayer(digest=kept.digest, size=kept.size, media_type=layer.media_type)
    if keep and layer.digest == blob.diff_id:  # it came without compression
        return CompressedLayer(digest=blob.diff_id, size=blob.size, media_type=layer.media_type)
    return None


def _record(source: SourceImage, stored: list[StoredLayer]) -> ImageRecord:
    manifest = source.manifest
    return ImageRecord(
        id=source.config.digest,
        created=time.time_ns(),
        layers=tuple(layer.id for layer in stored),
        platform=documents.build_platform(source.config.platform),
        manifest_digest=manifest.digest if manifest else None,
        manifest_media_type=manifest.media_type if manifest else None,
        compressed=tuple(layer.compressed for layer in stored),
    )


def ensure_blob(
    core: Core,
    layer: SourceLayer,
    options: LoadOptions,
    label: str,
    progress: Progress | None,
) -> BlobManifest:
    """The layer's blob, imported unless it is there already."""
    # No limit on waiting: another process may be importing this very layer, for minutes.
    with core.locks.held(f"blob:{layer.diff_id.hex}", timeout_s=None):
        if core.blobs.has(layer.diff_id):
            with core.blobs.open(layer.diff_id) as there:
                if there.manifest.original is not None or not options.keep_compressed:
                    return there.manifest
        expected = Expected(
            diff_id=layer.diff_id if options.verify else None,
            digest=layer.digest if options.verify else None,
            size=layer.size if options.verify else None,
            usable_metadata=options.verify,
        )
        report = counter("load", label, layer.size, progress)
        try:
            with layer.open() as stream:
                return core.blobs.add(
                    stream,
                    expected=expected,
                    limits=options.limits,
                    keep_compressed=options.keep_compressed,
                    progress=report,
                )
        except WindowsFilterError as error:
            raise _named(error, f"load {label} ({layer.name})") from error


def add_sealed_layer(core: Core, blob: BlobManifest, chain: ChainID, parent: str | None) -> str:
    """The record of a layer whose blob is durable, made unless it is there; returns its id."""
    layer_id = chain.hex
    with core.locks.held(f"layer:{layer_id}"):
        if core.catalog.find_layer(layer_id) is None:
            core.layers.add(
                LayerManifest(
                    id=layer_id,
                    state=LayerState.SEALED,
                    owner=Owner.IMAGES,
                    created=time.time_ns(),
                    parent=parent,
                    diff_id=blob.diff_id,
                    chain_id=chain,
                    size=blob.size,
                    entries=blob.entries,
                )
            )
    return layer_id


def _named(error: WindowsFilterError, operation: str) -> WindowsFilterError:
    """The same error with the operation and the layer in front."""
    if isinstance(error, HostError) and error.errno is not None:
        return type(error)(error.errno, f"{operation}: {error.strerror or error}")
    named = type(error)(f"{operation}: {error}")
    if isinstance(error, FormatError) and isinstance(named, FormatError):
        named.offset = error.offset
    return named
