"""Mounting a chain by FUSE: starts the process that serves it, and ends it again.

The server is a process of its own, because a process that reads a mount which it serves itself can
wait for itself for ever. It lives as long as the mount. Two forms:
* `mount`: at a directory, for everybody with the right to see it; as root, or by fusermount3.
* `private_mount` and `run`: in a user namespace, for an unprivileged user without any helper; the
  mount is reached through /proc, or by a command that runs inside the namespace.
Who owns which mount is not known here; the store keeps book.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from windowsfilter.engines.portable import kernel, privileges
from windowsfilter.engines.portable.fuse import device as fuse_device
from windowsfilter.engines.portable.fuse.device import Way
from windowsfilter.engines.portable.fuse.nodes import Presentation
from windowsfilter.engines.portable.fuse.task import Report, Task
from windowsfilter.engines.portable.view import View
from windowsfilter.errors import HostError, UsageError

CHILD_MODULE = "windowsfilter.cli._fuse_child"
UNMOUNT_WAIT_S = 3.0
"""For a server's end: it takes milliseconds, unless a copy of the mount lives in another namespace."""
_MAX_REPORT = 1 << 20
_START_TIME = 19  # in /proc/PID/stat, counted from the state: proc(5)


@dataclass(frozen=True, slots=True)
class FuseMount:
    """A mount and the process that serves it."""

    target: Path
    server: int
    """Process id."""


def probe() -> str | None:
    """Why `mount` cannot work here, None if it should."""
    if fuse_device.choose() is not None:
        return None
    return fuse_device.reason(Way.FUSERMOUNT if os.geteuid() else Way.DIRECT)


def probe_private() -> str | None:
    """Why `private_mount` and `run` cannot work here, None if they should."""
    return fuse_device.reason(Way.NAMESPACE)


def mount(
    layers: Sequence[Path],
    target: Path,
    *,
    view: str = View.VOLUME,
    overlay_lower: bool = False,
    streams: bool = False,
    allow_other: bool = False,
    private: bool | None = None,
) -> FuseMount:
    """Show a chain at an existing directory; returns when the mount works, and it stays.

    `layers` are the folders of the chain's blobs, the base first. Names are found in any case,
    unless `overlay_lower` prepares the mount for overlayfs. `streams` shows `name:stream` beside
    each file. Only the caller's user sees the mount unless `allow_other`; for what is stacked over
    it, `private` (by default for `overlay_lower`) takes others' rights from the top directories.
    Raises HostError if the machine refuses, UsageError if there is no such view or directory,
    StoreDamaged for blobs that cannot be read.
    """
    way = fuse_device.choose()
    if way is None:
        raise HostError(errno.EPERM, f"mount at {target}: {probe()}")
    private = overlay_lower or not allow_other if private is None else private
    how = replace(
        _presentation(way, view, streams=streams), overlay_lower=overlay_lower, private=private
    )
    task = Task(
        layers=tuple(folder.absolute() for folder in layers),
        target=_directory(target),
        way=way,
        how=how,
        allow_other=allow_other,
    )
    process, control = _start(task)
    with control, process:
        return FuseMount(task.target, _read_report(process, control).check())


def unmount(target: Path, *, lazy: bool = False, server: int | None = None) -> None:
    """Remove the mount at `target`; EBUSY if it is in use, unless `lazy` leaves that for later.

    Returns when the server is gone, and with it its hold on the blobs' space. `server`, the process
    id that `mount` gave, is needed for that where `target` is another mount that stands on it.
    Raises HostError.
    """
    if server is None and not lazy:
        server = find_server(target)
    with contextlib.ExitStack() as stack:
        waiting = None if server is None or lazy else _open_process(server)
        if waiting is not None:
            stack.callback(os.close, waiting)
        if fuse_device.reason(Way.DIRECT) is None:
            kernel.unmount(target, lazy=lazy)
        else:
            fuse_device.unmount_fusermount(target, lazy=lazy)
        if waiting is not None:
            select.select([waiting], [], [], UNMOUNT_WAIT_S)


def find_server(target: Path) -> int | None:
    """The process that serves the topmost mount at `target`; None if none is seen from here."""
    words = [CHILD_MODULE.encode(), os.fsencode(target.absolute())]
    servers = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if (entry / "cmdline").read_bytes().split(b"\0")[3:6:2] == words:
                    fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                    servers.append((int(fields[_START_TIME]), int(entry.name)))
    return max(servers, default=(0, None))[1]


