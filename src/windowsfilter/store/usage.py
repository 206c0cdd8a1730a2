"""What occupies the disk: by image, layer and scratch, shared and exclusive.

Bytes are disk blocks, so holes and file system overhead count as they really are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from windowsfilter.digests import Digest
from windowsfilter.layers import durable
from windowsfilter.layers.manifest import LayerManifest, LayerState
from windowsfilter.store.core import Core
from windowsfilter.store.reserve import FILE as RESERVE_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerUsage:
    """One layer: its blob with everything beside it, and its own folder."""

    id: str
    bytes: int
    images: tuple[Digest, ...]
    """Images that show it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageUsage:
    """One image. `exclusive` is what removing it would free, `shared` what others use too."""

    id: Digest
    references: tuple[str, ...]
    exclusive: int
    shared: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchUsage:
    """One scratch: what was written into it."""

    id: str
    name: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The whole store. `derived` are EROFS images, which are made again when needed.

    `reserve` is kept back so that a store on a full disk can be emptied.
    """

    total: int
    derived: int
    reserve: int
    reclaimable: int
    images: tuple[ImageUsage, ...]
    layers: tuple[LayerUsage, ...]
    scratches: tuple[ScratchUsage, ...]


def measure(core: Core) -> Usage:
    """Measure everything now; things that vanish meanwhile count as nothing."""
    layers = core.catalog.layers()
    sizes = {layer.id: _layer_bytes(core, layer) for layer in layers}
    users = _users(core)
    return Usage(
        total=durable.tree_bytes(core.layout.root),
        derived=durable.tree_bytes(core.layout.chains),
        reserve=durable.tree_bytes(core.layout.root / RESERVE_FILE),
        reclaimable=core.garbage.plan().bytes,
        images=tuple(
            ImageUsage(
                id=image.id,
                references=tuple(sorted(core.catalog.tags_of(image.id))),
                exclusive=sum(sizes[layer] for layer in image.layers if users[layer] == 1),
                shared=sum(sizes[layer] for layer in image.layers if users[layer] > 1),
            )
            for image in core.catalog.images()
        ),
        layers=tuple(
            LayerUsage(
                id=layer.id,
                bytes=sizes[layer.id],
                images=tuple(core.catalog.images_with_layer(layer.id)),
            )
            for layer in layers
            if layer.state is not LayerState.SCRATCH
        ),
        scratches=tuple(
            ScratchUsage(id=layer.id, name=layer.name or layer.id, bytes=sizes[layer.id])
            for layer in layers
            if layer.state is LayerState.SCRATCH
        ),
    )


def _users(core: Core) -> Counter[str]:
    """How many images and scratches need each layer."""
    users: Counter[str] = Counter()
    for image in core.catalog.images():
        users.update(image.layers)
    for scratch in core.catalog.layers(LayerState.SCRATCH):
        users.update(layer.id for layer in core.catalog.chain(scratch.id)[1:])
    return users


def _layer_bytes(core: Core, layer: LayerManifest) -> int:
    size = durable.tree_bytes(core.layout.layer(layer.id))
    if layer.diff_id is not None:
        size += durable.tree_bytes(core.layout.blob(layer.diff_id))
    return size
