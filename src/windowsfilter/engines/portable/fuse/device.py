"""Where FUSE mounts come from: mount(2) on /dev/fuse, fusermount3, a user namespace of one's own.

Runs in the process that will serve the mount (`fuse.mount` starts it). Each way gives the open
device on which requests will arrive; the first, INIT, waits there already. `reason` tells why a way is
closed on this machine. Sources: fs/fuse/inode.c (mount options); libfuse's util/fusermount.c (the
program sends the device over the socket that _FUSE_COMMFD names); user_namespaces(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from pathlib import Path

from windowsfilter.engines.portable import privileges
from windowsfilter.engines.portable.kernel import KernelError
from windowsfilter.errors import HostError

DEVICE = "/dev/fuse"
FILESYSTEM = "fuse.windowsfilter"
"""What mount tables say."""
READ_AHEAD_KIB = 1024
"""As much as one request can carry. Measured: 128, the default, reads big files 25-40 % slower."""

_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 1, 2, 4
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_PROGRAMS = ("fusermount3", "fusermount")
_PROGRAM_PATH = "/run/wrappers/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
_UNESCAPE = re.compile(rb"\\([0-7]{3})")


class Way(StrEnum):
    """How to mount."""

    DIRECT = "direct"
    """mount(2), with the privilege to do so."""
    FUSERMOUNT = "fusermount"
    """The set-user-ID program of libfuse."""
    NAMESPACE = "namespace"
    """A user and mount namespace that only its own processes see."""


def reason(way: Way) -> str | None:
    """Why this way is closed here, None if it seems open. Starts and changes nothing."""
    if not sys.platform.startswith("linux"):
        return f"{sys.platform} has no FUSE protocol of Linux"
    if way is Way.DIRECT and not privileges.has_cap_sys_admin():
        return "needs root (CAP_SYS_ADMIN)"
    problem = _device_problem()
    if problem:
        return problem
    if way is Way.FUSERMOUNT:
        program = find_fusermount()
        if program is None:
            return "fusermount3 is not installed"
        if os.geteuid() and not _is_privileged(program):
            return f"{program} is not set-user-ID root"
        if not _has_name(os.getuid()):
            return f"{program} serves only users with a name, and uid {os.getuid()} has none"
    if way is Way.NAMESPACE:
        return _namespace_problem()
    return None


def choose() -> Way | None:
    """The way for a mount that everybody with the right to it sees at its place."""
    for way in (Way.DIRECT, Way.FUSERMOUNT):
        if reason(way) is None:
            return way
    return None


def find_fusermount() -> str | None:
    """The mount program of libfuse; looked for where systems install it, not where PATH points."""
    for name in _PROGRAMS:
        found = shutil.which(name, path=_PROGRAM_PATH)
        if found:
            return found
    return None


def mount_direct(target: Path, *, allow_other: bool, default_permissions: bool) -> int:
    """Mount at an existing directory by mount(2). The caller closes the device: it ends the mount."""
    device = open_device()
    options = [
        f"fd={device}",
        f"rootmode={stat.S_IFDIR:o}",
        f"user_id={os.geteuid()}",
        f"group_id={os.getegid()}",
        *_common(allow_other=allow_other, default_permissions=default_permissions),
    ]
    try:
        _call_mount(
            b"windowsfilter",
            os.fsencode(target),
            FILESYSTEM.encode(),
            _MS_RDONLY | _MS_NOSUID | _MS_NODEV,
            ",".join(options).encode(),
            what=f"mount at {target}",
        )
    except BaseException:
        os.close(device)
        raise
    return device


def mount_fusermount(target: Path, *, allow_other: bool, default_permissions: bool) -> int:
    """Let fusermount3 mount at a directory that the user owns. The caller closes the device.

    Raises HostError with the program's own words.
    """
    program = find_fusermount()
    if program is None:
        raise HostError(errno.ENOENT, "mount: fusermount3 is not installed")
    options = ["ro", "nosuid", "nodev", "fsname=windowsfilter", "subtype=windowsfilter"]
    options += _common(allow_other=allow_other, default_permissions=default_permissions)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        result = subprocess.run(
            [program, "-o", ",".join(options), "--", os.fspath(target)],
            pass_fds=[theirs.fileno()],
            env={"_FUSE_COMMFD": str(theirs.fileno()), "PATH": _PROGRAM_PATH, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        theirs.close()
        descriptors = socket.recv_fds(ours, 1, 1)[1] if not result.returncode else []
    if not descriptors:
        said = result.stderr.decode(errors="replace").strip() or f"exit code {result.returncode}"
        raise HostError(errno.EPERM, f"mount at {target}: {said}")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def raise_read_ahead(target: Path) -> None:
    """Let the kernel ask for larger pieces of big files; where it may not be, nothing happens.

    Does not touch the mount itself, so its server may call this, once INIT is answered.
    """
    with contextlib.suppress(OSError):
        device = ""
        for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
            fields = line.split(b" ")
            if _UNESCAPE.sub(lambda found: bytes([int(found[1], 8)]), fields[4]) == bytes(target):
                device = fields[2].decode()  # of several, the last is on top
        if device:
            Path(f"/sys/class/bdi/{device}/read_ahead_kb").write_text(str(READ_AHEAD_KIB))


def unmount_fusermount(target: Path, *, lazy: bool) -> None:
    """Unmount what `mount_fusermount` mounted. Raises HostError with the program's own words."""
    program = find_fusermount()
    if program is None:
        raise HostError(errno.ENOENT, "unmount: fusermount3 is not installed")
    result = subprocess.run(
        [program, "-u", *(["-z"] if lazy else []), "--", os.fspath(target)],
        env={"PATH": _PROGRAM_PATH, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if result.returncode:
        said = result.stderr.decode(errors="replace").strip() or f"exit code {result.returncode}"
        number = errno.EBUSY if "busy" in said else errno.EINVAL
        raise HostError(number, f"unmount {target}: {said}")


def enter_namespace() -> None:
    """Move this process, which must have one thread, to a user and mount namespace of its own.

    Ids stay what they are. Mounts made from now on are seen by this process and its children only:
    the mounts of a namespace with fewer rights are slaves of those it was copied from.
    Raises KernelError.
    """
    uid, gid = os.geteuid(), os.getegid()
    if _libc().unshare(_CLONE_NEWUSER | _CLONE_NEWNS):
        raise KernelError(ctypes.get_errno(), "make a user namespace")
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    except OSError as error:
        raise KernelError(error.errno or 0, "map ids into a user namespace") from error


def open_device() -> int:
    """/dev/fuse, open; each opening is another file system. Raises KernelError."""
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(error.errno or 0, f"open {DEVICE}") from error


def _common(*, allow_other: bool, default_permissions: bool) -> Iterable[str]:
    if default_permissions:
        yield "default_permissions"
    if allow_other:
        yield "allow_other"


def _device_problem() -> str | None:
    """Why /dev/fuse cannot be used, None if it can."""
    try:
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return f"there is no {DEVICE} (the module fuse is not loaded?)"
    except OSError as error:
        return f"{DEVICE}: {error.strerror}"
    os.close(device)
    return None


def _namespace_problem() -> str | None:
    """What forbids unprivileged user namespaces here, as far as the system tells."""
    switches = (
        ("user/max_user_namespaces", "0"),
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    )
    for name, off in switches if os.geteuid() else switches[:1]:
        try:
            value = Path("/proc/sys", name).read_text().strip()
        except OSError:
            continue  # this kernel has no such switch
        if value == off:
            return f"user namespaces are switched off ({name.replace('/', '.')} is {value})"
    if not Path("/proc/self/ns/user").exists():
        return "the kernel has no user namespaces"
    return None


def _is_privileged(program: str) -> bool:
    """Whether a program runs as root, by its set-user-ID bit or by file capabilities."""
    found = os.stat(program)
    if found.st_mode & stat.S_ISUID and found.st_uid == 0:
        return True
    try:
        return bool(os.getxattr(program, "security.capability"))
    except OSError:
        return False


def _has_name(uid: int) -> bool:
    """Whether this user is one of those that the system knows by name."""
    import pwd  # not there on Windows

    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _call_mount(
    source: bytes, target: bytes, kind: bytes, flags: int, data: bytes, *, what: str
) -> None:
    result = _libc().mount(
        ctypes.c_char_p(source),
        ctypes.c_char_p(target),
        ctypes.c_char_p(kind),
        ctypes.c_ulong(flags),
        ctypes.c_char_p(data),
    )
    if result:
        raise KernelError(ctypes.get_errno(), what)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
