"""Importing a layer: what is refused, what is kept, and what stays behind (nothing)."""

from __future__ import annotations

import gzip
import hashlib
import io
from pathlib import Path

import pytest

from tests.support import tar_blocks as blocks
from tests.support.chains import (
    OWNER_SYSTEM,
    Blobs,
    Entry,
    file,
    folder,
    hard_link,
    symlink,
    tar,
    whiteout,
)
from windowsfilter.digests import DiffID, Digest
from windowsfilter.engines.portable.blobs import LayerBlob
from windowsfilter.engines.portable.import_terms import Expected, Limits
from windowsfilter.engines.portable.index import Index, Kind
from windowsfilter.errors import DigestMismatch, FormatError, LimitExceeded, StoreDamaged
from windowsfilter.wire.compression import Compression, compressor
from windowsfilter.wire.tar import Member


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path)


def left_behind(blobs: Blobs) -> list[str]:
    return [
        str(path.relative_to(blobs.root))
        for path in blobs.root.rglob("*")
        if path not in (blobs.root / "blobs", blobs.root / "blobs/sha256", blobs.root / "tmp")
    ]


def original(blob: LayerBlob) -> bytes | None:
    stream = blob.open_original()
    if stream is None:
        return None
    with stream:
        return stream.read()


GOOD = [folder("Files"), file("Files/a.txt", b"hello"), file("Files/b", b"x" * 70_000)]


@pytest.mark.parametrize("packing", list(Compression))
def test_a_layer_is_kept_byte_for_byte_however_it_was_packed(
    blobs: Blobs, packing: Compression
) -> None:
    raw = tar(GOOD)
    packer = compressor(packing)
    packed = packer.feed(raw) + packer.finish()
    manifest = blobs.store.add(io.BytesIO(packed), keep_compressed=True)
    assert manifest.diff_id == Digest.of(raw)
    with blobs.store.open(manifest.diff_id) as blob:
        with blob.open_tar() as plain:
            assert plain.read() == raw
        assert original(blob) == (None if packing is Compression.NONE else packed)
    assert manifest.entries == 3
    assert manifest.data_bytes == 70_005


def test_the_same_tar_is_stored_once(blobs: Blobs) -> None:
    first = blobs.store.add(io.BytesIO(tar(GOOD)))
    again = blobs.store.add(io.BytesIO(gzip.compress(tar(GOOD))))
    assert first.diff_id == again.diff_id
    assert list(blobs.store.all()) == [first.diff_id]
    assert not list((blobs.root / "tmp").iterdir())


def test_compressed_bytes_can_be_kept_later(blobs: Blobs) -> None:
    packed = gzip.compress(tar(GOOD))
    blobs.store.add(io.BytesIO(tar(GOOD)))
    manifest = blobs.store.add(io.BytesIO(packed), keep_compressed=True)
    assert manifest.original is not None
    with blobs.store.open(manifest.diff_id) as blob:
        assert original(blob) == packed


def test_what_was_expected_must_turn_out_true(blobs: Blobs) -> None:
    raw = tar(GOOD)
    wrong = "sha256:" + "0" * 64
    for expected in (
        Expected(diff_id=DiffID(wrong)),
        Expected(digest=Digest(wrong)),
        Expected(size=len(raw) + 1),
    ):
        with pytest.raises(DigestMismatch):
            blobs.store.add(io.BytesIO(raw), expected=expected)
        assert left_behind(blobs) == []
    digest = Digest.of(raw)
    blobs.store.add(
        io.BytesIO(raw),
        expected=Expected(diff_id=DiffID(digest), digest=digest, size=len(raw)),
    )


def raw_entry(name: bytes, typeflag: bytes = b"0", link: bytes = b"") -> Entry:
    return Entry(Member(name=name, typeflag=typeflag[0], linkname=link))


