"""A chain of layers opened for reading: its blobs, its merged tree, and whose entry is whose.

Opening costs nothing; the tree is merged when it is first asked for and kept until `close`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Self

from windowsfilter.digests import DiffID
from windowsfilter.engines.portable.blobs import BlobStore, LayerBlob
from windowsfilter.engines.portable.index import Record
from windowsfilter.engines.portable.tree import Tree


class Chain:
    """Layers, base first, and what they show together. Close it, or use `with`."""

    def __init__(
        self, blobs: BlobStore, diff_ids: Sequence[DiffID], layer_ids: Sequence[str]
    ) -> None:
        self.diff_ids = tuple(diff_ids)
        self.layer_ids = tuple(layer_ids)
        self._blobs = blobs
        self._stack = contextlib.ExitStack()
        self._guard = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the blobs' descriptors; may be called twice."""
        self._stack.close()

    @cached_property
    def layers(self) -> list[LayerBlob]:
        """The blobs, base first. Raises StoreDamaged for one that is missing."""
        return [self._stack.enter_context(self._blobs.open(diff_id)) for diff_id in self.diff_ids]

    @property
    def tree(self) -> Tree:
        """The merged tree."""
        with self._guard:
            return self._tree

    @cached_property
    def _tree(self) -> Tree:
        return Tree(self.layers)

    def read(self, ref: tuple[int, int], record: Record, size: int, offset: int) -> bytes:
        """Data of the entry at (layer, record number); see `LayerBlob.read`."""
        return self.layers[ref[0]].read(record, size, offset)
