"""A layer as users of the library see it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from windowsfilter.digests import ChainID, DiffID
from windowsfilter.engines.portable.index import Kind, Record
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.engines.portable.view import View
from windowsfilter.errors import UsageError
from windowsfilter.layers.manifest import LayerManifest, LayerState
from windowsfilter.store.core import Core
from windowsfilter.store.exportable import Exportable
from windowsfilter.store.paths import LayerPath

if TYPE_CHECKING:
    from windowsfilter.engines.portable.changes import Change


class Layer(Exportable):
    """One layer of the store. Valid while the store is open and the layer exists."""

    def __init__(self, core: Core, manifest: LayerManifest) -> None:
        self._core = core
        self.manifest = manifest

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def parent(self) -> str | None:
        """Id of the layer below, None for a base layer."""
        return self.manifest.parent

    @property
    def state(self) -> LayerState:
        return self.manifest.state

    @property
    def diff_id(self) -> DiffID | None:
        """Digest of the layer's tar; None while the layer can still be written."""
        return self.manifest.diff_id

    @property
    def chain_id(self) -> ChainID | None:
        return self.manifest.chain_id

    @property
    def size(self) -> int | None:
        """Bytes of the uncompressed tar."""
        return self.manifest.size

    @property
    def entries(self) -> int | None:
        """Members of the tar."""
        return self.manifest.entries

    @property
    def created(self) -> int:
        """Nanoseconds since 1970."""
        return self.manifest.created

    @property
    def data_size(self) -> int:
        """Bytes of all files' main streams: what Docker calls the size of a layer."""
        with self._core.blobs.open(self._sealed()) as blob:
            return blob.manifest.data_bytes

    @property
    def chain(self) -> list[str]:
        """Ids of this layer and all below it, base first."""
        return [layer.id for layer in reversed(self._core.catalog.chain(self.id))]

    def diff(self) -> BinaryIO:
        """The layer's tar, byte for byte as it came. Close it."""
        with self._core.blobs.open(self._sealed()) as blob:
            return blob.open_tar()

    def changes(self) -> Iterator[Change]:
        """What the layer adds, modifies and deletes, against the layers below it."""
        from windowsfilter.engines.portable.changes import layer_changes

        chain = self._core.chain(self.chain)
        below = Tree(chain.layers[:-1])
        return layer_changes(below, chain.layers[-1])

    def items(self) -> Iterator[tuple[Kind, bytes, Record]]:
        """(kind, name, record) of every member of the tar, in its order."""
        index = self._core.chain([self.id]).layers[0].index
        for _, record, name, _ in index.entries():
            yield Kind(record.kind), name, record

    def path(self, path: str = "", *, view: View | str = View.LAYER) -> LayerPath:
        """A path in what this layer and those below it show."""
        return LayerPath(self._core.chain(self.chain), View(view)) / path

    def _export_name(self) -> str:
        return self.id

    def _export_layers(self) -> list[str]:
        self._sealed()
        return self.chain

    def _sealed(self) -> DiffID:
        if self.manifest.diff_id is None:
            raise UsageError(f"layer {self.id} is still open: it has no tar yet")
        return self.manifest.diff_id

    def __repr__(self) -> str:
        return f"<Layer {self.id[:12]} {self.state}>"
