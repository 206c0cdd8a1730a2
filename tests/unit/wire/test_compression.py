"""Packing and unpacking streams: every split, every truncation, bombs, and foreign packings."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windowsfilter.errors import FormatError, LimitExceeded, UsageError
from windowsfilter.wire import compression as module
from windowsfilter.wire.compression import (
    MAX_PIECE,
    RATIO_GRACE,
    Compression,
    compressor,
    decompress,
    decompressor,
    detect,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACKINGS = [Compression.GZIP, Compression.ZSTD]
TEXT = b"".join(b"line %d of a layer\n" % n for n in range(5000))
SKIPPABLE = b"\x53\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"note!"


@pytest.fixture(params=["isal", "zlib"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each gzip library in turn: machines without isal must behave the same."""
    if request.param == "zlib":
        monkeypatch.setattr(module, "_have_isal", False)
    else:
        pytest.importorskip("isal")
    return str(request.param)


def pack(compression: Compression, data: bytes, level: int | None = None) -> bytes:
    packer = compressor(compression, level)
    return packer.feed(data) + packer.finish()


def unpack(compression: Compression, packed: bytes, step: int = 1 << 20) -> bytes:
    inflate = decompressor(compression)
    pieces: list[bytes] = []
    for start in range(0, len(packed), step):
        pieces.extend(inflate.feed(packed[start : start + step]))
    inflate.close()
    assert all(0 < len(piece) <= MAX_PIECE for piece in pieces)
    assert inflate.consumed == len(packed)
    assert inflate.produced == sum(map(len, pieces))
    return b"".join(pieces)


@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("data", [b"", b"x", TEXT], ids=["nothing", "one byte", "text"])
def test_what_was_packed_is_detected_and_unpacks(
    compression: Compression, data: bytes, library: str
) -> None:
    packed = pack(compression, data)
    assert detect(packed) is compression
    assert unpack(compression, packed) == data
    assert unpack(compression, packed, step=1) == data
    assert b"".join(decompress([packed])) == data
    assert b"".join(decompress(packed[n : n + 1] for n in range(len(packed)))) == data


@pytest.mark.parametrize("compression", PACKINGS)
def test_packing_twice_gives_the_same_bytes(compression: Compression, library: str) -> None:
    assert pack(compression, TEXT) == pack(compression, TEXT)


def test_gzip_carries_no_time_and_no_name(library: str) -> None:
    packed = pack(Compression.GZIP, TEXT)
    assert packed[3] == 0
    assert packed[4:8] == bytes(4)
    assert gzip.decompress(packed) == TEXT


@pytest.mark.parametrize("level", range(10))
def test_every_gzip_level_is_readable(level: int, library: str) -> None:
    assert gzip.decompress(pack(Compression.GZIP, TEXT, level)) == TEXT


@pytest.mark.parametrize(
    ("compression", "level"),
    [(Compression.GZIP, -1), (Compression.GZIP, 10), (Compression.ZSTD, 0), (Compression.ZSTD, 20)],
)
def test_a_level_the_format_lacks_is_a_usage_error(compression: Compression, level: int) -> None:
    with pytest.raises(UsageError, match=str(level)):
        compressor(compression, level)


@pytest.mark.parametrize("compression", PACKINGS)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_members_one_after_the_other_are_one_stream(
    compression: Compression, step: int, library: str
) -> None:
    packed = b"".join(pack(compression, part) for part in (b"one ", b"", b"two ", TEXT))
    assert unpack(compression, packed, step) == b"one two " + TEXT


def test_skippable_zstd_frames_are_detected_and_skipped() -> None:
    packed = SKIPPABLE + pack(Compression.ZSTD, TEXT) + SKIPPABLE
    assert detect(packed) is Compression.ZSTD
    assert unpack(Compression.ZSTD, packed, step=3) == TEXT


@pytest.mark.parametrize("step", [1, 5, 1 << 20])
def test_zero_padding_behind_gzip_is_skipped(step: int, library: str) -> None:
    packed = pack(Compression.GZIP, TEXT)
    assert unpack(Compression.GZIP, packed + bytes(1000), step) == TEXT
    assert unpack(Compression.GZIP, packed + bytes(10) + packed, step) == TEXT + TEXT


