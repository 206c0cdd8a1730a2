from __future__ import annotations

import pytest

from windowsfilter.errors import FormatError, LimitExceeded
from windowsfilter.wire.tar import pax

VECTORS = {
    "a length counts itself": ({b"a": b"b"}, b"6 a=b\n"),
    "one digit becomes two": ({b"k": b"12345"}, b"11 k=12345\n"),
    "two digits become three": ({b"k": b"v" * 94}, b"101 k=" + b"v" * 94 + b"\n"),
    "upper case sorts first": (
        {b"mtime": b"1", b"MSWINDOWS.fileattr": b"32"},
        b"25 MSWINDOWS.fileattr=32\n11 mtime=1\n",
    ),
    "empty value": ({b"k": b""}, b"5 k=\n"),
    "line feed, NUL and = in a value": ({b"k": b"\n\0="}, b"8 k=\n\0=\n"),
    "nothing": ({}, b""),
}


@pytest.mark.parametrize(("records", "body"), VECTORS.values(), ids=VECTORS)
def test_vectors(records: dict[bytes, bytes], body: bytes) -> None:
    assert pax.build(records) == body
    assert dict(pax.parse_ordered(body, 0, 10)) == records
    parser = pax.RecordParser(10)
    # Twice: the second time by what the first has taught.
    assert parser.parse(body, 0) == parser.parse(body, 0) == records
    for cut in range(1, len(body)):
        if body[:cut] != b"25 MSWINDOWS.fileattr=32\n":
            with pytest.raises(FormatError):
                parser.parse(body[:cut], 0)


def test_order_and_duplicates_are_kept() -> None:
    body = b"6 b=1\n6 a=2\n6 b=3\n"
    assert pax.parse_ordered(body, 0, 10) == [(b"b", b"1"), (b"a", b"2"), (b"b", b"3")]
    assert pax.RecordParser(10).parse(body, 0) == {b"b": b"3", b"a": b"2"}


@pytest.mark.parametrize("key", [b"", b"a=b", b"a\0b"])
def test_keys_that_cannot_be_written(key: bytes) -> None:
    with pytest.raises(FormatError, match="cannot be written"):
        pax.build({key: b"v"})


def test_a_path_with_nul_is_neither_written_nor_read() -> None:
    with pytest.raises(FormatError):
        pax.build({b"path": b"a\0b"})
    with pytest.raises(FormatError, match="path"):
        pax.RecordParser(10).parse(b"12 path=a\0b\n", 0)


def test_errors_say_where_the_record_is() -> None:
    with pytest.raises(FormatError) as caught:
        pax.RecordParser(10).parse(b"6 a=b\n6 c=d\nx", 1000)
    assert caught.value.offset == 1012


def test_rare_says_that_more_than_times_and_path_is_there() -> None:
    parser = pax.RecordParser(10)
    for records, rare in (
        ({b"a": b"b"}, False),
        ({b"size": b"1"}, True),
        ({b"mtime": b"1", b"path": b"p"}, False),
        ({b"size": b"\n1"}, True),  # a line feed in a value: read in the exact way
        ({b"GNU.sparse.map": b""}, True),
        ({b"a": b"\n"}, False),
    ):
        assert parser.parse(pax.build(records), 0) == records
        assert parser.rare is rare, records


def test_bodies_too_long_for_the_quick_way_give_the_same() -> None:
    value = b"v" * 200_000
    body = pax.build({b"MSWINDOWS.rawsd": value, b"size": b"1"})
    parser = pax.RecordParser(10)
    assert parser.parse(body, 0) == {b"MSWINDOWS.rawsd": value, b"size": b"1"}
    assert parser.rare


def test_a_tar_with_new_beginnings_without_end_does_not_fill_the_memory() -> None:
    parser = pax.RecordParser(10)
    for number in range(10_000):
        assert parser.parse(pax.build({b"key%d" % number: b""}), 0) == {b"key%d" % number: b""}
    assert len(parser._heads) <= 4096


def test_too_many_records_are_refused_whichever_way() -> None:
    for body in (b"6 a=b\n" * 11, b"7 a=\n\n\n" * 11):
        with pytest.raises(LimitExceeded):
            pax.RecordParser(10).parse(body, 0)
