"""Changing layers and images: the record on disk first, then its row in the catalog.

Everything here expects the caller to hold the object's lock (docs/formats/store.md section 4), and leaves
either the old state or the new one, whenever it is killed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from windowsfilter.digests import Digest
from windowsfilter.errors import AlreadyExists, DigestMismatch, ImageNotFound, LayerNotFound
from windowsfilter.layers import durable
from windowsfilter.layers.manifest import LayerManifest
from windowsfilter.store import images
from windowsfilter.store.catalog import Catalog
from windowsfilter.store.images import ImageRecord
from windowsfilter.store.layout import Layout
from windowsfilter.store.locks import Locks
from windowsfilter.store.staging import Staging

MANIFEST_FILE = "manifest.json"


def stamp_of(record: str | Path) -> str:
    """Tells one state of a record file from another; it is replaced whole, so its inode counts."""
    info = os.stat(record)
    return f"{info.st_ino}:{info.st_mtime_ns}:{info.st_size}"


class LayerWriting:
    """Layers under `layers/`. Every method needs the lock `layer:<id>`, exclusively."""

    def __init__(self, layout: Layout, staging: Staging, catalog: Catalog) -> None:
        self._layout = layout
        self._staging = staging
        self._catalog = catalog

    def add(
        self, manifest: LayerManifest, *, fill: Callable[[Path], None] | None = None
    ) -> LayerManifest:
        """Store a new layer. `fill` may put more into its folder (`upper`, `work`) beforehand.

        Besides the layer's lock this needs one on the parent (shared) or a hold on it, and the
        lock `name:<name>` of each name, alias and snapshot key. Raises LayerNotFound for the
        parent, AlreadyExists.
        """
        self._check_new(manifest)
        place = self._layout.layer(manifest.id)
        with (
            durable.host_errors(f"add layer {manifest.id}"),
            self._staging.temporary("layer") as folder,
        ):
            if fill is not None:
                fill(folder)
            durable.write_new(folder / MANIFEST_FILE, manifest.build())
            self._staging.clear(place)
            durable.publish(folder, place)
        with self._staging.cleared_on_error(place):
            self._catalog.put_layer(manifest, stamp_of(place / MANIFEST_FILE))
        return manifest

    def _check_new(self, manifest: LayerManifest) -> None:
        """Before anything is on disk: a record that clashes with another must not get there."""
        what = f"add layer {manifest.id}"
        if manifest.parent is not None and self._catalog.find_layer(manifest.parent) is None:
            raise LayerNotFound(f"{what}: its parent {manifest.parent} is missing")
        if self._catalog.find_layer(manifest.id) is not None:
            raise AlreadyExists(f"{what}: it exists")
        self._check_names(manifest, what)

    def _check_names(self, manifest: LayerManifest, what: str) -> None:
        if manifest.name is not None:
            other = self._catalog.scratch(manifest.name)
            if other is not None and other.id != manifest.id:
                raise AlreadyExists(f"{what}: there is a scratch named {manifest.name}")
        for alias in manifest.aliases:
            if self._catalog.resolve(alias) not in {alias, manifest.id}:
                raise AlreadyExists(f"{what}: the alias {alias} is taken")
        for snapshot in manifest.snapshots:
            found = self._catalog.snapshot(snapshot.key)
            if found is not None and found[1] != manifest.id:
                raise AlreadyExists(f"{what}: there is a snapshot {snapshot.key}")

    def rewrite(self, manifest: LayerManifest) -> LayerManifest:
        """Replace the record of an existing layer. Raises LayerNotFound, AlreadyExists (names)."""
        what = f"change layer {manifest.id}"
        path = self._layout.layer(manifest.id) / MANIFEST_FILE
        if not path.exists():
            raise LayerNotFound(f"{what}: there is none")
        self._check_names(manifest, what)
        with durable.host_errors(what):
            durable.replace(path, manifest.build(), staging=self._staging.folder)
        self._catalog.put_layer(manifest, stamp_of(path))
        return manifest


class ImageWriting:
    """Images under `images/sha256/`, and their tags. Takes the locks it needs."""

    def __init__(self, layout: Layout, locks: Locks, staging: Staging, catalog: Catalog) -> None:
        self._layout = layout
        self._locks = locks
        self._staging = staging
        self._catalog = catalog

    def add(
        self, record: ImageRecord, *, config: bytes, manifest: bytes | None = None
    ) -> ImageRecord:
        """Store an image, or bring one that is there up to date; its tags are left as they are.

        `record.references` is ignored: `tag` gives tags. Of an image that is there, `created`
        stays. The layers must be held or locked by the caller. Raises DigestMismatch, and
        LayerNotFound for a layer that is missing.
        """
        if Digest.of(config) != record.id:
            raise DigestMismatch(f"add image {record.id}: the config is {Digest.of(config)}")
        if manifest is not None and Digest.of(manifest) != record.manifest_digest:
            raise DigestMismatch(
                f"add image {record.id}: its manifest is {Digest.of(manifest)} "
                f"and not {record.manifest_digest}"
            )
        for layer in record.layers:
            if self._catalog.find_layer(layer) is None:
                raise LayerNotFound(f"add image {record.id}: layer {layer} is missing")
        with self._locks.held(f"image:{record.id.hex}"):
            old = self._catalog.find_image(record.id)
            if old is not None:
                record = replace(record, created=old.created, references=old.references)
                self._update(record, manifest)
            else:
                record = replace(record, references={})
                self._publish(record, config, manifest)
        return record

    def _publish(self, record: ImageRecord, config: bytes, manifest: bytes | None) -> None:
        place = self._layout.image(record.id)
        with (
            durable.host_errors(f"add image {record.id}"),
            self._staging.temporary("image") as folder,
        ):
            durable.write_new(folder / images.CONFIG_FILE, config)
            if manifest is not None:
                durable.write_new(folder / images.MANIFEST_FILE, manifest)
            durable.write_new(folder / images.RECORD_FILE, record.build())
            self._staging.clear(place)
            durable.publish(folder, place)
        with self._staging.cleared_on_error(place):
            self._catalog.put_image(record, stamp_of(place / images.RECORD_FILE))

    def _update(self, record: ImageRecord, manifest: bytes | None = None) -> None:
        place = self._layout.image(record.id)
        staging = self._staging.folder
        with durable.host_errors(f"change image {record.id}"):
            if manifest is not None:
                durable.replace(place / images.MANIFEST_FILE, manifest, staging=staging)
            durable.replace(place / images.RECORD_FILE, record.build(), staging=staging)
        self._catalog.put_image(record, stamp_of(place / images.RECORD_FILE))

    def config(self, image_id: Digest) -> bytes:
        """The config as it was stored; checked. Raises ImageNotFound, DigestMismatch."""
        return self._content(image_id, images.CONFIG_FILE, image_id)

    def manifest(self, image_id: Digest) -> bytes | None:
        """The image manifest as it came, None if there is none that fits the record."""
        wanted = self._catalog.image(image_id).manifest_digest
        if wanted is None:
            return None
        try:
            return self._content(image_id, images.MANIFEST_FILE, wanted)
        except (DigestMismatch, FileNotFoundError):
            return None

    def _content(self, image_id: Digest, name: str, wanted: Digest) -> bytes:
        path = self._layout.image(image_id) / name
        if not path.parent.is_dir():
            raise ImageNotFound(f"image {image_id}: there is none")
        data = path.read_bytes()
        if Digest.of(data) != wanted:
            raise DigestMismatch(f"image {image_id}: {name} is damaged, its digest has changed")
        return data

    def tag(self, image_id: Digest, references: Iterable[str]) -> None:
        """Give an image these tags, taking them from whoever has them."""
        with self._locks.held("tags"):
            record = self._catalog.image(image_id)
            now = time.time_ns()
            claims: dict[str, int] = {}
            losers: set[Digest] = set()
            for reference in references:
                owner = self._catalog.tag_owner(reference)
                if owner is not None and owner[0] == image_id:
                    continue
                # A clock set back must not let the old claim win.
                claims[reference] = max(now, owner[1] + 1) if owner else now
                if owner is not None:
                    losers.add(owner[0])
            if claims:
                with self._locks.held(f"image:{image_id.hex}"):
                    record = self._catalog.image(image_id)
                    self._update(replace(record, references={**record.references, **claims}))
            for loser in losers:
                self._settle(loser)

    def untag(self, reference: str) -> Digest:
        """Take a tag away; returns the image it named. Raises ImageNotFound."""
        with self._locks.held("tags"):
            owner = self._catalog.tag_owner(reference)
            if owner is None:
                raise ImageNotFound(f"image {reference!r}: there is none")
            with self._locks.held(f"image:{owner[0].hex}"):
                record = self._catalog.image(owner[0])
                kept = {
                    name: since for name, since in record.references.items() if name != reference
                }
                self._update(replace(record, references=kept))
            return owner[0]

    def settle_tags(self) -> None:
        """Rewrite records that still claim a tag which another image has (after a crash)."""
        stale = _stale_claims(self._catalog)
        if stale:
            with self._locks.held("tags"):
                for image_id in stale:
                    self._settle(image_id)

    def _settle(self, image_id: Digest) -> None:
        """Write the record with the tags that the image really has; under the lock `tags`."""
        with self._locks.held(f"image:{image_id.hex}"):
            record = self._catalog.find_image(image_id)
            if record is not None:
                self._update(record)


def _stale_claims(catalog: Catalog) -> list[Digest]:
    tags = catalog.tags()
    return [
        image.id
        for image in catalog.claimed_images()
        if any(tags.get(name, image.id) != image.id for name in image.references)
    ]
