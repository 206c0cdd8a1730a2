from __future__ import annotations

import pytest

from tests.support.tar_blocks import (
    END,
    GNU,
    ZERO,
    base256,
    file,
    header,
    long_name,
    padded,
    pax,
    raw_pax,
)
from windowsfilter.errors import FormatError, LimitExceeded
from windowsfilter.wire.tar import Limits, TarEntry, TarReader

SECOND = 10**9


def read(data: bytes, limits: Limits | None = None) -> list[TarEntry]:
    reader = TarReader(limits)
    entries = reader.feed(data)
    reader.close()
    return entries


def only(data: bytes) -> TarEntry:
    (entry,) = read(data)
    return entry


def refused(data: bytes, limits: Limits | None = None) -> FormatError:
    with pytest.raises(FormatError) as caught:
        read(data, limits)
    assert caught.value.offset is not None
    return caught.value


class TestPlainHeaders:
    def test_every_field_of_a_ustar_header_arrives(self) -> None:
        entry = only(
            file(
                b"Files/a.txt",
                b"hello",
                mtime=1_600_000_000,
                mode=b"0100644\0",
                uid=b"0001750\0",
                gid=b"0000144\0",
            )
            + END
        )
        assert entry.name == b"Files/a.txt"
        assert (entry.mode, entry.uid, entry.gid) == (0o100644, 1000, 100)
        assert (entry.size, entry.stored_size) == (5, 5)
        assert entry.mtime_ns == 1_600_000_000 * SECOND
        assert entry.atime_ns is None
        assert entry.ctime_ns is None
        assert entry.records == {}
        assert entry.pax_raw == b""
        assert (entry.header_offset, entry.data_offset) == (0, 512)
        assert entry.sparse is None

    def test_bodies_are_stepped_over_to_the_next_block(self) -> None:
        entries = read(file(b"a", b"x" * 513) + file(b"b") + file(b"c", b"y" * 512) + END)
        assert [(entry.name, entry.header_offset) for entry in entries] == [
            (b"a", 0),
            (b"b", 1536),
            (b"c", 2048),
        ]

    def test_prefix_and_name_are_joined(self) -> None:
        entry = only(header(b"leaf", tail=b"some/folder") + END)
        assert entry.name == b"some/folder/leaf"

    def test_a_name_may_fill_its_field_without_a_nul(self) -> None:
        entry = only(header(b"n" * 100, tail=b"p" * 155) + END)
        assert entry.name == b"p" * 155 + b"/" + b"n" * 100

    def test_without_magic_there_is_no_prefix(self) -> None:
        assert only(header(b"leaf", magic=bytes(8), tail=b"junk") + END).name == b"leaf"

    @pytest.mark.parametrize("kind", list(b"123456"))
    def test_links_directories_and_devices_have_no_body_whatever_their_size(
        self, kind: int
    ) -> None:
        entries = read(header(b"d", kind=bytes([kind]), size=700) + file(b"next") + END)
        assert [entry.name for entry in entries] == [b"d", b"next"]
        assert entries[0].size == entries[0].stored_size == 0

    def test_link_targets_come_with_backslashes_as_they_are(self) -> None:
        assert only(header(kind=b"2", link=b"C:\\Users") + END).linkname == b"C:\\Users"

    @pytest.mark.parametrize(
        ("flag", "name", "kind"),
        [
            (b"\0", b"f", b"0"),
            (b"\0", b"d/", b"5"),
            (b"7", b"f", b"0"),
            (b"0", b"f", b"0"),
            (b"5", b"d", b"5"),
            (b"Q", b"f", b"Q"),
        ],
    )
    def test_kind_folds_historic_type_flags(self, flag: bytes, name: bytes, kind: bytes) -> None:
        entry = only(header(name, kind=flag) + END)
        assert (entry.typeflag, entry.kind) == (flag[0], kind[0])

    def test_an_unknown_type_is_given_with_its_body_stepped_over(self) -> None:
        entries = read(file(b"q", b"body", kind=b"Q") + file(b"next") + END)
        assert [(entry.name, entry.size) for entry in entries] == [(b"q", 4), (b"next", 0)]

    @pytest.mark.parametrize(
        ("name", "path"),
        [(b"./a/b/", b"a/b"), (b".//a", b"a"), (b"./", b""), (b"a", b"a"), (b"..", b"..")],
    )
    def test_path_drops_leading_dots_and_trailing_slashes(self, name: bytes, path: bytes) -> None:
        assert only(header(name, kind=b"5") + END).path == path

    def test_names_that_are_not_utf8_pass_unchanged(self) -> None:
        assert only(header(b"caf\xe9") + END).name == b"caf\xe9"


