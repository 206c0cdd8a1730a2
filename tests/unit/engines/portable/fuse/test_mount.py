"""Real FUSE mounts: what programs see through the kernel, and how mounts begin and end."""

import errno
import mmap
import os
import random
import select
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import chains, fuse_chains, mounts
from tests.support import tar_blocks as blocks
from windowsfilter.engines.portable import kernel
from windowsfilter.engines.portable.chains import ChainImage, ImageFile
from windowsfilter.engines.portable.erofs.writer import write_image
from windowsfilter.engines.portable.fuse import device as fuse_device
from windowsfilter.engines.portable.fuse import mount as fuse_mount
from windowsfilter.engines.portable.fuse.device import Way
from windowsfilter.engines.portable.fuse.mount import FuseMount
from windowsfilter.engines.portable.fuse.nodes import Presentation
from windowsfilter.engines.portable.fuse.task import Task
from windowsfilter.engines.portable.mounting import Access, KernelMounts
from windowsfilter.engines.portable.shown import ShownTree
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.errors import HostError, StoreDamaged, UsageError

pytestmark = pytest.mark.root

A = "Windows/a.txt"


@pytest.fixture(autouse=True)
def _possible() -> None:
    reason = fuse_device.reason(Way.DIRECT)
    if reason:
        pytest.skip(f"this machine cannot mount by FUSE: {reason}")


@pytest.fixture
def blobs(tmp_path):
    return chains.Blobs(tmp_path / "store")


@pytest.fixture
def place(tmp_path) -> Path:
    folder = tmp_path / "mnt"
    folder.mkdir()
    return folder


def folders(chain) -> list[Path]:
    return [layer.directory for layer in chain]


@contextmanager
def mounted(chain, place: Path, **options) -> Iterator[FuseMount]:
    found = fuse_mount.mount(folders(chain), place, **options)
    try:
        yield found
    finally:
        fuse_mount.unmount(place, server=found.server)


def is_running(pid: int) -> bool:
    try:
        return b"_fuse_child" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def is_mounted(place: Path) -> bool:
    return f" {place} " in Path("/proc/self/mounts").read_text()


@pytest.fixture
def base(blobs, place) -> Iterator[Path]:
    """The volume of the base layer, mounted."""
    with blobs.chain(fuse_chains.BASE) as chain, mounted(chain, place):
        yield place


# -- what is shown --------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["volume", "layer"])
def test_a_mount_shows_the_tree_byte_for_byte(blobs, place, view):
    with blobs.chain(fuse_chains.BASE, fuse_chains.CHILD) as chain:
        tree = Tree(chain)
        root = tree.ROOT if view == "layer" else tree.lookup(b"Files")
        assert root is not None
        with mounted(chain, place, view=view):
            found = fuse_chains.seen(place)
            assert found == fuse_chains.expected(tree, root)
            assert found == fuse_chains.seen(place)  # now from the kernel's caches
            assert len(found) > 15


def test_a_mount_shows_what_an_image_in_the_kernel_shows(blobs, tmp_path, place):
    with mounts.disk(tmp_path) as disk, blobs.chain(fuse_chains.BASE, fuse_chains.CHILD) as chain:
        image, other = disk / "image", tmp_path / "other"
        other.mkdir()
        with image.open("xb") as out:
            image.chmod(0o600)
            info = write_image(ShownTree(Tree(chain)), out, uuid=bytes(range(16)), private=True)
        assert all(data.device == 0 for data in info.devices)  # nothing of these is spilled
        devices = tuple(chain[data.layer].blob_path for data in info.devices)
        KernelMounts(Access.FILE, tmp_path / "run").mount(
            ChainImage((ImageFile("image", image, devices),)), other
        )
        try:
            with mounted(chain, place):
                assert mounts.picture(place) == mounts.picture(other)
        finally:
            kernel.unmount(other)


def test_names_are_found_in_any_case(base):
    inode = os.stat(base / A).st_ino
    for spelling in ("WINDOWS/A.TXT", "wINDOWS/A.txt", "B.TXT"):
        assert os.stat(base / spelling).st_ino == inode
        assert (base / spelling).read_bytes() == b"hello" * 1000
    assert (base / "\u00e4RGER \u03c3.TXT").read_bytes() == b"umlaut"
    assert not (base / "windows/nothing").exists()
    assert os.listdir(base / "WINDOWS") == os.listdir(base / "Windows")