HOSTILE = {
    "parent directory": [file("Files/../../etc/passwd")],
    "absolute": [file("/etc/passwd")],
    "absolute, in the root": [file("/x")],
    "drive": [file("C:/Windows/x")],
    "drive alone": [file("c:x")],
    "backslash": [file("Files\\x")],
    "device path": [file("\\\\.\\PhysicalDrive0")],
    "nt path": [file("\\??\\C:\\x")],
    "dot component": [file("Files/./x")],
    "empty component": [file("Files//x")],
    "not utf-8": [file(b"Files/\xff\xfe")],
    "below a stream": [file("Files/a:b/c")],
    "stream of nothing": [file("Files/:s")],
    "directory as a stream": [folder("Files/a:b")],
    "whiteout of nothing": [file("Files/.wh.")],
    "whiteout of its directory": [file("Files/.wh...")],
    "whiteout of a stream": [whiteout("Files/f:s")],
    "hard link upward": [folder("Files"), hard_link("Files/l", "../../etc/shadow")],
    "hard link to absolute": [hard_link("Files/l", "/etc/shadow")],
    "hard link to backslash": [hard_link("Files/l", "C:\\x")],
    "hard link to itself": [hard_link("Files/l", "Files/L")],
    "hard link circle": [hard_link("Files/a", "Files/b"), hard_link("Files/b", "Files/a")],
    "names equal but for case": [file("Files/a"), file("Files/A")],
    "directories equal but for case": [folder("Files/a"), folder("Files/A")],
    "the same file twice": [file("Files/a"), file("Files/a")],
    "file and directory": [file("Files/a"), folder("Files/a")],
    "directory and file": [folder("Files/a"), file("Files/A")],
    "below a file": [file("Files/a"), file("Files/A/b")],
    "file where a directory is implied": [file("Files/a/b"), file("Files/A")],
    "character device": [raw_entry(b"Files/dev", b"3")],
    "block device": [raw_entry(b"Files/dev", b"4")],
    "fifo": [raw_entry(b"Files/fifo", b"6")],
    "unknown type": [raw_entry(b"Files/x", b"Z")],
    "name longer than Windows has": [file("Files/" + "/".join(["x" * 200] * 600))],
    "attributes too big": [file("Files/a", attributes=1 << 32)],
    "attributes negative": [Entry(Member(name=b"Files/a", records={b"MSWINDOWS.fileattr": b"-1"}))],
    "descriptor not base64": [
        Entry(Member(name=b"Files/a", records={b"MSWINDOWS.rawsd": b"AQAB!"}))
    ],
    "creation time": [
        Entry(Member(name=b"Files/a", records={b"LIBARCHIVE.creationtime": b"noon"}))
    ],
}


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE)
def test_hostile_layers_are_refused_by_name_and_leave_nothing(
    blobs: Blobs, entries: list[Entry]
) -> None:
    with pytest.raises(FormatError) as caught:
        blobs.store.add(io.BytesIO(tar([file("first", b"fine"), *entries])))
    assert "entry" in str(caught.value) or "circle" in str(caught.value)
    assert left_behind(blobs) == []


TOLERATED = {
    "directory repeated": [folder("Files"), folder("Files")],
    "directory after its implied twin": [file("Files/a/x"), folder("Files/A")],
    "leading dot": [file("./Files/a")],
    "root itself": [folder("."), folder("./"), file("Files/a")],
    "whiteout beside its entry": [file("Files/a"), whiteout("Files/A")],
    "dangling hard link": [hard_link("Files/l", "Files/gone")],
    "hard link to a later file": [hard_link("Files/l", "Files/f"), file("Files/f")],
    "absolute symlink": [symlink("Files/s", "/etc/passwd")],
    "time of year 1": [file("Files/f", mtime_ns=-62_135_596_800 * 10**9)],
    "empty layer": [],
}


@pytest.mark.parametrize("entries", TOLERATED.values(), ids=TOLERATED)
def test_odd_but_harmless_layers_are_taken(blobs: Blobs, entries: list[Entry]) -> None:
    manifest = blobs.store.add(io.BytesIO(tar(entries)))
    assert manifest.entries == len(entries)


def test_limits_name_the_option_that_raises_them(blobs: Blobs) -> None:
    many = tar([file(f"Files/{n}") for n in range(20)])
    with pytest.raises(LimitExceeded, match="--max-entries"):
        blobs.store.add(io.BytesIO(many), limits=Limits(max_entries=19))
    with pytest.raises(LimitExceeded, match="--max-bytes"):
        blobs.store.add(io.BytesIO(many), limits=Limits(max_bytes=1000))
    bomb = gzip.compress(tar([file("Files/zeros", bytes(100 << 20))]))
    with pytest.raises(LimitExceeded, match="--max-ratio"):
        blobs.store.add(io.BytesIO(bomb))
    assert left_behind(blobs) == []
    assert blobs.store.add(io.BytesIO(bomb), limits=Limits(max_ratio=2000)).entries == 1


