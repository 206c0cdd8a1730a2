"""Opening the catalog, and making it agree with the records on disk.

The records are the truth. A lost or damaged catalog is made anew, what a crash left between a record
and its row is noticed by the record's stamp, and both by the same code. Rules:
docs/formats/store.md section 7.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from windowsfilter.digests import Digest
from windowsfilter.errors import AlreadyExists, FormatError
from windowsfilter.layers import durable
from windowsfilter.layers.ids import is_id
from windowsfilter.layers.manifest import LayerManifest
from windowsfilter.store import database, images
from windowsfilter.store.catalog import Catalog
from windowsfilter.store.database import CatalogUnusable
from windowsfilter.store.holds import Holds
from windowsfilter.store.images import ImageRecord
from windowsfilter.store.layout import Layout
from windowsfilter.store.locks import Lock, Locks, LockTimeout
from windowsfilter.store.reserve import Reserve
from windowsfilter.store.staging import Staging
from windowsfilter.store.writing import MANIFEST_FILE, stamp_of

# Others close a command's store in moments; a service must be stopped by its owner.
_REPLACE_TIMEOUT_S = 10.0
# Whoever changes an object right now will also write its row.
_BUSY_TIMEOUT_S = 0.2
_BATCH = 64  # objects per transaction: a descriptor for each lock, one fsync for all

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Reconciled:
    """What was found to differ. `problems` are for people and stay until somebody repairs."""

    rebuilt: bool = False
    changed: int = 0
    problems: list[str] = field(default_factory=list)


def open_catalog(
    layout: Layout, locks: Locks, staging: Staging
) -> tuple[Catalog, Lock, Reconciled]:
    """The catalog, agreeing with the disk, and the shared lock to release after closing it.

    Raises HostError if the catalog has to be replaced while another process uses it.
    """
    result = Reconciled()
    reserve = Reserve(layout.root)
    reserve.spend()
    while True:
        lock = locks.acquire("catalog", shared=True)
        try:
            catalog = Catalog(layout.catalog, layout.uuid)
        except CatalogUnusable as error:
            lock.release()
            _replace(layout, locks, staging, str(error), result)
            continue
        except BaseException:
            lock.release()
            raise
        try:
            _Reconciler(layout, locks, catalog, result, alone=False).run()
        except BaseException:
            catalog.close()
            lock.release()
            raise
        reserve.keep()
        return catalog, lock, result


def _replace(layout: Layout, locks: Locks, staging: Staging, why: str, result: Reconciled) -> None:
    """Make a new catalog from the records, unless somebody else just did."""
    try:
        lock = locks.acquire("catalog", timeout_s=_REPLACE_TIMEOUT_S)
    except LockTimeout as error:
        raise LockTimeout(
            error.errno,
            f"the catalog must be rebuilt ({why}), but others have the store open: {error.strerror}",
        ) from error
    try:
        try:
            Catalog(layout.catalog, layout.uuid).close()
            return
        except CatalogUnusable:
            pass
        fresh = not any((*layout.layers.iterdir(), *layout.images.iterdir()))
        _log.log(logging.DEBUG if fresh else logging.WARNING, "making a new catalog: %s", why)
        with staging.temporary("catalog") as folder, durable.host_errors("rebuild the catalog"):
            _build(layout, locks, folder / "catalog.db", result)
            _exchange(layout, folder / "catalog.db")
        result.rebuilt = not fresh
    finally:
        lock.release()


def _build(layout: Layout, locks: Locks, path: Path, result: Reconciled) -> None:
    database.create(path, layout.uuid)
    if layout.catalog.exists():
        count = database.salvage_labels(layout.catalog, path)
        _log.info("kept %d labels of the old catalog", count)
    catalog = Catalog(path, layout.uuid)
    try:
        _Reconciler(layout, locks, catalog, result, alone=True).run()
        catalog.add_holds(Holds(catalog, layout.holds).saved())
    finally:
        catalog.close()  # which also empties and removes its write-ahead log


def _exchange(layout: Layout, new: Path) -> None:
    """Put the new file in place. The old write-ahead log must never meet it."""
    with open(new, "rb") as file:
        os.fsync(file.fileno())
    for suffix in ("-wal", "-shm"):
        Path(f"{layout.catalog}{suffix}").unlink(missing_ok=True)
    durable.sync_folder(layout.root)
    os.replace(new, layout.catalog)
    durable.sync_folder(layout.root)


class _Reconciler:
    """One comparison of folders with rows. `alone`: nobody else has the store open."""

    def __init__(
        self, layout: Layout, locks: Locks, catalog: Catalog, result: Reconciled, *, alone: bool
    ) -> None:
        self._layout = layout
        self._locks = locks
        self._catalog = catalog
        self._result = result
        self._alone = alone

    def run(self) -> None:
        self._compare(
            "layer", self._layout.layers, MANIFEST_FILE, self._catalog.layer_stamps(), self._layer
        )
        stamps = {image.hex: stamp for image, stamp in self._catalog.image_stamps().items()}
        self._compare("image", self._layout.images, images.RECORD_FILE, stamps, self._image)

    def _compare(
        self,
        kind: str,
        folder: Path,
        record: str,
        rows: Mapping[str, str],
        repair: Callable[[str, str | None], None],
    ) -> None:
        """Repair every name whose record's stamp is not the row's; None stands for absent."""
        found = dict(_stamps(folder, record))
        differing = sorted(
            name for name in rows.keys() | found.keys() if rows.get(name) != found.get(name)
        )
        for start in range(0, len(differing), _BATCH):
            with ExitStack() as stack:
                names = [
                    name
                    for name in differing[start : start + _BATCH]
                    if self._lock(stack, f"{kind}:{name}")
                ]
                with self._catalog.transaction():
                    for name in names:
                        # Again, under the lock: somebody may have finished meanwhile.
                        repair(name, _stamp(folder / name / record))
                        self._result.changed += 1

    def _lock(self, stack: ExitStack, name: str) -> bool:
        if self._alone:
            return True
        try:
            lock = self._locks.acquire(name, timeout_s=_BUSY_TIMEOUT_S)
        except LockTimeout:
            return False
        stack.callback(lock.release)
        return True

    def _layer(self, layer_id: str, stamp: str | None) -> None:
        if stamp is None:
            self._catalog.delete_layer(layer_id)
            return
        what = f"layers/{layer_id}/{MANIFEST_FILE}"
        try:
            data = (self._layout.layers / layer_id / MANIFEST_FILE).read_bytes()
            manifest = LayerManifest.parse(data, what)
            if manifest.id != layer_id:
                raise FormatError(f"{what}: it is the record of {manifest.id}")
            self._catalog.put_layer(manifest, stamp)
        except (FormatError, AlreadyExists) as error:
            self._problem(error)

    def _image(self, name: str, stamp: str | None) -> None:
        what = f"images/sha256/{name}/{images.RECORD_FILE}"
        try:
            image_id = Digest.from_hex(name)
            if stamp is None:
                self._catalog.delete_image(image_id)
                return
            data = (self._layout.image(image_id) / images.RECORD_FILE).read_bytes()
            record = ImageRecord.parse(data, what)
            if record.id != image_id:
                raise FormatError(f"{what}: it is the record of {record.id}")
            self._catalog.put_image(record, stamp)
        except FormatError as error:
            self._problem(error)

    def _problem(self, error: Exception) -> None:
        if str(error) not in self._result.problems:  # a rebuild is compared once more
            _log.warning("%s", error)
            self._result.problems.append(str(error))


def _stamps(folder: Path, record: str) -> Iterator[tuple[str, str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_id(entry.name):
                stamp = _stamp(f"{entry.path}/{record}")
                if stamp is not None:
                    yield entry.name, stamp


def _stamp(record: str | Path) -> str | None:
    try:
        return stamp_of(record)
    except (FileNotFoundError, NotADirectoryError):
        return None