def test_names_that_linux_cannot_hold_have_an_alias(base):
    alias = next(name for name in os.listdir(base) if "~" in name)
    assert (base / alias).read_bytes() == b"long"
    assert (base / alias.upper()).read_bytes() == b"long"


def test_overlay_lowers_know_exact_names_only(blobs, place):
    with blobs.chain(fuse_chains.BASE) as chain:
        with mounted(chain, place, overlay_lower=True):
            assert (place / A).exists()
            assert not (place / A.upper()).exists()
            alias = next(name for name in os.listdir(place) if "~" in name)
            assert (place / alias).read_bytes() == b"long"


def test_hard_links_share_an_inode(base):
    one, other = os.stat(base / A), os.stat(base / "b.txt")
    assert one.st_ino == other.st_ino
    assert one.st_nlink == 2
    assert os.stat(base / "mode").st_nlink == 1
    assert os.stat(base).st_nlink == 2 + 2  # Windows, implied
    assert "dangling" not in os.listdir(base)
    assert not (base / "dangling").exists()


def test_windows_metadata_shows_as_extended_attributes(base):
    names = os.listxattr(base / A)
    assert sorted(names) == [f"trusted.windows.{key}" for key in ("attr", "crtime", "entry", "sd")]
    assert os.getxattr(base / A, "trusted.windows.attr") == (0x21).to_bytes(4, "little")
    assert os.getxattr(base / A, "trusted.windows.sd") == chains.OWNER_SYSTEM
    entry = os.getxattr(base / "j", "trusted.windows.entry", follow_symlinks=False)
    assert entry == bytes(4) + (11).to_bytes(4, "little")
    assert os.listxattr(base / "plain") == ["trusted.windows.entry"]
    assert os.listxattr(base / "implied") == []
    for path, name in ((A, "trusted.other"), ("implied", "trusted.windows.entry")):
        with pytest.raises(OSError, match="No data available"):
            os.getxattr(base / path, name)


def test_the_time_of_birth_is_shown(base):
    shown = subprocess.run(
        ["stat", "-c", "%.W", base / A], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip()[:18] == "1400000000.7654321"


def test_streams_are_shown_only_when_asked_for(blobs, place):
    with blobs.chain(fuse_chains.BASE) as chain:
        with mounted(chain, place):
            assert sorted(os.listdir(place / "Windows")) == ["a.txt", "gone", "up"]
            assert not (place / "Windows/a.txt:Zone.Identifier").exists()
        with mounted(chain, place, streams=True):
            names = sorted(os.listdir(place / "Windows"))
            assert names == ["a.txt", "a.txt:Zone.Identifier", "gone", "up"]
            assert (place / "windows/A.TXT:zone.identifier").read_bytes() == b"[ZoneTransfer]"
            assert (place / "b.txt:Zone.Identifier").read_bytes() == b"[ZoneTransfer]"
            assert os.stat(place / "b.txt:Zone.Identifier").st_nlink == 1


def test_files_can_be_mapped_into_memory(base):
    with (base / "big.bin").open("rb") as file:
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
            assert view[:] == fuse_chains.BIG


def test_random_reads_equal_the_blob(blobs, place):
    with blobs.chain(fuse_chains.BASE) as chain, mounted(chain, place):
        tree = Tree(chain)
        slot = tree.lookup(b"Files/big.bin")
        assert slot is not None
        record = tree.record(slot)
        assert record is not None
        chance = random.Random(11)
        file = os.open(place / "big.bin", os.O_RDONLY)
        try:
            for round_ in range(5000):
                if not round_ % 500:
                    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                at, size = chance.randrange(record.size + 5000), chance.randrange(1, 70_000)
                assert os.pread(file, size, at) == chain[0].read(record, size, at)
        finally:
            os.close(file)


def test_a_directory_of_30_000_names_is_listed_completely(blobs, place):
    names = {f"amd64_component-{number:06}_31bf3856ad364e35.manifest" for number in range(30_000)}
    layer = [chains.folder("Files")] + [chains.file(f"Files/s/{name}") for name in sorted(names)]
    with blobs.chain(layer) as chain, mounted(chain, place):
        assert set(os.listdir(place / "s")) == names
        with os.scandir(place / "s") as entries:
            assert sum(stat.S_ISREG(entry.stat().st_mode) for entry in entries) == 30_000
        # Programs may stop in the middle and go on later.
        first, second = os.scandir(place / "s"), os.scandir(place / "s")
        with first, second:
            for _ in range(1000):
                assert next(first).name == next(second).name


def test_sparse_files_read_as_zeros_between_their_pieces(blobs, place):
    body = b"1\n50000\n4\n".ljust(512, b"\0") + b"data"
    layer = blocks.pax(
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"Files/sparse"),
        (b"GNU.sparse.realsize", b"100000"),
    )
    layer += blocks.header(b"Files/x", size=len(body)) + blocks.padded(body) + blocks.END
    with blobs.chain(layer) as chain, mounted(chain, place):
        assert (place / "sparse").read_bytes() == bytes(50_000) + b"data" + bytes(49_996)