@pytest.mark.parametrize("size", [1, 511, 513, 1000, 1025, 40_000])
def test_truncated_layers_are_refused(blobs: Blobs, size: int) -> None:
    with pytest.raises(FormatError):
        blobs.store.add(io.BytesIO(tar(GOOD)[:size]))
    packed = gzip.compress(tar(GOOD))
    with pytest.raises(FormatError):
        blobs.store.add(io.BytesIO(packed[: len(packed) * size // 40_001 or 1]))
    assert left_behind(blobs) == []


def test_a_source_that_fails_leaves_nothing(blobs: Blobs) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 3000:
                raise ConnectionResetError("gone")
            return super().read(min(size or 1, 1000))

    with pytest.raises(OSError, match="gone"):
        blobs.store.add(Broken(tar(GOOD)))
    assert left_behind(blobs) == []


def test_sparse_files_are_expanded_into_the_spill(blobs: Blobs) -> None:
    header_map = b"2\n0\n3\n100000\n4\n"
    body = header_map + bytes(512 - len(header_map)) + b"abc" + b"tail"
    sparse = blocks.pax(
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"Files/sparse"),
        (b"GNU.sparse.realsize", b"100004"),
    )
    raw = sparse + blocks.header(b"Files/x", size=len(body)) + blocks.padded(body) + blocks.END
    with blobs.add(raw) as blob:
        record = blob.index.record(0)
        assert (record.kind, record.size, record.device) == (Kind.FILE, 100_004, 1)
        data = blob.read(record, 200_000, 0)
        assert (
            hashlib.sha256(data).digest()
            == hashlib.sha256(b"abc" + bytes(99_997) + b"tail").digest()
        )


def test_a_body_without_its_padding_is_readable_through_the_spill(blobs: Blobs) -> None:
    raw = tar([file("Files/last", b"q" * 700)])[:-1024]  # no end blocks ...
    raw = raw[: -(512 - 188)]  # ... and no padding
    with blobs.add(raw) as blob:
        record = blob.index.record(0)
        assert record.device == 1
        assert blob.read(record, 1000, 0) == b"q" * 700


def test_metadata_is_indexed_exactly(blobs: Blobs) -> None:
    descriptor = OWNER_SYSTEM + bytes(range(8))
    records = {b"MSWINDOWS.xattr.FOO": b"YmFy", b"UNKNOWN.key": b"\xff value"}
    layer = [file("Files/f", b"1", sd=descriptor, attributes=0x21, records=records, uid=7, gid=8)]
    with blobs.add(layer) as blob:
        record = blob.index.record(0)
        assert record.attributes == 0x21
        assert blob.index.value(record.sd) == descriptor
        assert (record.uid, record.gid) == (7, 8)
        assert record.write == 131_204_736_001_234_567
        assert record.creation == 130_444_736_007_654_321
        assert record.access == record.change == record.write  # not in the tar
        assert b"UNKNOWN.key=\xff value\n" in blob.index.pax(0)


def test_global_records_reach_the_index(blobs: Blobs) -> None:
    defaults = blocks.pax((b"MSWINDOWS.fileattr", b"1234567"), kind=b"g")
    raw = defaults + tar([file("Files/f", attributes=None)])
    with blobs.add(raw) as blob:
        assert blob.index.record(0).attributes == 1234567
        assert b"MSWINDOWS.fileattr=1234567" in blob.index.pax(0)


def test_a_missing_or_damaged_index_is_rebuilt_from_the_blob(blobs: Blobs) -> None:
    with blobs.add(GOOD) as blob:
        before = list(blob.index.entries())
        path = blob.directory / "index"
    good = path.read_bytes()
    damaged = [b"", good[:50], good[:-1]]
    damaged += [good[:n] + bytes([good[n] ^ 1]) + good[n + 1 :] for n in range(len(good))]
    for data in damaged:
        path.write_bytes(data)
        noticed = False
        try:
            with Index(path) as index:
                assert list(index.entries()) == before
                assert [index.pax(n) for n in range(index.count)]
                noticed = index.diff_id != blob.diff_id
        except StoreDamaged:
            noticed = True
        assert noticed, "a flipped bit went unnoticed"
    path.unlink()
    with blobs.store.open(blob.diff_id) as again:
        assert list(again.index.entries()) == before


def test_an_index_of_many_chunks_finds_every_entry(blobs: Blobs) -> None:
    layer = [file(f"Files/{n:06}", sd=OWNER_SYSTEM + b"%d" % (n % 300)) for n in range(10_000)]
    with blobs.add(layer) as blob:
        index = blob.index
        assert index.count == 10_000
        assert index.chunks > 1
        for number in (0, 4095, 4096, 9_999):
            assert index.name(number) == f"Files/{number:06}".encode()
            assert index.value(index.record(number).sd) == OWNER_SYSTEM + b"%d" % (number % 300)
