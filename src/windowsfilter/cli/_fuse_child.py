"""The process behind a FUSE mount; not for people. `engines/portable/fuse/mount.py` starts it.

The first argument is the number of a socket. It carries the task, then the report that the mount
works or why it does not; with a mount in a namespace, its end tells the server to go. The second
argument, the mount point, only shows in the list of processes.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import NoReturn

from windowsfilter.cli.descriptors import raise_limit
from windowsfilter.engines.portable.fuse import device as fuse_device
from windowsfilter.engines.portable.fuse.device import Way
from windowsfilter.engines.portable.fuse.task import Report, Task, serve_task
from windowsfilter.errors import HostError

_SYSTEM_LOG = "/dev/log"
_MAX_TASK = 16 << 20

log = logging.getLogger(__name__)


def main() -> int:
    """Serve one mount. The exit code is the namespaced command's, if there is one."""
    raise_limit()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        task = Task.parse(_read_line(control))
        try:
            if task.way is not Way.NAMESPACE:
                _become_daemon()
                return _serve(task, control, stays=True)
            fuse_device.enter_namespace()
            if task.command:
                return _run_command(task, control)
        except Exception as error:  # noqa: BLE001 - the top of a process
            _report(control, Report.failure(error))
            return 1
        threading.Thread(target=_end_with, args=(control,), daemon=True).start()
        return _serve(task, control, stays=False)


def _serve(task: Task, control: socket.socket, *, stays: bool) -> int:
    """Serve until the mount goes away. With `stays`, the starter is let go once the mount works."""
    signal.signal(signal.SIGTERM, _terminate)

    def ready() -> None:
        if not task.command:
            _leave_streams()
        if not _report(control, Report(server=os.getpid())):
            raise HostError(0, "whoever wanted the mount is gone")
        if stays:
            control.close()

    try:
        serve_task(task, ready)
    except Exception as error:  # noqa: BLE001 - the top of a process
        log.error("serve %s: %s", task.target, error)
        _report(control, Report.failure(error))
        return 1
    return 0


def _run_command(task: Task, control: socket.socket) -> int:
    """Run the task's command beside a server that is a child and ends with this process."""
    ours, theirs = socket.socketpair()
    if not os.fork():
        _serve_beside(task, theirs, (ours, control))
    theirs.close()
    with ours:
        line = _read_line(ours)
        report = Report.parse(line) if line else Report(error="mount: the server died")
        if report.error:
            _report(control, report)
            return 1
        try:
            command = subprocess.Popen(task.command)
        except OSError as error:
            reason = f"run {task.command[0]}: {error.strerror}"
            _report(control, Report.failure(HostError(error.errno, reason)))
            return 1
        # Keys like ^C are for the command: it decides whether to end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGQUIT, signal.SIG_IGN)
        _report(control, report)
        code = command.wait()
        return 128 - code if code < 0 else code


def _serve_beside(
    task: Task, control: socket.socket, others: tuple[socket.socket, ...]
) -> NoReturn:
    """The server's side of the fork in `_run_command`."""
    code = 1
    try:
        for other in others:
            other.close()
        os.setsid()
        threading.Thread(target=_end_with, args=(control,), daemon=True).start()
        code = _serve(task, control, stays=False)
    finally:
        os._exit(code)


def _end_with(control: socket.socket) -> NoReturn:
    """End this process when the other end of `control` is closed, by will or by death."""
    with contextlib.suppress(OSError):
        while control.recv(1):
            pass
    # The mount ends with the last process of its namespace; nothing else needs to be undone.
    os._exit(0)


def _become_daemon() -> None:
    """Go on as a child of nobody, in a session without a terminal, holding no directory."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")


def _leave_streams() -> None:
    """Let go of the starter's standard streams; messages go to the system's log if there is one."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    os.close(null)
    if Path(_SYSTEM_LOG).exists():
        with contextlib.suppress(OSError):
            handler = logging.handlers.SysLogHandler(_SYSTEM_LOG)
            handler.setFormatter(logging.Formatter("windowsfilter[%(process)d]: %(message)s"))
            logging.getLogger().addHandler(handler)


def _terminate(_: int, __: FrameType | None) -> NoReturn:
    raise SystemExit(0)  # serve_task unmounts on its way out


def _read_line(control: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < _MAX_TASK:
        piece = control.recv(65536)
        if not piece:
            break
        line += piece
    return line


def _report(control: socket.socket, report: Report) -> bool:
    """Send a report; False if nobody is there (any more) to read it."""
    try:
        control.sendall(report.build())
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
