"""Scratches for tests: a chain's tree, an upper directory, and an overlay mount where root may.

The lower of the mount is a plain folder that shows the tree as every mount does: aliases, link
targets, permissions, `trusted.windows.entry`. So these tests need no EROFS.
"""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.chains import Blobs, Entry
from windowsfilter.engines.portable.blobs import LayerBlob
from windowsfilter.engines.portable.chains import ChainImages
from windowsfilter.engines.portable.erofs.xattrs import ENTRY_VALUE
from windowsfilter.engines.portable.mounting import Access, KernelMounts, Upper, unmount
from windowsfilter.engines.portable.scratch.changes import changes
from windowsfilter.engines.portable.scratch.edit import ScratchEditor, editing
from windowsfilter.engines.portable.scratch.export import export
from windowsfilter.engines.portable.shown import ShownTree, permissions
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.engines.portable.view import View
from windowsfilter.ntfs import filetime
from windowsfilter.wire.tar import TarEntry, read_entries

OPTIONS = "redirect_dir=on,metacopy=off,index=off"


@dataclass
class TestScratch:
    """One scratch over a chain."""

    __test__ = False

    folder: Path
    blobs: Blobs
    tree: Tree
    namespace: str = "trusted."
    upper: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.upper = self.folder / "upper"
        self.upper.mkdir()

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """The layer view, writable through the kernel."""
        lower, work, place = (self.folder / name for name in ("lower", "work", "mount"))
        if not lower.exists():
            lower.mkdir()
            plant(self.tree, lower)
        work.mkdir(exist_ok=True)
        place.mkdir(exist_ok=True)
        options = f"lowerdir={lower},upperdir={self.upper},workdir={work},{OPTIONS}"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", place], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)

    @contextmanager
    def mounted_from_images(self, images: Path) -> Iterator[Path]:
        """The same over EROFS images, as scratches are really mounted; `images` keeps those."""
        layers = [layer for layer in self.tree.layers if isinstance(layer, LayerBlob)]
        chain_images = ChainImages(
            images, staging=lambda _: Path(tempfile.mkdtemp(dir=images.parent)), lock=_no_lock
        )
        chain_images.get(layers[:1])  # so that there is a delta image
        image = chain_images.get(layers)
        upper = Upper(self.upper, self.folder / "work")
        place = self.folder / "mount"
        for folder in (upper.work, place):
            folder.mkdir(exist_ok=True)
        KernelMounts(Access.FILE, self.folder / "run").mount_scratch(
            image, upper, place, view=View.LAYER, name="test"
        )
        try:
            yield place
        finally:
            unmount(place)

    @contextmanager
    def edited(self) -> Iterator[ScratchEditor]:
        with editing(self.tree, self.upper) as editor:
            yield editor

    def changes(self) -> list[tuple[str, str]]:
        return [
            (str(change.kind), os.fsdecode(change.path))
            for change in changes(self.tree, self.upper)
        ]

    def tar(self, latest: int | None = None) -> bytes:
        out = io.BytesIO()
        done = export(self.tree, self.upper, out, latest=latest)
        assert done.size == len(out.getvalue())
        return out.getvalue()

    def entries(self) -> list[tuple[TarEntry, bytes]]:
        """What the export has, with bodies."""
        return [(entry, body.read()) for entry, body in read_entries(io.BytesIO(self.tar()))]

    def names(self) -> list[str]:
        return [os.fsdecode(entry.name) for entry, _ in self.entries()]

    def entry(self, name: str) -> tuple[TarEntry, bytes]:
        [found] = [one for one in self.entries() if one[0].name == os.fsencode(name)]
        return found

    @contextmanager
    def committed(self) -> Iterator[Tree]:
        """The chain with the scratch as its topmost layer."""
        with self.blobs.add(self.tar()) as layer:
            yield Tree([*self.tree.layers, layer])

    def mark(self, path: str, name: str, value: bytes) -> None:
        """Set an attribute of an upper entry in the scratch's namespace."""
        os.setxattr(self.upper / path, self.namespace + name, value, follow_symlinks=False)

    def come_from(self, path: str, origin: str) -> None:
        """Mark an upper entry as copied up from a path of the tree."""
        slot = self.tree.lookup(os.fsencode(origin))
        assert slot is not None
        ref = self.tree.ref(self.tree.inode(slot))
        if ref is not None:  # an implied directory has none
            self.mark(path, "windows.entry", ENTRY_VALUE.pack(*ref))


@contextmanager
def _no_lock(_key: str) -> Iterator[None]:
    yield


@contextmanager
def scratch(folder: Path, *layers: Sequence[Entry]) -> Iterator[TestScratch]:
    """A scratch over these layers, the base first; everything below `folder`."""
    store = folder / "store"
    store.mkdir(parents=True, exist_ok=True)
    blobs = Blobs(store)
    namespace = "trusted." if os.geteuid() == 0 else "user."
    with blobs.tree(*layers) as tree:
        yield TestScratch(folder / "scratch", blobs, tree, namespace)


def plant(tree: Tree, folder: Path) -> None:
    """Make plain files of a tree, as a mount shows them. Root only, for the attributes."""
    shown = ShownTree(tree)
    planted: dict[int, bytes] = {}

    def show(slot: int, path: bytes) -> None:
        inode = tree.inode(slot)
        record, ref = tree.record(slot), tree.ref(inode)
        if tree.is_directory(slot):
            os.makedirs(path, exist_ok=True)
            for name, kid in zip(*shown.kids(slot), strict=True):
                show(kid, path + b"/" + name)
        elif inode in planted:
            os.link(planted[inode], path, follow_symlinks=False)
            return
        elif shown.target(slot) is not None:
            os.symlink(shown.readlink(slot), path)
        else:
            assert record is not None and ref is not None
            Path(os.fsdecode(path)).write_bytes(data(tree, ref))
        planted[inode] = path
        if record is None or ref is None:
            return
        os.chown(path, record.uid, record.gid, follow_symlinks=False)
        if not os.path.islink(path):
            os.chmod(path, permissions(record.mode, directory=tree.is_directory(slot)))
        entry = ENTRY_VALUE.pack(*ref)
        os.setxattr(path, b"trusted.windows.entry", entry, follow_symlinks=False)
        ns = filetime.to_unix_ns(record.write)
        os.utime(path, ns=(ns, ns), follow_symlinks=False)

    show(Tree.ROOT, os.fsencode(folder))


def data(tree: Tree, ref: tuple[int, int]) -> bytes:
    """The data of an entry of a chain."""
    layer = tree.layers[ref[0]]
    assert isinstance(layer, LayerBlob)
    record = layer.index.record(ref[1])
    return layer.read(record, record.size, 0)
