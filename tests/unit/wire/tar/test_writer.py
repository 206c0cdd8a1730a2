from __future__ import annotations

import io
from collections.abc import Iterable

import pytest

from windowsfilter.errors import FormatError
from windowsfilter.wire.tar import (
    TYPE_DIRECTORY,
    TYPE_HARD_LINK,
    TYPE_OLD_FILE,
    TYPE_SYMLINK,
    Member,
    TarEntry,
    TarReader,
    TarWriter,
)
from windowsfilter.wire.tar.writer import build_header

LONG = b"Files/" + b"d" * 90 + b"/leaf.txt"  # 105 bytes: prefix and name could hold it


def written(*members: Member, body: bytes | Iterable[bytes] = b"") -> bytes:
    stream = io.BytesIO()
    writer = TarWriter(stream)
    for member in members:
        writer.add(member, body)
    writer.close()
    assert writer.offset == len(stream.getvalue())
    return stream.getvalue()


def read_back(data: bytes) -> TarEntry:
    reader = TarReader()
    (entry,) = reader.feed(data)
    reader.close()
    return entry


def test_a_plain_member_is_one_ustar_block() -> None:
    data = build_header(Member(name=b"Files/a.txt", size=5, mode=0o100000, mtime_ns=10**18))
    assert len(data) == 512
    assert data[:12] == b"Files/a.txt\0"
    assert data[100:157] == (
        b"0100000\x000000000\x000000000\x0000000000005\x0007346545000\x00011250\x00 0"
    )
    assert data[257:265] == b"ustar\x0000"
    assert data[329:345] == b"0000000\x000000000\0"
    assert not any(data[345:])


def test_end_is_two_zero_blocks_and_nothing_more() -> None:
    assert written() == bytes(1024)
    assert written(Member(name=b"f", size=1), body=b"x")[1024:] == bytes(1024)


def test_the_extended_header_is_as_plain_as_the_references() -> None:
    data = build_header(Member(name=b"Files/dir/a.txt", atime_ns=0))
    assert len(data) == 1536
    assert data[:100].rstrip(b"\0") == b"Files/dir/PaxHeaders.0/a.txt"
    assert data[100:148] == b"0000000\0" * 3 + b"00000000013\0" + b"00000000000\0"
    assert data[156:157] == b"x"
    assert not any(data[329:345])  # no device numbers, not even zeros
    assert data[512:523] == b"11 atime=0\n"


@pytest.mark.parametrize(
    ("name", "holder"),
    [
        (b"Files", b"PaxHeaders.0/Files"),
        (b"Files/dir/", b"Files/dir/PaxHeaders.0"),
        (b"a//b", b"a/PaxHeaders.0/b"),
        ("Files/日本/x.txt".encode(), b"Files//PaxHeaders.0/x.txt"),
        (b"d" * 99 + b"/leaf", b"d" * 99),
        (b"/abs", b"/PaxHeaders.0/abs"),
    ],
)
def test_names_of_extended_headers(name: bytes, holder: bytes) -> None:
    kind = TYPE_DIRECTORY
    data = build_header(Member(name=name, typeflag=kind, atime_ns=0))
    assert data[:100].rstrip(b"\0") == holder


class TestWhatNeedsARecord:
    def records(self, **fields: object) -> dict[bytes, bytes]:
        return read_back(written(Member(name=b"f", **fields))).records  # type: ignore[arg-type]

    def test_whole_seconds_of_mtime_do_not(self) -> None:
        assert self.records(mtime_ns=10**18) == {}
        assert self.records(mtime_ns=((1 << 33) - 1) * 10**9) == {}

    def test_fractions_negative_and_far_times_do(self) -> None:
        assert self.records(mtime_ns=100) == {b"mtime": b"0.0000001"}
        assert self.records(mtime_ns=-(10**9)) == {b"mtime": b"-1"}
        assert self.records(mtime_ns=(1 << 33) * 10**9) == {b"mtime": b"8589934592"}

    def test_access_and_change_times_always_do(self) -> None:
        assert self.records(atime_ns=0, ctime_ns=10**9) == {b"atime": b"0", b"ctime": b"1"}

    def test_owners_beyond_seven_octal_digits_do(self) -> None:
        assert self.records(uid=(1 << 21) - 1) == {}
        assert self.records(uid=1 << 21, gid=1 << 22) == {b"uid": b"2097152", b"gid": b"4194304"}

    def test_names_that_are_long_or_not_ascii_do(self) -> None:
        entry = read_back(written(Member(name="é".encode(), linkname=b"l" * 101)))
        assert entry.records == {b"path": "é".encode(), b"linkpath": b"l" * 101}

    def test_sizes_of_eight_gigabytes_do(self) -> None:
        data = build_header(Member(name=b"f", size=1 << 33))
        assert b"19 size=8589934592\n" in data
        assert data[1024 + 124 : 1024 + 136] == b"00000000000\0"

    def test_a_long_ascii_name_is_split_while_nothing_else_needs_records(self) -> None:
        data = build_header(Member(name=LONG))
        assert len(data) == 512
        assert data[345:].rstrip(b"\0") == LONG[:96]
        assert data[:100].rstrip(b"\0") == b"leaf.txt"

    def test_a_long_ascii_name_is_a_record_once_there_are_others(self) -> None:
        data = build_header(Member(name=LONG, atime_ns=0))
        assert b"path=" + LONG in data
        assert not any(data[1024 + 345 :])
        assert data[1024 : 1024 + 100] == LONG[:100]

    def test_a_name_that_cannot_be_split_is_a_record(self) -> None:
        assert b"path=" in build_header(Member(name=b"n" * 101))
        assert b"path=" in build_header(Member(name=b"d" * 160 + b"/leaf"))


