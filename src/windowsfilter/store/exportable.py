"""What images and layers have in common: they can be exported as Windows volumes."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from windowsfilter.engines.portable.view import View
from windowsfilter.store.core import Core, Progress

if TYPE_CHECKING:
    from windowsfilter.store.exporting import Exported, Source


class Exportable(ABC):
    """Something that shows a chain of layers."""

    _core: Core

    @abstractmethod
    def _export_name(self) -> str:
        """What to call it in messages."""

    @abstractmethod
    def _export_layers(self) -> Sequence[str]:
        """Ids of its layers, base first."""

    def export_ntfs(
        self,
        target: str | os.PathLike[str],
        *,
        view: View | str = View.VOLUME,
        force: bool = False,
        skip_unsupported: bool = False,
        label: str | None = None,
        size: int | None = None,
        progress: Progress | None = None,
    ) -> Exported:
        """Make an NTFS volume of it, in a new file or over all of a block device.

        `force` is needed for a device, and replaces a file; a device in use or with data on it is
        refused all the same. What a volume cannot hold is refused, naming the entry, unless
        `skip_unsupported`: then it is left out and listed. `size` is that of a new file in bytes,
        by default what fits. Needs Linux, root and the programs of ntfs-3g. Raises UsageError,
        HostError; then there is no file, and nothing on the device that looks like a volume.
        """
        from windowsfilter.store import exporting

        return exporting.export_ntfs(
            self._core,
            self._source(view),
            Path(target),
            force=force,
            skip_unsupported=skip_unsupported,
            label=label,
            size=size,
            progress=progress,
        )

    def export_wim(
        self,
        target: str | os.PathLike[str],
        *,
        view: View | str = View.VOLUME,
        force: bool = False,
        skip_unsupported: bool = False,
        compression: str = "xpress",
        progress: Progress | None = None,
    ) -> Exported:
        """Write it to a WIM, by way of a temporary NTFS volume; needs wimlib's programs, too.

        `compression` is `none`, `xpress`, `lzx` or `lzms`. A WIM has no place for change times and
        extended attributes. Otherwise as `export_ntfs`.
        """
        from windowsfilter.store import exporting

        return exporting.export_wim(
            self._core,
            self._source(view),
            Path(target),
            force=force,
            skip_unsupported=skip_unsupported,
            compression=compression,
            progress=progress,
        )

    def _source(self, view: View | str) -> Source:
        from windowsfilter.store.exporting import Source

        layers = tuple(self._export_layers())
        return Source(name=self._export_name(), layers=layers, view=View(view))
