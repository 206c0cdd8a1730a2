"""What an open store consists of: one object that its images, layers and scratches share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from windowsfilter.engines.portable.blobs import BlobStore
from windowsfilter.errors import StoreDamaged
from windowsfilter.store.catalog import Catalog
from windowsfilter.store.chain import Chain
from windowsfilter.store.holds import Holds
from windowsfilter.store.layout import Layout, open_layout
from windowsfilter.store.locks import Locks
from windowsfilter.store.reconcile import Reconciled, open_catalog
from windowsfilter.store.staging import Staging
from windowsfilter.store.writing import ImageWriting, LayerWriting


@dataclass(frozen=True, slots=True)
class Event:
    """How far long work has come. `done` and `total` are bytes; `total` None is not known."""

    operation: str
    item: str
    done: int
    total: int | None


Progress = Callable[[Event], None]


@dataclass(slots=True)
class Core:
    """The parts of one open store, from the disk up. Made by `open_core`."""

    layout: Layout
    locks: Locks
    staging: Staging
    catalog: Catalog
    reconciled: Reconciled
    holds: Holds
    blobs: BlobStore
    layers: LayerWriting
    images: ImageWriting
    mount_engine: str | None
    _open: ExitStack
    _chains: dict[tuple[str, ...], Chain] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def chain(self, layer_ids: Sequence[str]) -> Chain:
        """The chain of sealed layers, base first; kept open until the store is closed."""
        key = tuple(layer_ids)
        with self._guard:
            found = self._chains.get(key)
            if found is None:
                diff_ids = []
                for layer_id in key:
                    diff_id = self.catalog.layer(layer_id).diff_id
                    if diff_id is None:
                        raise StoreDamaged(f"layer {layer_id} is not sealed but part of a chain")
                    diff_ids.append(diff_id)
                found = self._chains[key] = Chain(self.blobs, diff_ids, key)
                self._open.callback(found.close)
            return found

    def forget_chains(self) -> None:
        """Close cached chains, so that no descriptor keeps a removed blob's space."""
        with self._guard:
            for chain in self._chains.values():
                chain.close()
            self._chains.clear()

    def close(self) -> None:
        """Give everything back; may be called twice."""
        self._open.close()


def open_core(root: Path, *, create: bool = True, mount_engine: str | None = None) -> Core:
    """Open (or make) the store at `root` and tidy up what a crash may have left."""
    with ExitStack() as stack:
        layout, locks = open_layout(root, create=create)
        staging = Staging(layout.tmp, locks)
        stack.callback(staging.close)
        staging.sweep()
        catalog, lock, reconciled = open_catalog(layout, locks, staging)
        stack.callback(lock.release)
        stack.callback(catalog.close)
        images = ImageWriting(layout, locks, staging, catalog)
        images.settle_tags()
        return Core(
            layout=layout,
            locks=locks,
            staging=staging,
            catalog=catalog,
            reconciled=reconciled,
            holds=Holds(catalog, layout.holds),
            blobs=BlobStore(layout.root, lambda: staging.folder),
            layers=LayerWriting(layout, staging, catalog),
            images=images,
            mount_engine=mount_engine,
            _open=stack.pop_all(),
        )
