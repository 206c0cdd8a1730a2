"""Tar members of files: what both exporters begin with, and how data gets into them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from windowsfilter.ntfs.basic_info import BasicInfo
from windowsfilter.wire.backupstream import BackupStreamError, StreamHeader, StreamId
from windowsfilter.wire.backuptar import records as wire
from windowsfilter.wire.backuptar.operations import TarFields, TarTimes
from windowsfilter.wire.backuptar.times import Clock
from windowsfilter.wire.sources import Readable
from windowsfilter.wire.tar import TYPE_DIRECTORY, TYPE_FILE, Member
from windowsfilter.wire.tar.numbers import format_time

MODE_REGULAR = 0o100000
MODE_DIRECTORY = 0o040000
MODE_LINK = 0o120000
PIECE_BYTES = 1 << 20
DATA_SUFFIX = ":$DATA"
_DIRECTORY_ATTRIBUTE = 0x10
_ZEROS = bytes(PIECE_BYTES)


class Streams(Protocol):
    """The streams of a file, one after another: a BackupStreamReader, or the reference's."""

    offset: int

    def next_header(self) -> StreamHeader | None: ...

    def read(self, size: int = -1, /) -> bytes: ...


class SupportsSeek(Readable, Protocol):
    """A source that can be read twice."""

    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


def can_seek(stream: Readable) -> bool:
    """Whether a stream says that it can be read twice."""
    seekable = getattr(stream, "seekable", None)
    return bool(seekable is not None and seekable())


class Writable(Protocol):
    """What a tar is written to."""

    def write(self, data: bytes, /) -> object: ...


def basic_member(
    path: bytes, size: int, info: BasicInfo, clock: Clock, fields: TarFields | None
) -> Member:
    """The member of a file before its streams are known. Files have `size`, directories none."""
    directory = bool(info.attributes & _DIRECTORY_ATTRIBUTE)
    before = None if fields is None else fields.times
    creation = _time(info.creation, info, clock, before and before.creation, had=before)
    records = {wire.FILE_ATTRIBUTES: b"%d" % info.attributes}
    if creation is not None:
        records[wire.CREATION_TIME] = format_time(creation)
    write = _time(info.write, info, clock, before and before.write, had=before)
    assert write is not None
    return Member(
        name=path,
        typeflag=TYPE_DIRECTORY if directory else TYPE_FILE,
        size=0 if directory else size,
        mode=MODE_DIRECTORY if directory else 0,
        mtime_ns=write,
        atime_ns=_time(info.access, info, clock, before and before.access, had=before),
        ctime_ns=_time(info.change, info, clock, before and before.change, had=before),
        records=records,
    )


def with_fields(member: Member, fields: TarFields | None) -> Member:
    """The member with what the tar it came from said of it beyond Windows."""
    if fields is None:
        return member
    same_target = _spelled(fields.linkname) == _spelled(member.linkname)
    kept = {key: value for key, value in fields.records.items() if wire.is_carried(key, value)}
    return replace(
        member,
        mode=member.mode if fields.mode is None else fields.mode,
        uid=fields.uid,
        gid=fields.gid,
        linkname=fields.linkname if same_target else member.linkname,
        records={**kept, **member.records},
    )


def _spelled(linkname: bytes) -> bytes:
    return linkname.replace(b"/", b"\\")


def _time(
    filetime: int, info: BasicInfo, clock: Clock, ns: int | None, *, had: TarTimes | None
) -> int | None:
    """A time to write: as the tar had it, where that is still true; None to leave it out."""
    if had is not None and ns is None:
        missing = info.write if clock.missing is None else clock.missing
        if filetime == missing:
            return None
    if ns is not None and clock.filetime(ns) == filetime:
        return ns
    return clock.unix_ns(filetime)


def stream_member(member: Member, name: str | bytes, size: int) -> Member:
    """The member of an alternate stream: its file's mode and times, no records of its own."""
    leaf = name if isinstance(name, bytes) else name.encode("utf-8", "surrogatepass")
    return Member(
        name=member.name + leaf,
        size=size,
        mode=member.mode,
        mtime_ns=member.mtime_ns,
        atime_ns=member.atime_ns,
        ctime_ns=member.ctime_ns,
    )


def data_pieces(reader: Streams) -> Iterator[bytes]:
    """The data of the stream at hand."""
    while piece := reader.read(PIECE_BYTES):
        yield piece


def sparse_pieces(reader: Streams) -> Iterator[bytes]:
    """The data of a sparse stream whose blocks come next, zeros between them filled in."""
    at = 0
    while True:
        block = reader.next_header()
        if block is None:
            raise BackupStreamError("sparse stream without its last block", offset=reader.offset)
        if block.id != StreamId.SPARSE_BLOCK:
            raise BackupStreamError(
                f"stream {block.id} among the blocks of a sparse one", offset=reader.offset
            )
        if block.offset < at:
            raise BackupStreamError(
                f"sparse block at {block.offset}, behind one that ends at {at}",
                offset=reader.offset,
            )
        while at < block.offset:
            zeros = _ZEROS[: block.offset - at]
            at += len(zeros)
            yield zeros
        if not block.size:
            return
        at += block.size
        yield from data_pieces(reader)
