"""Reading a docker archive: manifest.json, configs, and layers by their names in the archive.

Docker 1.10 to 24 write `<config>.json` and `<id>/layer.tar`, sometimes links to another layer's;
since 25 the files are blobs of an OCI layout in the same archive (`oci_layout` reads that then,
and this module adds the tags). skopeo and podman write `<diffID>.tar`. What Docker wrote before
1.10 has no manifest.json, and no Windows layers either.
Source: moby image/tarexport/load.go and save.go; image/spec v1.2.
"""

from __future__ import annotations

import re
from functools import partial

from windowsfilter.digests import DiffID, Digest
from windowsfilter.errors import UsageError
from windowsfilter.images import media_types
from windowsfilter.images.bundles import clean
from windowsfilter.images.documents import (
    MAX_CONFIG,
    MAX_INDEX,
    ArchiveItem,
    Config,
    parse_archive_items,
    parse_config,
)
from windowsfilter.images.platforms import Platform, choose
from windowsfilter.images.references import normalise
from windowsfilter.images.source_documents import SourceDocuments, check_digest
from windowsfilter.images.source_images import SourceImage, SourceLayer, check_layer_count

MANIFEST = "manifest.json"

_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_NAMED_BY_DIGEST = re.compile(r"(?:blobs/sha256/)?([0-9a-f]{64})(?:\.json)?")


def read_archive(
    documents: SourceDocuments, *, platform: Platform | None
) -> tuple[list[SourceImage], list[str]]:
    """The images that manifest.json lists and, in words, what was passed over.

    Raises UsageError if `platform` was asked for and none of them fits.
    """
    passed_over: list[str] = []
    images: list[SourceImage] = []
    for number, item in enumerate(_items(documents)):
        references = item_references(item, passed_over)
        what = references[0] if references else f"image {number} of {MANIFEST}"
        config = _config(documents, item, what)
        images.append(
            SourceImage(
                references=references,
                config=config,
                manifest=None,
                layers=_layers(documents, item, config, what),
            )
        )
    if platform is None or not images:
        return images, passed_over
    fitting = [image for image in images if platform.covers(image.platform)]
    if not fitting:
        choose(images, lambda image: image.platform, platform, what="the archive")
    passed_over.extend(
        f"image {image.config.digest} is for {image.platform}"
        for image in images
        if image not in fitting
    )
    return fitting, passed_over


def tags_by_config(documents: SourceDocuments, passed_over: list[str]) -> dict[Digest, set[str]]:
    """The tags in manifest.json by config, for archives whose images an OCI index lists."""
    tags: dict[Digest, set[str]] = {}
    for item in _items(documents):
        blob = _BLOB.fullmatch(item.config)
        if blob is not None:
            found = tags.setdefault(Digest.from_hex(blob[1]), set())
            found.update(item_references(item, passed_over))
    return tags


def item_references(item: ArchiveItem, passed_over: list[str]) -> tuple[str, ...]:
    """The item's tags in familiar form, sorted; unusable ones are noted."""
    references: set[str] = set()
    for tag in item.repo_tags:
        try:
            references.add(normalise(tag))
        except UsageError as error:
            passed_over.append(f"tag in {MANIFEST}: {error}")
    return tuple(sorted(references))


def _items(documents: SourceDocuments) -> tuple[ArchiveItem, ...]:
    data = documents.read(MANIFEST, limit=MAX_INDEX, what=MANIFEST)
    return parse_archive_items(data, what=MANIFEST)


def _config(documents: SourceDocuments, item: ArchiveItem, what: str) -> Config:
    name = clean(item.config)
    what = f"config {name} of {what}"
    data = documents.read(name, limit=MAX_CONFIG, what=what)
    named = _NAMED_BY_DIGEST.fullmatch(name)
    if named is not None and documents.verify:
        check_digest(Digest.from_hex(named[1]), data, what)
    return parse_config(data, what=what)


def _layers(
    documents: SourceDocuments, item: ArchiveItem, config: Config, what: str
) -> tuple[SourceLayer, ...]:
    check_layer_count(len(item.layers), config, what)
    layers: list[SourceLayer] = []
    for number, (path, diff_id) in enumerate(zip(item.layers, config.diff_ids, strict=True)):
        name = clean(path)
        blob = _BLOB.fullmatch(name)
        size = documents.bundle.size(name)
        media_type, urls = _source(item, diff_id)
        layers.append(
            SourceLayer(
                diff_id=diff_id,
                digest=None if blob is None else Digest.from_hex(blob[1]),
                size=size,
                media_type=media_type,
                urls=urls,
                name=f"layer {number} ({name}) of {what}",
                opener=None if size is None else partial(documents.bundle.open, name),
            )
        )
    return tuple(layers)


def _source(item: ArchiveItem, diff_id: DiffID) -> tuple[str, tuple[str, ...]]:
    """Media type and urls of a layer; the archive tells them for foreign layers only."""
    source = item.layer_sources.get(diff_id)
    if source is None:
        return media_types.DOCKER_LAYER, ()
    return source.media_type or media_types.DOCKER_LAYER, source.urls
