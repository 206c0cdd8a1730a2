"""The images of chains: `chains/<key>/`, made at the first mount and kept for the next.

An image is derived from blobs and can be made again at any time, so what is missing or damaged is
simply made. A small layer over a chain that has images gets a delta image stacked over them,
everything else one image of the whole chain. A key names all that decides about an image's bytes:
the diffIDs and the versions of every rule. Bytes and record: docs/formats/image.md.
"""

from __future__ import annotations

import errno
import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from windowsfilter.digests import DiffID, Digest, chain_id
from windowsfilter.engines.portable import aliases, links, shown_metadata
from windowsfilter.engines.portable.blobs import LayerBlob
from windowsfilter.engines.portable.erofs import delta as erofs_delta
from windowsfilter.engines.portable.erofs import writer as erofs_writer
from windowsfilter.engines.portable.erofs.delta import make_delta
from windowsfilter.engines.portable.erofs.reader import ErofsImage
from windowsfilter.engines.portable.erofs.stacked import ImageStack
from windowsfilter.engines.portable.erofs.writer import Data, ImageInfo, Source, write_image
from windowsfilter.engines.portable.erofs.xattrs import Profile
from windowsfilter.engines.portable.shown import ShownTree
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.errors import FormatError, HostError, UsageError
from windowsfilter.layers import durable
from windowsfilter.layers.chains import RECORD_FILE, ChainRecord
from windowsfilter.ntfs import upcase

log = logging.getLogger(__name__)

IMAGE_FILE = "image"
MAX_DEPTH = 8
"""Images in one stack. Deeper ones are replaced by one image: every level costs each lookup."""

_COPY_BYTES = 1 << 20
_DEVICE_NAMES = ("blob", "spill")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image and the files it points into, in the order in which the kernel wants them."""

    key: str
    path: Path
    devices: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class ChainImage:
    """What shows a chain: images to be stacked, the topmost first."""

    images: tuple[ImageFile, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Folders of `chains/` that must stay while this is in use."""
        return tuple(image.key for image in self.images)


