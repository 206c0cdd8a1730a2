"""Which process this is, and whether another one still runs.

A pid alone does not name a process, since the kernel gives it away again: start time, boot and pid
namespace make it unique. Source: proc(5), /proc/<pid>/stat field 22. Other systems than Linux get
what they can answer: whether the pid exists.
"""

from __future__ import annotations

import functools
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_STARTTIME = 19  # field 22 of stat(5), counted from the one after the command's ")"


@dataclass(frozen=True, slots=True)
class Process:
    """One process for all time. Empty and 0 mean that the system does not tell."""

    pid: int
    start_time: int  # clock ticks since boot
    namespace: str  # of pids


def current() -> Process:
    """This process (not cached: a fork is another one)."""
    pid = os.getpid()
    return Process(pid, _start_time(pid) or 0, _namespace())


@functools.cache
def boot_id() -> str:
    """The kernel's name for the time since it started, "" where there is none."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def is_alive(process: Process, boot: str) -> bool:
    """Whether `process` of the boot `boot` still runs; True when that cannot be found out."""
    if is_past(boot):
        return False
    if process.namespace != _namespace():
        return True  # its pid means nothing here
    if process.start_time == 0:  # a system that does not tell
        return _exists(process.pid)
    return _start_time(process.pid) == process.start_time


def is_past(boot: str) -> bool:
    """Whether the machine has been started again since `boot`."""
    return boot != boot_id()


def _namespace() -> str:
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _start_time(pid: int) -> int | None:
    """None if there is no such process, or only its zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The command in parentheses may itself hold blanks and parentheses.
    fields = text[text.rindex(b")") + 2 :].split()
    return None if fields[0] in {b"Z", b"X"} else int(fields[_STARTTIME])


def _exists(pid: int) -> bool:
    if os.name == "nt":  # there os.kill ends the process whatever the signal
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
