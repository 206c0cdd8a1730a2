r"""A scratch as users of the library see it: the writable layer over an image.

It is changed through a mount (`mount`, as root) or through the methods here, which need neither root
nor a mount; both leave the same marks and give the same layer. Paths are those of the volume
(`C:\x`, any case, either separator) unless they begin with another top directory in `view` layer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from windowsfilter.digests import Digest
from windowsfilter.engines.portable.changes import Change
from windowsfilter.engines.portable.scratch import changes as scratch_changes
from windowsfilter.engines.portable.scratch import choices
from windowsfilter.engines.portable.scratch import export as scratch_export
from windowsfilter.engines.portable.scratch.edit import ScratchEditor, editing
from windowsfilter.engines.portable.scratch.set_metadata import Choice
from windowsfilter.engines.portable.view import View
from windowsfilter.errors import AlreadyExists, LayerInUse, ScratchNotFound, UsageError
from windowsfilter.layers.ids import is_id, random_id
from windowsfilter.layers.manifest import LayerManifest, LayerState, Owner
from windowsfilter.ntfs.basic_info import BasicInfo
from windowsfilter.ntfs.security import SecurityDescriptor
from windowsfilter.ntfs.sids import Sid
from windowsfilter.store import committing, mounts
from windowsfilter.store.chain import Chain
from windowsfilter.store.core import Core
from windowsfilter.store.garbage import Removed
from windowsfilter.store.holds import HoldKind
from windowsfilter.store.image import Image
from windowsfilter.store.mounts import Mount
from windowsfilter.store.paths import parse_text


class Scratch:
    """One scratch of the store. Valid while the store is open and the scratch exists."""

    def __init__(self, core: Core, manifest: LayerManifest) -> None:
        self._core = core
        self.manifest = manifest

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def name(self) -> str:
        return self.manifest.name or self.id

    @property
    def image(self) -> Digest | None:
        """Id of the image it was made from."""
        return self.manifest.image

    @property
    def created(self) -> int:
        """Nanoseconds since 1970."""
        return self.manifest.created

    @property
    def upper(self) -> Path:
        """Where overlayfs keeps what was changed."""
        return self._core.layout.layer(self.id) / "upper"

    @property
    def work(self) -> Path:
        """The directory that overlayfs needs beside `upper`."""
        return self._core.layout.layer(self.id) / "work"

    @property
    def layers(self) -> list[str]:
        """Ids of the layers below, base first."""
        return [layer.id for layer in reversed(self._core.catalog.chain(self.id)[1:])]

    @property
    def chain(self) -> Chain:
        """The layers below, opened."""
        return self._core.chain(self.layers)

    # -- what it is ---------------------------------------------------------------------------

    def changes(self) -> list[Change]:
        """What it adds, modifies and deletes. Raises ScratchRefused for what no layer can hold."""
        with self._locked(), self._held("changes"):
            return scratch_changes.changes(self.chain.tree, self.upper)

    @contextmanager
    def diff(self) -> Iterator[BinaryIO]:
        """The layer tar that a commit would store. Reading raises what `commit` raises."""
        with self._locked(), self._held("diff"), committing.exported(self._export) as stream:
            yield stream

    def commit(self, tag: str | None = None, *, created_by: str = "windowsfilter commit") -> Image:
        """Make a layer of it and an image with that layer on top; the scratch stays as it is.

        Raises ScratchRefused, naming it, for what cannot be in a Windows layer, and HostError for
        a file that changes meanwhile. Nothing is left of a commit that fails.
        """
        record = committing.commit(
            self._core,
            self.manifest,
            self._export,
            tag,
            locked=self._locked,
            created_by=created_by,
        )
        return Image(self._core, record)

    def _export(self, out: BinaryIO) -> None:
        scratch_export.export(self.chain.tree, self.upper, out)

    # -- mounting -----------------------------------------------------------------------------

    def mount(self, target: str | os.PathLike[str], *, view: View | str = View.VOLUME) -> Mount:
        """Show it at an existing directory, writable, until `unmount`. Needs root.

        Raises UsageError if it is mounted already, HostError where overlayfs cannot be used.
        """
        manifest = self._core.catalog.layer(self.id)
        return mounts.mount_scratch(self._core, manifest, Path(target), View(view))

    def unmount(self, *, lazy: bool = False) -> None:
        """Take its mount away. Raises UsageError if it is not mounted, HostError if it is busy."""
        found = self.mounts
        if not found:
            raise UsageError(f"unmount scratch {self.name}: it is not mounted")
        for mount in found:
            mounts.unmount(self._core, mount.path, lazy=lazy)

    @property
    def mounts(self) -> list[Mount]:
        """Where it is mounted: one place or none."""
        return mounts.mounts_of(self._core, self.id)

    # -- changing it without a mount ----------------------------------------------------------

    def exists(self, path: str, *, view: View | str = View.VOLUME) -> bool:
        """Whether there is a file, directory or link at the path."""
        with self._editing() as editor:
            return editor.exists(_name(path, view))

    def listdir(self, path: str = "", *, view: View | str = View.VOLUME) -> list[str]:
        """The names in a directory, sorted."""
        with self._editing() as editor:
            names = editor.listdir(_name(path, view))
        return [name.decode("utf-8", "surrogatepass") for name in names]

    def read_bytes(self, path: str, *, view: View | str = View.VOLUME) -> bytes:
        """The content of a file, or of a stream `file:stream`."""
        with self._editing() as editor:
            return b"".join(editor.read(_name(path, view)))

    def write_bytes(
        self, path: str, data: bytes | Iterable[bytes], *, view: View | str = View.VOLUME
    ) -> None:
        """Give a file (or stream `file:stream`) this content; it is made if it is missing."""
        with self._editing(change=True) as editor:
            editor.write(_name(path, view), data)

    def mkdir(
        self,
        path: str,
        *,
        parents: bool = False,
        exist_ok: bool = False,
        view: View | str = View.VOLUME,
    ) -> None:
        """Make a directory, with `parents` also those above it."""
        with self._editing(change=True) as editor:
            editor.mkdir(_name(path, view), parents=parents, exist_ok=exist_ok)

    def remove(self, path: str, *, recursive: bool = False, view: View | str = View.VOLUME) -> None:
        """Delete a file, link, stream, or directory (empty, or with `recursive` all of it)."""
        with self._editing(change=True) as editor:
            editor.remove(_name(path, view), recursive=recursive)

    def rename(
        self, path: str, to: str, *, replace: bool = False, view: View | str = View.VOLUME
    ) -> None:
        """Move something, metadata and streams with it; `replace` overwrites a file."""
        with self._editing(change=True) as editor:
            editor.rename(_name(path, view), _name(to, view), replace=replace)

    def symlink(self, path: str, target: str, *, view: View | str = View.VOLUME) -> None:
        r"""Make a symbolic link to a Windows target (`..\x`, `C:\x`)."""
        with self._editing(change=True) as editor:
            editor.symlink(_name(path, view), target.encode("utf-8", "surrogatepass"))

    def link(self, path: str, existing: str, *, view: View | str = View.VOLUME) -> None:
        """Give an existing file one more name."""
        with self._editing(change=True) as editor:
            editor.link(_name(path, view), _name(existing, view))

    # -- its metadata -------------------------------------------------------------------------

    def security(self, path: str, *, view: View | str = View.VOLUME) -> SecurityDescriptor | None:
        """The security descriptor that an entry has now, that of a new one as it will inherit it.

        Raises ScratchRefused, naming it, for one that cannot be used.
        """
        with self._editing() as editor:
            return choices.descriptor_of(editor.metadata.look(_name(path, view)))

    def basic_info(self, path: str, *, view: View | str = View.VOLUME) -> BasicInfo:
        """The four times, FILETIME each, and the attributes that an entry has now."""
        with self._editing() as editor:
            return choices.basic_info(editor.metadata.look(_name(path, view)).metadata)

    def set_security(
        self,
        path: str,
        descriptor: SecurityDescriptor | str | None = None,
        *,
        inherited: bool = False,
        owner: Sid | str | None = None,
        group: Sid | str | None = None,
        domain: Sid | str | None = None,
        recursive: bool = False,
        view: View | str = View.VOLUME,
    ) -> None:
        """Give an entry a security descriptor: a whole one, as an object or in SDDL, or with
        `inherited` what it would get if it were made in its directory now. Without either, only
        `owner` and `group` change.

        `domain` is what aliases such as `DA` stand below. Raises UsageError for what is no SDDL.
        """
        if descriptor is not None and inherited:
            raise UsageError("set security: either a descriptor or an inherited one")
        choice = choices.security(
            choices.parse_descriptor(descriptor, domain),
            inherited=inherited,
            owner=choices.parse_sid(owner, domain),
            group=choices.parse_sid(group, domain),
        )
        self._set_metadata(path, choice, recursive=recursive, view=view)

    def set_attributes(
        self,
        path: str,
        *,
        add: int = 0,
        remove: int = 0,
        recursive: bool = False,
        view: View | str = View.VOLUME,
    ) -> None:
        """Set and clear attributes of an entry: `ntfs.attributes.SETTABLE`, others are refused."""
        choice = choices.attributes(add, remove)
        self._set_metadata(path, choice, recursive=recursive, view=view)

    def set_times(
        self,
        path: str,
        *,
        creation: int | None = None,
        access: int | None = None,
        write: int | None = None,
        change: int | None = None,
        create: bool = False,
        recursive: bool = False,
        view: View | str = View.VOLUME,
    ) -> None:
        """Set times of an entry, FILETIME each. `create` makes an empty file if nothing is there."""
        choice = choices.times(creation=creation, access=access, write=write, change=change)
        with self._editing(change=True) as editor:
            name = _name(path, view)
            if create and b":" not in name and not editor.exists(name):
                editor.write(name, b"")
            editor.metadata.change(name, choice, recursive=recursive)

    def _set_metadata(
        self, path: str, choice: Choice, *, recursive: bool, view: View | str
    ) -> None:
        with self._editing(change=True) as editor:
            editor.metadata.change(_name(path, view), choice, recursive=recursive)

    @contextmanager
    def _editing(self, *, change: bool = False) -> Iterator[ScratchEditor]:
        with self._locked(), self._held("edit"):
            mounted = self.mounts
            if change and mounted:
                raise LayerInUse(
                    f"change scratch {self.name}: it is mounted at {mounted[0].path}; "
                    "change it there, or unmount it first"
                )
            with editing(self.chain.tree, self.upper) as editor:
                yield editor

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One change, export or mount of a scratch at a time, across processes."""
        with self._core.locks.held(f"layer:{self.id}"):
            yield

    @contextmanager
    def _held(self, purpose: str) -> Iterator[None]:
        objects = [(HoldKind.LAYER, layer) for layer in self.layers]
        with self._core.holds.held(objects, purpose):
            yield

    def __repr__(self) -> str:
        return f"<Scratch {self.name} {self.id[:12]}>"


