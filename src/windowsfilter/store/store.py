"""The store: the one object a program opens. What it can do is spread over modules by subject."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from windowsfilter.digests import Digest
from windowsfilter.engines.portable.import_terms import DEFAULT_LIMITS, Limits
from windowsfilter.errors import FormatError, ImageNotFound, LayerNotFound, UsageError
from windowsfilter.images import references
from windowsfilter.layers.manifest import LayerState
from windowsfilter.store.core import Core, Progress
from windowsfilter.store.garbage import Removed
from windowsfilter.store.image import Image
from windowsfilter.store.layer import Layer
from windowsfilter.store.layout import FORMAT

# What only some methods need is imported by them: a command that reads one file should not wait
# for the modules that load, save, mount and change.
if TYPE_CHECKING:
    from windowsfilter.store.mounts import Mount
    from windowsfilter.store.scratch import Scratch
    from windowsfilter.store.usage import Usage

SYSTEM_ROOT = Path("/var/lib/windowsfilter")
# Shorter prefixes of ids would soon name something else.
MIN_PREFIX = 4

Source = str | os.PathLike[str] | BinaryIO


class Store:
    """Images, layers and scratches under one folder.

    A context manager. Safe to use from several threads, and several processes may have the same
    store open. Reading the environment is left to programs: without `root` it is
    /var/lib/windowsfilter.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        create: bool = True,
        mount_engine: str | None = None,
    ) -> None:
        """Open the store at `root`; made if it is missing, unless `create` is false.

        `mount_engine` forces one of the engines that `info` lists. Raises UsageError for a folder
        that is no store (or of a newer program), HostError for one that is somebody else's.
        """
        self.core = Core(Path(root or SYSTEM_ROOT), create=create, mount_engine=mount_engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store; may be called twice. Mounts stay."""
        self.core.close()

    @property
    def root(self) -> Path:
        return self.core.layout.root

    # -- images -------------------------------------------------------------------------------

    def load(
        self,
        source: Source,
        *,
        platform: str | None = None,
        verify: bool = True,
        keep_compressed: bool = False,
        limits: Limits = DEFAULT_LIMITS,
        tags: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> Image:
        """Load the one image that `source` holds; see `load_all`. Raises UsageError for several."""
        found = self.load_all(
            source,
            platform=platform,
            verify=verify,
            keep_compressed=keep_compressed,
            limits=limits,
            tags=tags,
            progress=progress,
        )
        if len(found) != 1:
            raise UsageError(f"load: the source holds {len(found)} images, use load_all")
        return found[0]

    def load_all(
        self,
        source: Source,
        *,
        platform: str | None = None,
        verify: bool = True,
        keep_compressed: bool = False,
        limits: Limits = DEFAULT_LIMITS,
        tags: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> list[Image]:
        """Load all images of an OCI layout or docker archive (path or binary stream).

        `platform`, as in `windows/amd64,osver=10.0.20348`, chooses from indexes; by default the
        newest Windows. `verify=False` accepts layers that are not what digests and config say, and Windows metadata
        that cannot be used (`Image.problems` lists it).
        `keep_compressed` keeps the compressed bytes, so that a saved manifest has its old digest.
        `tags` are given in addition to those of the source, which must then hold one image.

        Raises FormatError for what is no image or a damaged one, UsageError if nothing fits
        `platform`, HostError if the machine fails. Each image is stored whole or not at all.
        """
        from windowsfilter.images.platforms import Platform
        from windowsfilter.images.sources import open_source
        from windowsfilter.store.loading import LoadOptions, load_image

        options = LoadOptions(
            verify=verify, keep_compressed=keep_compressed, limits=limits, tags=tuple(tags)
        )
        wanted = Platform.parse(platform) if platform else None
        with (
            self.core.staging.temporary("load") as spool,
            open_source(
                source,
                platform=wanted,
                spool_dir=spool,
                verify=verify,
                max_ratio=limits.max_ratio,
            ) as opened,
        ):
            if not opened.images:
                passed = "; ".join(opened.passed_over)
                raise FormatError(f"load: the {opened.kind} holds no image ({passed or 'empty'})")
            if tags and len(opened.images) > 1:
                raise UsageError("load: a tag can be given to one image only, and there are more")
            return [
                Image(self.core, load_image(self.core, image, options, progress))
                for image in opened.images
            ]

    def images(self) -> list[Image]:
        """All images, the newest first."""
        records = sorted(self.core.catalog.images(), key=lambda record: -record.created)
        return [Image(self.core, record) for record in records]

    def image(self, name: str) -> Image:
        """The image with this tag, id, or unique beginning of an id. Raises ImageNotFound."""
        return Image(self.core, self.core.catalog.image(self._image_id(name)))

    def tag(self, name: str, reference: str) -> None:
        """Give an image another tag, taking it from the image that has it."""
        self.core.images.tag(self._image_id(name), [references.normalise(reference)])

    def remove_image(self, name: str, *, force: bool = False) -> Removed:
        """Take a tag away, or remove an image with all layers that nothing else needs.

        A tag of an image that has others only goes itself. Raises ImageNotFound, or LayerInUse
        naming who needs the image (`force` removes it all the same and keeps needed layers).
        """
        from windowsfilter.store import mounts

        self.core.forget_chains()
        mounts.forget_vanished(self.core)
        garbage = self.core.garbage
        if self._is_tag(name):
            reference = references.normalise(name)
            image_id = self._image_id(name)
            removed = garbage.remove_image(image_id, force=force, tags=[reference])
            if not removed.items:  # it has other tags
                self.core.images.untag(reference)
            return removed
        image_id = self._image_id(name)
        tags = self.core.catalog.tags_of(image_id)
        if len(tags) > 1 and not force:
            raise UsageError(f"remove image {name}: it has the tags {', '.join(tags)}; use force")
        return garbage.remove_image(image_id, force=force)

    def save(
        self,
        names: Sequence[str],
        target: str | os.PathLike[str] | BinaryIO,
        *,
        format: str = "oci",
        compression: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Write images to a file, a binary stream, or (`oci` and a trailing slash) a directory.

        `format` is `oci` or `docker`; `compression` is `none`, `gzip` or `zstd`, by default kept
        compressed bytes as they came and gzip for the rest. An image named by a tag is written
        with that tag, one named by id with all its tags. Nothing is left at `target` on errors.
        """
        from windowsfilter.store.saving import save_images

        images = []
        for name in names:
            record = self.core.catalog.image(self._image_id(name))
            tags = self.core.catalog.tags_of(record.id)
            chosen = (references.normalise(name),) if self._is_tag(name) else tuple(sorted(tags))
            images.append((record, chosen))
        path = Path(target) if isinstance(target, str | os.PathLike) else target
        directory = isinstance(target, str | os.PathLike) and os.fspath(target).endswith(os.sep)
        save_images(
            self.core,
            images,
            path,
            format=format,
            directory=directory,
            compression=compression,
            progress=progress,
        )

    def _is_tag(self, name: str) -> bool:
        try:
            return self.core.catalog.tag_owner(references.normalise(name)) is not None
        except UsageError:
            return False

    def _image_id(self, name: str) -> Digest:
        catalog = self.core.catalog
        digits = name.removeprefix("sha256:")
        is_hex = len(digits) >= MIN_PREFIX and not digits.strip("0123456789abcdef")
        found = catalog.image_ids_starting(digits) if is_hex and len(digits) <= 64 else []
        if len(digits) == 64 and found:
            return found[0]
        if not name.startswith("sha256:"):
            try:
                owner = catalog.tag_owner(references.normalise(name))
            except UsageError:
                owner = None
                if not is_hex:
                    raise
            if owner is not None:
                return owner[0]
        if len(found) > 1:
            raise ImageNotFound(f"image {name!r}: several ids begin like that")
        if not found:
            raise ImageNotFound(f"image {name!r}: there is none")
        return found[0]

    # -- scratches ----------------------------------------------------------------------------

    def create_scratch(self, name: str, image: str | Image) -> Scratch:
        """A writable layer over an image. Raises AlreadyExists, ImageNotFound."""
        from windowsfilter.store.scratch import create_scratch

        found = self.image(image) if isinstance(image, str) else image
        return create_scratch(self.core, name, found)

    def scratch(self, name: str) -> Scratch:
        """The scratch of that name or id. Raises ScratchNotFound."""
        from windowsfilter.store.scratch import find_scratch

        return find_scratch(self.core, name)

    def scratches(self) -> list[Scratch]:
        """All scratches, the newest first."""
        from windowsfilter.store.scratch import Scratch

        found = self.core.catalog.layers(LayerState.SCRATCH)
        newest = sorted(found, key=lambda scratch: -scratch.created)
        return [Scratch(self.core, manifest) for manifest in newest]

    def remove_scratch(self, name: str) -> Removed:
        """Remove a scratch and what was written into it. Raises LayerInUse while it is mounted."""
        from windowsfilter.store.scratch import remove_scratch

        return remove_scratch(self.core, name)

    # -- mounts -------------------------------------------------------------------------------

    def mounts(self) -> list[Mount]:
        """Everything that is mounted from this store."""
        from windowsfilter.store import mounts

        mounts.forget_vanished(self.core)
        return mounts.list_mounts(self.core)

    def unmount(self, target: str | os.PathLike[str], *, lazy: bool = False) -> None:
        """Take a mount away; `lazy` leaves it to those who use it. Raises UsageError for others'."""
        from windowsfilter.store import mounts

        mounts.unmount(self.core, Path(target), lazy=lazy)

    # -- the whole ----------------------------------------------------------------------------

    def prune(self, *, dry_run: bool = False, untagged: bool = False) -> Removed:
        """Remove what nothing needs: layers, blobs, EROFS images, leftovers of crashes.

        With `untagged` also images without a tag. `dry_run` only says what would go.
        """
        from windowsfilter.store import mounts

        self.core.forget_chains()
        mounts.forget_vanished(self.core)
        garbage = self.core.garbage
        if dry_run:
            return garbage.plan(untagged_images=untagged)
        return garbage.prune(untagged_images=untagged)

    def info(self) -> dict[str, Any]:
        """What this store and this machine are: root, format, mount engines, counts."""
        from importlib.metadata import version

        core = self.core
        engines = core.mount_engines.available
        return {
            "version": version("windowsfilter"),
            "root": str(self.root),
            "uuid": core.layout.uuid,
            "format": FORMAT,
            "mount": {
                "chosen": core.mount_engines.chosen.name,
                "available": [name for name, reason in engines.items() if reason is None],
                "unavailable": {name: reason for name, reason in engines.items() if reason},
            },
            "images": len(core.catalog.images()),
            "layers": len([item for item in core.catalog.layers() if item.diff_id]),
            "scratches": len(core.catalog.layers(LayerState.SCRATCH)),
            "mounts": len(self.mounts()),
            "problems": core.reconciled.problems,
        }

    def usage(self) -> Usage:
        """What occupies the disk."""
        from windowsfilter.store.usage import measure

        return measure(self.core)

    # -- layers -------------------------------------------------------------------------------

    def layers(self) -> list[Layer]:
        """All layers, scratches included, the newest first."""
        manifests = sorted(self.core.catalog.layers(), key=lambda layer: -layer.created)
        return [Layer(self.core, manifest) for manifest in manifests]

    def layer(self, name: str) -> Layer:
        """The layer with this id, alias, or unique beginning of an id. Raises LayerNotFound."""
        catalog = self.core.catalog
        found = catalog.find_layer(catalog.resolve(name))
        if found is None and len(name) >= MIN_PREFIX:
            starting = catalog.layer_ids_starting(name)
            if len(starting) > 1:
                raise LayerNotFound(f"layer {name!r}: several ids begin like that")
            found = catalog.find_layer(starting[0]) if starting else None
        if found is None:
            raise LayerNotFound(f"layer {name!r}: there is none")
        return Layer(self.core, found)
