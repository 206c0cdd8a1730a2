from __future__ import annotations

import io

import pytest

from tests.support.tar_blocks import END, GNU, file, header, padded, pax, raw_pax, record
from windowsfilter.errors import FormatError, LimitExceeded
from windowsfilter.wire.tar import Limits, TarEntry, TarReader, read_entries

DATA = b"a" * 700 + b"b" * 100
PIECES = ((1000, 700), (5000, 100))
SIZE = 9000
EXPANDED = bytes(1000) + b"a" * 700 + bytes(3300) + b"b" * 100 + bytes(3900)


def old(pieces: list[tuple[int, int]], size: int, stored: int, name: bytes = b"s") -> bytes:
    """Type S: four pieces in the header, 21 in each block behind it."""

    def text(part: list[tuple[int, int]]) -> bytes:
        return b"".join(b"%011o\0%011o\0" % piece for piece in part)

    tail = bytearray(167)
    tail[41 : 41 + 24 * len(pieces[:4])] = text(pieces[:4])
    rest = pieces[4:]
    tail[137] = 1 if rest else 0
    tail[138:150] = b"%011o\0" % size
    blocks = header(name, kind=b"S", size=stored, magic=GNU, tail=bytes(tail))
    while rest:
        block = bytearray(512)
        block[: 24 * len(rest[:21])] = text(rest[:21])
        rest = rest[21:]
        block[504] = 1 if rest else 0
        blocks += bytes(block)
    return blocks


def map_text(pieces: list[tuple[int, int]]) -> bytes:
    numbers = [len(pieces), *(number for piece in pieces for number in piece)]
    return padded(b"".join(b"%d\n" % number for number in numbers))


def version_1(pieces: list[tuple[int, int]], size: int, data: bytes) -> bytes:
    text = map_text(pieces)
    return (
        pax(
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", b"s"),
            (b"GNU.sparse.realsize", b"%d" % size),
        )
        + header(b"GNUSparseFile.0/s", size=len(text) + len(data))
        + text
        + padded(data)
    )


def version_0_0(pieces: list[tuple[int, int]], size: int, data: bytes) -> bytes:
    body = record(b"GNU.sparse.size", b"%d" % size)
    body += record(b"GNU.sparse.numblocks", b"%d" % len(pieces))
    for offset, length in pieces:
        body += record(b"GNU.sparse.offset", b"%d" % offset)
        body += record(b"GNU.sparse.numbytes", b"%d" % length)
    return raw_pax(body) + file(b"s", data)


def version_0_1(pieces: list[tuple[int, int]], size: int, data: bytes) -> bytes:
    numbers = b",".join(b"%d,%d" % piece for piece in pieces)
    return pax(
        (b"GNU.sparse.size", b"%d" % size),
        (b"GNU.sparse.numblocks", b"%d" % len(pieces)),
        (b"GNU.sparse.map", numbers),
        (b"GNU.sparse.name", b"s"),
    ) + file(b"GNUSparseFile.0/s", data)


def old_with_data(pieces: list[tuple[int, int]], size: int, data: bytes) -> bytes:
    return old(pieces, size, len(data)) + padded(data)


FORMATS = {"S": old_with_data, "0.0": version_0_0, "0.1": version_0_1, "1.0": version_1}
every_format = pytest.mark.parametrize("build", FORMATS.values(), ids=FORMATS)


def read(data: bytes, limits: Limits | None = None) -> list[TarEntry]:
    reader = TarReader(limits)
    entries = reader.feed(data)
    reader.close()
    return entries


@every_format
@pytest.mark.parametrize("end", [[], [(SIZE, 0)]], ids=["", "and GNU tar's empty last piece"])
def test_pieces_size_and_offsets(build, end: list[tuple[int, int]]) -> None:
    data = build([*PIECES, *end], SIZE, DATA)
    entry, after = read(data + file(b"after") + END)
    assert entry.name == b"s"
    assert (entry.size, entry.stored_size) == (SIZE, len(DATA))
    assert entry.sparse == PIECES
    assert data[entry.data_offset :].startswith(DATA)
    assert after.header_offset == len(data)


@every_format
def test_the_body_has_its_holes_filled(build) -> None:
    data = build(list(PIECES), SIZE, DATA) + file(b"after", b"x") + END
    for size in (1, 7, 512, 1 << 20):
        bodies = {}
        for entry, body in read_entries(io.BytesIO(data), 600):
            parts = []
            while part := body.read(size):
                parts.append(part)
            bodies[entry.name] = b"".join(parts)
        assert bodies == {b"s": EXPANDED, b"after": b"x"}


@every_format
def test_one_single_hole(build) -> None:
    entry, after = read(build([(SIZE, 0)], SIZE, b"") + file(b"after") + END)
    assert (entry.size, entry.stored_size, entry.sparse) == (SIZE, 0, ())
    assert after.name == b"after"


@every_format
@pytest.mark.parametrize("count", [4, 5, 25, 26, 300])
def test_many_pieces(build, count: int) -> None:
    pieces = [(number * 1000, 10) for number in range(count)]
    data = build(pieces, count * 1000, b"0123456789" * count) + file(b"after") + END
    for chunk in (len(data), 100):
        reader = TarReader()
        entries = []
        for start in range(0, len(data), chunk):
            entries += reader.feed(data[start : start + chunk])
        reader.close()
        assert [entry.name for entry in entries] == [b"s", b"after"]
        assert entries[0].sparse == tuple(pieces)


