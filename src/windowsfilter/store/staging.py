"""`ROOT/tmp`: where things are written before they get their place, and go before they vanish.

Every open store has one folder there and the lock `staging:<name>` that goes with it. A folder whose
lock is free belongs to a dead process and is swept by whoever opens the store next.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from windowsfilter.engines.portable import kernel, mount_table
from windowsfilter.layers import durable
from windowsfilter.store.locks import Lock, Locks

_log = logging.getLogger(__name__)


class Staging:
    """This process's folder in `tmp`, made when it is first needed. Safe between threads."""

    def __init__(self, tmp: Path, locks: Locks) -> None:
        self._tmp = tmp
        self._locks = locks
        self._guard = threading.Lock()
        self._lock: Lock | None = None
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """Our folder: for `durable.replace` and `durable.take_away`."""
        with self._guard:
            if self._folder is None:
                name = secrets.token_hex(8)
                # The lock first: a folder without one is anybody's to delete.
                self._lock = self._locks.acquire(f"staging:{name}")
                folder = self._tmp / name
                with durable.host_errors(f"make {folder}"):
                    folder.mkdir(mode=durable.FOLDER_MODE)
                self._folder = folder
            return self._folder

    def new(self, purpose: str) -> Path:
        """A fresh, empty folder whose name begins with `purpose`; the caller moves or deletes it."""
        made = self.folder / f"{purpose[:100]}.{secrets.token_hex(8)}"
        with durable.host_errors(f"make {made}"):
            made.mkdir(mode=durable.FOLDER_MODE)
        return made

    @contextmanager
    def temporary(self, purpose: str) -> Iterator[Path]:
        """A fresh folder for the body; whatever is still there afterwards is deleted."""
        made = self.new(purpose)
        try:
            yield made
        finally:
            discard(made)

    def clear(self, place: Path) -> None:
        """Make room at `place`, under its lock and while the catalog has no row for it.

        What is there was left by a removal or an addition that was killed: nothing needs it.
        """
        trash = durable.take_away(place, self.folder)
        if trash is not None:
            _log.info("removing the remains of %s", place)
            durable.sync_folder(place.parent)
            discard(trash)

    @contextmanager
    def cleared_on_error(self, place: Path) -> Iterator[None]:
        """Undo the publishing of `place` if the body, which enters it in the catalog, fails.

        Otherwise the next open would adopt what was reported as failed.
        """
        try:
            yield
        except BaseException:
            try:
                self.clear(place)
            except OSError as error:  # the first error counts
                _log.warning("cannot undo %s: %s", place, error)
            raise

    def sweep(self) -> int:
        """Delete what dead processes left in `tmp`; returns how many things that were.

        What cannot be deleted is logged and left for the next time.
        """
        swept = 0
        for name in os.listdir(self._tmp):
            lock = self._locks.attempt(f"staging:{name}")
            if lock is None:
                continue
            try:
                _unmount_below(self._tmp / name)
                discard(self._tmp / name)
                swept += 1
            finally:
                lock.release()
        return swept

    def close(self) -> None:
        """Delete our folder. A later use makes a new one."""
        with self._guard:
            folder, lock = self._folder, self._lock
            self._folder = self._lock = None
            if folder is not None:
                discard(folder)
            if lock is not None:
                lock.release()


def _unmount_below(place: Path) -> None:
    """Take away what a process that died had just mounted there, so that nothing in it is deleted."""
    for mounted in mount_table.read():
        if place in mounted.place.parents:
            try:
                kernel.unmount(mounted.place, lazy=True)
            except OSError as error:
                _log.warning("%s", error)


def discard(place: Path) -> None:
    """Delete a tree in `tmp`; failure is logged, since the next sweep tries again."""
    try:
        durable.delete_tree(place)
    except OSError as error:
        _log.warning("cannot delete %s: %s", place, error)
