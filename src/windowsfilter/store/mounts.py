"""Mounts of a store: making them, keeping book of them, taking them away.

Who uses what is a hold (docs/formats/store.md section 6), not a guess from the mount table; the table
only tells that a mount is gone which somebody took away behind our back.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from windowsfilter.engines.portable import mount_table
from windowsfilter.engines.portable.fuse import mount as fuse_mount
from windowsfilter.engines.portable.mount_engines import KernelEngine, Request
from windowsfilter.engines.portable.mounting import Upper
from windowsfilter.engines.portable.view import View
from windowsfilter.errors import UsageError
from windowsfilter.layers.manifest import LayerManifest
from windowsfilter.store.core import Core
from windowsfilter.store.holds import Hold, HoldKind
from windowsfilter.store.images import ImageRecord

IMAGE_PURPOSE = "a mount"
SCRATCH_PURPOSE = "a writable mount"


@dataclass(frozen=True, slots=True)
class Mount:
    """Something mounted. `id` is the top layer or the scratch."""

    path: Path
    id: str
    writable: bool


def mount_image(
    core: Core, image: ImageRecord, target: Path, view: View, *, allow_other: bool
) -> Mount:
    """Show an image at an existing directory until `unmount`."""
    place = _place(target)
    top = image.layers[-1]
    with _held_while_mounted(core, place, IMAGE_PURPOSE, image.layers):
        request = _request(core, image.layers, place, view, name=top, allow_other=allow_other)
        core.mount_engines.mount(request)
    return Mount(place, top, writable=False)


@contextmanager
def image_mounted(core: Core, image: ImageRecord, view: View) -> Iterator[Path]:
    """An image at a path that works for the body, in this process and its children.

    The kernel's engines need no mount point for that; without root the path is one of the FUSE
    server's own namespace.
    """
    engines = core.mount_engines
    with ExitStack() as stack:
        stack.enter_context(_held_here(core, image))
        if engines.only_private:
            folders = [layer.directory for layer in core.chain(image.layers).layers]
            yield stack.enter_context(fuse_mount.private_mount(folders, view=view.value))
        elif isinstance(engine := engines.chosen, KernelEngine):
            request = _request(core, image.layers, Path(), view, name=image.layers[-1])
            descriptor = stack.enter_context(engine.detached(request))
            yield Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        else:
            core.runtime_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            place = Path(tempfile.mkdtemp(dir=core.runtime_folder, prefix="windowsfilter-"))
            stack.callback(place.rmdir)
            request = _request(core, image.layers, place, view, name=image.layers[-1])
            mounted = engines.mount(request)
            stack.callback(engines.unmount, place, server=mounted.server)
            yield place


def run_with_image(
    core: Core, image: ImageRecord, command: Sequence[str], target: Path, view: View
) -> int:
    """Run a command where the image is mounted at `target`, for it alone; its exit code."""
    with _held_here(core, image):
        folders = [layer.directory for layer in core.chain(image.layers).layers]
        return fuse_mount.run(folders, target, command, view=view.value)


def mount_scratch(core: Core, scratch: LayerManifest, target: Path, view: View) -> Mount:
    """Show a scratch at an existing directory, writable, until `unmount`. Only one at a time."""
    place = _place(target)
    layers = [layer.id for layer in reversed(core.catalog.chain(scratch.id)[1:])]
    folder = core.layout.layer(scratch.id)
    with core.locks.held(f"layer:{scratch.id}"):
        mounted = mounts_of(core, scratch.id)
        if mounted:
            raise UsageError(f"mount scratch {scratch.name}: it is mounted at {mounted[0].path}")
        scratch = core.catalog.layer(scratch.id)  # as it is under the lock
        with _held_while_mounted(core, place, SCRATCH_PURPOSE, [*layers, scratch.id]):
            request = _request(core, layers, place, view, name=scratch.id)
            upper = Upper(folder / "upper", folder / "work")
            shown = core.mount_engines.mount_scratch(request, upper)
            pins = tuple(dict.fromkeys((*scratch.pins, *shown.images)))
            if pins != scratch.pins:
                core.layers.rewrite(replace(scratch, pins=pins))
    return Mount(place, scratch.id, writable=True)


def unmount(core: Core, target: Path, *, lazy: bool = False) -> None:
    """Take away what the store mounted at `target`. Raises UsageError if that is nothing.

    A mount that is gone already only loses its holds.
    """
    place = Path(os.path.realpath(target))
    holds = core.holds.at(str(place))
    if not holds:
        raise UsageError(f"unmount {target}: this store has mounted nothing there")
    mounted = mount_table.at(place)
    if mounted is not None and mounted.is_fuse:
        fuse_mount.unmount(place, lazy=lazy)
    elif mounted is not None:
        core.mount_engines.unmount(place, lazy=lazy)
    core.holds.release(holds)


def mounts_of(core: Core, layer_id: str) -> list[Mount]:
    """Where a layer or scratch is mounted."""
    return [mount for mount in list_mounts(core) if mount.id == layer_id]


def list_mounts(core: Core) -> list[Mount]:
    """Everything mounted from this store, oldest first."""
    by_path: dict[str, list[Hold]] = {}
    for hold in core.holds.live(HoldKind.LAYER):
        if hold.path:
            by_path.setdefault(hold.path, []).append(hold)
    return [
        Mount(Path(path), _top(core, holds), holds[0].purpose == SCRATCH_PURPOSE)
        for path, holds in by_path.items()
    ]


def forget_vanished(core: Core) -> None:
    """Drop the holds of read-only mounts that somebody took away with `umount`.

    The files of a mount in another mount namespace, which cannot be seen from here, stay readable
    there after their names have gone; so at worst their space comes back later. Scratches are
    not forgotten like this: what is written into one must not vanish.
    """
    table = {str(mount.place) for mount in mount_table.read()}
    if table:
        gone = [
            hold
            for hold in core.holds.live()
            if hold.path and hold.purpose == IMAGE_PURPOSE and hold.path not in table
        ]
        core.holds.release(gone)


@contextmanager
def _held_here(core: Core, image: ImageRecord) -> Iterator[None]:
    """Hold an image and its layers for the body; a process that dies holds nothing."""
    layers = [(HoldKind.LAYER, layer) for layer in image.layers]
    with core.holds.held([(HoldKind.IMAGE, image.id.hex), *layers], IMAGE_PURPOSE):
        core.catalog.image(image.id)
        yield


@contextmanager
def _held_while_mounted(
    core: Core, place: Path, purpose: str, layers: Sequence[str]
) -> Iterator[None]:
    """Hold the layers from before the mount until it is taken away; not if the body fails."""
    objects = [(HoldKind.LAYER, layer) for layer in layers]
    holds = core.holds.take(objects, purpose, path=str(place), lasting=True)
    try:
        for layer in layers:
            core.catalog.layer(layer)
        yield
    except BaseException:
        core.holds.release(holds)
        raise


def _request(
    core: Core,
    layers: Sequence[str],
    place: Path,
    view: View,
    *,
    name: str,
    allow_other: bool = False,
) -> Request:
    chain = core.chain(layers)
    return Request(
        layers=chain.layers,
        target=place,
        view=view,
        allow_other=allow_other,
        name=name,
        tree=lambda: chain.tree,
    )


def _place(target: Path) -> Path:
    """The directory to mount at, without links, so that it can be found again."""
    if not target.is_dir():
        raise UsageError(f"mount at {target}: it is not an existing directory")
    return Path(os.path.realpath(target))


def _top(core: Core, holds: list[Hold]) -> str:
    """Which of the held layers of one chain is not below another."""
    held = {hold.object for hold in holds}
    found = [core.catalog.find_layer(layer) for layer in held]
    below = {layer.parent for layer in found if layer is not None}
    return min(held - below, default=holds[0].object)