class TestNumbers:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            (b"00000000017\0", 15),
            (b"00000000017 ", 15),
            (b"         17 ", 15),
            (b"        17 \0", 15),
            (b"000000000017", 15),
            (b"17\0 junk    ", 15),
            (base256(15), 15),
        ],
    )
    def test_spellings_of_a_size(self, field: bytes, value: int) -> None:
        assert only(header(size=field) + bytes(512) + END).size == value

    def test_an_empty_size_is_zero(self) -> None:
        assert only(header(size=bytes(12)) + END).size == 0

    @pytest.mark.parametrize(
        "field",
        [
            b"00000000018\0",
            b"0000_000017\0",
            b"+0000000017\0",
            b"0o000000017\0",
            b"-0000000001\0",
            b"1 7        \0",
            b"zzzzzzzzzzzz",
            base256(-1),
            base256(1 << 63),
            base256((1 << 63) - 1),
            base256(-(1 << 80)),
        ],
    )
    def test_other_sizes_are_refused_with_offset_and_name(self, field: bytes) -> None:
        error = refused(padded(b"") + file(b"before") + header(b"Files/x", size=field) + END)
        assert "Files/x" in str(error)
        assert "size" in str(error)
        assert error.offset in (512, 512 + 124)

    def test_a_size_of_eight_gigabytes_in_base_256(self) -> None:
        reader = TarReader()
        (entry,) = reader.feed(header(size=base256(1 << 33)))
        assert entry.size == 1 << 33

    def test_times_before_1970_in_base_256(self) -> None:
        assert only(header(mtime=base256(-86400)) + END).mtime_ns == -86400 * SECOND

    def test_a_time_that_is_no_number_is_refused(self) -> None:
        assert "mtime" in str(refused(header(b"Files/x", mtime=b"yesterday!!!") + END))

    @pytest.mark.parametrize("what", ["mode", "uid", "gid"])
    @pytest.mark.parametrize(
        "field", [b"notoctal", base256(-2, 8), base256(1 << 32, 8), b"0000008\0"]
    )
    def test_owners_and_modes_are_bounded(self, what: str, field: bytes) -> None:
        error = refused(header(b"Files/x", **{what: field}) + END)
        assert what in str(error)
        assert "Files/x" in str(error)
        assert error.offset == 100 + 8 * ["mode", "uid", "gid"].index(what)

    def test_a_uid_of_32_bits_in_base_256(self) -> None:
        assert only(header(uid=base256((1 << 32) - 1, 8)) + END).uid == (1 << 32) - 1


class TestChecksums:
    def test_a_changed_byte_is_noticed_wherever_it_is(self) -> None:
        good = header(b"Files/name", size=3, tail=b"prefix")
        for place in range(512):
            if place in range(148, 156):
                continue
            bad = bytearray(good)
            bad[place] ^= 1
            assert refused(bytes(bad) + padded(b"abc") + END).offset == 0, place

    def test_bytes_that_are_not_ascii_count_as_they_are(self) -> None:
        assert only(header("Files/日本語".encode()) + END).name == "Files/日本語".encode()

    def test_the_historic_sum_of_signed_characters_is_accepted(self) -> None:
        good = header("naïve".encode())
        signed = sum(byte - 256 if byte > 127 else byte for byte in good)
        signed += 256 - sum(good[148:156])
        historic = good[:148] + b"%06o\0 " % signed + good[156:]
        assert only(historic + END).name == "naïve".encode()

    def test_a_sum_that_is_off_by_the_modulus_of_adler32_is_refused(self) -> None:
        # 0xff in nearly every byte gets the true sum above 65521.
        tail = b"\xff" * 167
        high = header(b"\xff" * 100, link=b"\xff" * 100, tail=tail)
        true = sum(high) - sum(high[148:156]) + 256
        assert true > 65521
        assert only(high + END).name.startswith(b"\xff")
        assert refused(high[:148] + b"%06o\0 " % (true - 65521) + high[156:] + END).offset == 0
        # And once more when the text of the sum is already known to be good for another block.
        low = header(b"x")
        text = low[148:156]
        assert refused(low + high[:148] + text + high[156:] + END).offset == 512

    @pytest.mark.parametrize("field", [b"        ", bytes(8), b"\x80" + bytes(7), b"12345678"])
    def test_sums_that_are_no_sums(self, field: bytes) -> None:
        assert "checksum" in str(refused(header(checksum=field) + END))

    @pytest.mark.parametrize("spelling", [b"%06o\0 ", b"%06o \0", b"%07o\0", b" %5o \0", b"%08o"])
    def test_spellings_of_a_sum(self, spelling: bytes) -> None:
        block = header()
        value = sum(block) - sum(block[148:156]) + 256
        assert only(block[:148] + spelling % value + block[156:] + END).name == b"f"


