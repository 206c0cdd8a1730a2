"""The catalog: what is in the store, answered fast and changed in transactions.

Rows repeat the records on disk (`layers/*/manifest.json`, `images/*/image.json`), which come first
whenever something changes; only labels live here alone. This module and the two below it (`schema`,
`database`) are the only ones that know SQL. Rules: docs/formats/store.md section 7.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

from windowsfilter.digests import ChainID, DiffID, Digest
from windowsfilter.errors import AlreadyExists, ImageNotFound, LayerNotFound
from windowsfilter.layers.manifest import LayerManifest, LayerState, Snapshot, SnapshotKind
from windowsfilter.store.database import CatalogUnusable, Database, Value
from windowsfilter.store.holds import Hold, HoldKind
from windowsfilter.store.images import ImageRecord
from windowsfilter.store.processes import Process


class LabelKind(StrEnum):
    """What carries user labels."""

    LAYER = "layer"
    IMAGE = "image"
    SNAPSHOT = "snapshot"


class Catalog:
    """The rows of one store. Any thread may use it; every change is a transaction of its own
    unless the caller has opened one.
    """

    def __init__(self, path: Path, uuid: str) -> None:
        """Raises CatalogUnusable if the file is missing, damaged or foreign."""
        self._database = Database(path, uuid)
        try:
            if self._database.is_small:
                self._verify(path)
        except BaseException:
            self._database.close()
            raise

    def _verify(self, path: Path) -> None:
        """SQLite has no checksums: see whether rows are what was written into them."""
        for table in ("layers", "images"):
            for *values, crc in self._database.rows(f"SELECT * FROM {table}"):  # noqa: S608
                if _crc(values) != crc:
                    raise CatalogUnusable(f"{path}: a damaged row in {table}")
        claims = {
            (name, image.id, since)
            for image in self.claimed_images()
            for name, since in image.references.items()
        }
        tags = set(self._database.rows("SELECT reference, image, since FROM tags"))
        if not tags <= claims or {name for name, _, _ in claims} != {name for name, _, _ in tags}:
            raise CatalogUnusable(f"{path}: tags that no image has")

    def transaction(self) -> AbstractContextManager[None]:
        """All changes of the body or none of them, durable on exit. Keep it short."""
        return self._database.transaction()

    def close(self) -> None:
        self._database.close()

    # Layers

    def put_layer(self, manifest: LayerManifest, stamp: str) -> None:
        """Add a layer, or bring its row up to date.

        Raises AlreadyExists if another layer has its name, one of its aliases or snapshot keys.
        """
        values = _plain(
            manifest.id,
            manifest.parent,
            manifest.state,
            manifest.owner,
            manifest.diff_id,
            manifest.chain_id,
            manifest.name,
            manifest.created,
            manifest.build(),
            stamp,
        )
        with self.transaction(), _taken(f"layer {manifest.id}"):
            self._database.run(
                "INSERT INTO layers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET parent = excluded.parent, state = excluded.state,"
                " owner = excluded.owner, diff_id = excluded.diff_id,"
                " chain_id = excluded.chain_id, name = excluded.name,"
                " created = excluded.created, record = excluded.record, stamp = excluded.stamp,"
                " crc = excluded.crc",
                (*values, _crc(values)),
            )
            self._put_layer_details(manifest)

    def _put_layer_details(self, manifest: LayerManifest) -> None:
        for table in ("aliases", "pins", "snapshots"):
            self._database.run(f"DELETE FROM {table} WHERE layer = ?", (manifest.id,))  # noqa: S608
        self._database.run_many(
            "INSERT INTO aliases VALUES (?, ?)",
            [(alias, manifest.id) for alias in manifest.aliases],
        )
        self._database.run_many(
            "INSERT OR IGNORE INTO pins VALUES (?, ?)",
            [(key, manifest.id) for key in manifest.pins],
        )
        self._database.run_many(
            "INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?)",
            [
                (item.key, manifest.id, item.kind, item.parent, item.created, item.updated)
                for item in manifest.snapshots
            ],
        )

    def delete_layer(self, layer_id: str) -> bool:
        """Forget a layer, with its aliases, pins, snapshots and their labels. False if unknown."""
        with self.transaction():
            for key in self._column("SELECT key FROM snapshots WHERE layer = ?", layer_id):
                self._delete_labels(LabelKind.SNAPSHOT, key)
            self._delete_labels(LabelKind.LAYER, layer_id)
            return self._database.run("DELETE FROM layers WHERE id = ?", (layer_id,)) > 0

    def find_layer(self, layer_id: str) -> LayerManifest | None:
        """The layer of this very id, not an alias."""
        rows = self._database.rows("SELECT record FROM layers WHERE id = ?", (layer_id,))
        return _manifest(rows[0][0]) if rows else None

    def layer(self, layer_id: str) -> LayerManifest:
        """Like `find_layer`; raises LayerNotFound."""
        manifest = self.find_layer(layer_id)
        if manifest is None:
            raise LayerNotFound(f"layer {layer_id[:100]}: there is none")
        return manifest

    def resolve(self, name: str) -> str:
        """The id behind an id or alias; `name` itself when it is neither."""
        rows = self._database.rows("SELECT layer FROM aliases WHERE alias = ?", (name,))
        return str(rows[0][0]) if rows else name

    def layers(self, state: LayerState | None = None) -> list[LayerManifest]:
        """All layers, oldest first."""
        if state is None:
            rows = self._database.rows("SELECT record FROM layers ORDER BY created, id")
        else:
            rows = self._database.rows(
                "SELECT record FROM layers WHERE state = ? ORDER BY created, id", (state,)
            )
        return [_manifest(row[0]) for row in rows]

    def layer_ids_starting(self, prefix: str, limit: int = 10) -> list[str]:
        """Ids that begin with `prefix`, at most `limit`: for abbreviated ids."""
        rows = self._database.rows(
            "SELECT id FROM layers WHERE substr(id, 1, ?) = ? ORDER BY id LIMIT ?",
            (len(prefix), prefix, limit),
        )
        return [str(row[0]) for row in rows]

    def chain(self, layer_id: str) -> list[LayerManifest]:
        """The layer and all below it, nearest first, the base last.

        Raises LayerNotFound for the layer or a missing parent (naming both).
        """
        found = [self.layer(layer_id)]
        seen = {layer_id}
        while (parent := found[-1].parent) is not None:
            below = self.find_layer(parent)
            if below is None or parent in seen:
                why = "is missing" if below is None else "is above it too"
                raise LayerNotFound(f"layer {layer_id}: {parent}, parent of {found[-1].id}, {why}")
            seen.add(parent)
            found.append(below)
        return found

    def scratch(self, name: str) -> LayerManifest | None:
        """The scratch of this name."""
        rows = self._database.rows("SELECT record FROM layers WHERE name = ?", (name,))
        return _manifest(rows[0][0]) if rows else None

    def layers_of_chain(self, chain_id: ChainID) -> list[LayerManifest]:
        """Layers that are this content on these parents, whatever their ids."""
        rows = self._database.rows("SELECT record FROM layers WHERE chain_id = ?", (chain_id,))
        return [_manifest(row[0]) for row in rows]

    def layer_stamps(self) -> dict[str, str]:
        """Layer id → stamp of the record that its row was made from."""
        return dict(self._database.rows("SELECT id, stamp FROM layers"))

    # What needs what

    def children(self, layer_id: str) -> list[str]:
        return self._column("SELECT id FROM layers WHERE parent = ? ORDER BY id", layer_id)

    def layers_with_blob(self, diff_id: Digest) -> list[str]:
        return self._column("SELECT id FROM layers WHERE diff_id = ? ORDER BY id", diff_id)

    def images_with_layer(self, layer_id: str) -> list[Digest]:
        found = self._column(
            "SELECT DISTINCT image FROM image_layers WHERE layer = ? ORDER BY image", layer_id
        )
        return [Digest(image) for image in found]

    def layers_pinning(self, chain_key: str) -> list[str]:
        return self._column("SELECT layer FROM pins WHERE chain = ? ORDER BY layer", chain_key)

    def contents(self) -> list[tuple[str, DiffID | None, ChainID | None]]:
        """(id, diffID, chainID) of every layer: quicker than all their records."""
        rows = self._database.rows("SELECT id, diff_id, chain_id FROM layers ORDER BY id")
        return [
            (layer, diff and DiffID(diff), chain and ChainID(chain)) for layer, diff, chain in rows
        ]

    def pins(self) -> list[tuple[str, str]]:
        """(layer id, key of a chain image that it pins), all of them."""
        return [(layer, key) for key, layer in self._database.rows("SELECT * FROM pins")]

    # Images and tags

    def put_image(self, record: ImageRecord, stamp: str) -> None:
        """Add an image, or bring its row and tags up to date.

        A tag that another image has goes to the one that claims it later.
        """
        with self.transaction():
            values = _plain(record.id, record.created, record.build(), stamp)
            self._database.run(
                "INSERT INTO images VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                " created = excluded.created, record = excluded.record, stamp = excluded.stamp,"
                " crc = excluded.crc",
                (*values, _crc(values)),
            )
            for table in ("image_layers", "tags"):
                self._database.run(f"DELETE FROM {table} WHERE image = ?", (record.id,))  # noqa: S608
            self._database.run_many(
                "INSERT INTO image_layers VALUES (?, ?, ?)",
                [(record.id, position, layer) for position, layer in enumerate(record.layers)],
            )
            self._database.run_many(
                "INSERT INTO tags VALUES (?, ?, ?) ON CONFLICT (reference) DO UPDATE SET"
                " image = excluded.image, since = excluded.since WHERE excluded.since > tags.since",
                [(name, record.id, since) for name, since in record.references.items()],
            )

    def delete_image(self, image_id: Digest) -> bool:
        """Forget an image with its tags and labels. False if unknown."""
        with self.transaction():
            self._delete_labels(LabelKind.IMAGE, image_id)
            return self._database.run("DELETE FROM images WHERE id = ?", (image_id,)) > 0

    def find_image(self, image_id: str) -> ImageRecord | None:
        """The image of this id; its `references` are the tags it really has."""
        rows = self._database.rows("SELECT record FROM images WHERE id = ?", (image_id,))
        if not rows:
            return None
        claimed = _image(rows[0][0])
        return _with_tags(claimed, set(self.tags_of(claimed.id)))

    def image(self, image_id: str) -> ImageRecord:
        """Like `find_image`; raises ImageNotFound."""
        record = self.find_image(image_id)
        if record is None:
            raise ImageNotFound(f"image {image_id[:100]}: there is none")
        return record

    def images(self) -> list[ImageRecord]:
        """All images, oldest first."""
        tags = self.tags()
        return [
            _with_tags(image, {name for name in image.references if tags.get(name) == image.id})
            for image in self.claimed_images()
        ]

    def claimed_images(self) -> list[ImageRecord]:
        """All images as their records are on disk, tags that have moved away included."""
        rows = self._database.rows("SELECT record FROM images ORDER BY created, id")
        return [_image(row[0]) for row in rows]

    def image_ids_starting(self, digits: str, limit: int = 10) -> list[Digest]:
        """Ids whose hex digits begin with `digits`, at most `limit`: for abbreviated ids."""
        rows = self._database.rows(
            "SELECT id FROM images WHERE substr(id, 8, ?) = ? ORDER BY id LIMIT ?",
            (len(digits), digits, limit),
        )
        return [Digest(row[0]) for row in rows]

    def image_stamps(self) -> dict[Digest, str]:
        """Image id → stamp of the record that its row was made from."""
        rows = self._database.rows("SELECT id, stamp FROM images")
        return {Digest(image): stamp for image, stamp in rows}

    def tag_owner(self, reference: str) -> tuple[Digest, int] | None:
        """The image that a tag names, and since when (unix ns)."""
        rows = self._database.rows(
            "SELECT image, since FROM tags WHERE reference = ?", (reference,)
        )
        return (Digest(rows[0][0]), int(rows[0][1])) if rows else None

    def tags(self) -> dict[str, Digest]:
        """Reference → image, sorted by reference."""
        rows = self._database.rows("SELECT reference, image FROM tags ORDER BY reference")
        return {reference: Digest(image) for reference, image in rows}

    def tags_of(self, image_id: Digest) -> list[str]:
        """The references that name this image now, sorted."""
        return self._column(
            "SELECT reference FROM tags WHERE image = ? ORDER BY reference", image_id
        )

    # Snapshots

    def snapshot(self, key: str) -> tuple[Snapshot, str] | None:
        """A snapshot and the id of its layer."""
        rows = self._database.rows(f"{_SNAPSHOTS} WHERE key = ?", (key,))
        return _snapshot(rows[0]) if rows else None

    def snapshots(self) -> list[tuple[Snapshot, str]]:
        """All snapshots with their layers, by key. They are written with their layer's record."""
        return [_snapshot(row) for row in self._database.rows(f"{_SNAPSHOTS} ORDER BY key")]

    # Labels

    def labels(self, kind: LabelKind, name: str) -> dict[str, str]:
        """The user labels of one object, sorted by key."""
        return dict(
            self._database.rows(
                "SELECT key, value FROM labels WHERE kind = ? AND object = ? ORDER BY key",
                (kind, name),
            )
        )

    def set_labels(self, kind: LabelKind, name: str, labels: Mapping[str, str]) -> None:
        """Replace all user labels of one object."""
        with self.transaction():
            self._delete_labels(kind, name)
            self._database.run_many(
                "INSERT INTO labels VALUES (?, ?, ?, ?)",
                [(kind, name, key, value) for key, value in labels.items()],
            )

    def _delete_labels(self, kind: LabelKind, name: str) -> None:
        self._database.run("DELETE FROM labels WHERE kind = ? AND object = ?", (kind, name))

    # Holds

    def add_holds(self, holds: Sequence[Hold]) -> None:
        with self.transaction():
            self._database.run_many(
                "INSERT OR REPLACE INTO holds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [_hold_values(hold) for hold in holds],
            )

    def delete_holds(self, ids: Iterable[str]) -> None:
        with self.transaction():
            self._database.run_many("DELETE FROM holds WHERE id = ?", [(name,) for name in ids])

    def find_holds(self, kind: HoldKind | None = None, name: str | None = None) -> list[Hold]:
        """Holds dead and alive, oldest first: all, of one kind, or of one object."""
        query = (
            "SELECT * FROM holds WHERE kind = COALESCE(?, kind) AND object = COALESCE(?, object)"
        )
        rows = self._database.rows(f"{query} ORDER BY created, id", (kind, name))
        return [_hold(row) for row in rows]

    def _column(self, query: str, value: str) -> list[str]:
        return [str(row[0]) for row in self._database.rows(query, (value,))]


