"""Writing images: OCI layouts, as a directory or a tar, and docker archives.

A docker archive is the tar of an OCI layout with Docker's manifest.json beside it, as Docker
itself writes it since version 25: older Dockers, podman and skopeo follow the names in manifest.json,
newer ones read the layout. Nothing is written twice for that.

A manifest that came with an image is written again as it was, if its layers are (`ExportLayer.stored`);
otherwise a new OCI manifest is made. The config is always the one the image has.
Sources: OCI image-spec, image-layout.md; moby image/tarexport/save.go; containerd's
images/archive/exporter.go for the annotations.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, BinaryIO

from windowsfilter.digests import Digest
from windowsfilter.errors import UsageError
from windowsfilter.images import media_types
from windowsfilter.images.docker_archive import MANIFEST
from windowsfilter.images.documents import (
    Config,
    Descriptor,
    Manifest,
    build_index,
    build_manifest,
    parse_config,
    parse_manifest,
)
from windowsfilter.images.export_blobs import LayerBlob, Progress, blob_key, layer_blobs
from windowsfilter.images.export_targets import Target, directory_target, tar_target
from windowsfilter.images.exports import ExportImage
from windowsfilter.images.json_values import encode
from windowsfilter.images.oci_layout import CONTAINERD_NAME, INDEX, MARKER, REF_NAME
from windowsfilter.images.references import Reference
from windowsfilter.images.source_documents import blob_name
from windowsfilter.images.source_images import check_layer_count
from windowsfilter.wire.compression import Compression


@dataclass(frozen=True, slots=True)
class WrittenImage:
    """What an image became; `descriptor` is of its manifest."""

    image: ExportImage
    config: Config
    descriptor: Descriptor
    layers: tuple[LayerBlob, ...]


def write_oci_layout(
    target: str | os.PathLike[str] | BinaryIO,
    images: Sequence[ExportImage],
    *,
    directory: bool = False,
    compression: Compression | None = None,
    level: int | None = None,
    progress: Progress | None = None,
) -> list[WrittenImage]:
    """Write an OCI layout to the tar file or stream `target`, or to a new directory.

    `compression` None: blobs that are stored as they came are written as they are, all others
    packed with gzip. Anything else packs every layer like that. `progress` is told of each layer
    once, `size` bytes in all (for stored blobs, the bytes of the blob).

    Raises UsageError (target in the way), HostError (disk full), StoreDamaged (a layer is not what
    its digest says). After an error nothing is at `target`, or what was there before.
    """
    if directory:
        if not isinstance(target, str | os.PathLike):
            raise UsageError("a directory cannot be written to a stream")
        with directory_target(target) as folder:
            return _write_layout(folder, images, compression, level, progress)
    with tar_target(target) as tar:
        return _write_layout(tar, images, compression, level, progress)


def write_docker_archive(
    target: str | os.PathLike[str] | BinaryIO,
    images: Sequence[ExportImage],
    *,
    compression: Compression | None = None,
    level: int | None = None,
    progress: Progress | None = None,
) -> list[WrittenImage]:
    """Write a docker archive that old and new clients read; otherwise as `write_oci_layout`."""
    with tar_target(target) as tar:
        written = _write_layout(tar, images, compression, level, progress)
        tar.add_file(MANIFEST, _archive_items(written))
        return written


def _write_layout(
    target: Target,
    images: Sequence[ExportImage],
    compression: Compression | None,
    level: int | None,
    progress: Progress | None,
) -> list[WrittenImage]:
    if not images:
        raise UsageError("no image to write")
    configs = [_config(image) for image in images]
    layers = [layer for image in images for layer in image.layers]
    blobs: dict[tuple[Digest, Digest | None], LayerBlob] = {}
    with closing(layer_blobs(layers, compression, level, target.scratch, progress)) as made:
        for blob in made:
            target.add_layer(blob, progress)
            blobs[blob_key(blob.layer)] = blob
    written: list[WrittenImage] = []
    for image, config in zip(images, configs, strict=True):
        own = tuple(blobs[blob_key(layer)] for layer in image.layers)
        target.add_blob(image.config)
        manifest = _manifest(image, config, own)
        target.add_blob(manifest.raw)
        descriptor = Descriptor(
            media_type=manifest.media_type,
            digest=manifest.digest,
            size=len(manifest.raw),
            platform=config.platform,
        )
        written.append(WrittenImage(image, config, descriptor, own))
    target.add_file(INDEX, build_index(_index_entries(written)))
    target.add_file(MARKER, encode({"imageLayoutVersion": "1.0.0"}))
    return written


def _config(image: ExportImage) -> Config:
    config = parse_config(image.config, what="the image's config")
    # Only the number: an image that was loaded unverified may have a config that is wrong about
    # its layers, and is written as wrong as it came.
    check_layer_count(len(image.layers), config, f"image {config.digest}")
    return config


def _manifest(image: ExportImage, config: Config, blobs: Sequence[LayerBlob]) -> Manifest:
    """The manifest the image came with if these are its blobs, else a new one."""
    if image.manifest is not None:
        came_with = parse_manifest(image.manifest, what=f"manifest of image {config.digest}")
        named = [layer.digest for layer in came_with.layers]
        if came_with.config.digest == config.digest and named == [blob.digest for blob in blobs]:
            return came_with
    raw = build_manifest(
        Descriptor(media_type=media_types.OCI_CONFIG, digest=config.digest, size=len(image.config)),
        [
            Descriptor(
                media_type=media_types.layer_type(blob.compression),
                digest=blob.digest,
                size=blob.size,
            )
            for blob in blobs
        ],
    )
    return parse_manifest(raw, what="the manifest just written")


def _index_entries(written: Sequence[WrittenImage]) -> list[Descriptor]:
    """One entry for each name, as Docker does; images without a name get one all the same.

    `ref.name` is the tag, as Docker and BuildKit write it, unless two images share it: then only
    the whole name tells them apart.
    """
    names = [[Reference.parse(name) for name in item.image.references] for item in written]
    uses = Counter(reference.tag for references in names for reference in references)
    entries: list[Descriptor] = []
    for item, references in zip(written, names, strict=True):
        if not references:
            entries.append(item.descriptor)
        for reference in references:
            tag = reference.tag
            if tag is None or reference.digest is not None or uses[tag] > 1:
                tag = str(reference)
            entries.append(
                Descriptor(
                    media_type=item.descriptor.media_type,
                    digest=item.descriptor.digest,
                    size=item.descriptor.size,
                    platform=item.descriptor.platform,
                    annotations={
                        CONTAINERD_NAME: reference.canonical,
                        REF_NAME: tag,
                    },
                )
            )
    return entries


def _archive_items(written: Sequence[WrittenImage]) -> bytes:
    items: list[dict[str, Any]] = []
    for item in written:
        references = [Reference.parse(name) for name in item.image.references]
        entry: dict[str, Any] = {
            "Config": blob_name(item.config.digest),
            "RepoTags": [str(name) for name in references if name.tag and not name.digest],
            "Layers": [blob_name(blob.digest) for blob in item.layers],
        }
        sources = {
            blob.layer.diff_id: Descriptor(
                media_type=media_types.DOCKER_FOREIGN_LAYER + ".gzip",
                digest=blob.layer.stored.digest,
                size=blob.layer.stored.size,
                urls=blob.layer.stored.urls,
            ).build()
            for blob in item.layers
            if blob.layer.stored is not None and blob.layer.stored.urls
        }
        if sources:
            entry["LayerSources"] = sources
        items.append(entry)
    return encode(items)