class TestExtendedHeaders:
    def test_records_override_the_header(self) -> None:
        data = pax(
            (b"path", b"Files/" + b"long" * 50),
            (b"linkpath", b"target" * 30),
            (b"size", b"3"),
            (b"uid", b"5"),
            (b"gid", b"6"),
            (b"mtime", b"1476000000.1234568"),
            (b"atime", b"0"),
            (b"ctime", b"-1.5"),
        ) + (header(b"short", size=0) + padded(b"abc"))
        entry = only(data + END)
        assert entry.name == b"Files/" + b"long" * 50
        assert entry.linkname == b"target" * 30
        assert (entry.size, entry.uid, entry.gid) == (3, 5, 6)
        assert entry.mtime_ns == 1476000000_123456800
        assert entry.atime_ns == 0
        assert entry.ctime_ns == -1_500_000_000

    def test_records_are_kept_raw_and_unknown_ones_too(self) -> None:
        data = pax((b"MSWINDOWS.fileattr", b"32"), (b"com.example.unknown", b"a=b\nc"))
        entry = only(data + header() + END)
        assert entry.records == {b"MSWINDOWS.fileattr": b"32", b"com.example.unknown": b"a=b\nc"}
        assert entry.pax_raw == b"25 MSWINDOWS.fileattr=32\n29 com.example.unknown=a=b\nc\n"
        assert padded(entry.pax_raw) == data[512:]

    def test_offsets_count_from_the_first_of_an_entrys_headers(self) -> None:
        data = file(b"a", b"1") + pax((b"mtime", b"1.5")) + file(b"b", b"2") + END
        first, second = read(data)
        assert (first.header_offset, first.data_offset) == (0, 512)
        assert (second.header_offset, second.data_offset) == (1024, 1024 + 1024 + 512)

    def test_the_last_of_a_repeated_key_wins_and_all_stay_in_the_raw_body(self) -> None:
        entry = only(pax((b"k", b"1"), (b"k", b"2")) + header() + END)
        assert entry.records == {b"k": b"2"}
        assert entry.pax_raw == b"6 k=1\n6 k=2\n"

    def test_empty_values_leave_the_header_in_force_and_stay_visible(self) -> None:
        data = pax(*((key, b"") for key in (b"path", b"mtime", b"atime", b"uid", b"size")))
        entry = only(data + file(b"f", b"abc", mtime=7, uid=b"0000003\0") + END)
        assert (entry.name, entry.mtime_ns, entry.atime_ns) == (b"f", 7 * SECOND, None)
        assert (entry.uid, entry.size) == (3, 3)
        assert entry.records[b"path"] == b""

    def test_records_do_not_leak_into_the_next_entry(self) -> None:
        _, second = read(pax((b"MSWINDOWS.rawsd", b"AQ==")) + header(b"a") + header(b"b") + END)
        assert second.records == {}
        assert second.pax_raw == b""

    def test_of_two_extended_headers_the_last_counts(self) -> None:
        entry = only(pax((b"a", b"1")) + pax((b"b", b"2")) + header() + END)
        assert entry.records == {b"b": b"2"}
        assert entry.header_offset == 0

    def test_an_empty_extended_header_is_fine(self) -> None:
        assert only(raw_pax(b"") + header() + END).records == {}

    @pytest.mark.parametrize(
        "body",
        [
            b"0 a=b\n",
            b"-6 a=b\n",
            b"4 a=\n",
            b"6 a=b",
            b"7 a=b\n",
            b"99999999999999999999 a=b\n",
            b"4294967302 a=b\n",
            b"6_0 a=b\n",
            b" 6 a=b\n",
            b"6 =b\n\n",
            b"6 abc\n",
            b"a=b\n",
            b"\n",
            b"6 a=bX",
            b"6 a=b\n\0\0\0",
            b"8 a\0c=b\n",
            b"12 path=a\0b\n",
            b"2 a=b\n",
            b"6 a=b\n6",
        ],
    )
    def test_forged_records_are_refused_with_offset_and_name(self, body: bytes) -> None:
        error = refused(file(b"before") + raw_pax(body) + header(b"Files/x") + END)
        assert "Files/x" in str(error)
        assert error.offset is not None
        assert 1024 <= error.offset <= 1024 + len(body)

    def test_a_long_value_with_line_feeds_is_taken_by_its_length(self) -> None:
        value = b"line\n25 MSWINDOWS.fileattr=32\nline"
        entry = only(pax((b"k", value), (b"MSWINDOWS.fileattr", b"16")) + header() + END)
        assert entry.records == {b"k": value, b"MSWINDOWS.fileattr": b"16"}

    @pytest.mark.parametrize("key", [b"mtime", b"atime", b"ctime"])
    @pytest.mark.parametrize("value", [b"1.2.3", b"abc", b"1.5x", b".5", b"1e9", b"9" * 20, b"-"])
    def test_malformed_times_are_refused(self, key: bytes, value: bytes) -> None:
        error = refused(pax((key, value)) + header(b"Files/x") + END)
        assert key.decode() in str(error)
        assert "Files/x" in str(error)

    @pytest.mark.parametrize("key", [b"size", b"uid", b"gid"])
    @pytest.mark.parametrize("value", [b"x", b"-1", b"1.5", b"9" * 19, b"0x10", b"9" * 5000])
    def test_malformed_numbers_are_refused(self, key: bytes, value: bytes) -> None:
        error = refused(pax((key, value)) + header(b"Files/x") + END)
        assert "Files/x" in str(error)

    @pytest.mark.parametrize("key", [b"uid", b"gid"])
    def test_owners_end_at_32_bits(self, key: bytes) -> None:
        largest = (1 << 32) - 1
        entry = only(pax((key, b"%d" % largest)) + header() + END)
        assert largest in (entry.uid, entry.gid)
        assert "32 bits" in str(refused(pax((key, b"%d" % (largest + 1))) + header() + END))

    def test_a_size_whose_end_is_no_offset_is_refused(self) -> None:
        assert "size" in str(refused(pax((b"size", b"%d" % ((1 << 63) - 1))) + header() + END))

    def test_gigabytes_of_records_are_refused_before_they_are_read(self) -> None:
        reader = TarReader()
        with pytest.raises(LimitExceeded, match="extended header of 3221225472 bytes") as caught:
            reader.feed(header(kind=b"x", size=3 << 30))
        assert caught.value.offset == 0

    def test_the_number_of_records_is_limited(self) -> None:
        limits = Limits(max_records=3)
        records = [(b"k%d" % number, b"") for number in range(3)]
        assert len(read(pax(*records) + header() + END, limits)[0].records) == 3
        error = refused(pax(*records, (b"k4", b"")) + header(b"Files/x") + END, limits)
        assert isinstance(error, LimitExceeded)
        assert "Files/x" in str(error)

    def test_records_without_an_entry_are_refused(self) -> None:
        assert refused(file() + pax((b"a", b"b")) + END).offset == 512
        assert "truncated" in str(refused(pax((b"a", b"b"))))

    def test_names_beyond_the_limit_are_refused(self) -> None:
        limits = Limits(max_name=300)
        assert only(pax((b"path", b"n" * 300)) + header() + END).name == b"n" * 300
        for key in (b"path", b"linkpath"):
            error = refused(pax((key, b"n" * 301)) + header() + END, limits)
            assert isinstance(error, LimitExceeded)

    def test_very_long_names_are_cut_in_messages(self) -> None:
        error = refused(pax((b"path", b"n" * 5000), (b"mtime", b"?")) + header() + END)
        assert len(str(error)) < 400


