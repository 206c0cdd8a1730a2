"""Any chunks give the same entries; any bytes give entries or FormatError; what is written is read."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.tar_blocks import END, GNU, base256, file, header, long_name, pax, raw_pax
from windowsfilter.errors import FormatError
from windowsfilter.wire.tar import Limits, Member, TarReader, TarWriter, read_entries
from windowsfilter.wire.tar import pax as pax_module

SOAK = os.environ.get("WINDOWSFILTER_SOAK") == "1"
more = settings(
    max_examples=5000 if SOAK else 150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

Outcome = tuple[list[object], str]


def outcome(data: bytes, cuts: list[int]) -> Outcome:
    """Everything observable: the entries, or the error; how much was behind the end."""
    reader = TarReader(Limits(max_pax=1 << 16, max_records=20, max_sparse_pieces=50))
    entries: list[object] = []
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    try:
        for start, stop in pairwise(edges):
            entries += reader.feed(data[start:stop])
        reader.close()
    except FormatError as error:
        # Entries found in the chunk of the error are lost with it, so they are no part of it.
        return [], str(error)
    return entries, f"{reader.offset} {reader.trailing_bytes} {reader.ended}"


text = st.binary(min_size=1, max_size=130).filter(lambda raw: b"\0" not in raw)
records = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from(
                [
                    b"mtime", b"atime", b"ctime", b"path", b"size", b"uid", b"linkpath",
                    b"MSWINDOWS.fileattr", b"GNU.sparse.map", b"GNU.sparse.major",
                    b"GNU.sparse.minor", b"GNU.sparse.numblocks", b"GNU.sparse.offset",
                    b"GNU.sparse.numbytes", b"GNU.sparse.realsize",
                ]
            ),
            text.filter(lambda raw: b"=" not in raw),
        ),
        st.one_of(st.sampled_from([b"", b"0", b"1", b"1.5", b"0,1", b"-1"]), st.binary(max_size=40)),
    ),
    max_size=6,
)  # fmt: skip
headers = st.builds(
    header,
    st.binary(max_size=100),
    kind=st.sampled_from([bytes([kind]) for kind in b"\x0001234567gxLKSDVQ"]),
    size=st.one_of(st.integers(0, 2000), st.sampled_from([base256(-1), base256(700), b"9" * 12])),
    mtime=st.one_of(st.integers(0, (1 << 33) - 1), st.sampled_from([base256(-5), b"x" * 12])),
    magic=st.sampled_from([b"ustar\x0000", GNU, bytes(8)]),
    tail=st.binary(max_size=167),
)
members = st.builds(file, text.map(lambda raw: raw[:100]), st.binary(max_size=1500))
parts = st.lists(
    st.one_of(
        members,
        records.map(lambda pairs: pax(*pairs)),
        records.map(lambda pairs: pax(*pairs, kind=b"g")),
        st.binary(max_size=100).map(raw_pax),
        text.map(long_name),
        headers,
        st.sampled_from([bytes(512), END, b"", bytes(100), b"x" * 512]),
    ),
    max_size=8,
).map(b"".join)
cuts = st.lists(st.integers(0, 8192), max_size=12)


@more
@given(parts, cuts)
def test_any_chunks_give_the_same_entries(data: bytes, places: list[int]) -> None:
    whole = outcome(data, [])
    assert outcome(data, places) == whole
    assert outcome(data, list(range(0, len(data), 97))) == whole


@more
@given(parts, st.data())
def test_damage_gives_entries_or_our_error(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(0, 4))):
        if damaged:
            place = draw.draw(st.integers(0, len(damaged) - 1))
            damaged[place] = draw.draw(st.integers(0, 255))
    del damaged[draw.draw(st.integers(0, len(damaged))) :]
    for entry in outcome(bytes(damaged), [])[0]:
        assert entry.stored_size >= 0  # type: ignore[attr-defined]
        assert entry.data_offset <= len(damaged)  # type: ignore[attr-defined]


@more
@given(st.binary(max_size=2000))
def test_any_bytes_give_entries_or_our_error(data: bytes) -> None:
    outcome(data, [])


@more
@given(parts)
def test_bodies_lie_where_the_entries_say(data: bytes) -> None:
    try:
        for entry, body in read_entries(io.BytesIO(data), 300, limits=Limits(max_pax=1 << 16)):
            if entry.size > 1 << 20:
                continue
            found = body.read()
            assert len(found) == entry.size
            if entry.sparse is None:
                start = entry.data_offset
                assert found == data[start : start + entry.stored_size]
    except FormatError:
        pass


def parsed(parse: Callable[[bytes, int], dict[bytes, bytes]], body: bytes) -> object:
    try:
        return parse(body, 0)
    except FormatError as error:
        return str(error)


def check_both_ways(body: bytes, limit: int) -> None:
    parser = pax_module.RecordParser(limit)
    exact = parsed(lambda body, at: dict(pax_module.parse_ordered(body, at, limit)), body)
    assert parsed(parser.parse, body) == exact
    assert parsed(parser.parse, body) == exact  # now that beginnings are known


@more
@given(st.binary(max_size=300), st.integers(1, 8))
def test_both_ways_of_parsing_records_agree(body: bytes, limit: int) -> None:
    check_both_ways(body, limit)


@more
@given(
    st.lists(st.tuples(text.filter(lambda key: b"=" not in key), st.binary(max_size=30))),
    st.integers(0, 1000),
    st.sampled_from([b"", *(bytes([byte]) for byte in b"0123456789 =\n\0a")]),
)
def test_they_agree_on_damaged_records_too(
    pairs: list[tuple[bytes, bytes]], place: int, damage: bytes
) -> None:
    body = b"".join(pax_module.build_record(key, value) for key, value in pairs)
    place %= len(body) + 1
    check_both_ways(body[:place] + damage + body[place + len(damage) :], 8)


filetimes = st.integers(-(1 << 40), 1 << 40).map(lambda ticks: ticks * 100 * 1_000_003)
leaf = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60
).map(str.encode)
written_members = st.builds(
    Member,
    name=st.lists(leaf, min_size=1, max_size=5).map(b"/".join),
    typeflag=st.sampled_from(b"0125"),
    mode=st.integers(0, (1 << 21) - 1),
    uid=st.integers(0, (1 << 32) - 1),
    gid=st.integers(0, (1 << 32) - 1),
    linkname=st.one_of(st.just(b""), leaf, st.binary(max_size=150).map(lambda b: b.replace(b"\0", b""))),
    mtime_ns=filetimes,
    atime_ns=st.one_of(st.none(), filetimes),
    ctime_ns=st.one_of(st.none(), filetimes),
    records=st.dictionaries(
        st.sampled_from([b"MSWINDOWS.fileattr", b"MSWINDOWS.rawsd", b"LIBARCHIVE.creationtime", b"a"]),
        st.binary(max_size=200),
        max_size=4,
    ),
)  # fmt: skip


@more
@given(st.lists(st.tuples(written_members, st.binary(max_size=1200)), max_size=5))
def test_what_is_written_is_read_by_us_and_by_the_standard_library(
    items: list[tuple[Member, bytes]],
) -> None:
    stream = io.BytesIO()
    writer = TarWriter(stream)
    sized = []
    for member, data in items:
        size = len(data) if member.typeflag == ord("0") else 0
        values = {name: getattr(member, name) for name in Member.__slots__} | {"size": size}
        sized.append((Member(**values), data[:size]))
        writer.add(*sized[-1])
    writer.close()
    found = [(entry, body.read()) for entry, body in read_entries(io.BytesIO(stream.getvalue()))]
    assert len(found) == len(sized)
    for (entry, body), (member, data) in zip(found, sized, strict=True):
        assert body == data
        for name in ("name", "linkname", "typeflag", "size", "mode", "uid", "gid"):
            assert getattr(entry, name) == getattr(member, name), name
        for name in ("mtime_ns", "atime_ns", "ctime_ns"):
            assert getattr(entry, name) == getattr(member, name), name
        assert member.records.items() <= entry.records.items()
    with tarfile.open(fileobj=io.BytesIO(stream.getvalue()), errors="surrogateescape") as theirs:
        names = [os.fsencode(info.name) for info in theirs]
    assert names == [member.name.rstrip(b"/") for member, _ in sized]
