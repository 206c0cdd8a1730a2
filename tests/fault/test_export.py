"""Exports that fail or are killed: nothing half done stays, and the store is as it was."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support import crash, ntfs_volumes
from tests.support.chains import file, folder, tar
from tests.support.command import write_layout
from tests.support.windows_image import BASE, UPDATE, assert_same
from windowsfilter.engines.portable.volumes import programs
from windowsfilter.errors import AlreadyExists, HostError, UsageError
from windowsfilter.store.core import Event
from windowsfilter.store.store import Store

pytestmark = pytest.mark.root

SMALL = tar([folder("Files"), file("Files/a.txt", b"hello" * 2000), file("Files/b.txt", b"b")])
BIG = tar([folder("Files"), *(file(f"Files/{n}", os.urandom(1 << 20)) for n in range(24))])
TAKEN = tar(
    [folder("Files"), file("Files/$mft", b"taken"), file("Files/$Extend/x", b"", attributes=None)]
)


@pytest.fixture(autouse=True)
def _programs(program: Callable[[str], str]) -> None:
    for name in ("mkntfs", "ntfs-3g", "ntfsinfo", "wimlib-imagex", "losetup"):
        program(name)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


def load(store: Store, tmp_path: Path, *layers: bytes):
    return store.load(write_layout(tmp_path / "oci", *layers))


def assert_nothing_left(store: Store, target: Path) -> None:
    """Neither files nor mounts nor a server."""
    assert not os.path.lexists(target)
    assert [name for name in os.listdir(target.parent) if name.startswith(".windowsfilter")] == []
    assert list((store.root / "tmp").glob("*/*")) == []
    assert str(store.root) not in Path("/proc/self/mountinfo").read_text()
    await_servers(store.root)


def await_servers(root: Path) -> None:
    """Wait for the end of the ntfs-3g processes that serve something of a store."""
    for process in filter(str.isdecimal, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue
        if b"ntfs-3g" in words.split(b"\0")[0] and os.fsencode(root) in words:
            with suppress(ProcessLookupError):
                server = os.pidfd_open(int(process))
                ended = select.poll()
                ended.register(server, select.POLLIN)
                assert ended.poll(30_000), "a server that does not end"
                os.close(server)


# -- programs, targets, room ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "package", "export"),
    [
        ("mkntfs", "ntfs-3g", "export_ntfs"),
        ("ntfs-3g", "ntfs-3g", "export_ntfs"),
        ("wimlib-imagex", "wimtools", "export_wim"),
    ],
)
def test_a_missing_program_is_named_with_its_package(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: Callable[[str], str],
    missing: str,
    package: str,
    export: str,
) -> None:
    image = load(store, tmp_path, SMALL)
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in {"mkntfs", "ntfs-3g", "wimlib-imagex"} - {missing}:
        (folder / name).symlink_to(program(name))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setitem(programs.ENVIRONMENT, "PATH", str(folder))
    with pytest.raises(HostError, match=f"{missing} is missing: install the package {package}"):
        getattr(image, export)(tmp_path / "out")
    assert_nothing_left(store, tmp_path / "out")


@pytest.mark.parametrize("export", ["export_ntfs", "export_wim"])
def test_a_file_is_replaced_only_by_force(store: Store, tmp_path: Path, export: str) -> None:
    image = load(store, tmp_path, SMALL)
    target = tmp_path / "out"
    target.write_bytes(b"precious")
    with pytest.raises(AlreadyExists, match="--force"):
        getattr(image, export)(target)
    assert target.read_bytes() == b"precious"
    getattr(image, export)(target, force=True)
    assert target.stat().st_size > 8
    assert target.stat().st_mode & 0o777 == 0o600


def test_what_is_neither_file_nor_device_is_refused(store: Store, tmp_path: Path) -> None:
    image = load(store, tmp_path, SMALL)
    for target in (Path("/dev/null"), tmp_path):
        with pytest.raises(UsageError, match="neither a file nor a block device"):
            image.export_ntfs(target, force=True)
    with pytest.raises(UsageError, match="there is no folder"):
        image.export_ntfs(tmp_path / "no" / "out")


def test_names_of_the_volume_itself_are_refused_or_left_out(store: Store, tmp_path: Path) -> None:
    image = load(store, tmp_path, TAKEN)
    target = tmp_path / "out"
    with pytest.raises(UsageError, match=r"export demo:1 to .*: Files/\$mft: a name that NTFS"):
        image.export_ntfs(target)
    assert_nothing_left(store, target)
    exported = image.export_ntfs(target, skip_unsupported=True)
    assert {loss.path for loss in exported.not_carried} == {b"Files/$mft", b"Files/$Extend"}
    assert set(ntfs_volumes.read(target, tmp_path / "mnt")) == {b""}


def test_a_volume_that_is_too_small_is_refused_or_fills_up(store: Store, tmp_path: Path) -> None:
    image = load(store, tmp_path, BIG)
    target = tmp_path / "out"
    with pytest.raises(UsageError, match="25165824 bytes of data do not fit into 16777216"):
        image.export_ntfs(target, size=16 << 20)
    with pytest.raises(HostError, match=r"export demo:1 to .*: Files/\d+: .*full"):
        image.export_ntfs(target, size=25 << 20)
    assert_nothing_left(store, target)


@contextmanager
def tmpfs(place: Path, size: int) -> Iterator[Path]:
    place.mkdir()
    options = f"size={size}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_disk_that_fills_up_leaves_nothing(store: Store, tmp_path: Path) -> None:
    image = load(store, tmp_path, BIG)
    with tmpfs(tmp_path / "disk", 26 << 20) as disk:
        with pytest.raises(HostError, match="export demo:1 to"):
            image.export_ntfs(disk / "out")
        assert os.listdir(disk) == []
    assert_nothing_left(store, tmp_path / "disk" / "out")
    with tmpfs(tmp_path / "tiny", 20 << 20) as disk:
        with pytest.raises(HostError, match="do not fit on the disk"):
            image.export_ntfs(disk / "out")


def test_a_target_on_another_file_system_is_written_beside(store: Store, tmp_path: Path) -> None:
    image = load(store, tmp_path, SMALL)
    with tmpfs(tmp_path / "disk", 64 << 20) as disk:
        image.export_ntfs(disk / "out")
        image.export_wim(disk / "out.wim")
        assert sorted(os.listdir(disk)) == ["out", "out.wim"]
        assert_same(image, ntfs_volumes.read(disk / "out", tmp_path / "mnt"))


# -- devices -------------------------------------------------------------------------------------


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """An empty block device of 64 MiB."""
    backing = tmp_path / "backing"
    backing.touch()
    os.truncate(backing, 64 << 20)
    made = subprocess.run(
        ["losetup", "--find", "--show", backing], check=False, capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip("this machine cannot make loop devices")
    name = made.stdout.strip()
    try:
        yield Path(name)
    finally:
        subprocess.run(["losetup", "--detach", name], check=True)


def test_an_empty_device_takes_a_volume_by_force_only(
    store: Store, tmp_path: Path, device: Path
) -> None:
    image = load(store, tmp_path, BASE, UPDATE)
    with pytest.raises(UsageError, match="is a device: --force"):
        image.export_ntfs(device)
    exported = image.export_ntfs(device, force=True)
    assert exported.size == 64 << 20
    ntfs_volumes.check(device)
    assert_same(image, ntfs_volumes.read(device, tmp_path / "mnt"))
    with pytest.raises(UsageError, match="is not empty"):
        image.export_ntfs(device, force=True)


@pytest.mark.parametrize("place", [0, 510, (1 << 20) - 1, (64 << 20) - 1, (63 << 20)])
def test_a_device_with_data_is_refused(
    store: Store, tmp_path: Path, device: Path, place: int
) -> None:
    image = load(store, tmp_path, SMALL)
    with device.open("r+b") as file:
        file.seek(place)
        file.write(b"x")
    before = (tmp_path / "backing").read_bytes()
    with pytest.raises(UsageError, match="is not empty: there is data"):
        image.export_ntfs(device, force=True)
    assert (tmp_path / "backing").read_bytes() == before


def test_a_mounted_device_is_refused(
    store: Store, tmp_path: Path, device: Path, program: Callable[[str], str]
) -> None:
    image = load(store, tmp_path, SMALL)
    subprocess.run([program("mkfs.ext4"), "-q", device], check=True)
    place = tmp_path / "mounted"
    place.mkdir()
    subprocess.run(["mount", device, place], check=True)
    try:
        with pytest.raises(UsageError, match=f"is in use: mounted at {place}"):
            image.export_ntfs(device, force=True)
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_device_that_somebody_holds_is_refused(
    store: Store, tmp_path: Path, device: Path
) -> None:
    image = load(store, tmp_path, SMALL)
    holder = os.open(device, os.O_RDONLY | os.O_EXCL)
    try:
        with pytest.raises(UsageError, match="is in use: the kernel says it is busy"):
            image.export_ntfs(device, force=True)
    finally:
        os.close(holder)


def test_swap_is_refused(
    store: Store, tmp_path: Path, device: Path, program: Callable[[str], str]
) -> None:
    image = load(store, tmp_path, SMALL)
    subprocess.run([program("mkswap"), device], check=True, capture_output=True)
    if subprocess.run(["swapon", device], capture_output=True, check=False).returncode:
        pytest.skip("this machine cannot add swap")
    try:
        with pytest.raises(UsageError, match="is in use: it is swap"):
            image.export_ntfs(device, force=True)
    finally:
        subprocess.run(["swapoff", device], check=True)


def test_a_device_is_wiped_where_an_export_fails(
    store: Store, tmp_path: Path, device: Path
) -> None:
    layer = tar([folder("Files"), file("Files/a", b"a"), file("Files/b:", b"")])
    image = load(store, tmp_path, layer)
    with pytest.raises(UsageError, match="Files/b"):
        image.export_ntfs(device, force=True)
    found = (tmp_path / "backing").read_bytes()
    assert not any(found[: 1 << 20]) and not any(found[-(1 << 20) :])
    image.export_ntfs(device, force=True, skip_unsupported=True)  # it counts as empty again


def test_a_device_whose_export_was_killed_has_no_volume(
    store: Store, tmp_path: Path, device: Path
) -> None:
    image = load(store, tmp_path, BIG)
    root = store.root
    store.close()
    child = os.fork()
    if child == 0:
        with Store(root) as opened:
            opened.image(image.id).export_ntfs(
                device, force=True, progress=lambda _: os.kill(os.getpid(), signal.SIGKILL)
            )
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    await_servers(device)
    assert not any((tmp_path / "backing").read_bytes()[:512])
    with Store(root) as opened:
        assert_nothing_left(opened, tmp_path / "out")


# -- being killed --------------------------------------------------------------------------------


@pytest.mark.parametrize("export", ["export_ntfs", "export_wim"])
def test_an_export_killed_anywhere_is_there_or_not(
    store: Store, tmp_path: Path, export: str
) -> None:
    image = load(store, tmp_path, SMALL)
    target = tmp_path / "out"
    root = store.root
    store.close()

    def work() -> None:
        with Store(root) as opened:
            getattr(opened.image(image.id), export)(target)

    seen = set()
    for _ in crash.crash_points(work):
        with Store(root) as opened:
            if target.exists():
                seen.add("whole")
                if export == "export_ntfs":
                    ntfs_volumes.check(target)
                target.unlink()
            assert_nothing_left(opened, target)
    assert seen == {"whole"}
    target.unlink()


@pytest.mark.parametrize("export", ["export_ntfs", "export_wim"])
def test_an_interrupted_export_cleans_up(store: Store, tmp_path: Path, export: str) -> None:
    image = load(store, tmp_path, BIG)

    def interrupt(event: Event) -> None:
        if event.done > 4 << 20:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        getattr(image, export)(tmp_path / "out", progress=interrupt)
    assert_nothing_left(store, tmp_path / "out")


def test_what_a_killed_process_had_mounted_is_taken_away_not_deleted(
    store: Store, tmp_path: Path
) -> None:
    store.close()
    folder = store.root / "tmp" / "dead" / "volume.1"
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    (folder / "kept").write_bytes(b"x")
    held = os.open(folder, os.O_RDONLY)
    try:
        with Store(store.root) as opened:
            assert_nothing_left(opened, tmp_path / "out")
        assert os.listdir(held) == ["kept"]
    finally:
        os.close(held)
