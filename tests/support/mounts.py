"""Folders in which images can be mounted, wherever the tests run; and what a mount shows."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from windowsfilter.engines.portable import kernel, mounting
from windowsfilter.engines.portable.mounting import Access


@contextmanager
def disk(folder: Path, *, megabytes: int = 256) -> Iterator[Path]:
    """`folder`, or an ext4 file system made in it where `folder` cannot hold image files.

    Skips the test where nothing can be mounted at all.
    """
    missing = kernel.has_filesystem("erofs") or kernel.has_filesystem("overlay")
    if missing:
        pytest.skip(f"this machine cannot mount images: {missing}")
    if mounting.probe(Access.FILE, folder) is None:
        yield folder
        return
    if kernel.has_loop_devices() or not shutil.which("mkfs.ext4", path=os.defpath + ":/usr/sbin"):
        pytest.skip("this machine cannot mount image files from its temporary folder")
    backing, place = folder / "disk.ext4", folder / "disk"
    with backing.open("wb") as file:
        file.truncate(megabytes << 20)
    mkfs = shutil.which("mkfs.ext4", path=os.defpath + ":/usr/sbin") or "mkfs.ext4"
    subprocess.run([mkfs, "-q", "-F", backing], check=True, capture_output=True)
    place.mkdir()
    # mount(8) makes a writable loop device, ours are read-only.
    subprocess.run(["mount", "-o", "loop", backing, place], check=True, capture_output=True)
    try:
        yield place
    finally:
        kernel.unmount(place, lazy=True)


@contextmanager
def tmpfs(folder: Path) -> Iterator[None]:
    """A file system of 16 MiB in memory at `folder`, which cannot back images."""
    with kernel.FilesystemContext("tmpfs") as context:
        context.string("mode", "0700")
        context.string("size", "16m")
        mount = context.mount(kernel.MountAttribute.NO_DEV)
    try:
        kernel.attach(mount, folder)
    finally:
        os.close(mount)
    try:
        yield
    finally:
        kernel.unmount(folder)


def picture(root: Path | str) -> dict[str, tuple[object, ...]]:
    """Path below `root` -> what stat, readlink, the attributes and the content say."""
    shown: dict[str, tuple[object, ...]] = {}
    pending = [""]
    while pending:
        above = pending.pop()
        for name in os.listdir(os.path.join(root, above)):
            path = os.path.join(above, name)
            full = os.path.join(root, path)
            info = os.lstat(full)
            data: object = None
            if stat.S_ISDIR(info.st_mode):
                pending.append(path)
            elif stat.S_ISLNK(info.st_mode):
                data = os.readlink(full)
            else:
                data = Path(full).read_bytes()
            xattrs = {
                key: os.getxattr(full, key, follow_symlinks=False)
                for key in os.listxattr(full, follow_symlinks=False)
                if key.startswith("trusted.windows.")
            }
            shown[path] = (info.st_mode, info.st_mtime_ns, info.st_uid, info.st_gid, data, xattrs)
    return shown
