"""Block devices: whether one may be overwritten.

It may only if nobody uses it and there is nothing on it. That is looked for where every file system,
partition table and array keeps what makes it one: in the first and the last mebibyte. Where blkid
is installed its opinion counts, too.
Sources: sysfs(5), proc_swaps(5), block devices and O_EXCL in open(2).
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from windowsfilter.engines.portable.volumes.programs import BLKID, ENVIRONMENT
from windowsfilter.errors import HostError, UsageError

_EDGE = 1 << 20
_SECTOR = 4096  # the largest there is
_BLKID_FOUND = 0  # and 2 where it knows nothing of what is there


def is_device(place: Path) -> bool:
    """Whether there is a block device. Raises UsageError for a character device and the like."""
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISBLK(mode):
        return True
    if not stat.S_ISREG(mode):
        raise UsageError(f"{place} is neither a file nor a block device")
    return False


def check_unused(device: Path) -> int:
    """The size of a device that is not in use and empty.

    Raises UsageError saying who uses it or what is on it, HostError if it cannot be read.
    """
    number = device.stat().st_rdev
    user = _user_of(number)
    if user is not None:
        raise UsageError(f"{device} is in use: {user}")
    try:
        # Whoever has it mounted, in whatever namespace, or stacked something on it has it so, too.
        descriptor = os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise UsageError(f"{device} is in use: the kernel says it is busy") from error
        raise HostError(error.errno, f"open {device}: {error.strerror}") from error
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        for start in (0, max(0, size - _EDGE)):
            if _has_data(descriptor, start):
                raise UsageError(
                    f"{device} is not empty: there is data in its "
                    f"{'last' if start else 'first'} mebibyte; wipe it first"
                )
    except OSError as error:
        raise HostError(error.errno, f"read {device}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if _blkid_knows(device):
        raise UsageError(f"{device} is not empty: blkid finds something on it; wipe it first")
    return size


def hide_volume(device: Path) -> bytes:
    """Take the boot sector away until `show_volume`: nobody mistakes what is unfinished for a volume.

    For a volume that is mounted: nothing reads its boot sector again. Raises OSError.
    """
    with device.open("r+b", buffering=0) as file:
        boot = file.read(_SECTOR)
        file.seek(0)
        file.write(bytes(len(boot)))
        os.fsync(file.fileno())
    return boot


def show_volume(device: Path, boot: bytes) -> None:
    """Put the boot sector back. Raises OSError."""
    with device.open("r+b", buffering=0) as file:
        file.write(boot)


@contextmanager
def wiped_on_error(device: Path) -> Iterator[None]:
    """Leave no volume that looks whole on a device if the body fails: its ends are zeros again."""
    try:
        yield
    except BaseException:
        with suppress(OSError):  # the first error counts
            descriptor = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
            try:
                size = os.lseek(descriptor, 0, os.SEEK_END)
                for start in (0, max(0, size - _EDGE)):
                    os.pwrite(descriptor, bytes(min(_EDGE, size - start)), start)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        raise


def _user_of(number: int) -> str | None:
    """Who uses the device of that number, in words; None if nobody can be found."""
    name = f"{os.major(number)}:{os.minor(number)}"
    for namespace in _mount_tables():
        for line in namespace.splitlines():
            fields = line.split(b" ")
            if len(fields) > 4 and fields[2] == name.encode():
                return f"mounted at {os.fsdecode(fields[4])}"
    with suppress(OSError):
        for swap in Path("/proc/swaps").read_text().splitlines()[1:]:
            with suppress(OSError, IndexError):
                if Path(swap.split()[0]).stat().st_rdev == number:
                    return "it is swap"
    block = Path("/sys/dev/block", name)
    with suppress(OSError):
        holders = sorted(holder.name for holder in (block / "holders").iterdir())
        if holders:
            return f"{', '.join(holders)} stand on it"
    with suppress(OSError):
        parts = sorted(part.parent.name for part in block.glob("*/partition"))
        if parts:
            return f"it has the partitions {', '.join(parts)}"
    return None


def _mount_tables() -> Iterator[bytes]:
    """The table of each mount namespace that can be seen from here, our own first."""
    seen: set[str] = set()
    for process in ("self", *filter(str.isdecimal, os.listdir("/proc"))):
        with suppress(OSError):
            namespace = os.readlink(f"/proc/{process}/ns/mnt")
            if namespace not in seen:
                seen.add(namespace)
                yield Path(f"/proc/{process}/mountinfo").read_bytes()


def _has_data(descriptor: int, start: int) -> bool:
    data = os.pread(descriptor, _EDGE, start)
    return data.count(0) != len(data)


def _blkid_knows(device: Path) -> bool:
    try:
        blkid = BLKID.find()
    except HostError:
        return False
    done = subprocess.run(
        [blkid, "-p", device],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
        check=False,
    )
    return done.returncode == _BLKID_FOUND
