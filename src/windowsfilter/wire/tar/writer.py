"""A tar writer whose bytes are those of the reference: Go's archive/tar as backuptar calls it.

Layers are named by their digests, so a layer written again must have every header byte in the
same place. What is written: ustar, with a PAX extended header in front where something needs
it; names and links as `path` and `linkpath` records when they are long or not ASCII. Source:
archive/tar of Go 1.27 (writer.go, common.go allowedFormats), checked against tars it wrote.
"""

from __future__ import annotations

import posixpath
import struct
from collections.abc import Iterable, Iterator
from typing import Final, Protocol, cast

from windowsfilter.errors import FormatError
from windowsfilter.wire.sources import Readable, reader_of
from windowsfilter.wire.tar import pax
from windowsfilter.wire.tar.checksum import byte_sum
from windowsfilter.wire.tar.entry import (
    BLOCK,
    TYPE_BLOCK_DEVICE,
    TYPE_CHARACTER_DEVICE,
    TYPE_DIRECTORY,
    TYPE_FIFO,
    TYPE_FILE,
    TYPE_GLOBAL_PAX,
    TYPE_GNU_LONG_LINK,
    TYPE_GNU_LONG_NAME,
    TYPE_GNU_SPARSE,
    TYPE_HARD_LINK,
    TYPE_OLD_FILE,
    TYPE_PAX,
    ZERO_BLOCK,
    Member,
    shown,
)
from windowsfilter.wire.tar.numbers import NS, format_time

# name, mode, uid, gid, size, mtime, checksum, type flag, linkname, magic + version,
# uname + gname, devmajor + devminor, prefix, padding
_HEADER: Final = struct.Struct("100s8s8s8s12s12s8sB100s8s64x16s155s12x")
_MAGIC: Final = b"ustar\x0000"
_BLANK_SUM: Final = b"        "
_NO_DEVICE: Final = b"0000000\0" * 2
_NAME_SIZE: Final = 100
_PREFIX_SIZE: Final = 155
_OCTAL_8: Final = 1 << 21  # first numbers that 7 and 11 octal digits cannot hold
_OCTAL_12: Final = 1 << 33
_READ_SIZE: Final = 1 << 20

# Records the writer makes from the member itself.
_BASIC_KEYS: Final = frozenset(
    (
        b"path", b"linkpath", b"size", b"uid", b"gid", b"uname", b"gname",
        b"mtime", b"atime", b"ctime",
    )
)  # fmt: skip
_NO_TRAILING_SLASH: Final = frozenset(
    (TYPE_FILE, TYPE_CHARACTER_DEVICE, TYPE_BLOCK_DEVICE, TYPE_FIFO, TYPE_GNU_SPARSE)
)
_NOT_MEMBERS: Final = frozenset(
    (TYPE_PAX, TYPE_GLOBAL_PAX, TYPE_GNU_LONG_NAME, TYPE_GNU_LONG_LINK, TYPE_GNU_SPARSE)
)
_HEADER_ONLY: Final = frozenset(range(TYPE_HARD_LINK, TYPE_FIFO + 1))
_NOT_ASCII: Final = bytes((0, *range(0x80, 0x100)))


class _Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


class TarWriter:
    """Writes members one after another to a file object, which stays open.

    Nothing is buffered. `close` writes the end; without it the tar has none.
    """

    def __init__(self, stream: _Writable) -> None:
        self._write = stream.write
        self._offset = 0

    @property
    def offset(self) -> int:
        """Bytes written so far."""
        return self._offset

    def add(self, member: Member, body: Iterable[bytes] | bytes | Readable = b"") -> None:
        """Write one member. `body` is its data: bytes, pieces of them, or an open file.

        Raises FormatError for what a tar of this kind cannot say, and for a body that has not
        exactly `member.size` bytes; then the stream is of no use any more.
        """
        self._put(build_header(member))
        # Readers know that links have no data, whatever the reference lets their headers say.
        size = 0 if member.typeflag in _HEADER_ONLY else member.size
        written = 0
        for piece in _pieces(body):
            written += len(piece)
            if written > size:
                break
            self._put(piece)
        if written != size:
            more = "more than " if written > size else ""
            raise FormatError(
                f"tar entry '{shown(member.name)}': its body has {more}"
                f"{min(written, size)} bytes, its header says {size}",
                offset=self._offset,
            )
        if padding := -written % BLOCK:
            self._put(bytes(padding))

    def close(self) -> None:
        """Write the two end blocks; no further padding."""
        self._put(2 * ZERO_BLOCK)

    def _put(self, data: bytes) -> None:
        self._write(data)
        self._offset += len(data)


def build_header(member: Member) -> bytes:
    """All header blocks of a member: extended header and its body if needed, main header."""
    try:
        return _build_header(member)
    except FormatError as error:
        raise FormatError(f"tar entry '{shown(member.name)}': {error}") from None


