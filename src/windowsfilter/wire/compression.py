"""Streaming gzip and zstd in bounded pieces: detect, decompress, compress.

Detection goes by magic bytes, because media types and file names lie. A stream may hold several
gzip members or zstd frames one after the other; zero padding behind the last gzip member is
skipped as tape tools leave it, anything else behind the end is refused, as Go's reader does.
Pieces are at most `MAX_PIECE` bytes however hard the input is packed, so memory stays bounded; the
libraries release the GIL while they work.

gzip is inflated by isal where it is installed (2.4 times zlib's speed), by zlib otherwise.
Compressed output is the same for the same input, level and library: no names and no times in it.
Sources: RFC 1952, RFC 8878; containerd archive/compression for what counts as zstd.
"""

from __future__ import annotations

import enum
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol, cast

from windowsfilter.errors import FormatError, LimitExceeded, UsageError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# What the libraries raise for data that is not what it should be.
_WRONG_DATA: tuple[type[Exception], ...] = (zlib.error, zstd.ZstdError, EOFError)
try:
    from isal import igzip_lib, isal_zlib
except ImportError:  # no wheel for this machine (Windows on ARM)
    _have_isal = False
else:
    _have_isal = True
    _WRONG_DATA += (cast("type[Exception]", igzip_lib.IsalError),)

HEAD_BYTES: Final = 10
"""How much of a stream `detect` wants to see."""

MAX_PIECE: Final = 1 << 20
"""No piece of output is longer than this."""

RATIO_GRACE: Final = 64 << 20
"""Output that is free of the ratio limit: small files of zeros are no attack."""

# Input is worked off in slices, because what is left behind a member's end is copied: a chunk full
# of tiny members would otherwise cost the square of its length.
_SLICE = 256 << 10
_GZIP_MAGIC = b"\x1f\x8b\x08"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # after one byte 0x50 to 0x5f
_XZ_MAGIC = b"\xfd7zXZ\x00"
_ZSTD_MAX_WINDOW_LOG = 27  # 128 MiB, what the zstd program accepts without being told more
_ISAL_LEVELS = range(4)


class Compression(enum.Enum):
    """How a stream is packed; the value is the word used on the command line."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


class Decompressor(Protocol):
    """Turns a stream into its content, piece by piece."""

    consumed: int
    """Bytes fed so far."""
    produced: int
    """Bytes given out so far."""

    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        """The content that `chunk` adds, in pieces of at most MAX_PIECE bytes.

        Nothing happens until the iterator is advanced; exhaust it before the next call. Raises
        FormatError with the offset (in the packed stream) near which the data is wrong, and
        LimitExceeded when a ratio limit was set and is passed.
        """
        ...

    def close(self) -> None:
        """Say that the stream ends here; FormatError if its format says otherwise."""
        ...


class Compressor(Protocol):
    """Packs a stream."""

    def feed(self, chunk: bytes | memoryview) -> bytes:
        """Packed bytes that are ready, possibly none."""
        ...

    def finish(self) -> bytes:
        """The rest; call it once, and nothing after it."""
        ...


def detect(head: bytes) -> Compression:
    """The packing of the stream that starts with `head` (HEAD_BYTES of it, or all there is).

    Raises FormatError for packings that container tools also use but that are not supported here
    (bzip2, xz): taking them for plain data would only fail later, and less clearly.
    """
    if head.startswith(_GZIP_MAGIC):
        return Compression.GZIP
    if _is_zstd(head[:4]):
        return Compression.ZSTD
    if head.startswith(_XZ_MAGIC):
        raise FormatError("packed with xz, which is not supported: unpack it first", offset=0)
    if head[:3] == b"BZh" and head[4:10] == b"1AY&SY":
        raise FormatError("packed with bzip2, which is not supported: unpack it first", offset=0)
    return Compression.NONE


def decompressor(compression: Compression, *, max_ratio: float | None = None) -> Decompressor:
    """A decompressor for one stream.

    `max_ratio` bounds output bytes per input byte once RATIO_GRACE bytes are out.
    """
    if compression is Compression.NONE:
        return _Plain()
    if compression is Compression.GZIP:
        make: Callable[[], _Member] = _gzip_member
        return _Members("gzip", make, _starts_gzip, padding=True, max_ratio=max_ratio)
    return _Members("zstd", _zstd_member, _starts_zstd, padding=False, max_ratio=max_ratio)


def compressor(compression: Compression, level: int | None = None) -> Compressor:
    """A compressor for one stream; `level` None is the quick default of each format.

    gzip: 0 to 3 go to isal where there is one (default 2), 4 to 9 to zlib. zstd: 1 to 19
    (default 3). Other levels raise UsageError.
    """
    if compression is Compression.NONE:
        return _Verbatim()
    if compression is Compression.GZIP:
        return _GzipCompressor(level)
    return _ZstdCompressor(level)


def decompress(chunks: Iterable[bytes], *, max_ratio: float | None = None) -> Iterator[bytes]:
    """The content of a stream of unknown packing, in pieces of at most MAX_PIECE bytes."""
    head = b""
    inflate: Decompressor | None = None
    for chunk in chunks:
        if inflate is None:
            head += chunk
            if len(head) < HEAD_BYTES:
                continue
            inflate, chunk = decompressor(detect(head), max_ratio=max_ratio), head
        yield from inflate.feed(chunk)
    if inflate is None:
        inflate = decompressor(detect(head), max_ratio=max_ratio)
        yield from inflate.feed(head)
    inflate.close()


class _Member(Protocol):
    """One gzip member or zstd frame; the shape of bz2.BZ2Decompressor."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes: ...