class TestGlobalHeaders:
    def test_records_are_defaults_for_all_that_follow(self) -> None:
        data = (
            header(b"before")
            + pax((b"MSWINDOWS.fileattr", b"32"), (b"mtime", b"7.5"), (b"uid", b"3"), kind=b"g")
            + header(b"a")
            + pax((b"MSWINDOWS.fileattr", b"1"), (b"mtime", b""))
            + header(b"b", mtime=9)
            + END
        )
        before, first, second = read(data)
        assert before.records == {}
        assert first.records == {b"MSWINDOWS.fileattr": b"32", b"mtime": b"7.5", b"uid": b"3"}
        assert (first.mtime_ns, first.uid, first.pax_raw) == (7_500_000_000, 3, b"")
        assert second.records == {b"MSWINDOWS.fileattr": b"1", b"mtime": b"", b"uid": b"3"}
        assert second.mtime_ns == 9 * SECOND

    def test_has_defaults_says_whether_any_are_in_force(self) -> None:
        reader = TarReader()
        seen = []
        for value in (b"1", b""):
            reader.feed(pax((b"k", value), kind=b"g") + header())
            seen.append(reader.has_defaults)
        assert seen == [True, False]

    def test_later_ones_change_and_take_back(self) -> None:
        data = (
            pax((b"a", b"1"), (b"b", b"1"), kind=b"g")
            + pax((b"a", b"2"), (b"b", b""), kind=b"g")
            + header()
            + END
        )
        assert only(data).records == {b"a": b"2"}

    def test_they_are_no_part_of_an_entry(self) -> None:
        data = pax((b"comment", b"commit"), kind=b"g") + header()
        assert only(data + END).header_offset == len(data) - 512

    def test_one_at_the_end_alone_is_fine(self) -> None:
        assert read(pax((b"comment", b"c"), kind=b"g") + END) == []
        assert read(pax((b"comment", b"c"), kind=b"g")) == []

    @pytest.mark.parametrize("key", [b"path", b"linkpath", b"size", b"GNU.sparse.map"])
    def test_what_describes_one_file_cannot_be_a_default(self, key: bytes) -> None:
        assert key.decode() in str(refused(pax((key, b"1"), kind=b"g") + header() + END))

    def test_they_are_limited_because_every_entry_gets_them(self) -> None:
        many = [(b"k%d" % number, b"v") for number in range(65)]
        assert isinstance(refused(pax(*many, kind=b"g") + END), LimitExceeded)
        big = pax((b"k", b"v" * 70_000), kind=b"g")
        assert isinstance(refused(big + END), LimitExceeded)
        assert isinstance(refused(header(kind=b"g", size=1 << 30)), LimitExceeded)


