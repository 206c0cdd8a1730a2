"""Which ways to mount are open, and what is said about the ones that are not."""

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from tests.support import chains, fuse_chains
from windowsfilter.engines.portable import privileges
from windowsfilter.engines.portable.fuse import device as fuse_device
from windowsfilter.engines.portable.fuse import mount as fuse_mount
from windowsfilter.engines.portable.fuse.device import Way
from windowsfilter.engines.portable.kernel import KernelError
from windowsfilter.errors import HostError


@pytest.fixture
def device(tmp_path, monkeypatch) -> Path:
    """A file that can be opened, in place of /dev/fuse."""
    path = tmp_path / "fuse"
    path.touch()
    monkeypatch.setattr(fuse_device, "DEVICE", str(path))
    return path


@pytest.fixture
def no_root(monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(privileges, "has_cap_sys_admin", lambda: False)


@pytest.fixture
def program(tmp_path, monkeypatch) -> Path:
    """A fusermount3 that only says what it was called with."""
    path = tmp_path / "fusermount3"
    path.write_text('#!/bin/sh\necho "called with $*" >&2\nexit 1\n')
    path.chmod(0o755)
    monkeypatch.setattr(fuse_device, "_PROGRAM_PATH", str(tmp_path))
    return path


@pytest.mark.parametrize("way", list(Way))
def test_other_systems_have_no_fuse_of_linux(monkeypatch, way):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert fuse_device.reason(way) == "darwin has no FUSE protocol of Linux"
    assert fuse_mount.probe() is not None


@pytest.mark.parametrize("way", list(Way))
def test_a_missing_device_is_named(monkeypatch, tmp_path, way):
    monkeypatch.setattr(fuse_device, "DEVICE", str(tmp_path / "nothing"))
    monkeypatch.setattr(privileges, "has_cap_sys_admin", lambda: True)
    assert "is not loaded" in str(fuse_device.reason(way))
    with pytest.raises(KernelError, match="No such file"):
        fuse_device.open_device()


def test_root_without_the_capability_is_told_what_it_lacks(monkeypatch):
    monkeypatch.setattr(privileges, "has_cap_sys_admin", lambda: False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert fuse_device.reason(Way.DIRECT) == "needs root (CAP_SYS_ADMIN)"


def test_users_need_fusermount_with_its_set_user_id_bit(device, no_root, program, monkeypatch):
    assert fuse_device.reason(Way.FUSERMOUNT) == f"{program} is not set-user-ID root"
    assert fuse_device.choose() is None
    assert fuse_mount.probe() == f"{program} is not set-user-ID root"
    program.chmod(0o4755)
    if program.stat().st_uid == 0:
        assert fuse_device.reason(Way.FUSERMOUNT) is None
        assert fuse_device.choose() is Way.FUSERMOUNT
        assert fuse_mount.probe() is None
    program.unlink()
    assert fuse_mount.probe() == "fusermount3 is not installed"


def test_the_older_program_will_do(device, program):
    program.rename(program.with_name("fusermount"))
    assert fuse_device.find_fusermount() == str(program.with_name("fusermount"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user/max_user_namespaces", "0"),
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ],
)
def test_switched_off_namespaces_are_named(device, no_root, monkeypatch, name, value):
    real = Path.read_text

    def read_text(path: Path) -> str:
        return f"{value}\n" if path == Path("/proc/sys", name) else real(path)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert fuse_device.reason(Way.NAMESPACE) == (
        f"user namespaces are switched off ({name.replace('/', '.')} is {value})"
    )


def test_what_fusermount_refuses_is_passed_on(program, tmp_path):
    with pytest.raises(
        HostError, match=r"mount at .*: called with -o ro,.*allow_other -- /a"
    ) as at:
        fuse_device.mount_fusermount(Path("/a"), allow_other=True, default_permissions=True)
    assert at.value.errno == errno.EPERM
    with pytest.raises(HostError, match="unmount -a: called with -u -z -- -a"):
        fuse_device.unmount_fusermount(Path("-a"), lazy=True)
    program.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(HostError, match="exit code 3"):
        fuse_device.unmount_fusermount(Path("/a"), lazy=False)
    program.write_text("#!/bin/sh\nexit 0\n")  # says it worked, and gives nothing
    with pytest.raises(HostError, match="exit code 0"):
        fuse_device.mount_fusermount(Path("/a"), allow_other=False, default_permissions=False)
    program.unlink()
    with pytest.raises(HostError, match="not installed"):
        fuse_device.mount_fusermount(Path("/a"), allow_other=False, default_permissions=False)
    with pytest.raises(HostError, match="not installed"):
        fuse_device.unmount_fusermount(Path("/a"), lazy=False)


@pytest.mark.root
def test_fusermount_mounts_for_root_too(tmp_path, monkeypatch):
    for way in (Way.DIRECT, Way.FUSERMOUNT):
        if fuse_device.reason(way):
            pytest.skip(f"this machine cannot mount by FUSE: {fuse_device.reason(way)}")
    place = tmp_path / "mnt"
    place.mkdir()
    monkeypatch.setattr(fuse_device, "choose", lambda: Way.FUSERMOUNT)
    with chains.Blobs(tmp_path / "store").chain(fuse_chains.BASE) as chain:
        fuse_mount.mount([layer.directory for layer in chain], place)
        assert (place / "b.txt").read_bytes() == b"hello" * 1000
        assert stat.S_IMODE(os.stat(place).st_mode) == 0o700
        fuse_device.unmount_fusermount(place, lazy=False)
    assert os.listdir(place) == []


@pytest.mark.root
def test_a_mount_that_the_kernel_refuses_names_the_place(tmp_path):
    if fuse_device.reason(Way.DIRECT):
        pytest.skip(f"this machine cannot mount by FUSE: {fuse_device.reason(Way.DIRECT)}")
    with pytest.raises(KernelError, match=r"mount at .*nothing: No such file"):
        fuse_device.mount_direct(tmp_path / "nothing", allow_other=False, default_permissions=True)
