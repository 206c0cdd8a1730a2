"""What the images, layers and scratches of an open store share: its records and its blobs."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from windowsfilter.engines.portable.blobs import BlobStore
from windowsfilter.errors import StoreDamaged
from windowsfilter.store.chain import Chain
from windowsfilter.store.garbage import Garbage
from windowsfilter.store.holds import Holds
from windowsfilter.store.layout import open_layout
from windowsfilter.store.reconcile import open_catalog
from windowsfilter.store.staging import Staging
from windowsfilter.store.writing import ImageWriting, LayerWriting

if TYPE_CHECKING:
    from windowsfilter.engines.portable.chains import ChainImages
    from windowsfilter.engines.portable.mount_engines import MountEngines


@dataclass(frozen=True, slots=True)
class Event:
    """How far long work has come. `done` and `total` are bytes; `total` None is not known."""

    operation: str
    item: str
    done: int
    total: int | None


RUNTIME = Path("/run/windowsfilter")

Progress = Callable[[Event], None]


def counter(
    operation: str, item: str, total: int | None, progress: Progress | None
) -> Callable[[int], None] | None:
    """What tells `progress` of sizes as they come, added up; None if nobody listens."""
    if progress is None:
        return None
    done = 0

    def report(size: int) -> None:
        nonlocal done
        done += size
        progress(Event(operation, item, done, total))

    return report


class Core:
    """The parts of an open store. Made anew by each `Store`; several may be open at once."""

    def __init__(self, root: Path, *, create: bool = True, mount_engine: str | None = None) -> None:
        """Open (or make) the store at `root` and tidy up what a crash may have left."""
        self._mount_engine = mount_engine
        self.layout, self.locks = open_layout(root, create=create)
        self.staging = Staging(self.layout.tmp, self.locks)
        self.catalog, self._lock, self.reconciled = open_catalog(
            self.layout, self.locks, self.staging
        )
        self._chains: dict[tuple[str, ...], Chain] = {}
        self._guard = threading.Lock()
        try:
            self.holds = Holds(self.catalog, self.layout.holds)
            self.layers = LayerWriting(self.layout, self.staging, self.catalog)
            self.images = ImageWriting(self.layout, self.locks, self.staging, self.catalog)
            self.garbage = Garbage(self.layout, self.locks, self.staging, self.catalog, self.holds)
            self.blobs = BlobStore(self.layout.root, lambda: self.staging.folder)
            self.images.settle_tags()
            self.staging.sweep()
        except BaseException:
            self.close()
            raise

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
            return found

    @cached_property
    def chain_images(self) -> ChainImages:
        """The EROFS images of chains."""
        from windowsfilter.engines.portable.chains import ChainImages

        return ChainImages(
            self.layout.chains,
            staging=self.staging.new,
            lock=lambda key: self.locks.held(f"chain:{key}", timeout_s=None),
        )

    @cached_property
    def mount_engines(self) -> MountEngines:
        """The ways to show a chain on this machine."""
        from windowsfilter.engines.portable.mount_engines import MountEngines

        return MountEngines(self.chain_images, self.runtime_folder, forced=self._mount_engine)

    @property
    def runtime_folder(self) -> Path:
        """Where mount points of this store's own are: gone after a reboot, like its mounts.

        Not necessarily ours alone: what is made in it has a name that nobody can guess.
        """
        if os.geteuid() == 0:
            return RUNTIME / self.layout.uuid
        own = Path(f"/run/user/{os.geteuid()}")
        if own.is_dir():
            return own / f"windowsfilter-{self.layout.uuid}"
        return Path(tempfile.gettempdir())

    def forget_chains(self) -> None:
        """Close cached chains, so that no descriptor keeps a removed blob's space."""
        with self._guard:
            for chain in self._chains.values():
                chain.close()
            self._chains.clear()

    def close(self) -> None:
        """Give everything back; may be called twice. Mounts stay."""
        self.forget_chains()
        self.catalog.close()
        self.staging.close()
        self._lock.release()
