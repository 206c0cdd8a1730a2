"""A layer's record, `layers/<id>/manifest.json`: everything the catalog knows about the layer.

Bytes in, values out; who writes them where, and in which order, is the store's affair. Keys and
invariants: docs/formats/store.md section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from windowsfilter.digests import ChainID, DiffID, Digest
from windowsfilter.errors import FormatError
from windowsfilter.layers import records
from windowsfilter.layers.ids import is_id

VERSION = 1


class LayerState(StrEnum):
    """What may still happen to a layer's content."""

    OPEN = "open"  # created, can be written, has upper/
    SEALED = "sealed"  # its diff is a blob, for ever
    SCRATCH = "scratch"  # a container's writable layer


class Owner(StrEnum):
    """Who decides about a layer's life."""

    IMAGES = "images"  # load and commit: garbage as soon as nothing needs it
    USER = "user"
    DRIVER = "driver"
    SNAPSHOTS = "snapshots"


class SnapshotKind(StrEnum):
    """containerd's kinds of snapshots (core/snapshots/snapshotter.go)."""

    ACTIVE = "active"
    VIEW = "view"
    COMMITTED = "committed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A containerd snapshot that is a view of one layer. Times are unix ns."""

    key: str
    kind: SnapshotKind
    parent: str | None = None  # another snapshot's key
    created: int
    updated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerManifest:
    """What is known about one layer. Raises FormatError if the values contradict each other."""

    id: str
    state: LayerState
    created: int  # unix ns
    owner: Owner = Owner.USER
    parent: str | None = None
    diff_id: DiffID | None = None
    chain_id: ChainID | None = None
    size: int | None = None  # bytes of the uncompressed tar
    entries: int | None = None
    name: str | None = None  # of a scratch
    image: Digest | None = None  # what a scratch was made from
    limit: int | None = None  # bytes
    aliases: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()  # keys of chains/ that must not change
    labels: Mapping[str, str] = field(default_factory=dict)
    snapshots: tuple[Snapshot, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)  # keys of newer writers

    def __post_init__(self) -> None:
        names = (self.id, *self.aliases, *self.pins)
        for name in (*names, *filter(None, (self.parent, self.name))):
            if not is_id(name):
                raise FormatError(f"layer {self.id[:100]!r}: {name[:100]!r} is no id")
        if self.parent == self.id:
            raise FormatError(f"layer {self.id}: it is its own parent")
        if (self.state is LayerState.SEALED) != (self.diff_id is not None):
            raise FormatError(f"layer {self.id}: {self.state} with diff_id {self.diff_id}")
        if self.name is not None and self.state is not LayerState.SCRATCH:
            raise FormatError(f"layer {self.id}: only scratches have names, not {self.name!r}")

    @classmethod
    def parse(cls, data: bytes, what: str = "layer manifest") -> Self:
        """Read a record. `what` names it in errors: FormatError for anything out of order."""
        fields = records.Fields.parse(data, what, version=VERSION)
        try:
            return cls(
                id=fields.text("id"),
                parent=fields.optional_text("parent"),
                state=LayerState(fields.text("state")),
                owner=Owner(fields.text("owner")),
                diff_id=_diff_id(fields),
                chain_id=_chain_id(fields),
                size=fields.optional_integer("size"),
                entries=fields.optional_integer("entries"),
                name=fields.optional_text("name"),
                image=fields.optional_digest("image"),
                limit=fields.optional_integer("limit"),
                created=fields.integer("created"),
                aliases=fields.texts("aliases"),
                pins=fields.texts("pins"),
                labels=fields.text_mapping("labels"),
                snapshots=tuple(_parse_snapshot(item, what) for item in fields.items("snapshots")),
                extra=fields.rest(),
            )
        except FormatError:
            raise
        except ValueError as error:  # an unknown state or owner
            raise FormatError(f"{what}: {error}") from error

    def build(self) -> bytes:
        """The record's bytes; `parse` undoes it."""
        known: dict[str, object] = {
            "id": self.id,
            "parent": self.parent,
            "state": self.state,
            "owner": self.owner,
            "diff_id": self.diff_id,
            "chain_id": self.chain_id,
            "size": self.size,
            "entries": self.entries,
            "name": self.name,
            "image": self.image,
            "limit": self.limit,
            "created": self.created,
            "aliases": self.aliases,
            "pins": self.pins,
            "labels": dict(self.labels),
            "snapshots": [
                {
                    "key": snapshot.key,
                    "kind": snapshot.kind,
                    "parent": snapshot.parent,
                    "created": snapshot.created,
                    "updated": snapshot.updated,
                }
                for snapshot in self.snapshots
            ],
        }
        return records.build(VERSION, known, self.extra)


def _diff_id(fields: records.Fields) -> DiffID | None:
    digest = fields.optional_digest("diff_id")
    return None if digest is None else DiffID(digest)


def _chain_id(fields: records.Fields) -> ChainID | None:
    digest = fields.optional_digest("chain_id")
    return None if digest is None else ChainID(digest)


def _parse_snapshot(item: object, what: str) -> Snapshot:
    fields = records.Fields(item, f"{what}: snapshot")
    return Snapshot(
        key=fields.text("key"),
        kind=SnapshotKind(fields.text("kind")),
        parent=fields.optional_text("parent"),
        created=fields.integer("created"),
        updated=fields.integer("updated"),
    )
