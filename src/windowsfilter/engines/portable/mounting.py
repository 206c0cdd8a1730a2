"""Kernel mounts of chains and scratches: EROFS images, stacked and written over by overlayfs.

A chain becomes a *detached* mount first: a descriptor through which this process can read, shown
nowhere. `show` puts it, or its volume view, at a directory. Mounts are read-only (scratches
excepted), `nosuid` and `nodev`. The kernel gets only files that nobody but their owner could have
written: it trusts an image's bytes.
Which images show a chain: chains.py. Machines that cannot do this: fuse/mount.py, or no mount.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from windowsfilter.engines.portable import kernel
from windowsfilter.engines.portable.chains import ChainImage, ImageFile
from windowsfilter.engines.portable.erofs.writer import write_empty_image
from windowsfilter.engines.portable.kernel import FilesystemContext, KernelError, MountAttribute
from windowsfilter.engines.portable.view import View
from windowsfilter.errors import HostError, UsageError

VOLUME_ROOT = b"Files"
_HIDDEN = MountAttribute.NO_SUID | MountAttribute.NO_DEV
_READ_ONLY = _HIDDEN | MountAttribute.READ_ONLY
_MAX_LOWERS = 500  # overlayfs's own limit

# What a scratch needs of overlayfs: whole directories can be renamed, and the upper directory alone
# has all that was changed (metacopy and index would leave part of it below).
_SCRATCH_OPTIONS = {"redirect_dir": "on", "metacopy": "off", "index": "off"}


class Access(Enum):
    """How the kernel reads an image."""

    FILE = "erofs-file"
    LOOP = "erofs-loop"


@dataclass(frozen=True, slots=True)
class Upper:
    """A scratch's own folders. Both are on one file system; `work` is overlayfs's alone."""

    upper: Path
    work: Path


@dataclass(frozen=True, slots=True)
class KernelMounts:
    """Mounts by the kernel. `runtime` is a folder for mount points, made when it is needed.

    Since 6.15 detached mounts can be stacked and cloned. `attach_first` is for older kernels, to
    which only what is mounted somewhere counts; they are found out by their EINVAL anyway.
    """

    access: Access
    runtime: Path
    attach_first: bool = False

    @contextlib.contextmanager
    def detached(
        self, chain: ChainImage, *, view: View = View.VOLUME, name: str = ""
    ) -> Iterator[int]:
        """A chain for the body, read through the descriptor (`/proc/self/fd/N`, `dir_fd`)."""
        mount = self._chain(chain, name)
        try:
            with self._view_of(mount, view) as shown:
                yield shown
        finally:
            os.close(mount)

    def mount(
        self, chain: ChainImage, target: Path, *, view: View = View.VOLUME, name: str = ""
    ) -> None:
        """Show a chain at an existing directory, read-only, until `unmount`.

        `name` is what the mount table calls it. Raises HostError; KernelError if the kernel refuses.
        """
        _check_target(target)
        with self.detached(chain, view=view, name=name) as shown:
            kernel.attach(shown, target)

    def mount_scratch(
        self,
        chain: ChainImage,
        upper: Upper,
        target: Path,
        *,
        lowers: Sequence[Path] = (),
        view: View = View.VOLUME,
        name: str = "",
    ) -> None:
        """Show a scratch at an existing directory, writable.

        `lowers` are upper directories of open layers between the scratch and the chain, the
        topmost first. Raises HostError; UsageError if there is no `Files` for the volume view.
        """
        _check_target(target)
        with ExitStack() as stack:
            mount = self._overlay(chain, lowers, upper, name)
            stack.callback(os.close, mount)
            kernel.attach(stack.enter_context(self._view_of(mount, view)), target)

    # -- private ------------------------------------------------------------------------------

    def _chain(self, chain: ChainImage, name: str) -> int:
        """A detached mount of the chain's layer view."""
        if len(chain.images) == 1:
            return self._image(chain.images[0])
        return self._overlay(chain, (), None, name)

    def _image(self, image: ImageFile) -> int:
        """A detached mount of one image."""
        check_trusted([image.path, *image.devices])
        with ExitStack() as stack, FilesystemContext("erofs") as context:
            for key, path in [("source", image.path), *(("device", d) for d in image.devices)]:
                if self.access is Access.LOOP:
                    context.string(key, stack.enter_context(kernel.loop_device(path)))
                else:
                    context.string(key, stack.enter_context(_short(path)))
            context.flag("ro")
            return context.mount(_READ_ONLY)

    def _overlay(
        self, chain: ChainImage, lowers: Sequence[Path], upper: Upper | None, name: str
    ) -> int:
        """A detached overlay of folders over images, writable if it has an upper."""
        count = len(lowers) + len(chain.images)
        if count > _MAX_LOWERS:
            raise HostError(errno.EINVAL, f"{count} layers to stack, overlayfs takes {_MAX_LOWERS}")
        trusted = [*lowers] if upper is None else [*lowers, upper.upper, upper.work]
        check_trusted([path.parent for path in trusted])
        with ExitStack() as stack:
            folders = [stack.enter_context(_directory(path)) for path in lowers]
            mounts = []
            for image in chain.images:
                mounts.append(self._image(image))
                stack.callback(os.close, mounts[-1])
            if not self.attach_first:
                for give in (_give_descriptors, _give_paths):
                    with contextlib.suppress(_Refused), _refusals():
                        return self._join([*folders, *mounts], give, upper, name)
            for mount in mounts:
                stack.enter_context(self._attached(mount))
            return self._join([*folders, *mounts], _give_paths, upper, name)

    def _join(
        self,
        lowers: Sequence[int],
        give: Callable[[FilesystemContext, Sequence[int]], None],
        upper: Upper | None,
        name: str,
    ) -> int:
        with ExitStack() as stack, FilesystemContext("overlay") as context:
            context.string("source", f"windowsfilter:{name}")
            give(context, lowers)
            if upper is not None:
                for key, path in (("upperdir", upper.upper), ("workdir", upper.work)):
                    context.string(key, stack.enter_context(_short(path)))
                for key, value in _SCRATCH_OPTIONS.items():
                    context.string(key, value)
            return context.mount(_READ_ONLY if upper is None else _HIDDEN)

    @contextlib.contextmanager
    def _view_of(self, mount: int, view: View) -> Iterator[int]:
        """A detached mount of the view: the whole, or a clone of its volume."""
        if view is View.LAYER:
            yield mount
            return
        clone = self._clone_volume(mount)
        try:
            yield clone
        finally:
            os.close(clone)

    def _clone_volume(self, mount: int) -> int:
        try:
            if not self.attach_first:
                with contextlib.suppress(_Refused), _refusals():
                    return kernel.clone_tree(mount, VOLUME_ROOT)
            with self._attached(mount):
                return kernel.clone_tree(mount, VOLUME_ROOT)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            raise UsageError(
                "mount: there is no Files in this chain; use the layer view"
            ) from error

    @contextlib.contextmanager
    def _attached(self, mount: int) -> Iterator[None]:
        """Give a detached mount a place for the body. What was made of it stays."""
        self.runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=self.runtime, prefix="mount."))
        try:
            kernel.attach(mount, place)
            try:
                yield
            finally:
                kernel.unmount(place, lazy=True)
        finally:
            place.rmdir()


