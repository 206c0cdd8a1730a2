"""Real mounts by the kernel: what they show, how they are made, and what is refused."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import chains, mounts
from windowsfilter.engines.portable import kernel, mounting
from windowsfilter.engines.portable.chains import ChainImages
from windowsfilter.engines.portable.mounting import Access, KernelMounts, Upper
from windowsfilter.engines.portable.shown import ShownTree
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.engines.portable.view import View
from windowsfilter.errors import HostError, UsageError
from windowsfilter.ntfs.filetime import to_unix_ns

pytestmark = pytest.mark.root

BASE = [
    chains.folder("Files", sd=chains.OWNER_SYSTEM),
    chains.folder("Files/Windows"),
    chains.file("Files/Windows/a.txt", b"hello" * 1000, sd=chains.OWNER_SYSTEM),
    chains.file("Files/mode", b"x", mode=0o640, uid=7, gid=8),
    chains.hard_link("Files/b.txt", "Files/WINDOWS/A.TXT"),
    chains.junction("Files/j", r"C:\windows"),
    chains.symlink("Files/away", "/etc/passwd"),
    chains.file("Files/" + "\u4e2d" * 255, b"long"),
    *(
        chains.file(f"Files/many/{number:03}" + "x" * number, b"z" * number)
        for number in range(200)
    ),
    chains.file("Hives/Sam_Delta", b"hive"),
]
CHILD = [
    chains.whiteout("Files/MANY/000"),
    chains.file("files/windows/A.TXT", b"changed"),
    chains.hard_link("Files/new link", "Files/Mode"),
    chains.whiteout("Files/j"),
    chains.file("Files/J/now a folder", b"1"),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounts.disk(tmp_path) as folder:
        yield folder


class Machine:
    """A blob store, its images, and mounts of them."""

    def __init__(self, folder: Path, **options) -> None:
        self.folder = folder
        self.blobs = chains.Blobs(folder / "store")
        self.made = 0
        (folder / "chains").mkdir(exist_ok=True)
        self.images = ChainImages(folder / "chains", staging=self.staging, lock=self.lock)
        self.mounts = KernelMounts(options.pop("access", Access.FILE), folder / "run", **options)

    def staging(self, purpose: str) -> Path:
        self.made += 1
        place = self.folder / f"{purpose}.{self.made}"
        place.mkdir()
        return place

    @contextmanager
    def lock(self, _key: str) -> Iterator[None]:
        yield


def expected(tree: Tree, root: str = "") -> dict[str, tuple[object, ...]]:
    """What a private mount of the tree must show, from the tree alone."""
    shown = ShownTree(tree)
    found: dict[str, tuple[object, ...]] = {}
    pending = [("", tree.ROOT)]
    while pending:
        above, slot = pending.pop()
        for name, kid in zip(*shown.kids(slot), strict=True):
            path = os.path.join(above, os.fsdecode(name))
            inode = tree.inode(kid)
            record = tree.record(kid)
            mode, times, owner = 0o755, 0, (0, 0)
            data: object = None
            if record is not None:
                times, owner = to_unix_ns(record.write), (record.uid, record.gid)
            layer: Any = tree.layers[(tree.ref(inode) or (0, 0))[0]]
            if tree.is_directory(inode):
                pending.append((path, kid))
                mode = stat.S_IFDIR | (0o700 if slot == tree.ROOT else 0o755)
            elif record is not None and tree.kinds[inode] == 1:
                mode = stat.S_IFREG | (record.mode & 0o777 or 0o644)
                data = layer.read(record, record.size, 0)
            else:
                mode = stat.S_IFLNK | 0o777
                data = os.fsdecode(shown.readlink(inode))
            found[path] = (mode, times, *owner, data)
    return {
        path.removeprefix(root): facts for path, facts in found.items() if path.startswith(root)
    }


def shown_at(root: Path | str) -> dict[str, tuple[object, ...]]:
    return {path: facts[:-1] for path, facts in mounts.picture(root).items()}


OPTIONS: dict[str, dict[str, object]] = {
    "by file": {},
    "by loop device": {"access": Access.LOOP},
    "as on kernels before 6.15": {"attach_first": True},
}


@pytest.fixture(params=OPTIONS)
def machine(request, disk) -> Machine:
    return Machine(disk, **OPTIONS[request.param])


def test_a_detached_mount_shows_the_tree(machine):
    with machine.blobs.chain(BASE) as chain:
        images = machine.images.get(chain)
        with machine.mounts.detached(images, view=View.LAYER) as mount:
            assert shown_at(f"/proc/self/fd/{mount}") == expected(Tree(chain))
            assert os.stat(f"/proc/self/fd/{mount}").st_mode == stat.S_IFDIR | 0o700
        with machine.mounts.detached(images) as mount:
            volume = expected(Tree(chain), "Files/")
            assert shown_at(f"/proc/self/fd/{mount}") == volume
            assert Path(f"/proc/self/fd/{mount}/j/a.txt").read_bytes() == b"hello" * 1000


def test_a_child_of_a_mounted_chain_gets_a_delta_that_shows_the_same(machine):
    with machine.blobs.chain(BASE, CHILD) as chain:
        machine.images.get(chain[:1])
        images = machine.images.get(chain)
        assert len(images.images) == 2
        with machine.mounts.detached(images, view=View.LAYER) as mount:
            assert shown_at(f"/proc/self/fd/{mount}") == expected(Tree(chain))
        with machine.mounts.detached(images) as mount:
            assert shown_at(f"/proc/self/fd/{mount}") == expected(Tree(chain), "Files/")


def test_mounts_are_read_only_and_harmless(machine):
    target = machine.folder / "target"
    target.mkdir()
    with machine.blobs.chain(BASE, CHILD) as chain:
        for count in (1, 2):
            machine.mounts.mount(machine.images.get(chain[:count]), target, name="x")
            try:
                line = mount_line(target)
                assert {"ro", "nosuid", "nodev"} <= set(line.split()[5].split(","))
                with pytest.raises(OSError, match="Read-only") as caught:
                    (target / "new").touch()
                assert caught.value.errno == errno.EROFS
            finally:
                mounting.unmount(target)
    assert not os.listdir(target)


def test_a_scratch_takes_changes_and_the_upper_has_them(machine):
    target, upper, work = (machine.folder / name for name in ("target", "upper", "work"))
    for place in (target, upper, work):
        place.mkdir(mode=0o700)
    with machine.blobs.chain(BASE, CHILD) as chain:
        machine.images.get(chain[:1])
        images = machine.images.get(chain)
        machine.mounts.mount_scratch(images, Upper(upper, work), target, name="scratch")
    try:
        assert "windowsfilter:scratch" in mount_line(target)
        assert {"nosuid", "nodev"} <= set(mount_line(target).split()[5].split(","))
        (target / "Windows" / "a.txt").write_bytes(b"mine")
        (target / "mode").unlink()
        (target / "many").rename(target / "few")
    finally:
        mounting.unmount(target)
    assert (upper / "Files/Windows/a.txt").read_bytes() == b"mine"
    entry = os.getxattr(upper / "Files/Windows/a.txt", "trusted.windows.entry")
    assert entry[:4] == b"\1\0\0\0"
    assert stat.S_ISCHR(os.lstat(upper / "Files/mode").st_mode)
    assert os.getxattr(upper / "Files/few", "trusted.overlay.redirect").endswith(b"many")
    assert not (machine.folder / "run").exists() or not os.listdir(machine.folder / "run")


def test_an_open_layer_lies_between_scratch_and_chain(machine):
    target, upper, work, below = (
        machine.folder / name for name in ("target", "upper", "work", "below")
    )
    for place in (target, upper, work, below):
        place.mkdir(mode=0o700)
    (below / "Files").mkdir()
    (below / "Files/from below").write_bytes(b"1")
    with machine.blobs.chain(BASE) as chain:
        machine.mounts.mount_scratch(
            machine.images.get(chain), Upper(upper, work), target, lowers=[below], view=View.LAYER
        )
    try:
        assert (target / "Files/from below").read_bytes() == b"1"
        assert (target / "Files/Windows").is_dir()
    finally:
        mounting.unmount(target)


def test_blobs_can_be_removed_while_they_are_mounted(machine):
    target = machine.folder / "target"
    target.mkdir()
    with machine.blobs.chain(BASE) as chain:
        machine.mounts.mount(machine.images.get(chain), target)
    try:
        machine.blobs.store.remove(chain[0].diff_id)
        assert (target / "Windows/a.txt").read_bytes() == b"hello" * 1000
    finally:
        mounting.unmount(target)


def test_long_paths_and_odd_characters_are_mounted(disk):
    folder = disk / ("long " * 20 + ",:\\") / ("x" * 200)
    folder.mkdir(parents=True)
    machine = Machine(folder)
    target, upper, work = (machine.folder / name for name in ("target", "upper", "work"))
    for place in (target, upper, work):
        place.mkdir(mode=0o700)
    with machine.blobs.chain(BASE) as chain:
        machine.mounts.mount_scratch(machine.images.get(chain), Upper(upper, work), target)
    try:
        (target / "new").write_bytes(b"1")
    finally:
        mounting.unmount(target)
    assert (upper / "Files/new").exists()


def test_a_chain_without_files_has_no_volume_view(disk):
    machine = Machine(disk)
    with machine.blobs.chain([chains.file("Hives/Sam_Delta", b"1")]) as chain:
        images = machine.images.get(chain)
        with pytest.raises(UsageError, match="Files"), machine.mounts.detached(images):
            pass
        with machine.mounts.detached(images, view=View.LAYER) as mount:
            assert os.listdir(f"/proc/self/fd/{mount}") == ["Hives"]


def test_a_missing_target_is_the_callers_mistake(disk):
    machine = Machine(disk)
    with machine.blobs.chain(BASE) as chain:
        with pytest.raises(UsageError, match="not an existing directory"):
            machine.mounts.mount(machine.images.get(chain), disk / "nothing")


def test_what_others_can_write_is_not_given_to_the_kernel(disk):
    machine = Machine(disk)
    with machine.blobs.chain(BASE) as chain:
        images = machine.images.get(chain)
        for path in (images.images[0].path, chain[0].blob_path, disk / "chains"):
            before = path.stat().st_mode
            path.chmod(before | 0o020)
            with pytest.raises(HostError, match="can be changed by others"):
                with machine.mounts.detached(images):
                    pass
            path.chmod(before)
        os.chown(images.images[0].path, 1234, -1)
        with pytest.raises(HostError, match="uid 1234"), machine.mounts.detached(images):
            pass


def test_a_missing_blob_is_an_error_that_names_it(disk):
    machine = Machine(disk)
    with machine.blobs.chain(BASE) as chain:
        images = machine.images.get(chain)
        chain[0].blob_path.unlink()
        with pytest.raises(HostError, match=str(chain[0].blob_path)):
            with machine.mounts.detached(images):
                pass


def test_damaged_images_are_noticed_and_made_again(disk):
    machine = Machine(disk)
    with machine.blobs.chain(BASE) as chain:
        images = machine.images.get(chain)
        whole = images.images[0].path.read_bytes()
        damaged = bytearray(whole)
        damaged[-5000] ^= 1
        images.images[0].path.write_bytes(damaged)
        assert "instead of" in (machine.images.verify(images.keys[0]) or "")
        assert machine.images.repair(images)
        assert machine.images.find(chain) is None
        assert machine.images.get(chain).images[0].path.read_bytes() == whole
        images.images[0].path.write_bytes(whole[:-512])
        assert machine.images.find(chain) is None
        assert machine.images.get(chain).images[0].path.read_bytes() == whole


def test_the_probe_says_what_is_missing(disk, tmp_path):
    assert mounting.probe(Access.FILE, disk) is None
    (tmp_path / "tmpfs").mkdir()
    with mounts.tmpfs(tmp_path / "tmpfs"):
        assert "cannot mount image files" in (mounting.probe(Access.FILE, tmp_path / "tmpfs") or "")
        assert not os.listdir(tmp_path / "tmpfs")


def test_unmounting_nothing_is_an_error(tmp_path):
    with pytest.raises(kernel.KernelError) as caught:
        mounting.unmount(tmp_path)
    assert caught.value.errno == errno.EINVAL


def mount_line(target: Path) -> str:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return next(line for line in lines if line.split()[4] == str(target))
