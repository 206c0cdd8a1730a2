"""Locks between threads and between processes, dropped by the kernel when their holder dies.

Every lock is one byte of `ROOT/lock`, locked through an open file description of its own, so two
threads exclude each other as two processes do. Names, order and meaning of the locks:
docs/formats/store.md section 4. Source: fcntl(2), "Open file description locks".

Systems without such locks get flock(2) on one file per lock under `ROOT/locks/`.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from windowsfilter.errors import HostError

try:
    import fcntl
except ImportError:  # Windows: its engine is the Host Compute Service, with locks of its own
    fcntl = None  # type: ignore[assignment]

# Long enough for another process to import a large layer that we wait for.
TIMEOUT_S = 600.0
_FIRST_DELAY_S = 0.001
_LONGEST_DELAY_S = 0.05
_SAY_SO_AFTER_S = 2.0

# Fixed bytes of the lock file; every other lock gets one by its hash, above these.
_FIXED = {"store": 0, "catalog": 1, "tags": 2}
_FIRST_HASHED = 16
_ORDER = ("store", "catalog", "tags", "name", "image", "layer", "blob", "chain", "staging")
# Among these, one thread may hold several: by name. Layers go parent before child instead.
_BY_NAME = {"name", "image", "blob", "chain"}

_FLOCK = struct.Struct("@hhqqi0q")  # struct flock of 64-bit Linux

_log = logging.getLogger(__name__)


class LockTimeout(HostError):
    """Somebody else kept the lock for too long."""


class _Backend(Protocol):
    def try_lock(self, name: str, *, shared: bool) -> int | None:
        """A descriptor that holds the lock while it is open, None if the lock is taken."""

    def unlock(self, name: str, descriptor: int) -> None: ...


class Lock:
    """A lock that is held until `release`, which may be called twice and by any thread."""

    def __init__(self, backend: _Backend, name: str, descriptor: int, *, shared: bool) -> None:
        self.name = name
        self.shared = shared
        self._backend = backend
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._backend.unlock(self.name, descriptor)


class Locks:
    """The locks of one store. `root` must exist."""

    def __init__(self, root: Path) -> None:
        self._path = root / "lock"
        self._backend = _backend(root)
        self._mine = threading.local()

    @contextmanager
    def held(
        self, name: str, *, shared: bool = False, timeout_s: float | None = TIMEOUT_S
    ) -> Iterator[None]:
        """Hold `name` for the body, waiting up to `timeout_s` (None: for ever).

        Raises LockTimeout. Not reentrant. Taking locks against their order raises RuntimeError
        at once, since it could deadlock; with a timeout of 0 there is no waiting and no order.
        """
        mine = self._held_here()
        if timeout_s != 0:
            _check_order(name, mine)
        lock = self.acquire(name, shared=shared, timeout_s=timeout_s)
        mine.append(name)
        try:
            yield
        finally:
            mine.remove(name)
            lock.release()

    def acquire(
        self, name: str, *, shared: bool = False, timeout_s: float | None = TIMEOUT_S
    ) -> Lock:
        """Like `held`, without a check of the order: for what lives as long as an open store."""
        started = time.monotonic()
        delay = _FIRST_DELAY_S
        said = False
        while (lock := self.attempt(name, shared=shared)) is None:
            waited = time.monotonic() - started
            if timeout_s is not None and waited >= timeout_s:
                raise LockTimeout(
                    errno.EAGAIN,
                    f"lock {name} of {self._path.parent}: still held{self._by(name)} "
                    f"after {waited:.1f} s",
                )
            if waited > _SAY_SO_AFTER_S and not said:
                said = True
                _log.info("waiting for lock %s, held%s", name, self._by(name))
            time.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY_S)
        return lock

    def attempt(self, name: str, *, shared: bool = False) -> Lock | None:
        """The lock if it is free right now, else None. Release it yourself."""
        descriptor = self._backend.try_lock(name, shared=shared)
        if descriptor is None:
            return None
        return Lock(self._backend, name, descriptor, shared=shared)

    def holders(self, name: str) -> list[int]:
        """Processes that hold `name`, as far as this one may look (Linux)."""
        return _holders(self._path, _byte_of(name))

    def _by(self, name: str) -> str:
        found = self.holders(name)
        return f" by process {', '.join(map(str, found))}" if found else ""

    def _held_here(self) -> list[str]:
        mine: list[str] | None = getattr(self._mine, "names", None)
        if mine is None:
            mine = self._mine.names = []
        return mine


def _check_order(name: str, mine: list[str]) -> None:
    if not mine:
        return
    kind = name.partition(":")[0]
    rank = _ORDER.index(kind)
    for held in mine:
        held_kind = held.partition(":")[0]
        held_rank = _ORDER.index(held_kind)
        if name == held:
            raise RuntimeError(f"lock {name} is already held by this thread")
        if held_rank > rank or (held_rank == rank and kind in _BY_NAME and held > name):
            raise RuntimeError(f"lock {name} must be taken before {held}")


def _byte_of(name: str) -> int:
    fixed = _FIXED.get(name)
    if fixed is not None:
        return fixed
    digest = hashlib.sha256(name.encode()).digest()
    # 61 bits: with the first bytes left out this still fits a signed 64-bit offset.
    return _FIRST_HASHED + (int.from_bytes(digest[:8], "big") >> 3)


def _backend(root: Path) -> _Backend:
    if fcntl is None:
        raise HostError(errno.ENOSYS, "this system has no file locks that the store can use")
    if sys.platform == "linux" and hasattr(fcntl, "F_OFD_SETLK"):
        return RangeLocks(root / "lock")
    return FileLocks(root / "locks")


class RangeLocks:
    """Open file description locks on single bytes of one file (Linux 3.15 and later)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def try_lock(self, name: str, *, shared: bool) -> int | None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _set(descriptor, fcntl.F_RDLCK if shared else fcntl.F_WRLCK, _byte_of(name))
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            if error.errno == errno.EACCES:  # POSIX lets a taken lock answer like this
                return None
            raise
        return descriptor

    def unlock(self, name: str, descriptor: int) -> None:
        # Closing alone would leave the lock with a child that was forked meanwhile.
        try:
            _set(descriptor, fcntl.F_UNLCK, _byte_of(name))
        finally:
            os.close(descriptor)


def _set(descriptor: int, kind: int, byte: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))


class FileLocks:
    """flock on one file per lock, removed with its last holder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _file(self, name: str) -> Path:
        return self._folder / f"{_byte_of(name):016x}"

    def try_lock(self, name: str, *, shared: bool) -> int | None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._file(name)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(
                    descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
                )
                # The holder before us may have removed the file while we opened it.
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                        return descriptor
            except BlockingIOError:
                os.close(descriptor)
                return None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def unlock(self, name: str, descriptor: int) -> None:
        try:
            # Whoever can have it alone is its last holder.
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._file(name).unlink(missing_ok=True)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)


def _holders(path: Path, byte: int) -> list[int]:
    """Processes whose descriptors of `path` lock `byte`, from /proc/<pid>/fdinfo."""
    found: set[int] = set()
    # "lock: 1: OFDLCK ADVISORY WRITE -1 fe:00:1234 17 17": the last two are the range.
    wanted = f" {byte} {byte}\n"
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for entry in os.scandir(process / "fd"):
                with suppress(OSError):
                    if os.readlink(entry.path) != str(path):
                        continue
                    if wanted in (process / "fdinfo" / entry.name).read_text():
                        found.add(int(process.name))
    return sorted(found)