def _build_header(member: Member) -> bytes:
    kind = member.typeflag
    name = member.name
    if kind == TYPE_OLD_FILE:
        kind = TYPE_DIRECTORY if name.endswith(b"/") else TYPE_FILE
    if kind in _NOT_MEMBERS:
        raise FormatError(f"type {kind:#x} is not a member of its own")
    if kind in _NO_TRAILING_SLASH and name.endswith(b"/"):
        raise FormatError("only a directory's name may end with a slash")
    if not 0 <= member.mode < _OCTAL_8:
        raise FormatError(f"mode {member.mode:o} does not fit its field")
    if member.size < 0:
        raise FormatError(f"size of {member.size} bytes")
    mtime, atime, ctime = member.mtime_ns, member.atime_ns, member.ctime_ns
    if not member.pax:
        # Half a second is rounded up. The reference's "format unspecified".
        mtime, atime, ctime = (mtime + NS // 2) // NS * NS, None, None

    records, ustar = _records(member, mtime, atime, ctime)
    if ustar:
        split = _split_name(name)
        prefix, name = split or (b"", name)
        return _block(member, kind, name, member.linkname, mtime, prefix)
    body = pax.build(records)
    leaf = name.rpartition(b"/")[2]
    folder = name[: len(name) - len(leaf)]
    holder = posixpath.normpath(folder + b"PaxHeaders.0/" + leaf)
    return b"".join(
        (
            _extended_block(holder, len(body)),
            body,
            bytes(-len(body) % BLOCK),
            _block(member, kind, _ascii(name), _ascii(member.linkname), mtime, b""),
        )
    )


def _records(
    member: Member, mtime: int, atime: int | None, ctime: int | None
) -> tuple[dict[bytes, bytes], bool]:
    """The records to write, and whether plain ustar does without any.

    Follows allowedFormats: what ustar can hold gets a record only if the caller gave the same
    one; records that contradict the member are the caller's leftovers and are dropped.
    """
    name, link = member.name, member.linkname
    ustar = True
    needed: dict[bytes, bytes] = {}
    possible: dict[bytes, bytes] = {b"path": name, b"linkpath": link}
    if len(name) > _NAME_SIZE or not _is_ascii(name):
        needed[b"path"] = name
        ustar = _split_name(name) is not None
    if len(link) > _NAME_SIZE or not _is_ascii(link):
        needed[b"linkpath"] = link
        ustar = False
    for key, number, end in (
        (b"uid", member.uid, _OCTAL_8),
        (b"gid", member.gid, _OCTAL_8),
        (b"size", member.size, _OCTAL_12),
    ):
        possible[key] = b"%d" % number
        if not 0 <= number < end:
            needed[key] = possible[key]
            ustar = False
    possible[b"mtime"] = format_time(mtime)
    if mtime % NS or not 0 <= mtime // NS < _OCTAL_12:
        needed[b"mtime"] = possible[b"mtime"]
        ustar = False
    for key, ns in ((b"atime", atime), (b"ctime", ctime)):
        if ns is not None:
            needed[key] = possible[key] = format_time(ns)
            ustar = False
    for key, value in member.records.items():
        if key in _BASIC_KEYS:
            if possible.get(key) == value:
                needed[key] = value
        elif not key.startswith(pax.SPARSE_PREFIX):
            needed[key] = value
    return needed, ustar and not member.records


def _block(member: Member, kind: int, name: bytes, link: bytes, mtime: int, prefix: bytes) -> bytes:
    seconds = mtime // NS
    return _summed(
        _HEADER.pack(
            _field(name),
            b"%07o\0" % member.mode,
            b"%07o\0" % (member.uid if 0 <= member.uid < _OCTAL_8 else 0),
            b"%07o\0" % (member.gid if 0 <= member.gid < _OCTAL_8 else 0),
            b"%011o\0" % (member.size if member.size < _OCTAL_12 else 0),
            b"%011o\0" % (seconds if 0 <= seconds < _OCTAL_12 else 0),
            _BLANK_SUM,
            kind,
            _field(link),
            _MAGIC,
            _NO_DEVICE,
            prefix,
        )
    )


def _extended_block(name: bytes, size: int) -> bytes:
    zero = b"0000000\0"
    name = _ascii(name)[:_NAME_SIZE].rstrip(b"/")
    return _summed(
        _HEADER.pack(
            name, zero, zero, zero, b"%011o\0" % size, b"00000000000\0",
            _BLANK_SUM, TYPE_PAX, b"", _MAGIC, b"", b"",
        )
    )  # fmt: skip


def _summed(block: bytes) -> bytes:
    return block[:148] + b"%06o\0 " % byte_sum(block) + block[156:]


def _field(text: bytes) -> bytes:
    """A name cut to its field. A slash that the cut leaves at the end would make readers of
    the field alone see a directory: the first of the final slashes becomes NUL.
    """
    if len(text) <= _NAME_SIZE or text[_NAME_SIZE - 1] != ord("/"):
        return text[:_NAME_SIZE]
    end = len(text[: _NAME_SIZE - 1].rstrip(b"/"))
    return text[:end] + b"\0" + text[end + 1 : _NAME_SIZE]


def _split_name(name: bytes) -> tuple[bytes, bytes] | None:
    """Prefix and name that hold a long ASCII name in a ustar header, if it can be cut so."""
    if len(name) <= _NAME_SIZE or not _is_ascii(name):
        return None
    end = len(name)
    if end > _PREFIX_SIZE + 1:
        end = _PREFIX_SIZE + 1
    elif name.endswith(b"/"):
        end -= 1
    cut = name.rfind(b"/", 0, end)
    rest = len(name) - cut - 1
    if cut <= 0 or not 0 < rest <= _NAME_SIZE:
        return None
    return name[:cut], name[cut + 1 :]


def _is_ascii(text: bytes) -> bool:
    """In the writer's sense: NUL does not count as ASCII."""
    return text.isascii() and b"\0" not in text


def _ascii(text: bytes) -> bytes:
    return text if _is_ascii(text) else text.translate(None, _NOT_ASCII)


def _pieces(body: Iterable[bytes] | bytes | Readable) -> Iterator[bytes]:
    if isinstance(body, bytes | bytearray | memoryview):
        if body:
            yield bytes(body)
    elif hasattr(body, "read"):  # before what files are, too: iterables of lines
        read = reader_of(cast("Readable", body))
        while piece := read(_READ_SIZE):
            yield piece
    else:
        yield from body
