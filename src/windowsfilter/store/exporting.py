"""Export: what layers show, as an NTFS volume in a file or on a device, or as a WIM.

A file appears whole or not at all; on a device nothing is left that looks like a volume.
Programs, fidelity, and what is refused: docs/formats/ntfs-volume.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from windowsfilter.engines.portable.tree import Tree
from windowsfilter.engines.portable.view import View
from windowsfilter.engines.portable.volumes import change_times, devices, ntfs, plan, wim
from windowsfilter.engines.portable.volumes.plan import Plan
from windowsfilter.engines.portable.volumes.programs import WIMLIB
from windowsfilter.engines.portable.volumes.writer import NotCarried, VolumeWriter, Written
from windowsfilter.errors import AlreadyExists, HostError, StoreDamaged, UsageError
from windowsfilter.layers import durable
from windowsfilter.ntfs.names import utf16_units
from windowsfilter.store.core import Core, Progress, counter
from windowsfilter.store.holds import HoldKind

_VOLUME = b"Files"
_SECTOR = 512
MAX_LABEL = 32
"""UTF-16 units that Windows takes for the label of a volume."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is exported."""

    name: str
    """For messages."""
    layers: tuple[str, ...]
    """Ids, base first."""
    view: View = View.VOLUME


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export came to."""

    place: Path
    format: str
    """`ntfs` or `wim`."""
    size: int
    """Bytes of the volume; of the file for a WIM."""
    written: Written

    @property
    def not_carried(self) -> Sequence[NotCarried]:
        """What the result does not have, by entry; empty if nothing was lost."""
        return self.written.not_carried


def export_ntfs(
    core: Core,
    source: Source,
    target: Path,
    *,
    force: bool = False,
    skip_unsupported: bool = False,
    label: str | None = None,
    size: int | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Make an NTFS volume in a new file, or on a block device that is unused and empty.

    `force` is needed for a device, and replaces a file; a device in use or with data on it is
    refused all the same. `size` is that of a new file in bytes, by default what fits.
    Raises UsageError for what cannot be done or carried, HostError if the machine fails.
    """
    with _about(f"export {source.name} to {target}"):
        ntfs.check()
        _check_label(label)
        place = Path(os.path.realpath(target))
        is_device = devices.is_device(place)
        _check_target(target, place, is_device=is_device, force=force)
        room = devices.check_unused(place) if is_device else size
        job = _Job(core, source, skip_unsupported=skip_unsupported, label=label, progress=progress)
        with job.held():
            if is_device:
                with devices.wiped_on_error(place):
                    return job.result(place, "ntfs", job.fill(place, room, is_device=True))
            with _working(core, place.parent) as working:
                volume = working / "volume"
                written = job.fill(volume, room)
                _publish(volume, place)
            return job.result(place, "ntfs", written)


def export_wim(
    core: Core,
    source: Source,
    target: Path,
    *,
    force: bool = False,
    skip_unsupported: bool = False,
    compression: str = "xpress",
    progress: Progress | None = None,
) -> Exported:
    """Write a WIM with one image, through an NTFS volume that lives as long as this call.

    `force` replaces a file. `compression` is one of `wim.COMPRESSIONS`. Raises as `export_ntfs`.
    """
    with _about(f"export {source.name} to {target}"):
        ntfs.check()
        WIMLIB.find()
        wim.check_compression(compression)
        place = Path(os.path.realpath(target))
        if devices.is_device(place):
            raise UsageError("a WIM is a file, and that is a device")
        _check_target(target, place, is_device=False, force=force)
        job = _Job(core, source, skip_unsupported=skip_unsupported, eas=False, progress=progress)
        with (
            job.held(),
            core.staging.temporary("export") as staging,
            _working(core, place.parent) as working,
        ):
            volume = staging / "volume"
            written = job.fill(volume, None)
            made = working / "image.wim"
            wim.capture(volume, made, name=source.name, compression=compression, working=working)
            made.chmod(durable.FILE_MODE)
            _publish(made, place)
            return job.result(place, "wim", written)