@every_format
@pytest.mark.parametrize(
    ("pieces", "size"),
    [
        ([(0, 100), (50, 700)], 9000),
        ([(5000, 700), (0, 100)], 9000),
        ([(8500, 800)], 9000),
        ([(0, 799)], 9000),
        ([(0, 801)], 9000),
        ([], 9000),
        ([(0, 800)], 799),
    ],
    ids=["overlap", "backwards", "over the end", "too few", "too many", "none", "size too small"],
)
def test_maps_that_contradict_the_data_are_refused(build, pieces, size: int) -> None:
    with pytest.raises(FormatError, match="sparse") as caught:
        read(build(pieces, size, DATA) + END)
    assert "'s'" in str(caught.value)
    assert caught.value.offset is not None


@every_format
def test_the_number_of_pieces_is_limited(build) -> None:
    pieces = [(number * 1000, 10) for number in range(50)]
    data = build(pieces, 50_000, b"0123456789" * 50) + END
    assert len(read(data, Limits(max_sparse_pieces=50))) == 1
    with pytest.raises(LimitExceeded, match="pieces"):
        read(data, Limits(max_sparse_pieces=49))


def test_a_list_longer_than_its_own_count_is_not_even_split() -> None:
    records = [(b"GNU.sparse.numblocks", b"1"), (b"GNU.sparse.map", b"0,1," * 5000 + b"0,1")]
    with pytest.raises(LimitExceeded, match="more than 50 pieces"):
        read(pax(*records) + file(b"s", b"x") + END, Limits(max_sparse_pieces=50))


@every_format
def test_a_map_that_ends_early_is_refused(build) -> None:
    pieces = [(number * 1000, 10) for number in range(300)]
    data = build(pieces, 300_000, b"0123456789" * 300)
    for cut in range(512, len(data), 512):
        reader = TarReader()
        entries = reader.feed(data[:cut])
        if not entries or cut < entries[0].data_offset + entries[0].stored_size:
            with pytest.raises(FormatError, match="truncated"):
                reader.close()


@pytest.mark.parametrize(
    ("major", "minor"), [(b"2", b"0"), (b"1", b"1"), (b"0", b"2"), (b"1", None), (b"", b"")]
)
def test_unknown_versions_are_refused_rather_than_taken_for_plain_files(
    major: bytes, minor: bytes | None
) -> None:
    records = [(b"GNU.sparse.major", major)]
    if minor is not None:
        records.append((b"GNU.sparse.minor", minor))
    with pytest.raises(FormatError, match="unknown version"):
        read(pax(*records) + file(b"s", DATA) + END)


@pytest.mark.parametrize(
    "text",
    [
        b"x\n",
        b"-1\n",
        b"1\n0\n",
        b"\n",
        b"1\n0\n800000000000000000000000\n",
        b"9" * 512,
        b"1\n0\n8_0\n",
        b"2\n0\n800\n",
    ],
)
def test_forged_maps_of_version_1_are_refused(text: bytes) -> None:
    records = pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"))
    data = records + header(b"s", size=512 + 800) + padded(text) + padded(DATA)
    with pytest.raises(FormatError):
        read(data + END)


def test_a_map_longer_than_its_member_is_refused() -> None:
    records = pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"))
    with pytest.raises(FormatError, match="longer than its member"):
        read(records + header(b"s", size=100) + map_text([(0, 0)]) + END)


@pytest.mark.parametrize(
    "records",
    [
        [(b"GNU.sparse.numblocks", b"1"), (b"GNU.sparse.numbytes", b"1")],
        [(b"GNU.sparse.numblocks", b"1"), (b"GNU.sparse.offset", b"1")],
        [(b"GNU.sparse.numblocks", b"x"), (b"GNU.sparse.map", b"0,1")],
        [(b"GNU.sparse.numblocks", b"1"), (b"GNU.sparse.map", b"0,1,2")],
        [(b"GNU.sparse.numblocks", b"1"), (b"GNU.sparse.map", b"0,-1")],
        [(b"GNU.sparse.size", b"-1")],
        [(b"GNU.sparse.size", b"%d" % (1 << 63))],
        [(b"GNU.sparse.numblocks", b"%d" % (1 << 60))],
        [(b"GNU.sparse.major", b"0"), (b"GNU.sparse.minor", b"0")],
    ],
)
def test_forged_records_of_version_0_are_refused(records: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(FormatError):
        read(pax(*records) + file(b"s", b"x") + END)


def test_only_files_can_be_sparse() -> None:
    data = pax((b"GNU.sparse.map", b""), (b"GNU.sparse.numblocks", b"0"))
    with pytest.raises(FormatError, match="not a file"):
        read(data + header(kind=b"5") + END)
    with pytest.raises(FormatError, match="not GNU"):
        read(header(kind=b"S") + END)


def test_a_hole_of_exabytes_costs_nothing_until_it_is_read() -> None:
    size = 1 << 62
    ((entry, body),) = read_entries(io.BytesIO(version_0_1([(size, 0)], size, b"") + END))
    assert entry.size == size
    assert body.read(10) == bytes(10)