@contextlib.contextmanager
def private_mount(
    layers: Sequence[Path], *, view: str = View.VOLUME, streams: bool = False
) -> Iterator[Path]:
    """A chain at a path below /proc, without privileges: any process of this user can read it.

    The mount lies in a user namespace of its own and goes away with the body. Raises as `mount`.
    """
    problem = probe_private()
    if problem is not None:
        raise HostError(errno.EPERM, f"mount: {problem}")
    with tempfile.TemporaryDirectory(prefix="windowsfilter-") as place:
        task = Task(
            layers=tuple(folder.absolute() for folder in layers),
            target=Path(place),
            way=Way.NAMESPACE,
            how=_presentation(Way.NAMESPACE, view, streams=streams),
        )
        process, control = _start(task)
        with process, control:  # the server ends when it sees this end of `control` closed
            server = _read_report(process, control).check()
            yield Path(f"/proc/{server}/root{place}")


def run(
    layers: Sequence[Path],
    target: Path,
    command: Sequence[str],
    *,
    view: str = View.VOLUME,
    streams: bool = False,
) -> int:
    """Run `command` where a chain is mounted at `target`, without privileges; its exit code.

    Nobody else sees the mount, and it ends with the command. 128 + N stands for a signal N.
    Raises as `mount`, and HostError if the command cannot be started.
    """
    problem = probe_private()
    if problem is not None:
        raise HostError(errno.EPERM, f"mount at {target}: {problem}")
    task = Task(
        layers=tuple(folder.absolute() for folder in layers),
        target=_directory(target),
        way=Way.NAMESPACE,
        how=_presentation(Way.NAMESPACE, view, streams=streams),
        command=tuple(command),
    )
    process, control = _start(task, terminal=True)
    with process, control:
        _read_report(process, control).check()
        return process.wait()


def _presentation(way: Way, view: str, *, streams: bool) -> Presentation:
    name = View(view)
    if way is Way.DIRECT and privileges.in_initial_namespace():
        return Presentation(view=name, streams=streams)
    return Presentation(
        view=name,
        streams=streams,
        xattr_prefix=b"user.",
        owner=(os.geteuid(), os.getegid()),
    )


def _directory(target: Path) -> Path:
    if not target.is_dir():
        raise UsageError(f"mount at {target}: it is not an existing directory")
    return target.absolute()


def _start(task: Task, *, terminal: bool = False) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a server; `terminal` gives it (and its command) the caller's standard streams."""
    title = "private" if task.way is Way.NAMESPACE else task.target
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(
                # -P: whatever lies in the current directory is not imported. The last word is for
                # `find_server` and for people who look at the list of processes.
                [sys.executable, "-P", "-m", CHILD_MODULE, str(theirs.fileno()), title],
                pass_fds=[theirs.fileno()],
                stdin=None if terminal else subprocess.DEVNULL,
                stdout=None if terminal else subprocess.DEVNULL,
                stderr=None if terminal else subprocess.PIPE,
            )
        except OSError as error:
            ours.close()
            raise HostError(
                error.errno, f"mount: start {sys.executable}: {error.strerror}"
            ) from error
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        ours.sendall(task.build())
    return process, ours


def _read_report(process: subprocess.Popen[bytes], control: socket.socket) -> Report:
    """What the server says once; if it dies before it does, its last words."""
    line = b""
    with contextlib.suppress(ConnectionResetError):
        while not line.endswith(b"\n") and len(line) < _MAX_REPORT:
            piece = control.recv(65536)
            if not piece:
                break
            line += piece
    if line.endswith(b"\n"):
        return Report.parse(line)
    said = b"" if process.stderr is None else process.stderr.read()
    last = said.decode(errors="replace").strip().rpartition("\n")[2]
    return Report(error=f"mount: the server ended before it was ready: {last or 'no message'}")


def _open_process(number: int) -> int | None:
    """A descriptor that becomes readable when a server ends; None if it is none (any more)."""
    try:
        descriptor = os.pidfd_open(number)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        if CHILD_MODULE.encode() in Path(f"/proc/{number}/cmdline").read_bytes():
            return descriptor
    os.close(descriptor)
    return None
