"""An NTFS volume, made by mkntfs and mounted by ntfs-3g for nobody but this process.

The mount is taken out of the mount table as soon as it is there and lives on as a file descriptor:
nobody else can reach it, and when this process dies, however it dies, the kernel ends the mount
and ntfs-3g with it.
"""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from windowsfilter.engines.portable import kernel, privileges
from windowsfilter.engines.portable.volumes import programs
from windowsfilter.engines.portable.volumes.programs import MKNTFS, NTFS_3G, Child
from windowsfilter.errors import HostError

_OPTIONS = (
    "no_detach",  # our child, whose end we wait for
    "no_def_opts",  # above all without allow_other
    "streams_interface=windows",  # streams as `file:stream`: xattrs end at 64 KiB
    "nocompression",
    "norecover",
    "big_writes",
    "noatime",
    "nosuid",
    "nodev",
    "noexec",
)
# A volume in a file has no disk geometry; without these mkntfs warns that Windows cannot boot
# from it. 255 heads of 63 sectors are what every BIOS pretends.
_NO_GEOMETRY = ("-s", "512", "-p", "0", "-H", "255", "-S", "63")
_READY_S = 60.0
_ENDED_S = 600.0
"""For ntfs-3g to write back and end, after gigabytes and on a slow disk."""
_TABLE = "/proc/self/mountinfo"


def check() -> None:
    """Raises HostError, saying what is missing, where no volume can be made."""
    if not sys.platform.startswith("linux"):
        raise HostError(errno.ENOSYS, f"ntfs-3g runs on Linux, and this is {sys.platform}")
    MKNTFS.find()
    NTFS_3G.find()
    if not privileges.has_cap_sys_admin():
        raise HostError(errno.EPERM, "mounting the new volume needs root")


def make(place: Path, *, label: str | None, is_device: bool) -> None:
    """Make an empty NTFS volume over all of a file or device. Raises HostError.

    Serial number and times of the volume's own files are the same every time.
    """
    arguments: list[str | Path] = ["-F", "-Q", "-q", "-T"]
    if not is_device:
        arguments += _NO_GEOMETRY
    if label:
        arguments += ["-L", label]
    programs.run(MKNTFS, [*arguments, place], what=f"make an NTFS volume in {place}")


@contextmanager
def mounted(volume: Path, place: Path) -> Iterator[int]:
    """The root directory of a volume, to be written to; `place` is an empty folder to mount at.

    The descriptor is valid for the body only; those that the body opens it must close. Afterwards
    everything has been given to the kernel: fsync is left to do. Raises HostError.
    """
    what = f"mount the NTFS volume {volume}"
    with tempfile.TemporaryFile() as said:
        child = programs.start(NTFS_3G, ["-o", ",".join(_OPTIONS), volume, place], said, what=what)
        try:
            root = _detached_root(child, place, said, what)
            try:
                yield root
            finally:
                os.close(root)
        except BaseException:
            with suppress(HostError):  # the first error counts
                _end(child, said, what)
            raise
        _end(child, said, what)


def _detached_root(child: Child, place: Path, said: IO[bytes], what: str) -> int:
    """The root of the mount at `place`, once it is there and out of the mount table again."""
    with open(_TABLE, "rb") as table:
        ended = os.pidfd_open(child.pid)
        try:
            poll = select.poll()
            poll.register(table, select.POLLPRI)  # the kernel tells when the table changes
            poll.register(ended, select.POLLIN)
            while not place.is_mount():
                if child.poll() is not None:
                    words = programs.last_words(said, child.returncode)
                    raise HostError(errno.EIO, f"{what}: ntfs-3g failed: {words}")
                if not poll.poll(_READY_S * 1000):
                    raise HostError(errno.ETIMEDOUT, f"{what}: ntfs-3g does not get ready")
        finally:
            os.close(ended)
    try:
        return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        kernel.unmount(place, lazy=True)


def _end(child: Child, said: IO[bytes], what: str) -> None:
    """Wait until ntfs-3g has written everything and is gone. Raises HostError if it failed."""
    # With the last descriptor the mount went, which ends ntfs-3g; the signal serves where somebody
    # made a mount namespace in the moment when the mount was visible.
    child.terminate()
    try:
        code = child.wait(_ENDED_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        raise HostError(errno.ETIMEDOUT, f"{what}: ntfs-3g does not end") from None
    except BaseException:
        child.kill()
        child.wait()
        raise
    if code:
        raise HostError(errno.EIO, f"{what}: ntfs-3g: {programs.last_words(said, code)}")
