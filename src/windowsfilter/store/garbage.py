"""What nothing needs any more, and removing things in constant time.

A removal is a transaction that looks for users and deletes the row, a rename into `tmp`, an fsync, and an
unlink of the few files that a sealed layer consists of. Order and the reason why a load at the same
time loses nothing: docs/formats/store.md section 5.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from windowsfilter.digests import Digest
from windowsfilter.errors import FormatError, ImageNotFound, LayerInUse
from windowsfilter.layers import durable
from windowsfilter.layers.chains import RECORD_FILE, ChainRecord
from windowsfilter.layers.ids import is_id
from windowsfilter.layers.manifest import LayerManifest, LayerState, Owner
from windowsfilter.store.catalog import Catalog
from windowsfilter.store.holds import ANY, HoldKind, Holds
from windowsfilter.store.images import ImageRecord
from windowsfilter.store.layout import Layout
from windowsfilter.store.locks import Locks, LockTimeout
from windowsfilter.store.reserve import Reserve
from windowsfilter.store.staging import Staging

# Whoever uses a layer for longer than this has a hold on it, and the layer stays.
_LOCK_TIMEOUT_S = 10.0
_BATCH = 64  # layers per transaction: a descriptor for each lock, one fsync for all

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Item:
    """Something that is or was garbage. `kind`: image, layer, blob, chain or leftover."""

    kind: str
    id: str
    bytes: int


@dataclass(slots=True)
class Removed:
    """What a removal or a plan for one comes to."""

    items: list[Item] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)

    def ids(self, kind: str) -> list[str]:
        return [item.id for item in self.items if item.kind == kind]


class Garbage:
    """Removal of layers, images and of everything that has become useless. Takes its own locks."""

    def __init__(
        self, layout: Layout, locks: Locks, staging: Staging, catalog: Catalog, holds: Holds
    ) -> None:
        self._layout = layout
        self._locks = locks
        self._staging = staging
        self._catalog = catalog
        self._holds = holds
        self._reserve = Reserve(layout.root)

    # On request

    def users(self, layer_id: str) -> list[str]:
        """Who needs a layer, in words: images, children, holds. Empty: it may be removed."""
        images = [f"image {self._image_name(image)}" for image in self._images(layer_id)]
        children = [self._child_name(child) for child in self._catalog.children(layer_id)]
        holds = [hold.describe() for hold in self._holds.live(HoldKind.LAYER, layer_id)]
        return list(dict.fromkeys([*images, *children, *holds]))

    def remove_layer(self, layer_id: str) -> Removed:
        """Remove a layer or scratch that nothing needs, and its blob with it.

        Raises LayerNotFound, or LayerInUse naming the users.
        """
        self._reserve.spend()
        removed = Removed()
        trash: list[Path] = []
        with self._locks.held(f"layer:{layer_id}"), durable.host_errors(f"remove {layer_id}"):
            with self._catalog.transaction():
                manifest = self._catalog.layer(layer_id)
                users = self.users(layer_id)
                if users:
                    raise LayerInUse(f"remove layer {layer_id}: needed by {', '.join(users)}")
                self._catalog.delete_layer(layer_id)
            self._take_away("layer", layer_id, self._layout.layer(layer_id), removed, trash)
            durable.sync_folder(self._layout.layers)
        self._remove_blobs([manifest], removed, trash)
        self._remove_chains(removed, trash)
        _unlink(trash)
        return removed

    def remove_image(
        self,
        image_id: Digest,
        *,
        force: bool = False,
        tags: Collection[str] | None = None,
    ) -> Removed:
        """Remove an image with all its tags, and the layers that nothing else needs.

        Raises ImageNotFound, or LayerInUse if one of those layers is mounted or under a scratch
        or layer outside the image, or the image itself is held; with `force` they are kept.
        With `tags` nothing happens if the image has any other tag than these by now.
        """
        self._reserve.spend()
        removed = Removed()
        trash: list[Path] = []
        with (
            self._locks.held(f"image:{image_id.hex}"),
            durable.host_errors(f"remove image {image_id}"),
        ):
            with self._catalog.transaction():
                image = self._catalog.image(image_id)
                if tags is not None and set(self._catalog.tags_of(image_id)).difference(tags):
                    return removed
                blockers = self._blockers(image)
                if blockers and not force:
                    raise LayerInUse(
                        f"remove image {self._image_name(image_id)}: needed by "
                        f"{', '.join(blockers)}"
                    )
                self._catalog.delete_image(image_id)
            self._take_away("image", image_id, self._layout.image(image_id), removed, trash)
            durable.sync_folder(self._layout.images)
        self._collect(image.layers, removed, trash)
        _unlink(trash)
        return removed

    def _blockers(self, image: ImageRecord) -> list[str]:
        """Users of the image, and users from outside of the layers that would go with it."""
        found = [hold.describe() for hold in self._holds.live(HoldKind.IMAGE, image.id.hex)]
        for layer in image.layers:
            if self._images(layer) != [image.id]:
                continue
            outside = set(self._catalog.children(layer)).difference(image.layers)
            found += [self._child_name(child) for child in sorted(outside)]
            # A load at the same time only wants the layer to stay, and it will.
            found += [
                hold.describe()
                for hold in self._holds.live(HoldKind.LAYER, layer)
                if hold.path or hold.process is None
            ]
        return list(dict.fromkeys(found))

    def _images(self, layer_id: str) -> list[Digest]:
        return self._catalog.images_with_layer(layer_id)

    def _image_name(self, image_id: Digest) -> str:
        tags = self._catalog.tags_of(image_id)
        return tags[0] if tags else str(image_id)

    def _child_name(self, layer_id: str) -> str:
        child = self._catalog.find_layer(layer_id)
        if child is not None and child.state is LayerState.SCRATCH:
            return f"scratch {child.name or layer_id}"
        return f"layer {layer_id}"

    # What nobody asked for but nothing needs

    def plan(self, *, untagged_images: bool = False) -> Removed:
        """What `prune` would remove now, with the bytes that would come back. Changes nothing."""
        found = Removed()
        images = self._untagged() if untagged_images else []
        for image in images:
            size = durable.tree_bytes(self._layout.image(image.id))
            found.items.append(Item("image", image.id, size))
        doomed: set[str] = set()
        gone_images = {image.id for image in images}
        for manifest in self._children_first(self._catalog.layers()):
            if not self._is_needed(manifest, doomed, gone_images):
                doomed.add(manifest.id)
                size = durable.tree_bytes(self._layout.layer(manifest.id))
                found.items.append(Item("layer", manifest.id, size))
        for name in self._useless_blobs(doomed):
            size = durable.tree_bytes(self._layout.blobs / name)
            found.items.append(Item("blob", name, size))
        for key in self._useless_chains(doomed):
            size = durable.tree_bytes(self._layout.chains / key)
            found.items.append(Item("chain", key, size))
        for path in self._leftovers(doomed):
            name = str(path.relative_to(self._layout.root))
            found.items.append(Item("leftover", name, durable.tree_bytes(path)))
        return found

    def prune(self, *, untagged_images: bool = False) -> Removed:
        """Remove what nothing needs; what is used meanwhile stays. Returns what went."""
        self._reserve.spend()
        removed = Removed()
        if untagged_images:
            for image in self._untagged():
                try:
                    removed.items += self.remove_image(image.id, tags=()).items
                except (LayerInUse, ImageNotFound) as error:
                    _log.info("%s", error)
        trash: list[Path] = []
        self._collect([layer.id for layer in self._catalog.layers()], removed, trash)
        names = self._useless_blobs(())
        self._remove_blob_names(names, removed, trash)
        self._remove_leftovers(removed, trash)
        _unlink(trash)
        self._holds.cleanup()
        self._staging.sweep()
        return removed

    def collect(self, layer_ids: Iterable[str], *, blobs: Iterable[Digest] = ()) -> Removed:
        """Remove those of these layers and blobs that nothing needs, children before parents."""
        removed = Removed()
        trash: list[Path] = []
        self._collect(layer_ids, removed, trash)
        self._remove_blob_names({blob.hex for blob in blobs}, removed, trash)
        _unlink(trash)
        return removed

    def _untagged(self) -> list[ImageRecord]:
        return [
            image
            for image in self._catalog.images()
            if not image.references and not self._blockers(image)
        ]

    def _is_needed(
        self,
        manifest: LayerManifest,
        gone: Collection[str] = (),
        gone_images: Collection[Digest] = (),
    ) -> bool:
        """Whether a layer must stay, once the layers `gone` and the images `gone_images` are not
        there any more.
        """
        return (
            manifest.owner is not Owner.IMAGES
            or manifest.state is LayerState.SCRATCH
            or bool(manifest.aliases or manifest.snapshots)
            or not set(self._catalog.children(manifest.id)).issubset(gone)
            or not set(self._images(manifest.id)).issubset(gone_images)
            or bool(self._holds.live(HoldKind.LAYER, manifest.id))
        )

    def _children_first(self, manifests: Iterable[LayerManifest]) -> list[LayerManifest]:
        """Every layer before its parent."""
        pending = {manifest.id: manifest for manifest in manifests}
        ordered: list[LayerManifest] = []
        while pending:
            path = [next(iter(pending.values()))]
            seen = {path[0].id}
            while (below := pending.get(path[-1].parent or "")) and below.id not in seen:
                seen.add(below.id)
                path.append(below)
            for manifest in reversed(path):
                ordered.append(pending.pop(manifest.id))
        ordered.reverse()
        return ordered

    def _collect(self, layer_ids: Iterable[str], removed: Removed, trash: list[Path]) -> None:
        found = [self._catalog.find_layer(layer_id) for layer_id in dict.fromkeys(layer_ids)]
        doomed: list[LayerManifest] = []
        gone: set[str] = set()
        for manifest in self._children_first(item for item in found if item is not None):
            if not self._is_needed(manifest, gone):
                gone.add(manifest.id)
                doomed.append(manifest)
        taken: list[LayerManifest] = []
        for start in range(0, len(doomed), _BATCH):
            taken += self._collect_batch(doomed[start : start + _BATCH], removed, trash)
        if taken:
            durable.sync_folder(self._layout.layers)
        self._remove_blobs(taken, removed, trash)
        self._remove_chains(removed, trash)

    def _collect_batch(
        self, doomed: Sequence[LayerManifest], removed: Removed, trash: list[Path]
    ) -> list[LayerManifest]:
        """Remove layers given children first, as far as they are still useless under their lock."""
        with ExitStack() as stack, durable.host_errors("remove layers"):
            locked = self._lock_all(stack, [f"layer:{layer.id}" for layer in reversed(doomed)])
            taken = []
            with self._catalog.transaction():
                for manifest in doomed:
                    now = self._catalog.find_layer(manifest.id)
                    if f"layer:{manifest.id}" in locked and now and not self._is_needed(now):
                        self._catalog.delete_layer(manifest.id)
                        taken.append(now)
            for manifest in taken:
                place = self._layout.layer(manifest.id)
                self._take_away("layer", manifest.id, place, removed, trash)
        return taken

    # Blobs and chain images have no rows: the rename itself happens inside the transaction that
    # looks for users, so a hold written later finds the object gone, and an earlier one keeps it.

    def _remove_blobs(
        self, layers: Iterable[LayerManifest], removed: Removed, trash: list[Path]
    ) -> None:
        names = sorted({layer.diff_id.hex for layer in layers if layer.diff_id is not None})
        self._remove_blob_names(names, removed, trash)

    def _remove_blob_names(self, names: Iterable[str], removed: Removed, trash: list[Path]) -> None:
        def still_useless(names: Sequence[str]) -> Collection[str]:
            return [name for name in names if not self._blob_is_needed(name)]

        self._remove_unrecorded("blob", names, still_useless, removed, trash)

    def _blob_is_needed(self, name: str) -> bool:
        return bool(
            self._catalog.layers_with_blob(Digest.from_hex(name))
            or self._holds.live(HoldKind.BLOB, name)
        )

    def _remove_chains(self, removed: Removed, trash: list[Path]) -> None:
        def still_useless(_names: Sequence[str]) -> Collection[str]:
            return self._useless_chains(())

        useless = self._useless_chains(())
        self._remove_unrecorded("chain", useless, still_useless, removed, trash)

    def _remove_unrecorded(
        self,
        kind: str,
        names: Iterable[str],
        still_useless: Callable[[Sequence[str]], Collection[str]],
        removed: Removed,
        trash: list[Path],
    ) -> None:
        folder = self._layout.blobs if kind == "blob" else self._layout.chains
        ordered = sorted(names)
        for start in range(0, len(ordered), _BATCH):
            batch = ordered[start : start + _BATCH]
            with ExitStack() as stack, durable.host_errors(f"remove {kind}s"):
                locked = self._lock_all(stack, [f"{kind}:{name}" for name in batch])
                with self._catalog.transaction():
                    useless = set(still_useless(batch))
                    for name in batch:
                        if name in useless and f"{kind}:{name}" in locked:
                            self._take_away(kind, name, folder / name, removed, trash)
        if ordered:
            durable.sync_folder(folder)

    def _lock_all(self, stack: ExitStack, names: Iterable[str]) -> set[str]:
        """Take these locks in this order, leaving out those that others keep for too long."""
        locked = set()
        for name in names:
            try:
                stack.enter_context(self._locks.held(name, timeout_s=_LOCK_TIMEOUT_S))
            except LockTimeout as error:
                _log.info("not removing: %s", error)
            else:
                locked.add(name)
        return locked

    def _useless_blobs(self, gone: Collection[str]) -> list[str]:
        """Blobs on disk that no layer but those `gone` is made of, and nobody holds."""
        useful = {hold.object for hold in self._holds.live(HoldKind.BLOB)}
        if ANY in useful:
            return []
        useful |= {
            diff_id.hex
            for layer, diff_id, _ in self._catalog.contents()
            if diff_id is not None and layer not in gone
        }
        return sorted(_names(self._layout.blobs) - useful)

    def _useless_chains(self, gone: Collection[str]) -> list[str]:
        """Chain images that show no layer but those `gone`, and that nobody stands on."""
        needed = {hold.object for hold in self._holds.live(HoldKind.CHAIN)}
        if ANY in needed:
            return []
        needed |= {key for layer, key in self._catalog.pins() if layer not in gone}
        shown = {chain_id for layer, _, chain_id in self._catalog.contents() if layer not in gone}
        chains = {key: _chain(self._layout.chains / key) for key in _names(self._layout.chains)}
        needed |= {key for key, chain in chains.items() if chain and chain.chain_id in shown}
        pending = list(needed)
        while pending:
            chain = chains.get(pending.pop())
            fresh = set(chain.lowers) - needed if chain else set()
            needed |= fresh
            pending.extend(fresh)
        return sorted(chains.keys() - needed)

    def _leftovers(self, gone: Collection[str]) -> list[Path]:
        """Writable parts of layers that have been sealed since."""
        return [
            path
            for layer in self._catalog.layers()
            if layer.state is LayerState.SEALED and layer.id not in gone
            for path in (self._layout.layer(layer.id) / name for name in ("upper", "work"))
            if path.exists()
        ]

    def _remove_leftovers(self, removed: Removed, trash: list[Path]) -> None:
        for path in self._leftovers(()):
            layer_id = path.parent.name
            with durable.host_errors(f"tidy layer {layer_id}"):
                lock = self._locks.attempt(f"layer:{layer_id}")
                if lock is None:
                    continue
                try:
                    layer = self._catalog.find_layer(layer_id)
                    held = self._holds.live(HoldKind.LAYER, layer_id)
                    if layer and layer.state is LayerState.SEALED and not held:
                        name = str(path.relative_to(self._layout.root))
                        self._take_away("leftover", name, path, removed, trash)
                        durable.sync_folder(path.parent)
                finally:
                    lock.release()

    def _take_away(
        self, kind: str, name: str, place: Path, removed: Removed, trash: list[Path]
    ) -> None:
        moved = durable.take_away(place, self._staging.folder)
        if moved is not None:
            trash.append(moved)
            removed.items.append(Item(kind, name, durable.tree_bytes(moved)))


def _unlink(trash: Iterable[Path]) -> None:
    """Give the space back. The removal itself is already durable."""
    for place in trash:
        with durable.host_errors(f"delete {place}"):
            durable.delete_tree(place)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if is_id(path.name)}


def _chain(folder: Path) -> ChainRecord | None:
    """None if it cannot be read: then it can only be made anew."""
    try:
        return ChainRecord.parse((folder / RECORD_FILE).read_bytes(), str(folder))
    except (OSError, FormatError):
        return None
