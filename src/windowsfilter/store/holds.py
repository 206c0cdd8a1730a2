"""Holds: who needs a layer, blob, image or chain image right now.

A removal asks for the live holds of an object inside the transaction that deletes its row, and a
load writes its holds before it looks what exists; so neither can pull the ground from under the
other. Rules and file format: docs/formats/store.md sections 5 and 6.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol, Self

from windowsfilter.errors import FormatError
from windowsfilter.layers import records
from windowsfilter.store import processes
from windowsfilter.store.processes import Process

VERSION = 1

# As a hold's object: every object of the kind, for work that learns too late which ones it makes
# (the digest of a tar that is being written). Nothing of the kind is removed meanwhile.
ANY = "*"

_log = logging.getLogger(__name__)


class HoldKind(StrEnum):
    """What kind of object is held, and by what its `object` is named."""

    LAYER = "layer"  # layer id
    BLOB = "blob"  # hex of the diffID
    IMAGE = "image"  # hex of the image id
    CHAIN = "chain"  # key


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One reason to keep one object."""

    id: str
    kind: HoldKind
    object: str
    purpose: str  # "load", "mount", "get", ...: shown to people
    path: str = ""  # where it is mounted, if it is
    process: Process | None  # None: lasts until release, cleanup or reboot
    boot: str
    created: int  # unix ns

    @property
    def live(self) -> bool:
        if self.process is None:
            return not processes.is_past(self.boot)
        return processes.is_alive(self.process, self.boot)

    def describe(self) -> str:
        """For messages: `a mount at /mnt by process 12`."""
        place = f" at {self.path}" if self.path else ""
        holder = f" by process {self.process.pid}" if self.process else ""
        return f"{self.purpose}{place}{holder}"

    @classmethod
    def parse(cls, data: bytes, what: str) -> Self:
        """Read `holds/<id>.json`: only holds of nobody are written there."""
        fields = records.Fields.parse(data, what, version=VERSION)
        try:
            kind = HoldKind(fields.text("kind"))
        except ValueError as error:
            raise FormatError(f"{what}: {error}") from error
        return cls(
            id=fields.text("id"),
            kind=kind,
            object=fields.text("object"),
            purpose=fields.text("purpose"),
            path=fields.text("path"),
            process=None,
            boot=fields.text("boot"),
            created=fields.integer("created"),
        )

    def build(self) -> bytes:
        known: dict[str, object] = {
            "id": self.id,
            "kind": self.kind,
            "object": self.object,
            "purpose": self.purpose,
            "path": self.path,
            "boot": self.boot,
            "created": self.created,
        }
        return records.build(VERSION, known, {})


class HoldRows(Protocol):
    """The catalog, as far as holds go."""

    def add_holds(self, holds: Sequence[Hold]) -> None: ...

    def delete_holds(self, ids: Iterable[str]) -> None: ...

    def find_holds(self, kind: HoldKind | None = None, name: str | None = None) -> list[Hold]: ...


class Holds:
    """Taking, listing and releasing holds. `folder` is `ROOT/holds`."""

    def __init__(self, rows: HoldRows, folder: Path) -> None:
        self._rows = rows
        self._folder = folder

    def take(
        self,
        objects: Iterable[tuple[HoldKind, str]],
        purpose: str,
        *,
        path: str = "",
        lasting: bool = False,
    ) -> list[Hold]:
        """Hold all `objects` from now on, whether they exist yet or not; look afterwards.

        `lasting` holds outlive this process. Dead holds are cleared away on the occasion.
        """
        process = None if lasting else processes.current()
        now = time.time_ns()
        holds = [
            Hold(
                id=secrets.token_hex(16),
                kind=kind,
                object=name,
                purpose=purpose,
                path=path,
                process=process,
                boot=processes.boot_id(),
                created=now,
            )
            for kind, name in objects
        ]
        if lasting:
            for hold in holds:
                self._file(hold.id).write_bytes(hold.build())
        self._rows.add_holds(holds)
        self._forget(hold for hold in self._rows.find_holds() if not hold.live)
        return holds

    @contextmanager
    def held(
        self, objects: Iterable[tuple[HoldKind, str]], purpose: str, *, path: str = ""
    ) -> Iterator[list[Hold]]:
        """Hold `objects` for the body."""
        holds = self.take(objects, purpose, path=path)
        try:
            yield holds
        finally:
            self.release(holds)

    def release(self, holds: Iterable[Hold]) -> None:
        """End holds; those that have ended already do not matter."""
        self._forget(holds)

    def live(self, kind: HoldKind | None = None, name: str | None = None) -> list[Hold]:
        """Holds that count, oldest first: all, of one kind, or of one object (`ANY` included)."""
        found = self._rows.find_holds(kind, name)
        if name not in {None, ANY}:
            found += self._rows.find_holds(kind, ANY)
        return [hold for hold in found if hold.live]

    def at(self, path: str) -> list[Hold]:
        """Live holds of what is mounted at `path`."""
        return [hold for hold in self.live() if hold.path == path]

    def cleanup(self, *, lasting: bool = False) -> list[Hold]:
        """Drop dead holds, and with `lasting` those of nobody too; returns what was dropped."""
        dropped = [
            hold
            for hold in self._rows.find_holds()
            if not hold.live or (lasting and hold.process is None)
        ]
        self._forget(dropped)
        return dropped

    def saved(self) -> list[Hold]:
        """What `holds/` still says; for a catalog that was lost, and while nobody else is there.

        Files that are incomplete or of the past are deleted.
        """
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                hold = Hold.parse(path.read_bytes(), str(path))
            except FormatError as error:  # its writer was killed between two calls
                _log.warning("dropping a hold: %s", error)
                path.unlink(missing_ok=True)
                continue
            if hold.live:
                found.append(hold)
            else:
                path.unlink(missing_ok=True)
        return found

    def _file(self, hold_id: str) -> Path:
        return self._folder / f"{hold_id}.json"

    def _forget(self, holds: Iterable[Hold]) -> None:
        """The row first: a file without a row is harmless, and swept with its boot."""
        gone = list(holds)
        if not gone:
            return
        self._rows.delete_holds([hold.id for hold in gone])
        for hold in gone:
            if hold.process is None:
                self._file(hold.id).unlink(missing_ok=True)