def test_nothing_can_be_written(base):
    for change in (
        lambda: (base / "new").write_bytes(b""),
        lambda: (base / A).write_bytes(b""),
        (base / A).unlink,
        lambda: os.setxattr(base / A, "trusted.windows.attr", b"1234"),
    ):
        with pytest.raises(OSError, match="Read-only file system"):
            change()


@pytest.mark.parametrize("name", ["a b", "a,b", "a\\b", "a\nb", "\u00fc\udcff", "-o"])
def test_mount_points_may_have_any_name(blobs, tmp_path, monkeypatch, name):
    place = tmp_path / name
    place.mkdir()
    with blobs.chain(fuse_chains.BASE) as chain:
        monkeypatch.chdir(tmp_path)
        with mounted(chain, Path(name)):
            assert (place / "b.txt").exists()
    assert os.listdir(place) == []


def test_the_mount_table_says_what_it_is(base):
    line = next(
        line for line in Path("/proc/self/mounts").read_text().splitlines() if f" {base} " in line
    )
    source, _, kind, options = line.split()[:4]
    assert (source, kind) == ("windowsfilter", "fuse.windowsfilter")
    assert {"ro", "nosuid", "nodev", "default_permissions"} <= set(options.split(","))
    assert "allow_other" not in options


def test_file_handles_survive_the_kernels_caches(base):
    """NFS and overlayfs keep handles: "." and ".." are looked up by number then."""
    before = os.stat(base / A).st_ino
    Path("/proc/sys/vm/drop_caches").write_text("2")
    assert os.stat(base / "Windows" / ".." / A).st_ino == before
    assert os.statvfs(base).f_namemax == 255


def test_big_files_are_read_ahead_in_large_pieces(base):
    number = os.stat(base).st_dev
    knob = Path(f"/sys/class/bdi/{os.major(number)}:{os.minor(number)}/read_ahead_kb")
    if not knob.exists() or not os.access("/sys", os.W_OK):
        pytest.skip("this machine cannot change sysfs")
    assert int(knob.read_text()) == fuse_device.READ_AHEAD_KIB


# -- overlayfs ------------------------------------------------------------------------------------


def test_a_scratch_can_stand_on_a_mount(blobs, tmp_path, place):
    if kernel.has_filesystem("overlay"):
        pytest.skip("this machine cannot mount overlayfs")
    upper, work, merged = (tmp_path / name for name in ("upper", "work", "merged"))
    for folder in (upper, work, merged):
        folder.mkdir()
    with blobs.chain(fuse_chains.BASE) as chain:
        found = fuse_mount.mount(folders(chain), place, view="layer", overlay_lower=True)
        with kernel.FilesystemContext("overlay") as context:
            for key, value in (("lowerdir", place), ("upperdir", upper), ("workdir", work)):
                context.string(key, value)
            mount = context.mount(kernel.MountAttribute(0))
        kernel.attach(mount, merged)
        os.close(mount)
        fuse_mount.unmount(place, lazy=True)
        try:
            assert is_running(found.server)  # the overlay holds on to it
            volume, changed = merged / "Files", upper / "Files"
            with (volume / A).open("ab") as file:
                file.write(b"!")
            (volume / "empty").unlink()
            os.rename(volume / "mode", volume / "renamed")
            assert (volume / A).read_bytes() == b"hello" * 1000 + b"!"
            assert os.getxattr(changed / A, "trusted.windows.sd") == chains.OWNER_SYSTEM
            assert stat.S_ISCHR(os.lstat(changed / "empty").st_mode)
            assert (volume / "Windows/up").is_symlink()
            assert not (volume / "WINDOWS").exists()
            assert stat.S_IMODE(os.stat(volume).st_mode) == 0o700  # registry hives are secrets
        finally:
            fuse_mount.unmount(merged, server=found.server)
        wait_for(found.server)