class _ZlibMember:
    """zlib's decompressor in that shape."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self._full = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._full and not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        tail = self._inner.unconsumed_tail
        piece = self._inner.decompress(tail + data if tail else data, max_length)
        # A full piece may leave more in zlib's window although all input is taken.
        self._full = len(piece) == max_length and not self._inner.eof
        return piece


def _gzip_member() -> _Member:
    if not _have_isal:
        return _ZlibMember()
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _zstd_member() -> _Member:
    limit: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_MAX_WINDOW_LOG}
    return zstd.ZstdDecompressor(options=limit)


def _is_zstd(head: bytes) -> bool:
    return head == _ZSTD_MAGIC or (
        len(head) == 4 and head[0] & 0xF0 == 0x50 and head[1:] == _ZSTD_SKIPPABLE
    )


def _starts_gzip(head: bytes) -> bool | None:
    """Does a member start here? None: too few bytes to tell."""
    if len(head) >= len(_GZIP_MAGIC):
        return head.startswith(_GZIP_MAGIC)
    return None if _GZIP_MAGIC.startswith(head) else False


def _starts_zstd(head: bytes) -> bool | None:
    """Does a frame start here? None: too few bytes to tell."""
    if len(head) >= 4:
        return _is_zstd(head[:4])
    if _ZSTD_MAGIC.startswith(head):
        return None
    skippable = head[0] & 0xF0 == 0x50 and _ZSTD_SKIPPABLE.startswith(head[1:])
    return None if skippable else False


class _Plain:
    """No packing at all; pieces are bounded all the same."""

    def __init__(self) -> None:
        self.consumed = 0
        self.produced = 0

    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        self.consumed += len(chunk)
        self.produced += len(chunk)
        if len(chunk) <= MAX_PIECE:
            if chunk:
                yield bytes(chunk)
            return
        view = memoryview(chunk)
        for start in range(0, len(view), MAX_PIECE):
            yield bytes(view[start : start + MAX_PIECE])

    def close(self) -> None:
        """Plain data may end anywhere."""


class _Members:
    """A run of gzip members or zstd frames."""

    def __init__(
        self,
        name: str,
        make: Callable[[], _Member],
        starts: Callable[[bytes], bool | None],
        *,
        padding: bool,
        max_ratio: float | None,
    ) -> None:
        self.consumed = 0
        self.produced = 0
        self._name = name
        self._make = make
        self._starts = starts
        self._padding = padding
        self._max_ratio = max_ratio
        self._member: _Member | None = None
        self._lead = b""  # too few bytes to tell whether a member starts
        self._members = 0

    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        view = memoryview(chunk)
        for start in range(0, len(view), _SLICE):
            part = view[start : start + _SLICE]
            self.consumed += len(part)
            yield from self._slice(part)

    def close(self) -> None:
        if self._member is not None or self._lead:
            raise FormatError(f"{self._name} stream is truncated", offset=self.consumed)
        if not self._members:
            raise FormatError(f"{self._name} stream is empty", offset=0)

    def _slice(self, data: bytes | memoryview) -> Iterator[bytes]:
        while True:
            if self._member is None:
                data = self._between(bytes(data))
                if self._member is None:
                    return
            member: _Member = self._member
            while True:
                piece = self._inflate(member, data)
                if piece:
                    yield piece
                if member.eof or member.needs_input:
                    break
                data = b""
            if not member.eof:
                return
            data = member.unused_data
            self._member = None

    def _between(self, data: bytes) -> bytes:
        """Start the next member if `data` has the beginning of one; returns what it shall read."""
        data = self._lead + data
        self._lead = b""
        if self._padding and self._members:
            data = data.lstrip(b"\0")
        if not data:
            return data
        starts = self._starts(data)
        if starts is None:
            self._lead = data
        elif starts:
            self._member = self._make()
            self._members += 1
        else:
            at = self.consumed - len(data)
            what = "unknown data follows the end of the" if self._members else "not a"
            raise FormatError(f"{what} {self._name} stream", offset=at)
        return data

    def _inflate(self, member: _Member, data: bytes | memoryview) -> bytes:
        try:
            piece = member.decompress(data, MAX_PIECE)
        except _WRONG_DATA as error:
            what = f"{self._name} stream is damaged near here: {error}"
            raise FormatError(what, offset=max(0, self.consumed - len(data))) from error
        self.produced += len(piece)
        ratio = self._max_ratio
        if ratio is not None and self.produced > RATIO_GRACE + self.consumed * ratio:
            raise LimitExceeded(
                f"{self._name} stream unpacks to over {ratio:g} times its size"
                " (--max-ratio raises the limit)",
                offset=self.consumed,
            )
        return piece


class _Verbatim:
    """No packing."""

    def feed(self, chunk: bytes | memoryview) -> bytes:
        return bytes(chunk)

    def finish(self) -> bytes:
        return b""


class _GzipCompressor:
    """One gzip member without name and time."""

    _inner: isal_zlib.Compress | zlib._Compress

    def __init__(self, level: int | None) -> None:
        if level is not None and not 0 <= level <= 9:
            raise UsageError(f"gzip level {level}: choose 0 to 9")
        if _have_isal and (level is None or level in _ISAL_LEVELS):
            self._inner = isal_zlib.compressobj(2 if level is None else level, wbits=31)
        else:
            self._inner = zlib.compressobj(6 if level is None else level, wbits=31)

    def feed(self, chunk: bytes | memoryview) -> bytes:
        return self._inner.compress(chunk)

    def finish(self) -> bytes:
        return self._inner.flush()


class _ZstdCompressor:
    """One zstd frame, without threads: threads would cut the frame elsewhere."""

    def __init__(self, level: int | None) -> None:
        if level is not None and not 1 <= level <= 19:
            raise UsageError(f"zstd level {level}: choose 1 to 19")
        self._inner = zstd.ZstdCompressor(level=3 if level is None else level)

    def feed(self, chunk: bytes | memoryview) -> bytes:
        return self._inner.compress(chunk)

    def finish(self) -> bytes:
        return self._inner.flush()
