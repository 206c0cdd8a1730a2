import errno
import os
import re
from pathlib import Path

import pytest

from windowsfilter.engines.portable import kernel
from windowsfilter.engines.portable.kernel import FilesystemContext, KernelError, MountAttribute
from windowsfilter.errors import HostError

pytestmark = pytest.mark.root


def test_failures_carry_errno_and_the_kernels_words():
    with FilesystemContext("tmpfs") as context, pytest.raises(KernelError) as caught:
        context.string("nonsense", "1")
    assert isinstance(caught.value, HostError)
    assert caught.value.errno == errno.EINVAL
    assert re.match(r"set nonsense of tmpfs: Invalid argument \(.*nonsense", str(caught.value))


def test_unknown_file_systems_are_told():
    assert kernel.has_filesystem("tmpfs") is None
    assert kernel.has_filesystem("nosuchfs") == "the kernel has no nosuchfs"


def test_values_that_the_kernel_would_cut_are_refused():
    with FilesystemContext("tmpfs") as context, pytest.raises(KernelError) as caught:
        context.string("mode", "0" * 256)
    assert caught.value.errno == errno.ENAMETOOLONG


def test_a_detached_mount_is_used_attached_cloned_and_taken_away(tmp_path: Path):
    with FilesystemContext("tmpfs") as context:
        context.string("mode", "0755")
        mount = context.mount(MountAttribute.NO_SUID | MountAttribute.NO_DEV)
    try:
        os.mkdir("sub", dir_fd=mount)
        kernel.attach(mount, tmp_path)
        try:
            (tmp_path / "sub" / "file").write_bytes(b"1")
            clone = kernel.clone_tree(mount, b"sub")
            try:
                assert os.listdir(f"/proc/self/fd/{clone}") == ["file"]
            finally:
                os.close(clone)
            with pytest.raises(KernelError) as caught:
                kernel.clone_tree(mount, b"nothing")
            assert caught.value.errno == errno.ENOENT
        finally:
            kernel.unmount(tmp_path, lazy=True)
    finally:
        os.close(mount)
    assert not os.listdir(tmp_path)


def test_unmount_does_not_follow_links(tmp_path: Path):
    (tmp_path / "link").symlink_to("/proc")
    with pytest.raises(KernelError):
        kernel.unmount(tmp_path / "link")


def test_a_loop_device_shows_its_file_and_goes_away(tmp_path: Path):
    if kernel.has_loop_devices() is not None:
        pytest.skip(f"this machine cannot: {kernel.has_loop_devices()}")
    path = tmp_path / "file"
    path.write_bytes(b"x" * 4096)
    with kernel.loop_device(path) as device:
        assert Path(device).read_bytes() == b"x" * 4096
        backing = Path("/sys/block", Path(device).name, "loop/backing_file")
        assert backing.read_text().strip() == str(path)
        assert Path("/sys/block", Path(device).name, "ro").read_text().strip() == "1"
    assert not backing.exists() or backing.read_text().strip() != str(path)


def test_a_missing_file_has_no_loop_device(tmp_path: Path):
    with pytest.raises(FileNotFoundError), kernel.loop_device(tmp_path / "none"):
        pass
