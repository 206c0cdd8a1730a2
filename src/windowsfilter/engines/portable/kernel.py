"""Linux's mount interfaces, called directly: no mount(8), no libmount, no losetup.

The file-descriptor API (fsopen, fsconfig, fsmount, move_mount, open_tree), umount2, and loop
devices. mount(8) cannot be used: it makes a loop device before the kernel sees the image.
A mount made here is *detached*: a file descriptor, visible nowhere until `attach`; it goes away with
its last user. Every failure is a KernelError with errno and the kernel's own words.
Sources: Documentation/filesystems/mount_api.rst, uapi/linux/mount.h, uapi/linux/loop.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterator
from enum import IntFlag
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from windowsfilter.errors import HostError

_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = range(428, 433)
# The numbers are the same everywhere since 5.2, but these count from elsewhere.
_FIRST_NUMBER = {"alpha": 110, "mips": 4000, "mips64": 5000}

_AT_FDCWD = -100
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_OPEN_TREE_CLONE = 1
_MOVE_FROM_EMPTY_PATH = 4
_SET_FLAG, _SET_STRING, _SET_FD, _CREATE = 0, 1, 5, 6
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
MAX_STRING = 255
"""Bytes in one value of `FilesystemContext.string`: fsconfig takes no more."""

_LOOP_CONTROL = "/dev/loop-control"
_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LOOP_READ_ONLY, _LOOP_AUTOCLEAR = 1, 4
# loop_config: fd, block size, loop_info64 (device .. sizelimit; number .. flags; names, keys), rest.
_LOOP_CONFIG = struct.Struct("=II40xIIII64s112x64x")
_LOOP_TRIES = 64  # somebody else may take the free device between the two calls


class KernelError(HostError):
    """A system call failed. `errno` says how, the text what was tried and what the kernel said."""

    def __init__(self, number: int, what: str, said: str = "") -> None:
        text = f"{what}: {os.strerror(number)}"
        super().__init__(number, f"{text} ({said})" if said else text)

    def __str__(self) -> str:
        return str(self.strerror)


class MountAttribute(IntFlag):
    """MOUNT_ATTR_* of uapi/linux/mount.h."""

    READ_ONLY = 1
    NO_SUID = 2
    NO_DEV = 4
    NO_EXEC = 8


class FilesystemContext:
    """A file system being configured: fsopen, options, then one `mount`. A context manager."""

    def __init__(self, kind: str) -> None:
        """Raises KernelError: ENODEV without such a file system, EPERM without the privilege."""
        self._kind = kind
        self._descriptor = _call(
            _FSOPEN,
            ctypes.c_char_p(kind.encode()),
            _FSOPEN_CLOEXEC,
            what=f"open file system {kind}",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def flag(self, key: str) -> None:
        """Set an option that has no value, such as `ro`."""
        self._configure(_SET_FLAG, key, None, 0)

    def string(self, key: str, value: str | bytes | Path) -> None:
        """Set an option to a text of at most MAX_STRING bytes; commas need no escape."""
        data = os.fsencode(value)
        if len(data) > MAX_STRING:
            raise KernelError(errno.ENAMETOOLONG, f"set {key} of {self._kind}")
        self._configure(_SET_STRING, key, ctypes.c_char_p(data), 0)

    def descriptor(self, key: str, descriptor: int) -> None:
        """Set an option to an open file or directory. Older kernels know few such options."""
        self._configure(_SET_FD, key, None, descriptor)

    def mount(self, attributes: MountAttribute) -> int:
        """Make the file system and mount it, detached. The caller closes the descriptor."""
        self._configure(_CREATE, None, None, 0)
        return _call(
            _FSMOUNT,
            self._descriptor,
            _FSMOUNT_CLOEXEC,
            int(attributes),
            what=f"mount {self._kind}",
        )

    def _configure(
        self, command: int, key: str | None, value: ctypes.c_char_p | None, number: int
    ) -> None:
        what = f"mount {self._kind}" if key is None else f"set {key} of {self._kind}"
        name = None if key is None else ctypes.c_char_p(key.encode())
        try:
            _call(_FSCONFIG, self._descriptor, command, name, value, number, what=what)
        except KernelError as error:
            raise KernelError(error.errno or 0, what, self._said()) from None

    def _said(self) -> str:
        """What the kernel has to say about this context, oldest first."""
        os.set_blocking(self._descriptor, False)
        messages = []
        with contextlib.suppress(OSError):  # ENODATA: nothing more
            while message := os.read(self._descriptor, 4096):
                # "e erofs: text": a letter for the severity first.
                messages.append(message.decode(errors="replace").strip()[2:])
        return "; ".join(messages)


def has_filesystem(kind: str) -> str | None:
    """Why file systems of this kind cannot be mounted here; None if they can."""
    if not sys.platform.startswith("linux"):
        return f"{sys.platform} has no mount API"
    try:
        with FilesystemContext(kind):
            return None
    except KernelError as error:
        if error.errno == errno.ENODEV:
            return f"the kernel has no {kind}"
        if error.errno == errno.EPERM:
            return "needs root (CAP_SYS_ADMIN)"
        if error.errno == errno.ENOSYS:
            return "the kernel has no mount API (5.2)"
        return str(error)


def attach(mount: int, target: Path | str) -> None:
    """Show a detached mount at an existing directory. The descriptor stays the caller's."""
    _call(
        _MOVE_MOUNT,
        mount,
        ctypes.c_char_p(b""),
        _AT_FDCWD,
        ctypes.c_char_p(os.fsencode(target)),
        _MOVE_FROM_EMPTY_PATH,
        what=f"mount at {target}",
    )