def probe(access: Access, folder: Path) -> str | None:
    """Why images in `folder` cannot be mounted this way; None if they can.

    Mounts an empty image of its own, because that alone tells: whether a file can back an image
    depends on the file system that it is on.
    """
    for needed in ("erofs", "overlay"):
        missing = kernel.has_filesystem(needed)
        if missing is not None:
            return missing
    if access is Access.LOOP and (reason := kernel.has_loop_devices()) is not None:
        return reason
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix="probe.") as name:
            path = Path(name, "image")
            with path.open("xb") as out:
                path.chmod(0o600)
                write_empty_image(out)
            chain = ChainImage((ImageFile("probe", path, ()),))
            with KernelMounts(access, folder).detached(chain, view=View.LAYER):
                return None
    except KernelError as error:
        if error.errno == errno.ENOTBLK:
            return f"the kernel cannot mount image files on the file system of {folder}"
        return str(error)
    except OSError as error:
        return str(error) if isinstance(error, HostError) else f"{folder}: {error.strerror}"


def unmount(target: Path, *, lazy: bool = False) -> None:
    """Take a mount away. KernelError with EBUSY if it is in use (unless `lazy`), EINVAL if none."""
    kernel.unmount(target, lazy=lazy)


def check_trusted(paths: Sequence[Path]) -> None:
    """Raise HostError unless nobody but root and this user can change these files and folders.

    That includes the folders above: who can rename one can exchange what is in it.
    """
    checked: set[Path] = set()
    for path in paths:
        absolute = Path(os.path.abspath(path))
        for place in (absolute, *absolute.parents):
            if place in checked:
                break
            try:
                _check_place(place, above=place != absolute)
            except OSError as error:
                if isinstance(error, HostError):
                    raise
                raise HostError(error.errno, f"mount: {place}: {error.strerror}") from error
            checked.add(place)


def _check_place(place: Path, *, above: bool) -> None:
    info = os.lstat(place)
    if stat.S_ISLNK(info.st_mode):
        info = os.stat(place)
    others = info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if above and info.st_mode & stat.S_ISVTX:
        others = 0  # like /tmp: what is in it can be exchanged by its owner only
    if info.st_uid not in (0, os.geteuid()) or others:
        raise HostError(
            errno.EPERM,
            f"mount: {place} can be changed by others (uid {info.st_uid}, "
            f"mode {stat.S_IMODE(info.st_mode):04o}), the kernel must not trust it",
        )


def _check_target(target: Path) -> None:
    if not target.is_dir():
        raise UsageError(f"mount at {target}: it is not an existing directory")


class _Refused(Exception):
    """The kernel does not do it this way, but may do it another way."""


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except KernelError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
        raise _Refused from error


def _give_descriptors(context: FilesystemContext, lowers: Sequence[int]) -> None:
    for descriptor in lowers:
        context.descriptor("lowerdir+", descriptor)


def _give_paths(context: FilesystemContext, lowers: Sequence[int]) -> None:
    """For kernels whose overlayfs takes no descriptors: each is a short path all the same."""
    places = [f"/proc/self/fd/{descriptor}" for descriptor in lowers]
    try:
        for place in places:
            context.string("lowerdir+", place)
    except KernelError as error:
        if error.errno != errno.EINVAL or len(":".join(places)) > kernel.MAX_STRING:
            raise
        context.string("lowerdir", ":".join(places))


@contextlib.contextmanager
def _directory(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """The path itself if the kernel takes it, else one through an open descriptor.

    A value has at most 255 bytes, and overlayfs takes backslashes for escapes.
    """
    if len(os.fsencode(path)) <= kernel.MAX_STRING and "\\" not in str(path):
        yield str(path)
        return
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
