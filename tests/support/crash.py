"""Killing a process before each of its state-changing calls, one after another.

After a call is the same as before the next one, since nothing changes in between.

The calls counted are those through which the store changes anything: the functions of `os` that
create, rename, link, delete or flush, and each statement that opens or ends a transaction. The child
is a fork, so a point costs milliseconds; it dies by SIGKILL, so nothing of it runs afterwards.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

from windowsfilter.store.database import Database

_COUNTED = ("open", "mkdir", "rename", "replace", "unlink", "remove", "rmdir", "fsync", "chmod")


def crash_points(work: Callable[[], None]) -> Iterator[tuple[str, bytes]]:
    """Run `work` in a child again and again, killed at one point later each time.

    Yields the point's name after each death, with what the child reported (`report`); the caller
    checks, and restores the starting state for the next run. Ends when the child gets through.
    """
    for point in range(10_000):
        status, said, calls = _run(work, point)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            return
        assert os.WIFSIGNALED(status), f"the child failed by itself: {calls}"
        yield f"before call {point}, {calls}", said


_reports: list[int] = []


def report(what: bytes) -> None:
    """In the child: tell the parent that something has been done for good."""
    os.write(_reports[-1], what + b"\n")


def _run(work: Callable[[], None], point: int) -> tuple[int, bytes, str]:
    reader, writer = os.pipe()
    calls_reader, calls_writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.close(calls_reader)
        _reports.append(writer)
        code = 1
        try:
            _arm(point, calls_writer)
            work()
            code = 0
        except BaseException as error:  # noqa: BLE001
            os.write(calls_writer, repr(error).encode())
        finally:
            os._exit(code)
    os.close(writer)
    os.close(calls_writer)
    with open(reader, "rb") as file, open(calls_reader, "rb") as calls:
        said, called = file.read(), calls.read().decode()
    return os.waitpid(child, 0)[1], said, called


def _arm(point: int, calls: int) -> None:
    count = -1

    def wrap(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **more: Any) -> Any:
            nonlocal count
            count += 1
            if count == point:
                os.write(calls, name.encode())
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **more)

        return wrapped

    for name in _COUNTED:
        setattr(os, name, wrap(name, getattr(os, name)))
    original = Database._execute

    def execute(self: Database, statement: str) -> None:
        wrap(statement, original)(self, statement)

    Database._execute = execute  # type: ignore[method-assign]
