"""An image as users of the library see it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windowsfilter.digests import Digest
from windowsfilter.engines.portable.tree import Problem
from windowsfilter.engines.portable.view import View
from windowsfilter.store.core import Core
from windowsfilter.store.exportable import Exportable
from windowsfilter.store.images import ImageRecord
from windowsfilter.store.layer import Layer
from windowsfilter.store.paths import LayerPath

if TYPE_CHECKING:
    from windowsfilter.store.mounts import Mount


class Image(Exportable):
    """One image of the store. Valid while the store is open and the image exists."""

    def __init__(self, core: Core, record: ImageRecord) -> None:
        self._core = core
        self.record = record

    @property
    def id(self) -> Digest:
        """Digest of the image's config."""
        return self.record.id

    @property
    def references(self) -> tuple[str, ...]:
        """Its tags, sorted."""
        return tuple(sorted(self._core.catalog.tags_of(self.id)))

    @property
    def layers(self) -> list[Layer]:
        """Base layer first."""
        catalog = self._core.catalog
        return [Layer(self._core, catalog.layer(layer)) for layer in self.record.layers]

    @property
    def platform(self) -> Mapping[str, Any]:
        """`os`, `architecture`, `os.version`, ... as far as the image says."""
        return self.record.platform

    @property
    def created(self) -> int:
        """When it came into this store, nanoseconds since 1970."""
        return self.record.created

    @property
    def size(self) -> int:
        """Bytes of the uncompressed tars of all layers."""
        return sum(layer.size or 0 for layer in self.layers)

    @property
    def config(self) -> dict[str, Any]:
        """The image's config."""
        from windowsfilter.images import documents

        return documents.parse_config(self.config_bytes, what=f"config {self.id}").document

    @property
    def config_bytes(self) -> bytes:
        """The config, byte for byte."""
        return self._core.images.config(self.id)

    @property
    def manifest_bytes(self) -> bytes | None:
        """The image manifest as it came, if the image came with one."""
        return self._core.images.manifest(self.id)

    @property
    def problems(self) -> list[Problem]:
        """Entries that cannot be shown as what they claim to be: dangling links and the like."""
        return self._core.chain(self.record.layers).tree.problems

    def path(self, path: str = "", *, view: View | str = View.VOLUME) -> LayerPath:
        r"""A path in the image: of the volume (`C:\`) unless `view` says `layer`."""
        return LayerPath(self._core.chain(self.record.layers), View(view)) / path

    def layer_path(self, path: str = "") -> LayerPath:
        """A path from the root of the layers: `Files/...`, `Hives/...`."""
        return self.path(path, view=View.LAYER)

    def mount(
        self,
        target: str | os.PathLike[str],
        *,
        view: View | str = View.VOLUME,
        allow_other: bool = False,
    ) -> Mount:
        """Show the image at an existing directory, read-only, until `Store.unmount`.

        Only the caller's user sees the files unless `allow_other`. Raises HostError, with the
        reasons, on machines where nothing can be mounted.
        """
        from windowsfilter.store import mounts

        return mounts.mount_image(
            self._core, self.record, Path(target), View(view), allow_other=allow_other
        )

    def mounted(self, *, view: View | str = View.VOLUME) -> AbstractContextManager[Path]:
        """The image at a path of the system's choice, for the body of a `with` only."""
        from windowsfilter.store import mounts

        return mounts.image_mounted(self._core, self.record, View(view))

    def run(
        self,
        command: Sequence[str],
        target: str | os.PathLike[str],
        *,
        view: View | str = View.VOLUME,
    ) -> int:
        """Run a command that alone sees the image mounted at `target`; returns its exit code.

        Needs no root: the mount lives in a user namespace of its own and ends with the command.
        """
        from windowsfilter.store import mounts

        return mounts.run_with_image(self._core, self.record, command, Path(target), View(view))

    def _export_name(self) -> str:
        return self.references[0] if self.references else self.id.hex[:12]

    def _export_layers(self) -> Sequence[str]:
        return self.record.layers

    def __repr__(self) -> str:
        names = ", ".join(self.references) or "untagged"
        return f"<Image {self.id.hex[:12]} {names}>"
