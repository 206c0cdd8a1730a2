"""Running one thing and saying what it took: seconds, processor time, memory, space."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WATCH_S = 0.02
_PAGE = os.sysconf("SC_PAGE_SIZE")


class BenchError(Exception):
    """Something that was to be measured failed; the message has its output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one command took."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    """Largest resident size: of the process, or of its whole family if that was watched."""
    stdout: str
    stderr: str
    code: int

    def json(self) -> Any:
        """What it printed, as a JSON document."""
        try:
            return json.loads(self.stdout)
        except ValueError:
            raise BenchError(f"no JSON: {self.stdout[:500]!r}") from None


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    watch: bool = False,
    stdin: Path | None = None,
    stdout: Path | None = None,
    check: bool = True,
) -> Run:
    """Run a command to its end. `watch` adds up the memory of all its children, too.

    Raises BenchError if it fails, unless `check` is off.
    """
    argv = [os.fspath(part) for part in command]
    with (
        tempfile.TemporaryFile() as errors,
        stdout.open("w+b") if stdout else tempfile.TemporaryFile() as output,
        (stdin or Path(os.devnull)).open("rb") as source,
    ):
        start = time.perf_counter()
        process = subprocess.Popen(argv, stdin=source, stdout=output, stderr=errors)
        family = _Family(process.pid) if watch else None
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        code = process.returncode = os.waitstatus_to_exitcode(status)
        peak = max(usage.ru_maxrss * 1024, family.stop() if family else 0)
        errors.seek(0)
        error_text = errors.read().decode(errors="replace")
        output.seek(0)
        text = "" if stdout else output.read().decode(errors="replace")
    if check and code:
        raise BenchError(f"{' '.join(argv)}: exit code {code}\n{error_text.strip()[-2000:]}")
    return Run(
        wall_s=wall,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_bytes=peak,
        stdout=text,
        stderr=error_text,
        code=code,
    )


class _Family:
    """Watches the resident memory of a process and its descendants until stopped."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._over.wait(_WATCH_S):
            self._peak = max(self._peak, _resident(self._pid))


def _resident(pid: int) -> int:
    """Bytes of a process and its descendants; a process that is gone counts 0."""
    total = 0
    try:
        total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(map(_resident, map(int, (task / "children").read_text().split())))
    except (OSError, IndexError):
        pass
    return total


def settle() -> None:
    """Write everything out, so that one measurement does not pay for the one before."""
    os.sync()


def drop_caches() -> None:
    """Forget what was read. Root only."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def warm(*files: Path) -> None:
    """Bring files into the page cache."""
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while stream.read(1 << 20):
                pass


def free_bytes(place: Path) -> int:
    """Free space of the file system, by statvfs."""
    status = os.statvfs(place)
    return status.f_bfree * status.f_frsize


def allocated(place: Path) -> int:
    """Bytes of disk below a folder, each file once however many names it has."""
    seen = set()
    total = 0
    for folder, _, names in os.walk(place):
        for name in (".", *names):
            status = os.lstat(os.path.join(folder, name))
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total
