"""What a name of a scratch is now: its metadata and, of a link, its target. For the export and the editor."""

from __future__ import annotations

import stat

from windowsfilter.engines.portable.scratch.below import Below
from windowsfilter.engines.portable.scratch.links import windows_target
from windowsfilter.engines.portable.scratch.merge import Merged
from windowsfilter.engines.portable.scratch.metadata import Metadata, MetadataOf
from windowsfilter.engines.portable.scratch.upper import UpperDirectory, UpperKind
from windowsfilter.engines.portable.scratch.view import ScratchView
from windowsfilter.ntfs import filetime


class Described:
    """Describes the names of one scratch, whose upper directory is `root`."""

    def __init__(self, below: Below, root: UpperDirectory, view: ScratchView) -> None:
        self._below = below
        self._root = root
        self._view = view
        self.metadata = MetadataOf(below, root.namespace, (root.stat.st_uid, root.stat.st_gid))

    def of(
        self, merged: Merged, path: bytes, parent: Metadata, *, data_changed: bool = False
    ) -> Metadata:
        """The metadata of a name in a directory with `parent`'s. Its upper directory must be open.

        Raises ScratchRefused, naming it, for what cannot be in a Windows layer.
        """
        entry, origin = merged.upper, merged.origin
        if origin is not None and self._below.tree.ref(origin) is not None:
            place = merged.place
            sparse = data_changed and entry is not None and entry.kind is UpperKind.FILE
            if sparse:
                assert place is not None and entry is not None
                sparse = place.is_sparse(entry)
            return self.metadata.of_origin(
                origin, entry, path=path, data_changed=data_changed, sparse=sparse
            )
        if entry is not None and origin is None:
            assert merged.place is not None
            link = entry.kind is UpperKind.SYMLINK and self._view.leads_to_directory(
                path, self.target(merged, path)[0]
            )
            return self.metadata.of_new(entry, merged.place, parent, directory_link=link)
        return self.metadata.implied(parent, path, entry)

    def of_root(self, write: int | None = None) -> Metadata:
        """What stands for the layer's root, which is no entry: a directory written at `write`."""
        if write is None:
            write = filetime.from_unix_ns(self._root.stat.st_mtime_ns)
        return Metadata(mode=stat.S_IFDIR, uid=0, gid=0, write=write, access=write, change=write)

    def target(self, merged: Merged, path: bytes) -> tuple[bytes, bool]:
        """A link's Windows target, and whether it was made in the scratch."""
        shown = self._below.shown
        if merged.upper is None:
            assert merged.origin is not None
            return shown.target(merged.origin) or b"", False
        assert merged.place is not None
        target = merged.place.readlink(merged.upper)
        if merged.origin is not None and shown.readlink(merged.origin) == target:
            return shown.target(merged.origin) or b"", False
        return windows_target(target, path), True