def test_root_too_can_mount_for_a_command_or_a_reader_alone(blobs, place, capfd):
    if fuse_device.reason(Way.NAMESPACE):
        pytest.skip(f"this machine cannot: {fuse_device.reason(Way.NAMESPACE)}")
    with blobs.chain(fuse_chains.BASE) as chain:
        command = ["sh", "-c", f"cat {place}/B.TXT | wc -c; exit 3"]
        assert fuse_mount.run(folders(chain), place, command) == 3
        assert capfd.readouterr().out == "5000\n"
        with fuse_mount.private_mount(folders(chain)) as root:
            assert (root / "b.txt").read_bytes() == b"hello" * 1000
        assert not root.exists()
        assert fuse_mount.run(folders(chain), place, ["sh", "-c", "kill -KILL $$"]) == 128 + 9
        with pytest.raises(HostError, match="run nothing like this: No such file"):
            fuse_mount.run(folders(chain), place, ["nothing like this"])
        with pytest.raises(UsageError, match="no directory Files"):
            with blobs.chain([chains.file("Hives/x")]) as other:
                fuse_mount.run(folders(other), place, ["true"])
        with pytest.raises(StoreDamaged, match="manifest.json is missing"):
            with fuse_mount.private_mount([place]):
                pass
    assert not is_mounted(place)


# -- beginning and end ----------------------------------------------------------------------------


def test_unmounting_ends_the_server_and_gives_the_blobs_back(blobs, place):
    with blobs.chain(fuse_chains.BASE) as chain:
        found = fuse_mount.mount(folders(chain), place)
        held = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{found.server}/fd")]
        assert str(chain[0].blob_path) in held
        assert fuse_mount.find_server(place) == found.server
        fuse_mount.unmount(place)
        wait_for(found.server)  # whoever makes a mount namespace meanwhile has a copy of the mount
        assert fuse_mount.find_server(place) is None
        with pytest.raises(HostError, match="Invalid argument"):
            fuse_mount.unmount(place)
    assert not is_mounted(place)


def test_mounts_over_mounts_are_taken_down_one_by_one(blobs, place):
    with blobs.chain(fuse_chains.BASE) as chain:
        below = fuse_mount.mount(folders(chain), place)
        above = fuse_mount.mount(folders(chain), place, view="layer")
        assert os.path.exists(place / "Hives")
        fuse_mount.unmount(place)
        wait_for(above.server)
        assert is_running(below.server)
        assert os.path.exists(place / "mode")
        fuse_mount.unmount(place)
        wait_for(below.server)


def test_a_mount_in_use_is_not_removed(blobs, place):
    with blobs.chain(fuse_chains.BASE) as chain, mounted(chain, place) as found:
        with (place / "big.bin").open("rb") as file:
            with pytest.raises(HostError) as caught:
                fuse_mount.unmount(place, server=found.server)
            assert caught.value.errno == errno.EBUSY
            assert file.read() == fuse_chains.BIG


def test_readers_finish_after_a_lazy_unmount(blobs, place):
    with blobs.chain(fuse_chains.BASE) as chain:
        found = fuse_mount.mount(folders(chain), place)
        with (place / "big.bin").open("rb") as file:
            fuse_mount.unmount(place, lazy=True)
            assert not is_mounted(place)
            assert file.read() == fuse_chains.BIG
        wait_for(found.server)