@pytest.mark.parametrize("compression", PACKINGS)
@pytest.mark.parametrize("garbage", [b"garbage", b"\x1f\x8b\x00", b"\x50\x2a\x4d\x19"])
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_garbage_behind_the_end_is_refused_with_its_offset(
    compression: Compression, garbage: bytes, step: int, library: str
) -> None:
    packed = pack(compression, TEXT)
    with pytest.raises(FormatError, match="unknown data follows") as caught:
        unpack(compression, packed + garbage, step)
    assert caught.value.offset == len(packed)


@pytest.mark.parametrize("compression", PACKINGS)
def test_every_truncation_is_refused(compression: Compression, library: str) -> None:
    packed = pack(compression, b"a short layer, but a layer")
    for size in range(len(packed)):
        with pytest.raises(FormatError, match=r"truncated|empty"):
            unpack(compression, packed[:size])
    with pytest.raises(FormatError, match="truncated") as caught:
        unpack(compression, packed + packed[:2])
    assert caught.value.offset == len(packed) + 2


@pytest.mark.parametrize("compression", PACKINGS)
def test_a_flipped_bit_in_the_check_sum_is_refused(compression: Compression, library: str) -> None:
    if compression is Compression.ZSTD:
        flag: dict[int, int] = {zstd.CompressionParameter.checksum_flag: 1}
        packed = bytearray(zstd.compress(TEXT, options=flag))
    else:
        packed = bytearray(pack(compression, TEXT))
    packed[-1 if compression is Compression.ZSTD else -6] ^= 1
    with pytest.raises(FormatError, match="damaged"):
        unpack(compression, bytes(packed))


@pytest.mark.parametrize("compression", PACKINGS)
def test_data_of_another_kind_is_refused(compression: Compression) -> None:
    with pytest.raises(FormatError, match="not a"):
        unpack(compression, b"plain old data")


def test_pieces_of_a_bomb_stay_small_and_a_ratio_limit_stops_it(library: str) -> None:
    packed = zlib.compress(bytes(200 << 20), 9, wbits=31)
    inflate = decompressor(Compression.GZIP, max_ratio=100)
    sizes: list[int] = []
    with pytest.raises(LimitExceeded, match="100 times"):
        sizes.extend(len(piece) for piece in inflate.feed(packed))
    assert max(sizes) <= MAX_PIECE
    assert sum(sizes) < RATIO_GRACE + 100 * len(packed) + MAX_PIECE


def test_a_ratio_limit_leaves_small_output_alone(library: str) -> None:
    packed = pack(Compression.GZIP, bytes(1 << 20))
    inflate = decompressor(Compression.GZIP, max_ratio=2)
    assert sum(map(len, inflate.feed(packed))) == 1 << 20


def test_a_zstd_window_beyond_128_mib_is_refused() -> None:
    window: dict[int, int] = {zstd.CompressionParameter.window_log: 28}
    packer = zstd.ZstdCompressor(options=window)
    packed = packer.compress(TEXT) + packer.flush()
    with pytest.raises(FormatError, match="damaged"):
        unpack(Compression.ZSTD, packed)


@pytest.mark.parametrize(
    ("squeeze", "name"), [(lzma.compress, "xz"), (bz2.compress, "bzip2")], ids=["xz", "bzip2"]
)
def test_packings_we_do_not_read_are_named(squeeze: Callable[[bytes], bytes], name: str) -> None:
    with pytest.raises(FormatError, match=name):
        detect(squeeze(TEXT))


def test_plain_data_comes_back_in_bounded_pieces() -> None:
    data = bytes(MAX_PIECE * 2 + 5)
    assert unpack(Compression.NONE, data, step=len(data)) == data
    assert b"".join(decompress([])) == b""


@given(
    data=st.binary(max_size=3000),
    cuts=st.lists(st.integers(1, 400), max_size=30),
    compression=st.sampled_from(list(Compression)),
)
def test_any_split_gives_the_same_content(
    data: bytes, cuts: list[int], compression: Compression
) -> None:
    if compression is Compression.NONE:
        data = b"tar" + data  # plain data that begins like a packed stream is taken for one
    packed = pack(compression, data)
    chunks = []
    at = 0
    for cut in cuts:
        chunks.append(packed[at : at + cut])
        at += cut
    chunks.append(packed[at:])
    assert b"".join(decompress(chunks)) == data


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"]))
def test_any_bytes_give_content_or_our_error(data: bytes, magic: bytes) -> None:
    try:
        list(decompress([magic + data]))
    except FormatError:
        pass