def test_a_field_cut_behind_a_slash_does_not_look_like_a_directory() -> None:
    name = b"d" * 99 + b"/leaf"
    data = build_header(Member(name=name, atime_ns=0))
    assert data[1024 : 1024 + 100] == b"d" * 99 + b"\0"


def test_names_in_fields_lose_what_is_not_ascii() -> None:
    data = build_header(Member(name="Files/日x".encode(), typeflag=TYPE_SYMLINK, linkname=b"\xc3"))
    assert data[1024:1031] == b"Files/x"
    assert data[1024 + 157] == 0


def test_unspecified_format_rounds_the_time_and_drops_the_others() -> None:
    member = Member(name=b"Files/.wh.x", mtime_ns=1_500_000_000, atime_ns=5, ctime_ns=5, pax=False)
    data = build_header(member)
    assert len(data) == 512
    assert data[136:148] == b"00000000002\0"
    long = build_header(Member(name=b"Files/.wh." + b"x" * 100, pax=False))
    assert long[512:].startswith(b"120 path=Files/.wh.")


def test_records_that_repeat_the_member_are_kept_and_others_are_dropped() -> None:
    kept = {b"path": b"f", b"size": b"0", b"mtime": b"7", b"uid": b"0"}
    member = Member(name=b"f", mtime_ns=7 * 10**9, records=kept)
    assert read_back(written(member)).records == kept
    stale = {b"path": b"other", b"size": b"5", b"mtime": b"8", b"uname": b"root", b"k": b"v"}
    member = Member(name=b"f", mtime_ns=7 * 10**9, records=stale)
    assert read_back(written(member)).records == {b"k": b"v"}


def test_records_of_sparse_files_are_dropped_because_bodies_are_dense() -> None:
    member = Member(name=b"f", records={b"GNU.sparse.major": b"1", b"k": b"v"})
    assert read_back(written(member)).records == {b"k": b"v"}


def test_a_long_folder_name_with_its_slash_is_split_before_the_last_component() -> None:
    data = build_header(Member(name=b"d" * 60 + b"/" + b"e" * 60 + b"/", typeflag=TYPE_DIRECTORY))
    assert data[345:].rstrip(b"\0") == b"d" * 60
    assert data[:100].rstrip(b"\0") == b"e" * 60 + b"/"


def test_records_are_sorted_by_their_bytes() -> None:
    records = {b"MSWINDOWS.fileattr": b"32", b"LIBARCHIVE.creationtime": b"1"}
    entry = read_back(written(Member(name=b"f", atime_ns=0, mtime_ns=5, records=records)))
    assert list(entry.records) == [
        b"LIBARCHIVE.creationtime",
        b"MSWINDOWS.fileattr",
        b"atime",
        b"mtime",
    ]


@pytest.mark.parametrize(
    "body", [b"hello", [b"he", b"", b"llo"], io.BytesIO(b"hello"), bytearray(b"hello")]
)
def test_bodies_are_bytes_pieces_or_files(body: object) -> None:
    stream = io.BytesIO()
    TarWriter(stream).add(Member(name=b"f", size=5), body)  # type: ignore[arg-type]
    assert stream.getvalue()[512:] == b"hello" + bytes(507)


@pytest.mark.parametrize("body", [b"hell", b"hello!", [b"hello", b"!"], b""])
def test_a_body_of_another_size_is_refused_by_name(body: bytes) -> None:
    with pytest.raises(FormatError, match="'Files/x'.*its header says 5"):
        TarWriter(io.BytesIO()).add(Member(name=b"Files/x", size=5), body)


def test_old_files_are_written_with_todays_flags() -> None:
    assert build_header(Member(name=b"f", typeflag=TYPE_OLD_FILE))[156:157] == b"0"
    assert build_header(Member(name=b"d/", typeflag=TYPE_OLD_FILE))[156:157] == b"5"


@pytest.mark.parametrize(
    "member",
    [
        Member(name=b"f/"),
        Member(name=b"f", mode=1 << 21),
        Member(name=b"f", mode=-1),
        Member(name=b"f", size=-1),
        Member(name=b"f", typeflag=ord("x")),
        Member(name=b"f", typeflag=ord("S")),
        Member(name=b"f\0g"),
        Member(name=b"f", typeflag=TYPE_HARD_LINK, linkname=b"a\0b"),
        Member(name=b"f", records={b"a=b": b""}),
        Member(name=b"f", records={b"": b""}),
    ],
    ids=repr,
)
def test_what_cannot_be_written_is_refused_by_name(member: Member) -> None:
    with pytest.raises(FormatError, match="tar entry 'f"):
        build_header(member)