class ChainImages:
    """The folder `chains/` of one store. Safe between processes if `lock` is."""

    def __init__(
        self,
        folder: Path,
        *,
        staging: Callable[[str], Path],
        lock: Callable[[str], AbstractContextManager[object]],
        profile: Profile = Profile.FULL,
    ) -> None:
        """`staging(purpose)` makes an empty folder on the same file system; `lock(key)` excludes
        others from making or removing that image.
        """
        self.folder = folder
        self._staging = staging
        self._lock = lock
        self._profile = profile

    def get(
        self,
        layers: Sequence[LayerBlob],
        *,
        tree: Callable[[], Tree] | None = None,
        private: bool = True,
    ) -> ChainImage:
        """The images of a chain (base first), made where they are missing.

        `tree` gives the chain's merged tree if somebody has it already; it is only asked when an
        image of the whole chain must be made. `private` images let only their owner in.
        Raises HostError if they cannot be written, LimitExceeded for what EROFS cannot hold.
        """
        if not layers:
            raise UsageError("a chain has at least one layer")
        diff_ids = [layer.diff_id for layer in layers]
        found = self.find(layers, private=private)
        if found is None:
            found = self._extend(layers, private=private)
        if found is None:
            whole = tree if tree is not None else lambda: Tree(layers)
            self._make(
                self.key(diff_ids, private=private),
                layers,
                lambda: ShownTree(whole()),
                lowers=(),
                private=private,
            )
            found = self.find(layers, private=private)
        if found is None:
            raise HostError(errno.EIO, f"chain image of {diff_ids[-1]}: gone as soon as made")
        return found

    def find(self, layers: Sequence[LayerBlob], *, private: bool = True) -> ChainImage | None:
        """The images of a chain if all are there and look right."""
        diff_ids = [layer.diff_id for layer in layers]
        for delta in (False, True):
            key = self.key(diff_ids, private=private, delta=delta)
            found = self._stack(key, layers)
            if found is not None:
                return found
        return None

    def key(self, diff_ids: Sequence[DiffID], *, private: bool = True, delta: bool = False) -> str:
        """The name of a chain's image: of the whole chain, or of its last layer over the rest."""
        rules = [
            f"format {erofs_writer.FORMAT_VERSION}",
            f"metadata {shown_metadata.VERSION}",
            f"upcase {upcase.VERSION}",
            f"aliases {aliases.VERSION}",
            f"links {links.VERSION}",
            f"profile {self._profile.value}",
            "private" if private else "shared",
            f"delta {erofs_delta.VERSION}" if delta else "whole",
        ]
        return hashlib.sha256("\n".join([*rules, *diff_ids]).encode()).hexdigest()

    def verify(self, key: str) -> str | None:
        """What is wrong with an image, byte for byte; None if nothing is."""
        place = self.folder / key
        try:
            record = ChainRecord.parse((place / RECORD_FILE).read_bytes(), str(place))
            wanted = record.extra.get("sha256")
            found = _digest(place / IMAGE_FILE)
        except (OSError, FormatError) as error:
            return str(error)
        return None if found == wanted else f"{place / IMAGE_FILE}: {found} instead of {wanted}"

    def discard(self, key: str) -> None:
        """Remove an image, so that the next `get` makes it again."""
        with self._lock(key), durable.host_errors(f"remove chain image {key}"):
            self._remove(self.folder / key)

    def repair(self, image: ChainImage) -> bool:
        """Remove what `verify` finds wrong with these images; whether there was anything."""
        damaged = [key for key in image.keys if self.verify(key) is not None]
        for key in damaged:
            log.warning("chain image %s is damaged; making it again", key)
            self.discard(key)
        return bool(damaged)

    # -- looking ------------------------------------------------------------------------------

    def _stack(self, key: str, layers: Sequence[LayerBlob]) -> ChainImage | None:
        """The image with this key and those it is stacked on."""
        record = self._record(key)
        if record is None or len(record.lowers) >= MAX_DEPTH:
            return None
        images = []
        for each in (key, *record.lowers):
            found = self._image(each, layers)
            if found is None:
                return None
            images.append(found)
        return ChainImage(tuple(images))

    def _record(self, key: str) -> ChainRecord | None:
        place = self.folder / key / RECORD_FILE
        try:
            return ChainRecord.parse(place.read_bytes(), str(place))
        except FileNotFoundError:
            return None
        except (OSError, FormatError) as error:
            log.warning("%s: %s", place, error)
            return None

    def _image(self, key: str, layers: Sequence[LayerBlob]) -> ImageFile | None:
        """One image, if its file is what its record says, as far as a glance shows."""
        record = self._record(key)
        if record is None or record.key != key:
            return None
        path = self.folder / key / IMAGE_FILE
        try:
            whole = path.stat().st_size == record.extra.get("size")
            devices = _device_paths(record.extra.get("devices"), layers)
            with ErofsImage(path) as image:
                whole = whole and image.super.uuid == _uuid(key)
                whole = whole and len(image.devices) == len(devices)
        except (OSError, FormatError) as error:
            log.warning("chain image %s: %s", key, error)
            return None
        if not whole:
            log.warning("chain image %s is not what its record says", key)
            return None
        return ImageFile(key, path, devices)

    # -- making -------------------------------------------------------------------------------

    def _extend(self, layers: Sequence[LayerBlob], *, private: bool) -> ChainImage | None:
        """Delta images from the nearest layer below that has images, if that is worthwhile."""
        below, found, entries = len(layers), None, 0
        while found is None:
            below -= 1
            entries += layers[below].manifest.entries
            if not below or entries > erofs_delta.MAX_ENTRIES or len(layers) - below >= MAX_DEPTH:
                return None
            found = self.find(layers[:below], private=private)
        if len(found.images) + len(layers) - below > MAX_DEPTH:
            return None
        for count in range(below + 1, len(layers) + 1):
            found = self._add_delta(layers[:count], found, private=private)
            if found is None:
                return None
        return found

    def _add_delta(
        self, layers: Sequence[LayerBlob], parent: ChainImage, *, private: bool
    ) -> ChainImage | None:
        base = self._record(parent.images[-1].key)
        if base is None or base.extra.get("dangling"):
            return None
        key = self.key([layer.diff_id for layer in layers], private=private, delta=True)
        with ExitStack() as stack:
            try:
                images = [stack.enter_context(ErofsImage(each.path)) for each in parent.images]
                delta = make_delta(layers, ImageStack(images))
            except FormatError as error:
                # The parent's image is damaged beyond what a glance shows.
                log.warning("chain image %s: %s", parent.keys[0], error)
                return None
            if delta is None:
                return None
            self._make(key, layers, lambda: delta, lowers=parent.keys, private=private)
        return self._stack(key, layers)

    def _make(
        self,
        key: str,
        layers: Sequence[LayerBlob],
        source: Callable[[], Source],
        *,
        lowers: tuple[str, ...],
        private: bool,
    ) -> None:
        """Write one image durably, unless another process was faster."""
        with self._lock(key), durable.host_errors(f"make chain image {key}"):
            if self._stack(key, layers) is not None:
                return
            working = self._staging("image")
            try:
                made = source()
                path = working / IMAGE_FILE
                with path.open("xb") as out:
                    path.chmod(durable.FILE_MODE)
                    info = write_image(
                        made, out, uuid=_uuid(key), profile=self._profile, private=private
                    )
                record = ChainRecord(
                    key=key,
                    chain_id=chain_id([layer.diff_id for layer in layers]),
                    lowers=lowers,
                    extra={
                        "size": info.size,
                        "sha256": _digest(path),
                        "inodes": info.inodes,
                        "devices": _described(info, layers),
                        "dangling": isinstance(made, ShownTree) and made.has_dangling,
                    },
                )
                durable.sync_file(path)
                durable.write_new(working / RECORD_FILE, record.build())
                self._publish(working, key)
            finally:
                durable.delete_tree(working)

    def _publish(self, working: Path, key: str) -> None:
        place = self.folder / key
        self._remove(place)  # damaged, or stacked on what is gone
        durable.publish(working, place)

    def _remove(self, place: Path) -> None:
        trash = self._staging("image")
        try:
            if durable.take_away(place, trash) is not None:
                durable.sync_folder(self.folder)
        finally:
            durable.delete_tree(trash)


def _uuid(key: str) -> bytes:
    return bytes.fromhex(key)[:16]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return str(Digest.from_hex(hashlib.file_digest(file, "sha256").hexdigest()))


def _described(info: ImageInfo, layers: Sequence[LayerBlob]) -> list[dict[str, object]]:
    return [
        {
            "layer": data.layer,
            "diff_id": layers[data.layer].diff_id,
            "file": _DEVICE_NAMES[data.device],
        }
        for data in info.devices
    ]


def _device_paths(described: object, layers: Sequence[LayerBlob]) -> tuple[Path, ...]:
    """Where the files of a record are. Raises FormatError for other layers than these."""
    if not isinstance(described, list):
        raise FormatError("record without devices")
    paths = []
    for each in described:
        try:
            layer = layers[each["layer"]]
            data = Data(each["layer"], _DEVICE_NAMES.index(each["file"]))
            right = each["diff_id"] == layer.diff_id
        except (LookupError, TypeError, ValueError) as error:
            raise FormatError(f"record with the device {str(each)[:200]}") from error
        if not right:
            raise FormatError(f"record of another chain: {each['diff_id']}")
        paths.append(layer.directory / _DEVICE_NAMES[data.device])
    return tuple(paths)
