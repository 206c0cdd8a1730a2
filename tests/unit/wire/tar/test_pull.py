from __future__ import annotations

import io

import pytest

from tests.support.tar_blocks import END, file, header, pax
from windowsfilter.errors import FormatError, UsageError
from windowsfilter.wire.tar import Limits, read_entries

ARCHIVE = (
    file(b"a", b"A" * 1000)
    + pax((b"mtime", b"1.5"))
    + file(b"b", b"B" * 3000)
    + file(b"empty")
    + file(b"c", b"C")
    + END
)


class OneWay:
    """A pipe: no seeking, and short reads."""

    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)

    def read(self, size: int, /) -> bytes:
        return self._stream.read(min(size, 700))


@pytest.mark.parametrize("chunk_size", [1, 100, 512, 4096, 1 << 20])
def test_bodies_come_whole_whatever_the_chunks(chunk_size: int) -> None:
    found = {entry.name: body.read() for entry, body in read_entries(OneWay(ARCHIVE), chunk_size)}
    assert found == {b"a": b"A" * 1000, b"b": b"B" * 3000, b"empty": b"", b"c": b"C"}


def test_bodies_need_not_be_read() -> None:
    assert [entry.name for entry, _ in read_entries(OneWay(ARCHIVE), 64)] == [
        b"a",
        b"b",
        b"empty",
        b"c",
    ]


def test_a_body_can_be_read_in_part() -> None:
    parts = []
    for entry, body in read_entries(OneWay(ARCHIVE), 64):
        parts.append((entry.name, body.read(2), body.read(0), body.read(2)))
    assert parts[1] == (b"b", b"BB", b"", b"BB")
    assert parts[3] == (b"c", b"C", b"", b"")


def test_a_body_cannot_be_read_once_it_is_gone() -> None:
    entries = read_entries(OneWay(ARCHIVE), 512)
    _, first = next(entries)
    next(entries)
    with pytest.raises(UsageError, match="next entry"):
        first.read()


def test_a_truncated_body_is_an_error_where_it_is_read() -> None:
    data = header(b"Files/x", size=5000) + b"x" * 1000
    ((_, body),) = [next(read_entries(OneWay(data), 512))]
    with pytest.raises(FormatError, match="4000 of 5000") as caught:
        body.read()
    assert caught.value.offset == 1512
    with pytest.raises(FormatError):
        body.read()


def test_a_truncated_body_is_an_error_when_it_is_stepped_over() -> None:
    with pytest.raises(FormatError, match="truncated"):
        list(read_entries(OneWay(header(size=5000) + b"x"), 512))


def test_limits_are_passed_on() -> None:
    with pytest.raises(FormatError):
        list(read_entries(OneWay(ARCHIVE), limits=Limits(max_entries=1)))