class TestGnuHeaders:
    def test_long_names_and_links(self) -> None:
        name, link = b"Files/" + b"n" * 300, b"l" * 300
        data = long_name(link, b"K") + long_name(name) + header(b"cut", kind=b"1", magic=GNU)
        entry = only(data + END)
        assert (entry.name, entry.linkname, entry.header_offset) == (name, link, 0)

    def test_long_names_serve_one_entry(self) -> None:
        _, second = read(long_name(b"n" * 200) + header(b"a") + header(b"b") + END)
        assert second.name == b"b"

    def test_a_long_name_wins_over_records(self) -> None:
        data = pax((b"path", b"from-pax")) + long_name(b"from-gnu") + header() + END
        assert only(data).name == b"from-gnu"

    def test_long_names_without_an_entry_are_refused(self) -> None:
        assert refused(long_name(b"n") + END).offset == 0

    def test_a_long_name_of_a_gigabyte_is_refused_before_it_is_read(self) -> None:
        assert isinstance(refused(header(kind=b"L", size=1 << 30)), LimitExceeded)

    def test_access_and_change_times_stand_where_the_prefix_would(self) -> None:
        tail = b"00000000007\0" + b"00000000010\0"
        entry = only(header(b"f", magic=GNU, tail=tail) + END)
        assert (entry.name, entry.atime_ns, entry.ctime_ns) == (b"f", 7 * SECOND, 8 * SECOND)

    def test_a_prefix_in_a_gnu_header_as_go_once_wrote_it(self) -> None:
        entry = only(header(b"f", magic=GNU, tail=b"some/folder") + END)
        assert (entry.name, entry.atime_ns, entry.ctime_ns) == (b"some/folder/f", None, None)

    def test_such_a_prefix_does_not_touch_a_name_from_records(self) -> None:
        data = pax((b"path", b"whole/name")) + header(b"f", magic=GNU, tail=b"some/folder")
        assert only(data + END).name == b"whole/name"

    def test_times_that_are_neither_are_refused(self) -> None:
        assert "atime" in str(refused(header(b"f", magic=GNU, tail=b"\xc3\xa9") + END))


