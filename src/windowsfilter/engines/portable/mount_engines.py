"""The ways to show a chain at a directory, tried from the best to the one that always works.

erofs-file: the kernel mounts image files. erofs-loop: through loop devices, for older kernels and
file systems that cannot back an image. fuse: a server of our own, also without root. api: no mount
at all; the library and the command read chains without one.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from windowsfilter.engines.portable import kernel, mounting
from windowsfilter.engines.portable.blobs import LayerBlob
from windowsfilter.engines.portable.chains import ChainImage, ChainImages
from windowsfilter.engines.portable.fuse import mount as fuse_mount
from windowsfilter.engines.portable.kernel import KernelError
from windowsfilter.engines.portable.mounting import Access, KernelMounts, Upper
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.engines.portable.view import View
from windowsfilter.errors import HostError, UsageError

API = "api"
FUSE = "fuse"
ENGINES = (Access.FILE.value, Access.LOOP.value, FUSE, API)
"""Names for `--mount-engine`, in the order in which they are tried."""

_WITHOUT_MOUNT = "`scratch write`, `mkdir`, `rename` and `remove` change it without a mount"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be shown, and to whom."""

    layers: Sequence[LayerBlob]
    """The chain, base first."""
    target: Path
    view: View = View.VOLUME
    allow_other: bool = False
    """Whether other users than the one who mounts get in."""
    streams: bool = False
    """Show `name:stream` beside each file; only the FUSE server can."""
    name: str = ""
    """What the mount table calls an overlay: a scratch's id."""
    tree: Callable[[], Tree] | None = None
    """The chain's merged tree, if somebody has it already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """A mount that stays until `MountEngines.unmount`."""

    target: Path
    engine: str
    server: int | None = None
    """Process id of the FUSE server."""
    images: tuple[str, ...] = ()
    """Keys of the chain images that must stay meanwhile."""


class MountEngine(Protocol):
    """One way to mount. Errors are HostError, or UsageError for what was asked wrongly."""

    @property
    def name(self) -> str: ...

    def probe(self) -> str | None:
        """Why it cannot work here, None if it should. Leaves nothing behind."""

    def mount(self, request: Request) -> Mounted:
        """Show a chain, read-only."""

    def mount_scratch(self, request: Request, upper: Upper, lowers: Sequence[Path] = ()) -> Mounted:
        """Show a scratch, writable. `lowers`: upper folders of open layers, topmost first."""


class KernelEngine:
    """Images mounted by the kernel."""

    def __init__(self, access: Access, images: ChainImages, runtime: Path) -> None:
        self.name = access.value
        self.images = images
        self._mounts = KernelMounts(access, runtime)

    def probe(self) -> str | None:
        """See MountEngine."""
        return mounting.probe(self._mounts.access, self.images.folder)

    def mount(self, request: Request) -> Mounted:
        """See MountEngine."""
        if request.streams:
            raise UsageError(
                f"mount at {request.target}: {self.name} cannot show streams; use fuse"
            )
        return self._with_images(
            request,
            lambda chain: self._mounts.mount(
                chain, request.target, view=request.view, name=request.name
            ),
        )

    def mount_scratch(self, request: Request, upper: Upper, lowers: Sequence[Path] = ()) -> Mounted:
        """See MountEngine."""
        return self._with_images(
            request,
            lambda chain: self._mounts.mount_scratch(
                chain, upper, request.target, lowers=lowers, view=request.view, name=request.name
            ),
        )

    @contextmanager
    def detached(self, request: Request) -> Iterator[int]:
        """The chain for the body without any mount point: see KernelMounts.detached."""
        chain = self._images_of(request)
        with self._mounts.detached(chain, view=request.view, name=request.name) as descriptor:
            yield descriptor

    def _images_of(self, request: Request) -> ChainImage:
        return self.images.get(request.layers, tree=request.tree, private=not request.allow_other)

    def _with_images(self, request: Request, mount: Callable[[ChainImage], None]) -> Mounted:
        """Mount; images that turn out to be damaged are made again, once."""
        chain = self._images_of(request)
        try:
            mount(chain)
        except KernelError:
            if not self.images.repair(chain):
                raise
            chain = self._images_of(request)
            mount(chain)
        return Mounted(target=request.target, engine=self.name, images=chain.keys)


class FuseEngine:
    """Our FUSE server."""

    name = FUSE

    def __init__(self, runtime: Path) -> None:
        self._runtime = runtime

    def probe(self) -> str | None:
        """See MountEngine."""
        return fuse_mount.probe()

    def mount(self, request: Request) -> Mounted:
        """See MountEngine."""
        found = fuse_mount.mount(
            [layer.directory for layer in request.layers],
            request.target,
            view=request.view.value,
            streams=request.streams,
            allow_other=request.allow_other,
        )
        return Mounted(target=request.target, engine=FUSE, server=found.server)

    def mount_scratch(self, request: Request, upper: Upper, lowers: Sequence[Path] = ()) -> Mounted:
        """See MountEngine. The server goes away with the overlay that stands on it."""
        missing = kernel.has_filesystem("overlay")
        if missing is not None:
            raise HostError(
                errno.EPERM, f"mount scratch at {request.target}: {missing}; {_WITHOUT_MOUNT}"
            )
        self._runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=self._runtime, prefix="fuse."))
        try:
            found = fuse_mount.mount(
                [layer.directory for layer in request.layers],
                place,
                view=View.LAYER.value,
                overlay_lower=True,
                allow_other=True,  # overlayfs looks with the rights of whoever mounted it
            )
            try:
                KernelMounts(Access.FILE, self._runtime).mount_scratch(
                    ChainImage(()),
                    upper,
                    request.target,
                    lowers=[*lowers, place],
                    view=request.view,
                    name=request.name,
                )
            finally:
                fuse_mount.unmount(place, lazy=True)
        finally:
            place.rmdir()
        return Mounted(target=request.target, engine=FUSE, server=found.server)


class ApiEngine:
    """No mount: always possible, never a place."""

    name = API

    def probe(self) -> str | None:
        """See MountEngine."""
        return None

    def mount(self, request: Request) -> Mounted:
        """See MountEngine."""
        private = fuse_mount.probe_private() is None
        raise HostError(
            errno.ENOTSUP,
            f"mount at {request.target}: this machine cannot mount for you "
            "(see `windowsfilter info`); ls, cat, find and the library work without"
            + (", and `mount IMAGE DIR -- COMMAND` for one command" if private else ""),
        )

    def mount_scratch(
        self,
        request: Request,
        upper: Upper,  # noqa: ARG002
        lowers: Sequence[Path] = (),  # noqa: ARG002
    ) -> Mounted:
        """See MountEngine."""
        raise HostError(
            errno.ENOTSUP,
            f"mount scratch at {request.target}: this machine cannot mount for you "
            f"(see `windowsfilter info`); {_WITHOUT_MOUNT}",
        )


class MountEngines:
    """All engines of one store. `forced` names the only one that may be used."""

    def __init__(self, images: ChainImages, runtime: Path, *, forced: str | None = None) -> None:
        """Raises UsageError if there is no engine called `forced`."""
        if forced is not None and forced not in ENGINES:
            raise UsageError(f"no mount engine {forced!r}; there are {', '.join(ENGINES)}")
        self._forced = forced
        self._engines: list[MountEngine] = [
            KernelEngine(Access.FILE, images, runtime),
            KernelEngine(Access.LOOP, images, runtime),
            FuseEngine(runtime),
            ApiEngine(),
        ]

    @cached_property
    def available(self) -> dict[str, str | None]:
        """Engine -> why it cannot be used, None if it can; in order of preference."""
        return {engine.name: engine.probe() for engine in self._engines}

    @cached_property
    def chosen(self) -> MountEngine:
        """The first engine that works, or the forced one. HostError if that one does not."""
        for engine in self._engines:
            if self._forced is None:
                if engine.probe() is None:
                    return engine
            elif engine.name == self._forced:
                reason = engine.probe()
                if reason is not None:
                    raise HostError(errno.ENOTSUP, f"mount engine {engine.name}: {reason}")
                return engine
        raise AssertionError("the API needs nothing")

    @cached_property
    def only_private(self) -> bool:
        """Whether chains can be shown in a user namespace only: to this user, for a while."""
        if self._forced not in (None, FUSE):
            return False
        mounting_works = (
            self._fuse.probe() is None if self._forced == FUSE else self.chosen.name != API
        )
        return not mounting_works and fuse_mount.probe_private() is None

    def mount(self, request: Request) -> Mounted:
        """Show a chain, read-only."""
        if request.streams and self._forced is None:
            return FuseEngine.mount(self._fuse, request)
        return self.chosen.mount(request)

    def mount_scratch(self, request: Request, upper: Upper, lowers: Sequence[Path] = ()) -> Mounted:
        """Show a scratch, writable."""
        return self.chosen.mount_scratch(request, upper, lowers)

    def unmount(self, target: Path, *, server: int | None = None, lazy: bool = False) -> None:
        """Take a mount away. HostError with EBUSY if it is in use, unless `lazy`."""
        if server is not None:
            fuse_mount.unmount(target, server=server, lazy=lazy)
        else:
            mounting.unmount(target, lazy=lazy)

    @property
    def _fuse(self) -> FuseEngine:
        return next(engine for engine in self._engines if isinstance(engine, FuseEngine))
