"""The store's own parts without an engine: what the tests of `windowsfilter.store` stand on."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from windowsfilter.digests import ChainID, DiffID, Digest, chain_id
from windowsfilter.layers import durable
from windowsfilter.layers.chains import RECORD_FILE, ChainRecord
from windowsfilter.layers.manifest import LayerManifest, LayerState, Owner
from windowsfilter.store.catalog import Catalog
from windowsfilter.store.garbage import Garbage
from windowsfilter.store.holds import HoldKind, Holds
from windowsfilter.store.images import ImageRecord
from windowsfilter.store.layout import Layout, open_layout
from windowsfilter.store.locks import Lock, Locks
from windowsfilter.store.reconcile import Reconciled, open_catalog
from windowsfilter.store.staging import Staging
from windowsfilter.store.writing import ImageWriting, LayerWriting


class OpenStore:
    """The parts of an open store. A context manager; `close` may be called twice."""

    layout: Layout
    locks: Locks
    staging: Staging
    catalog: Catalog
    holds: Holds
    layers: LayerWriting
    images: ImageWriting
    garbage: Garbage
    reconciled: Reconciled  # what opening found different between disk and catalog

    def __init__(self, root: Path, *, create: bool = True) -> None:
        self.layout, self.locks = open_layout(root, create=create)
        self.staging = Staging(self.layout.tmp, self.locks)
        self._catalog_lock: Lock
        self.catalog, self._catalog_lock, self.reconciled = open_catalog(
            self.layout, self.locks, self.staging
        )
        try:
            self.holds = Holds(self.catalog, self.layout.holds)
            self.layers = LayerWriting(self.layout, self.staging, self.catalog)
            self.images = ImageWriting(self.layout, self.locks, self.staging, self.catalog)
            self.garbage = Garbage(self.layout, self.locks, self.staging, self.catalog, self.holds)
            self.images.settle_tags()
            self.staging.sweep()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give everything back; layers and holds stay as they are."""
        self.catalog.close()
        self.staging.close()
        self._catalog_lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


# A stand-in for an engine's import: a blob is a folder with one file.


def add_blob(store: OpenStore, content: bytes) -> DiffID:
    """Store `content` as a blob unless it is there; the order of a real import."""
    diff_id = DiffID.of(content)
    with store.locks.held(f"blob:{diff_id.hex}", timeout_s=None):
        place = store.layout.blob(diff_id)
        if not place.exists():
            with store.staging.temporary("blob") as folder:
                durable.write_new(folder / "blob", content)
                durable.publish(folder, place)
    return diff_id


def chain_of(contents: list[bytes]) -> list[ChainID]:
    diff_ids = [DiffID.of(content) for content in contents]
    return [chain_id(diff_ids[:count]) for count in range(1, len(diff_ids) + 1)]


def add_layers(store: OpenStore, contents: list[bytes]) -> list[str]:
    """Sealed layers with these contents, base first, each on the one before; their ids."""
    parent: str | None = None
    ids: list[str] = []
    for content, chain in zip(contents, chain_of(contents), strict=True):
        diff_id = add_blob(store, content)
        with store.locks.held(f"layer:{chain.hex}"):
            if store.catalog.find_layer(chain.hex) is None:
                store.layers.add(sealed(chain.hex, diff_id, chain, parent, len(content)))
        parent = chain.hex
        ids.append(chain.hex)
    return ids


def sealed(
    layer_id: str, diff_id: DiffID, chain: ChainID | None, parent: str | None, size: int = 0
) -> LayerManifest:
    return LayerManifest(
        id=layer_id,
        parent=parent,
        state=LayerState.SEALED,
        owner=Owner.IMAGES,
        diff_id=diff_id,
        chain_id=chain,
        size=size,
        created=1,
    )


def load(store: OpenStore, contents: list[bytes], *tags: str) -> Digest:
    """An image of these layers, as a load makes it; its id."""
    config = repr(contents).encode()
    image_id = Digest.of(config)
    chain = chain_of(contents)
    objects = [(HoldKind.IMAGE, image_id.hex)]
    objects += [(HoldKind.BLOB, DiffID.of(content).hex) for content in contents]
    objects += [(HoldKind.LAYER, chain.hex) for chain in chain]
    with store.holds.held(objects, "load"):
        layers = tuple(add_layers(store, contents))
        record = ImageRecord(id=image_id, created=1, layers=layers)
        store.images.add(record, config=config)
        store.images.tag(image_id, tags)
    return image_id


def add_scratch(store: OpenStore, layer_id: str, name: str, parent: str) -> LayerManifest:
    manifest = LayerManifest(
        id=layer_id, parent=parent, state=LayerState.SCRATCH, name=name, created=2
    )

    def fill(folder: Path) -> None:
        (folder / "upper" / "Files").mkdir(parents=True)
        (folder / "work").mkdir()

    with (
        store.locks.held(f"name:{name}"),
        store.locks.held(f"layer:{parent}", shared=True),
        store.locks.held(f"layer:{layer_id}"),
    ):
        return store.layers.add(manifest, fill=fill)


def add_chain_image(
    store: OpenStore, key: str, chain: ChainID, lowers: tuple[str, ...] = ()
) -> None:
    with store.locks.held(f"chain:{key}"), store.staging.temporary("chain") as folder:
        record = ChainRecord(key=key, chain_id=chain, lowers=lowers)
        durable.write_new(folder / RECORD_FILE, record.build())
        durable.write_new(folder / "image", b"erofs" * 100)
        durable.publish(folder, store.layout.chain(key))