def test_a_tar_of_ever_new_owners_and_sums_does_not_fill_the_memory() -> None:
    reader = TarReader()
    data = b"".join(
        header(b"%d" % number, mode=b"%07o\0" % (number % 4096), uid=b"%07o\0" % number)
        for number in range(5000)
    )
    found = reader.feed(data)
    assert [entry.uid for entry in found] == list(range(5000))
    assert len(reader._owners) <= 4096
    # What stands behind the NUL of a sum is free, so there may be any number of texts.
    for number in range(20_000):
        block = header(b"f")
        rest = bytes([33 + number % 200, 33 + number // 200])
        reader.feed(block[:148] + block[149:154] + b"\0" + rest + block[156:])
    assert len(reader._sums) <= 16384
    assert reader.offset == 25_000 * 512


class TestEnds:
    def test_two_zero_blocks_end_and_what_follows_is_counted(self) -> None:
        reader = TarReader()
        assert len(reader.feed(file() + END + b"garbage" * 100)) == 1
        assert reader.ended
        assert reader.trailing_bytes == 700
        assert reader.feed(header(b"hidden")) == []
        reader.close()
        assert reader.trailing_bytes == 700 + 512
        assert reader.offset == 512 + 1024 + 700 + 512

    def test_missing_end_blocks_are_accepted(self) -> None:
        assert len(read(file(b"f", b"x" * 512))) == 1
        assert len(read(file() + ZERO)) == 1
        assert read(b"") == []
        assert read(ZERO) == []
        assert read(END) == []

    def test_a_missing_last_padding_is_accepted(self) -> None:
        assert only(header(size=5) + b"hello").size == 5
        assert only(header(size=5) + b"hello\0\0\0").size == 5

    def test_an_unaligned_tail_of_zeros_is_accepted(self) -> None:
        assert len(read(file() + bytes(100))) == 1
        assert len(read(file() + ZERO + bytes(100))) == 1

    def test_an_entry_behind_one_zero_block_is_refused(self) -> None:
        assert refused(file() + ZERO + file()).offset == 1024

    def test_a_body_that_ends_early_is_refused(self) -> None:
        error = refused(file(b"a") + header(b"Files/x", size=600) + b"x" * 512)
        assert "Files/x" in str(error)
        assert "88 of 600" in str(error)
        assert error.offset == 1536

    @pytest.mark.parametrize("cut", [1, 100, 511, 513, 1023, 1025, 1535])
    def test_headers_that_end_early_are_refused(self, cut: int) -> None:
        data = pax((b"mtime", b"1.5")) + header(b"f")
        assert refused(data[:cut]).offset == cut

    def test_bytes_that_are_no_tar_are_refused(self) -> None:
        assert refused(b"PK\x03\x04" + bytes(1000)).offset == 0
        assert refused(b"hello").offset == 5

    def test_the_number_of_entries_is_limited(self) -> None:
        limits = Limits(max_entries=2)
        assert len(read(file(b"a") + file(b"b") + END, limits)) == 2
        error = refused(file(b"a") + file(b"b") + file(b"c") + END, limits)
        assert isinstance(error, LimitExceeded)
        assert error.offset == 1024


class TestChunks:
    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_any_kind_of_bytes_is_taken(self, kind: type) -> None:
        reader = TarReader()
        (entry,) = reader.feed(kind(pax((b"k", b"v")) + header() + END))
        assert entry.records == {b"k": b"v"}
        assert isinstance(entry.name, bytes)

    def test_an_entry_comes_as_soon_as_its_header_is_complete(self) -> None:
        reader = TarReader()
        assert reader.feed(header(b"a", size=1 << 20)[:511]) == []
        (entry,) = reader.feed(header(b"a", size=1 << 20)[511:])
        assert entry.name == b"a"
        assert reader.offset == 512

    def test_empty_chunks_change_nothing(self) -> None:
        reader = TarReader()
        assert reader.feed(b"") == []
        assert reader.feed(header()[:100]) == []
        assert reader.feed(b"") == []
        assert len(reader.feed(header()[100:])) == 1


def test_entries_compare_and_show_themselves() -> None:
    first, same, other = only(header(b"a")), only(header(b"a")), only(header(b"b"))
    assert first == same
    assert first != other
    assert first != b"a"
    assert repr(first) == "<TarEntry 'a' type 0x30 size 0 at 0>"