_SNAPSHOTS = "SELECT key, kind, parent, created, updated, layer FROM snapshots"


def _plain(*values: Value) -> tuple[Value, ...]:
    """Enums and digests as the strings they come back as, so that checksums agree."""
    return tuple(str(value) if isinstance(value, str) else value for value in values)


def _crc(values: Sequence[object]) -> int:
    return zlib.crc32(repr(tuple(values)).encode())


def _manifest(data: bytes) -> LayerManifest:
    return LayerManifest.parse(data, "catalog")


def _image(data: bytes) -> ImageRecord:
    return ImageRecord.parse(data, "catalog")


def _with_tags(image: ImageRecord, tags: set[str]) -> ImageRecord:
    if tags.issuperset(image.references):
        return image
    kept = {name: since for name, since in image.references.items() if name in tags}
    return replace(image, references=kept)


def _snapshot(row: Sequence[object]) -> tuple[Snapshot, str]:
    key, kind, parent, created, updated, layer = row
    snapshot = Snapshot(
        key=str(key),
        kind=SnapshotKind(str(kind)),
        parent=None if parent is None else str(parent),
        created=int(str(created)),
        updated=int(str(updated)),
    )
    return snapshot, str(layer)


def _hold_values(hold: Hold) -> tuple[str | int | None, ...]:
    process = hold.process
    return (
        hold.id,
        hold.kind,
        hold.object,
        hold.purpose,
        hold.path,
        None if process is None else process.pid,
        None if process is None else process.start_time,
        None if process is None else process.namespace,
        hold.boot,
        hold.created,
    )


def _hold(row: tuple[object, ...]) -> Hold:
    name, kind, held, purpose, path, pid, start_time, namespace, boot, created = row
    return Hold(
        id=str(name),
        kind=HoldKind(str(kind)),
        object=str(held),
        purpose=str(purpose),
        path=str(path),
        process=(
            None if pid is None else Process(int(str(pid)), int(str(start_time)), str(namespace))
        ),
        boot=str(boot),
        created=int(str(created)),
    )


@contextmanager
def _taken(what: str) -> Iterator[None]:
    """A name that must be unique is somebody else's."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise AlreadyExists(f"{what}: a name of it is taken ({error})") from error