def clone_tree(directory: int, path: bytes) -> int:
    """A new detached mount of the subtree at `path` below an open directory or mount.

    It keeps the flags of the mount that it was taken from. The caller closes the descriptor.
    """
    return _call(
        _OPEN_TREE,
        directory,
        ctypes.c_char_p(path),
        _OPEN_TREE_CLONE | os.O_CLOEXEC,
        what=f"take the subtree {path.decode(errors='replace')}",
    )


def unmount(target: Path | str, *, lazy: bool = False) -> None:
    """Remove the topmost mount at `target`, never through a symbolic link.

    `lazy` takes it out of sight at once and ends it when nobody uses it any more; otherwise a
    busy mount raises EBUSY. EINVAL: nothing is mounted there.
    """
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    if _libc().umount2(ctypes.c_char_p(os.fsencode(target)), ctypes.c_int(flags)):
        raise KernelError(ctypes.get_errno(), f"unmount {target}")


@contextlib.contextmanager
def loop_device(path: Path) -> Iterator[str]:
    """A read-only loop device over a file, freed with its last user (after the body: its mount)."""
    backing = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        device, name = _configure_loop(backing, path)
    finally:
        os.close(backing)
    try:
        yield name
    finally:
        os.close(device)


def has_loop_devices() -> str | None:
    """Why loop devices cannot be made here; None if they can."""
    try:
        control = os.open(_LOOP_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"{_LOOP_CONTROL}: {error.strerror}"
    os.close(control)
    return None


def _configure_loop(backing: int, path: Path) -> tuple[int, str]:
    import fcntl  # not everywhere, unlike this module

    what = f"make a loop device of {path}"
    config = _LOOP_CONFIG.pack(
        backing, 0, 0, 0, 0, _LOOP_READ_ONLY | _LOOP_AUTOCLEAR, os.fsencode(path.name)[:63]
    )
    try:
        control = os.open(_LOOP_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(error.errno or 0, what) from error
    try:
        for _ in range(_LOOP_TRIES):
            name = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            device = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, config)
                return device, name
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise
    except OSError as error:
        raise KernelError(error.errno or 0, what) from error
    finally:
        os.close(control)
    raise KernelError(errno.EBUSY, what)


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


@cache
def _number(generic: int) -> int:
    machine = platform.machine()
    if machine == "mips64" and struct.calcsize("P") == 4:
        machine = "mips"
    return generic + _FIRST_NUMBER.get(machine, 0)


def _call(generic: int, *arguments: int | ctypes.c_char_p | None, what: str) -> int:
    # syscall() is variadic: every argument must have the full width of a register.
    words = [
        ctypes.c_void_p(None)
        if word is None
        else ctypes.c_long(word)
        if isinstance(word, int)
        else word
        for word in (*arguments, *(0,) * (5 - len(arguments)))
    ]
    result = int(_libc().syscall(ctypes.c_long(_number(generic)), *words))
    if result < 0:
        raise KernelError(ctypes.get_errno(), what)
    return result
