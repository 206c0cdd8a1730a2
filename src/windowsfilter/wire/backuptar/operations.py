r"""What a layer tar comes to: files to add, links to make, names to remove.

Names have `\` between components and no leading one: `Files\Windows\x.dll`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from windowsfilter.errors import FormatError, UsageError
from windowsfilter.ntfs.basic_info import BasicInfo
from windowsfilter.wire.backuptar.records import CREATION_TIME, TAR_KEYS, is_carried
from windowsfilter.wire.tar import TarEntry
from windowsfilter.wire.tar.numbers import parse_time


class Mode(StrEnum):
    """How to translate: what counts where the reference is wrong, or input merely tolerated."""

    CORRECT = "correct"
    """Right values, and whatever can be understood is taken."""
    GO = "go"
    """Bit for bit what the reference does, wrapped times and losses included."""
    STRICT = "strict"
    """As CORRECT, but what is merely tolerated is refused."""


class TarTimes(NamedTuple):
    """An entry's times as its tar has them, nanoseconds since 1970; None where it has none."""

    creation: int | None
    access: int | None
    write: int
    change: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TarFields:
    """What a tar says of an entry and Windows has no word for. Carried from tar to tar."""

    mode: int | None = None
    """None: as the reference makes it from what the entry is."""
    uid: int = 0
    gid: int = 0
    times: TarTimes | None = None
    """Finer than 100 ns, or missing: written again where they still come to the same FILETIME."""
    linkname: bytes = b""
    """The spelling of a link's target, `/` or `\\`: written where it still means the same."""
    records: Mapping[bytes, bytes] = field(default_factory=dict)
    """PAX records that mean nothing to Windows, or that nobody knows."""


@dataclass(frozen=True, slots=True)
class Remove:
    """A name of the parent layers that is gone."""

    name: str
    opaque: bool = False
    """Not the name itself is gone, but everything that the parents have in it, a directory."""


@dataclass(frozen=True, slots=True)
class Link:
    """One more name of a file, of this layer or of a parent."""

    name: str
    target: str
    info: BasicInfo | None = field(default=None, compare=False)
    """What the tar says of the link itself; for Windows the file it names has these."""
    fields: TarFields | None = field(default=None, compare=False, repr=False)


class Add:
    """A file, directory or reparse point. Its stream is read before the next operation is asked for."""

    __slots__ = ("_at", "_entry", "_piece", "_pieces", "info", "name", "size")

    name: str
    size: int
    """Bytes of the main stream, as Docker counts a layer's size; 0 for what is no file."""
    info: BasicInfo

    metadata_first = True
    """Promises a LayerTarWriter that no stream that belongs into the header follows the data."""

    def __init__(
        self, name: str, size: int, info: BasicInfo, pieces: Iterator[bytes], entry: TarEntry
    ) -> None:
        self.name = name
        self.size = size
        self.info = info
        self._entry = entry
        self._pieces: Iterator[bytes] | None = pieces
        self._piece = b""
        self._at = 0

    def read_stream(self, size: int = -1) -> bytes:
        """Up to `size` bytes of the Win32 backup stream, all that is left if negative.

        Fewer only at its end. Where the tar is damaged the stream ends early, and the iteration
        that gave this operation raises the error. Raises UsageError once that has gone on.
        """
        if self._pieces is None:
            raise UsageError(f"add {self.name!r}: its stream is read after the next operation")
        if size < 0:
            return self._piece[self._at :] + b"".join(self._exhaust())
        parts = []
        while size > 0:
            left = len(self._piece) - self._at
            if not left:
                self._piece = next(self._pieces, b"")
                self._at = 0
                if not self._piece:
                    break
                continue
            part = (
                self._piece[self._at : self._at + size] if self._at or left > size else self._piece
            )
            self._at += len(part)
            size -= len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    read = read_stream

    @property
    def fields(self) -> TarFields:
        """What the tar says beyond Windows' own metadata; with it a rewritten tar is the same."""
        return fields_of(self._entry)

    def close(self) -> None:
        """Give up what is left of the stream."""
        self._pieces = None

    def _exhaust(self) -> Iterator[bytes]:
        assert self._pieces is not None
        self._piece, self._at = b"", 0
        yield from self._pieces

    def __repr__(self) -> str:
        return f"<Add {self.name!r} size {self.size}>"


Operation = Add | Link | Remove


def fields_of(entry: TarEntry) -> TarFields:
    """What a tar's entry has beyond Windows' own metadata."""
    records = {
        key: value
        for key, value in entry.records.items()
        if is_carried(key, value) and key not in TAR_KEYS
    }
    creation = entry.records.get(CREATION_TIME)
    try:
        created = (
            None if creation is None else parse_time(creation, "creation", entry.header_offset)
        )
    except FormatError:
        created = None  # only the reference lets it pass, in a hard link
    return TarFields(
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        times=TarTimes(
            created,
            entry.atime_ns,
            entry.mtime_ns,
            entry.ctime_ns,
        ),
        linkname=entry.linkname,
        records=records,
    )