def create_scratch(core: Core, name: str, image: Image) -> Scratch:
    """A new, empty scratch over an image. Raises AlreadyExists, UsageError for a bad name."""
    if not is_id(name):
        raise UsageError(f"create scratch {name!r}: use letters, digits, `_`, `.` and `-`")
    top = image.record.layers[-1] if image.record.layers else None
    if top is None:
        raise UsageError(f"create scratch {name}: image {image.id} has no layers")
    objects = [(HoldKind.LAYER, layer) for layer in image.record.layers]
    with core.holds.held(objects, f"creation of {name}"), core.locks.held(f"name:{name}"):
        if core.catalog.scratch(name) is not None:
            raise AlreadyExists(f"create scratch {name}: there is one")
        manifest = LayerManifest(
            id=random_id(),
            state=LayerState.SCRATCH,
            owner=Owner.USER,
            created=time.time_ns(),
            parent=top,
            name=name,
            image=image.id,
        )
        with core.locks.held(f"layer:{manifest.id}"):
            core.layers.add(manifest, fill=_make_directories)
    return Scratch(core, manifest)


def find_scratch(core: Core, name: str) -> Scratch:
    """The scratch of that name or id. Raises ScratchNotFound."""
    manifest = core.catalog.scratch(name)
    if manifest is None:
        found = core.catalog.find_layer(name)
        manifest = found if found and found.state is LayerState.SCRATCH else None
    if manifest is None:
        raise ScratchNotFound(f"scratch {name!r}: there is none")
    return Scratch(core, manifest)


def remove_scratch(core: Core, name: str) -> Removed:
    """Remove a scratch with all that was written into it. Raises LayerInUse while it is mounted."""
    return core.garbage.remove_layer(find_scratch(core, name).id)


def _make_directories(folder: Path) -> None:
    # 0755, because the upper directory's mode is what a mount shows as its root's.
    (folder / "upper").mkdir(mode=0o755)
    (folder / "work").mkdir(mode=0o755)


def _name(path: str, view: View | str) -> bytes:
    """A path as layers spell it."""
    _, parts = parse_text(path)
    prefix = (b"Files",) if View(view) is View.VOLUME else ()
    return b"/".join((*prefix, *parts))
