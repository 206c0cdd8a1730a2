"""The SQLite file under the catalog: opening, transactions, errors.

Write-ahead log with `synchronous=FULL`: a committed transaction survives a power cut. One connection
serves all threads of a store; SQLite's own lock keeps processes apart. Nobody may open `catalog.db`
by other means, since closing any descriptor of it would drop SQLite's locks
(sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from windowsfilter.errors import HostError, StoreDamaged
from windowsfilter.store import schema

BUSY_TIMEOUT_S = 60.0
# Checking all costs a few ms per MB; catalogs larger than some thousand layers are left to fsck.
SMALL_BYTES = 2 << 20

_SHARED_MEMORY_BYTES = 32 << 10  # what SQLite's smallest `-shm` file needs

Row = tuple[Any, ...]
Value = str | int | bytes | None

# SQLite's primary result codes -> errno, for what the machine refused.
_ERRNO = {
    sqlite3.SQLITE_BUSY: errno.EAGAIN,
    sqlite3.SQLITE_LOCKED: errno.EAGAIN,
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_CANTOPEN: errno.EMFILE,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
}


class CatalogUnusable(StoreDamaged):
    """`catalog.db` is missing, damaged, of another schema or of another store: make a new one."""


class Database:
    """An open catalog file. Any thread may use it; a forked child may not."""

    def __init__(self, path: Path, uuid: str) -> None:
        """Raises CatalogUnusable; never makes a file."""
        self._path = path
        self._guard = threading.RLock()
        self._depth = 0
        self._pid = os.getpid()
        self.is_small = False  # small enough to be checked at every open
        self._identity = _identity(path)
        if self._identity is None:
            raise CatalogUnusable(f"{path}: there is none")
        with _translated(path):
            self._connection = _connect(path)
        try:
            with _translated(path):
                self._check(uuid)
        except BaseException:
            self._connection.close()
            raise

    def _check(self, uuid: str) -> None:
        if self._scalar("PRAGMA user_version") != schema.VERSION:
            raise CatalogUnusable(f"{self._path}: another schema")
        self.is_small = self._path.stat().st_size <= SMALL_BYTES
        if self.is_small:
            verdict = self._scalar("PRAGMA integrity_check(1)")
            if verdict != "ok":
                raise CatalogUnusable(f"{self._path}: {verdict}")
        if self._scalar("SELECT value FROM meta WHERE key = 'uuid'") != uuid:
            raise CatalogUnusable(f"{self._path}: it belongs to another store")
        # Where shared memory is missing SQLite keeps its old journal, which is as safe.
        self._connection.execute("PRAGMA journal_mode = WAL")

    def _scalar(self, statement: str) -> object:
        row = self._connection.execute(statement).fetchone()
        return None if row is None else row[0]

    def rows(self, statement: str, values: Sequence[Value] = ()) -> list[Row]:
        """All rows of a query."""
        with self._guard, _translated(self._path):
            self._check_still_there()
            return self._connection.execute(statement, values).fetchall()

    def run(self, statement: str, values: Sequence[Value] = ()) -> int:
        """A change inside `transaction`; returns the number of rows it touched."""
        with self._guard, _translated(self._path):
            assert self._depth, "changes need a transaction"
            return self._connection.execute(statement, values).rowcount

    def run_many(self, statement: str, many: Iterable[Sequence[Value]]) -> None:
        """The same change with many values, inside `transaction`."""
        with self._guard, _translated(self._path):
            assert self._depth, "changes need a transaction"
            self._connection.executemany(statement, many)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes of the body or none; durable when the outermost one ends.

        An inner one that fails takes back its own changes only. Waits for other writers up to
        BUSY_TIMEOUT_S, then raises HostError.
        """
        with self._guard:
            outermost = self._depth == 0
            if outermost:
                self._check_still_there()
            point = f"level{self._depth}"
            self._execute("BEGIN IMMEDIATE" if outermost else f"SAVEPOINT {point}")
            self._depth += 1
            try:
                yield
                self._execute("COMMIT" if outermost else f"RELEASE {point}")
            except BaseException:
                # After some errors (disk full) SQLite has rolled everything back by itself.
                if self._connection.in_transaction:
                    self._execute("ROLLBACK" if outermost else f"ROLLBACK TO {point}")
                    if not outermost:
                        self._execute(f"RELEASE {point}")
                raise
            finally:
                self._depth -= 1

    def _execute(self, statement: str) -> None:
        with _translated(self._path):
            self._connection.execute(statement)

    def _check_still_there(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError("a forked child must open the store itself")
        if _identity(self._path) != self._identity:
            raise StoreDamaged(
                f"{self._path} was removed or replaced while the store was open; open it again"
            )

    def close(self) -> None:
        """May be called twice."""
        if os.getpid() == self._pid:
            with self._guard:
                self._connection.close()


def create(path: Path, uuid: str) -> None:
    """Write an empty catalog to `path`, which must not exist; the caller makes it durable."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with _translated(path), closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(f"BEGIN;{schema.TABLES}COMMIT;")
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {schema.VERSION}")
        connection.execute("INSERT INTO meta VALUES ('uuid', ?)", (uuid,))


def salvage_labels(old: Path, new: Path) -> int:
    """Copy the labels of a catalog that is being given up, as far as it can be read."""
    with _translated(new), closing(sqlite3.connect(new, isolation_level=None)) as target:
        try:
            with closing(sqlite3.connect(f"{old.absolute().as_uri()}?mode=rw", uri=True)) as source:
                labels = source.execute("SELECT kind, object, key, value FROM labels").fetchall()
                target.executemany("INSERT OR IGNORE INTO labels VALUES (?, ?, ?, ?)", labels)
        except sqlite3.Error:  # whatever it was, it is lost
            return 0
        return len(labels)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        info = os.stat(path)
    except FileNotFoundError:
        return None
    return info.st_dev, info.st_ino


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """SQLite's errors as ours: the machine's refusals, or a damaged file."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # the catalog knows what it means
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _ERRNO:
            number = errno.ENOSPC if _is_full(path) else _ERRNO[code]
            raise HostError(number, f"{path}: {error}, {os.strerror(number)}") from error
        raise CatalogUnusable(f"{path}: {error}") from error


def _is_full(path: Path) -> bool:
    """SQLite calls a full disk an I/O error when it only wanted room for its shared memory."""
    if not hasattr(os, "statvfs"):
        return False
    with suppress(OSError):
        info = os.statvfs(path.parent)
        return info.f_bavail * info.f_frsize < _SHARED_MEMORY_BYTES
    return False