class _Job:
    """One tree on its way to one volume."""

    def __init__(
        self,
        core: Core,
        source: Source,
        *,
        skip_unsupported: bool,
        eas: bool = True,
        label: str | None = None,
        progress: Progress | None,
    ) -> None:
        self._core = core
        self._source = source
        self._skip = skip_unsupported
        self._eas = eas
        self._label = label
        self._progress = progress

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the layers from being removed."""
        layers = [(HoldKind.LAYER, layer) for layer in self._source.layers]
        with self._core.holds.held(layers, "export"):
            for layer in self._source.layers:
                self._core.catalog.layer(layer)
            yield

    def fill(self, volume: Path, room: int | None, *, is_device: bool = False) -> Written:
        """Make the volume and write everything to it, durably. `room` None makes a file that fits."""
        chain = self._core.chain(self._source.layers)
        found = plan.make(chain.tree, _root(chain.tree, self._source.view))
        size = found.volume_bytes if room is None else room
        _check_room(found, volume, size, is_device=is_device)
        if not is_device:
            _new_file(volume, size)
        ntfs.make(volume, label=self._label, is_device=is_device)
        report = counter("export", self._source.name, found.data_bytes, self._progress)
        with (
            self._core.staging.temporary("volume") as place,
            ntfs.mounted(volume, place) as root,
        ):
            writer = VolumeWriter(
                chain.tree,
                chain.read,
                found,
                root,
                eas=self._eas,
                skip_unsupported=self._skip,
                progress=report,
            )
            boot = devices.hide_volume(volume) if is_device else None
            written = writer.write()
        if boot is not None:
            devices.show_volume(volume, boot)
        missing = change_times.restore(volume, writer.change_times)
        if missing:
            written.not_carried.append(NotCarried(b"", f"change times of {missing} entries"))
        durable.sync_file(volume)
        return written

    def result(self, place: Path, form: str, written: Written) -> Exported:
        with place.open("rb") as file:
            size = file.seek(0, os.SEEK_END)  # also of a device
        return Exported(place=place, format=form, size=size, written=written)


def _root(tree: Tree, view: View) -> int:
    if view is View.LAYER:
        return tree.ROOT
    root = tree.lookup(_VOLUME)
    if root is None or not tree.is_directory(root):
        raise UsageError("there is no volume in it: no folder Files; --view layer exports the rest")
    return root


def _check_label(label: str | None) -> None:
    if label is None:
        return
    if not label.isprintable():
        raise UsageError("a label has printable characters only")
    if utf16_units(label.encode()) > MAX_LABEL:
        raise UsageError(f"a label has at most {MAX_LABEL} characters")


def _check_target(target: Path, place: Path, *, is_device: bool, force: bool) -> None:
    if is_device:
        if not force:
            raise UsageError(f"{target} is a device: --force makes a volume over all of it")
        return
    if not place.parent.is_dir():
        raise UsageError(f"there is no folder {place.parent}")
    if os.path.lexists(place) and not force:
        raise AlreadyExists(f"{target} exists already; --force replaces it")


def _check_room(found: Plan, volume: Path, size: int, *, is_device: bool) -> None:
    """Refuse early what cannot fit, rather than after gigabytes."""
    if found.dense_bytes > size:
        raise UsageError(f"{found.dense_bytes} bytes of data do not fit into {size}")
    if is_device:
        return
    disk = os.statvfs(volume.parent)
    if found.dense_bytes > disk.f_bavail * disk.f_frsize:
        raise HostError(f"{found.dense_bytes} bytes of data do not fit on the disk of {volume}")


def _new_file(place: Path, size: int) -> None:
    descriptor = os.open(
        place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, durable.FILE_MODE
    )
    try:
        os.ftruncate(descriptor, size - size % _SECTOR)
    finally:
        os.close(descriptor)


@contextmanager
def _working(core: Core, folder: Path) -> Iterator[Path]:
    """A folder for what will be renamed into `folder`; gone afterwards.

    In the store where that is the same file system: there the next open sweeps what a killed
    process leaves.
    """
    with core.staging.temporary("export") as staging:
        if staging.stat().st_dev == folder.stat().st_dev:
            yield staging
        else:
            with durable.temporary_beside(folder) as beside:
                yield beside


def _publish(made: Path, place: Path) -> None:
    durable.sync_file(made)
    os.replace(made, place)
    durable.sync_folder(place.parent)


@contextmanager
def _about(operation: str) -> Iterator[None]:
    """Say in every error what was being done."""
    try:
        yield
    except StoreDamaged:
        raise
    except UsageError as error:
        raise type(error)(f"{operation}: {error}") from error
    except OSError as error:
        said = error.strerror or str(error)
        raise HostError(error.errno, f"{operation}: {said}", error.filename) from error
