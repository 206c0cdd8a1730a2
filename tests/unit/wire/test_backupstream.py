"""Win32 backup streams: headers, and files that are runs of streams."""

from __future__ import annotations

import io

import pytest

from tests.support.backup_streams import Pipe, block, stream
from windowsfilter.wire.backupstream import (
    MAX_NAME_BYTES,
    BackupStreamError,
    BackupStreamReader,
    BackupStreamWriter,
    StreamAttribute,
    StreamHeader,
    StreamId,
    plain_header,
)

VECTORS = {
    "data": (StreamHeader(id=StreamId.DATA, size=5), "0100000000000000050000000000000000000000"),
    "security, as BackupRead marks it": (
        StreamHeader(
            id=StreamId.SECURITY_DATA, size=76, attributes=StreamAttribute.CONTAINS_SECURITY
        ),
        "0300000002000000" + "4c00000000000000" + "00000000",
    ),
    "alternate data": (
        StreamHeader(id=StreamId.ALTERNATE_DATA, size=1, name=":a:$DATA"),
        "0400000000000000" + "0100000000000000" + "10000000" + "3a0061003a00240044004100540041 00",
    ),
    "half of a surrogate pair in a name": (
        StreamHeader(id=StreamId.ALTERNATE_DATA, size=0, name=":\ud800"),
        "0400000000000000" + "0000000000000000" + "04000000" + "3a0000d8",
    ),
    "sparse block, offset counted in the size": (
        StreamHeader(id=StreamId.SPARSE_BLOCK, size=4, attributes=8, offset=0x10000),
        "09000000080000000c00000000000000000000000000010000000000",
    ),
    "an id without a name": (
        StreamHeader(id=99, size=2**63 - 1, attributes=0xFFFFFFFF),
        "63000000ffffffff" + "ffffffffffffff7f" + "00000000",
    ),
}


@pytest.mark.parametrize(("header", "wire"), VECTORS.values(), ids=VECTORS)
def test_vectors(header: StreamHeader, wire: str) -> None:
    data = bytes.fromhex(wire)
    assert header.build() == data
    assert StreamHeader.parse(data + b"next") == (header, len(data))
    assert all(StreamHeader.parse(data[:n]) is None for n in range(len(data)))


def test_a_plain_header_is_the_short_way_to_the_same_bytes() -> None:
    assert plain_header(StreamId.DATA, 7) == StreamHeader(id=StreamId.DATA, size=7).build()


@pytest.mark.parametrize(
    ("wire", "offset"),
    {
        "size over 2^63": ("0100000000000000" + "ffffffffffffffff" + "00000000", 108),
        "name of odd length": ("0400000000000000" + "0100000000000000" + "03000000", 116),
        "name of 4 GiB": ("0400000000000000" + "0100000000000000" + "feffffff", 116),
        "sparse block without its offset": ("0900000000000000" + "0700000000000000" + "0" * 8, 108),
        "sparse block before the file": (
            "0900000000000000" + "0800000000000000" + "0" * 8 + "ff" * 8,
            120,
        ),
    }.values(),
)
def test_lengths_that_cannot_be_are_refused_with_their_offset(wire: str, offset: int) -> None:
    with pytest.raises(BackupStreamError) as caught:
        StreamHeader.parse(bytes.fromhex(wire), at=100)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    "header",
    [
        StreamHeader(id=1, size=-1),
        StreamHeader(id=2**32, size=0),
        StreamHeader(id=9, size=2**63 - 8),
        StreamHeader(id=9, size=0, offset=-1),
        StreamHeader(id=4, size=0, name="x" * (MAX_NAME_BYTES // 2 + 1)),
    ],
)
def test_headers_that_do_not_fit_are_not_built(header: StreamHeader) -> None:
    with pytest.raises(BackupStreamError, match="cannot be written"):
        header.build()


FILE = (
    stream(StreamId.SECURITY_DATA, b"descriptor")
    + stream(StreamId.DATA, b"content")
    + stream(StreamId.ALTERNATE_DATA, b"more", ":s:$DATA")
    + block(65536, b"block")
    + stream(StreamId.OBJECT_ID)
)


@pytest.mark.parametrize("most", [1, 7, 1 << 20])
def test_a_file_is_read_stream_by_stream(most: int) -> None:
    reader = BackupStreamReader(Pipe(FILE, most))
    found = []
    while (header := reader.next_header()) is not None:
        found.append((header.id, header.name, header.offset, reader.read()))
    assert found == [
        (3, "", 0, b"descriptor"),
        (1, "", 0, b"content"),
        (4, ":s:$DATA", 0, b"more"),
        (9, "", 65536, b"block"),
        (7, "", 0, b""),
    ]
    assert reader.offset == len(FILE)


def test_what_is_not_read_is_stepped_over_by_reading_or_seeking() -> None:
    source = io.BytesIO(FILE)
    for reader in (
        BackupStreamReader(Pipe(FILE)),
        BackupStreamReader(source, seek=source.seek, size=len(FILE)),
    ):
        ids = []
        while (header := reader.next_header()) is not None:
            ids.append(header.id)
            assert reader.read(2) == reader.read(0) or header.size
        assert ids == [3, 1, 4, 9, 7]
        assert reader.offset == len(FILE)


def test_a_stream_that_was_found_can_be_read_later() -> None:
    source = io.BytesIO(FILE)
    reader = BackupStreamReader(source)
    reader.next_header()
    header = reader.next_header()
    assert header is not None
    at = reader.offset
    source.seek(at)
    again = BackupStreamReader.inside(source, header, at)
    assert again.read() == b"content"
    assert again.next_header() is not None


@pytest.mark.parametrize("end", [n for n in range(1, 45) if n != 30])
def test_a_source_that_ends_inside_a_stream_is_truncated(end: int) -> None:
    reader = BackupStreamReader(Pipe(FILE[:end]))
    with pytest.raises(BackupStreamError, match="truncated"):
        while reader.next_header() is not None:
            reader.read()


def test_a_size_that_lies_is_not_believed_with_memory() -> None:
    wire = StreamHeader(id=1, size=2**62).build() + b"all there is"
    reader = BackupStreamReader(io.BytesIO(wire))
    assert reader.next_header() is not None
    with pytest.raises(BackupStreamError, match="truncated") as caught:
        reader.read()
    assert caught.value.offset == len(wire)


def test_a_writer_holds_streams_to_their_sizes() -> None:
    out = io.BytesIO()
    writer = BackupStreamWriter(out)
    writer.begin(StreamHeader(id=StreamId.DATA, size=4))
    writer.write(b"da")
    with pytest.raises(BackupStreamError, match="2 bytes of a stream were not written"):
        writer.begin(StreamHeader(id=StreamId.OBJECT_ID, size=0))
    with pytest.raises(BackupStreamError, match="1 bytes more"):
        writer.write(b"ta!")
    writer.write(b"ta")
    writer.begin(StreamHeader(id=StreamId.OBJECT_ID, size=0))
    writer.end()
    assert out.getvalue() == stream(1, b"data") + stream(7)
