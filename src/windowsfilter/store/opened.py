"""An open store: its folders, locks, catalog and what changes them, in one hand.

Opening makes or migrates the root, sweeps what dead processes left, makes the catalog agree with the
records. Several may be open at once, in one process or in many (docs/formats/store.md).
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from windowsfilter.store.catalog import Catalog
from windowsfilter.store.garbage import Garbage
from windowsfilter.store.holds import Holds
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
        """Open the store at `root`, making it if there is none and `create` is true.

        Errors: those of `open_layout` and `open_catalog`.
        """
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