def wait_for(pid: int) -> None:
    """Wait for the end of a server that is nobody's child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], 30)[0], "the server does not end"
    finally:
        os.close(descriptor)


def test_a_terminated_server_takes_its_mount_with_it(blobs, place):
    with blobs.chain(fuse_chains.BASE) as chain:
        found = fuse_mount.mount(folders(chain), place)
        os.kill(found.server, signal.SIGTERM)
        wait_for(found.server)
        assert not is_mounted(place)
        assert os.listdir(place) == []


def test_a_killed_server_leaves_a_mount_that_fails_and_can_be_removed(blobs, place):
    with blobs.chain(fuse_chains.BASE) as chain:
        found = fuse_mount.mount(folders(chain), place)
        os.kill(found.server, signal.SIGKILL)
        wait_for(found.server)
        with pytest.raises(OSError, match="not connected"):
            os.listdir(place)
        fuse_mount.unmount(place, server=found.server)
        assert not is_mounted(place)


def test_the_server_is_nobodys_child_and_holds_no_directory(blobs, place):
    with blobs.chain(fuse_chains.BASE) as chain, mounted(chain, place) as found:
        process = Path(f"/proc/{found.server}")
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        parent, session = int(fields[1]), int(fields[3])
        assert parent != os.getpid()
        assert session != os.getsid(0)
        assert os.readlink(process / "cwd") == "/"
        assert {os.readlink(process / f"fd/{stream}") for stream in range(3)} == {"/dev/null"}


def test_a_damaged_blob_fails_the_mount_with_its_own_words(blobs, place):
    with blobs.chain(fuse_chains.BASE) as chain:
        chain[0].blob_path.unlink()
        with pytest.raises(StoreDamaged, match="blob is missing"):
            fuse_mount.mount(folders(chain), place)
    assert not is_mounted(place)


def test_a_blob_that_became_too_short_gives_an_error_not_zeros(blobs, place):
    with blobs.chain(fuse_chains.BASE) as chain, mounted(chain, place):
        os.truncate(chain[0].blob_path, 4096)
        with pytest.raises(OSError, match="Input/output error"):
            (place / "big.bin").read_bytes()
        assert (place / A).stat().st_size == 5000


def test_what_cannot_be_mounted_is_said_before_anything_is_mounted(blobs, place, tmp_path):
    with blobs.chain([chains.file("Hives/x")]) as chain:
        with pytest.raises(UsageError, match="no directory Files"):
            fuse_mount.mount(folders(chain), place)
        with pytest.raises(UsageError, match="no view 'files'"):
            fuse_mount.mount(folders(chain), place, view="files")
        with pytest.raises(UsageError, match="not an existing directory"):
            fuse_mount.mount(folders(chain), tmp_path / "nowhere")
    with pytest.raises(StoreDamaged, match="manifest.json is missing"):
        fuse_mount.mount([tmp_path], place)
    assert not is_mounted(place)


def test_a_server_that_cannot_start_is_reported(blobs, place, monkeypatch):
    with blobs.chain(fuse_chains.BASE) as chain:
        monkeypatch.setattr(fuse_mount, "CHILD_MODULE", "windowsfilter.nothing")
        with pytest.raises(HostError, match=r"ended before it was ready: .*nothing"):
            fuse_mount.mount(folders(chain), place)
        monkeypatch.setattr(sys, "executable", str(place / "python"))
        with pytest.raises(HostError, match="No such file"):
            fuse_mount.mount(folders(chain), place)


def test_a_mount_that_nobody_waits_for_any_more_is_taken_back(blobs, place):
    with blobs.chain(fuse_chains.BASE) as chain:
        task = Task(
            layers=tuple(folders(chain)),
            target=place,
            way=Way.DIRECT,
            how=Presentation(),
        )
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(task.build())
            ours.close()
            child = [sys.executable, "-P", "-m", fuse_mount.CHILD_MODULE, str(theirs.fileno())]
            # What the first process starts inherits the pipe, so the pipe ends with the server.
            end, held = os.pipe()
            subprocess.run(
                child, pass_fds=[theirs.fileno(), held], stderr=subprocess.DEVNULL, check=False
            )
        os.close(held)
        with os.fdopen(end, "rb") as pipe:
            assert pipe.read() == b""
    assert not is_mounted(place)
