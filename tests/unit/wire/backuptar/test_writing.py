"""Operations as layer tars, in the modes that are not the reference's."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.backup_streams import (
    FOLDER_INFO,
    INFO,
    Pipe,
    block,
    load,
    operations,
    rewritten,
    stream,
    written,
)
from windowsfilter.errors import FormatError, LimitExceeded, UsageError
from windowsfilter.ntfs.eas import NEED_EA, ExtendedAttribute, build_list
from windowsfilter.ntfs.reparse import LinkNames, ReparsePoint, ReparseTag, link_point
from windowsfilter.wire.backupstream import StreamHeader
from windowsfilter.wire.backuptar import Add, LayerTarWriter, Mode, Remove, TarFields, read_layer
from windowsfilter.wire.tar import TarEntry, read_entries

DATA, EA, SECURITY, STREAM, OBJECT_ID, REPARSE, TXFS = 1, 2, 3, 4, 7, 8, 10
NULL_DESCRIPTOR = bytes.fromhex("0100048000000000000000000000000000000000")
CASES = load("written")

DIFFERENCES = {
    "streams in front of the data are kept": {"ads-before-data"},
    "streams without a name are refused": {"ads-name-empty"},
    "times do not wrap": {
        "time-zero", "time-one", "time-creation-one", "time-y1601", "time-creation-y1601",
        "time-max-i64", "time-max-u64", "time-creation-max-u64", "time-creation-y2262+",
        "time-y9999", "time-creation-y9999",
    },
    "other reparse points are carried": {"reparse-other-tag"},
    "sparse files can be read twice": {"sparse-none-allocated", "sparse-multi-ads"},
    "directories end without a slash": {"dir-name-slash"},
    "names that lead elsewhere are refused": {"name-06", "name-12"},
    "attributes no record can name are carried": {"ea-name-equals"},
    "descriptors beyond 64 KiB are refused": {"sec-64k"},
}  # fmt: skip
DIFFERENT = {case: why for why, cases in DIFFERENCES.items() for case in cases}


def _try(case: dict[str, Any], mode: Mode, way: str) -> bytes | None:
    """The tar, None where the mode refuses."""
    from windowsfilter.wire.backuptar import BasicInfo

    data = bytes.fromhex(case["stream"])
    source = io.BytesIO(data) if way == "read_twice" else Pipe(data)
    out = io.BytesIO()
    writer = LayerTarWriter(out, mode, report=lambda _: None)
    try:
        writer.add(case["name"], case["size"], BasicInfo(*case["info"]), source)
        writer.close()
    except FormatError:
        return None
    return out.getvalue()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_correct_mode_differs_from_the_reference_where_it_is_documented(
    case: dict[str, Any],
) -> None:
    ours = {way: _try(case, Mode.CORRECT, way) for way in ("read_once", "read_twice")}
    assert ours["read_once"] == ours["read_twice"]
    same = all(tar == _try(case, Mode.GO, way) for way, tar in ours.items())
    assert same == (case["id"] not in DIFFERENT), DIFFERENT.get(case["id"])


def _entries(tar: bytes) -> list[tuple[TarEntry, bytes]]:
    return [(entry, body.read()) for entry, body in read_entries(io.BytesIO(tar))]


def _streams(tar: bytes) -> bytes:
    """The only file's backup stream."""
    (found,), error = operations(tar)
    assert error is None
    return found[1]


@pytest.mark.parametrize(
    ("info", "head"),
    [
        (INFO, stream(DATA)),
        (INFO, b""),
        (FOLDER_INFO, b""),
        (INFO, stream(REPARSE, link_point("x").build())),
        (FOLDER_INFO, stream(REPARSE, link_point("C:\\x", mount_point=True).build())),
    ],
    ids=["file", "file without data", "directory", "symlink", "junction"],
)
def test_streams_of_everything_are_kept(info: Any, head: bytes) -> None:
    more = stream(STREAM, b"one", ":a:$DATA") + stream(STREAM, b"", ":b:$DATA")
    tar = written(("Files\\x", 0, info, head + more))
    assert [entry.name for entry, _ in _entries(tar)] == [b"Files/x", b"Files/x:a", b"Files/x:b"]
    expected = head if head or info is FOLDER_INFO else stream(DATA)
    assert _streams(tar) == expected + more


@pytest.mark.parametrize("seekable", [True, False])
def test_metadata_may_follow_the_data(seekable: bool) -> None:
    eas = build_list([ExtendedAttribute(b"A", b"1")])
    data = stream(DATA, b"data") + stream(EA, eas) + stream(SECURITY, NULL_DESCRIPTOR)
    out = io.BytesIO()
    writer = LayerTarWriter(out)
    writer.add("f", 4, INFO, io.BytesIO(data) if seekable else Pipe(data, 3))
    writer.close()
    assert _streams(out.getvalue()) == (
        stream(SECURITY, NULL_DESCRIPTOR) + stream(EA, eas) + stream(DATA, b"data")
    )


def test_a_source_need_not_begin_at_its_beginning() -> None:
    source = io.BytesIO(b"before" + stream(DATA, b"data") + stream(STREAM, b"s", ":s"))
    source.seek(6)
    out = io.BytesIO()
    writer = LayerTarWriter(out)
    writer.add("f", 4, INFO, source)
    writer.close()
    assert [body for _, body in _entries(out.getvalue())] == [b"data", b"s"]


EAS = {
    "flags": [ExtendedAttribute(b"A", b"1", NEED_EA), ExtendedAttribute(b"B", b"2")],
    "a name with '='": [ExtendedAttribute(b"A=B", b"1")],
    "a name with NUL": [ExtendedAttribute(b"A\0B", b"1"), ExtendedAttribute(b"C", b"")],
    "a name twice": [ExtendedAttribute(b"A", b"1"), ExtendedAttribute(b"A", b"2")],
}


@pytest.mark.parametrize("attributes", EAS.values(), ids=EAS)
def test_what_records_cannot_say_of_attributes_travels_whole(
    attributes: list[ExtendedAttribute],
) -> None:
    data = stream(EA, build_list(attributes)) + stream(DATA)
    tar = written(("f", 0, INFO, data))
    assert b"MSWINDOWS.eas" in _entries(tar)[0][0].records
    assert _streams(tar) == data


def test_attributes_that_records_can_say_need_nothing_else() -> None:
    data = stream(EA, build_list([ExtendedAttribute(b"A", b"1"), ExtendedAttribute(b"B", b"")]))
    tar = written(("f", 0, INFO, data + stream(DATA)))
    records = _entries(tar)[0][0].records
    assert records[b"MSWINDOWS.xattr.A"] == b"MQ==" and records[b"MSWINDOWS.xattr.B"] == b""
    assert b"MSWINDOWS.eas" not in records
    assert _streams(tar) == data + stream(DATA)


VOLUME = "\\??\\Volume{11111111-2222-3333-4444-555555555555}\\"
LINKS = {
    "a junction without print name": (
        LinkNames(substitute_name="\\??\\C:\\x", print_name="").build(ReparseTag.MOUNT_POINT),
        b"C:\\x",
    ),
    "a volume mount point": (
        LinkNames(substitute_name=VOLUME, print_name="").build(ReparseTag.MOUNT_POINT),
        b"\\\\?\\" + VOLUME[4:].encode(),
    ),
    "a symlink whose names differ": (
        LinkNames(substitute_name="\\??\\D:\\y", print_name="C:\\x").build(ReparseTag.SYMLINK),
        b"C:\\x",
    ),
    "a symlink that is relative although it does not look so": (
        LinkNames(substitute_name="C:x", print_name="C:x", flags=1).build(ReparseTag.SYMLINK),
        b"C:x",
    ),
    "a slash in the target": (
        LinkNames(substitute_name="a/b", print_name="a/b", flags=1).build(ReparseTag.SYMLINK),
        b"a/b",
    ),
    "another tag": (ReparsePoint(ReparseTag.WCI_1, b"placeholder"), None),
    "a tag of somebody else": (ReparsePoint(42, bytes(16) + b"data", 7), None),
}


@pytest.mark.parametrize(("point", "linkname"), LINKS.values(), ids=LINKS)
@pytest.mark.parametrize("info", [INFO, FOLDER_INFO], ids=["file", "directory"])
def test_reparse_points_that_records_cannot_say_travel_whole(
    point: ReparsePoint, linkname: bytes | None, info: Any
) -> None:
    data = stream(REPARSE, point.build())
    tar = written(("x", 0, info, data))
    entry, _ = _entries(tar)[0]
    assert b"MSWINDOWS.reparse" in entry.records
    assert (entry.linkname or None) == linkname
    expected = data + (stream(DATA) if linkname is None and info is INFO else b"")
    assert _streams(tar) == expected


@pytest.mark.parametrize("target", ["x", "..\\a", "C:\\x", "\\\\s\\s", "\\x", "\ud800", ""])
def test_reparse_points_that_records_can_say_need_nothing_else(target: str) -> None:
    for mount_point in (False, True):
        point = link_point(target, mount_point=mount_point)
        tar = written(("x", 0, INFO, stream(REPARSE, point.build())))
        assert b"MSWINDOWS.reparse" not in _entries(tar)[0][0].records
        assert _streams(tar) == stream(REPARSE, point.build())


def test_a_sparse_file_travels_dense() -> None:
    data = stream(DATA, attributes=8) + block(3, b"abc") + block(10) + stream(STREAM, b"s", ":s")
    for source in (io.BytesIO(data), Pipe(data)):
        out = io.BytesIO()
        writer = LayerTarWriter(out)
        writer.add("f", 10, INFO._replace(attributes=0x220), source)
        writer.close()
        assert [body for _, body in _entries(out.getvalue())] == [b"\0\0\0abc\0\0\0\0", b"s"]


def test_a_sparse_stream_travels_dense() -> None:
    data = stream(DATA) + stream(STREAM, b"", ":s:$DATA", 8) + block(1, b"x") + block(3)
    tar = written(("f", 0, INFO, data))
    assert [body for _, body in _entries(tar)] == [b"", b"\0x\0"]


@pytest.mark.parametrize("identity", [5, 6, OBJECT_ID, TXFS])
def test_what_a_tar_cannot_hold_is_reported_by_name(identity: int) -> None:
    told: list[str] = []
    data = stream(DATA) + stream(identity, b"x" * 64)
    tar = written(("Files\\f", 0, INFO, data), reports=told.append)
    assert len(told) == 1 and "'Files\\f'" in told[0] and "64 bytes was dropped" in told[0]
    assert _streams(tar) == stream(DATA)
    with pytest.raises(FormatError, match="dropped"):
        written(("Files\\f", 0, INFO, data), mode=Mode.STRICT)


DAMAGED = {
    "truncated header": stream(DATA)[:10],
    "truncated data": stream(DATA, b"data")[:-1],
    "truncated last stream": stream(DATA, b"data") + stream(OBJECT_ID, b"x" * 64)[:-1],
    "two main streams": stream(DATA, b"data") * 2,
    "two descriptors": stream(SECURITY, NULL_DESCRIPTOR) * 2 + stream(DATA, b"data"),
    "unknown id": stream(DATA, b"data") + stream(99),
    "another size": stream(DATA, b"dat"),
    "no data": b"",
    "malformed descriptor": stream(SECURITY, b"garbage") + stream(DATA, b"data"),
    "descriptor over 64 KiB": stream(SECURITY, bytes(65537)) + stream(DATA, b"data"),
    "attributes that overlap": stream(EA, bytes.fromhex("04000000") + bytes(14)) + stream(DATA, b"data"),
    "attributes over 128 KiB": stream(EA, bytes((128 << 10) + 1)) + stream(DATA, b"data"),
    "reparse buffer that lies": stream(REPARSE, b"\x0c\0\0\xa0\xff\0\0\0") + stream(DATA, b"data"),
    "NUL in a link's target": stream(REPARSE, link_point("a\0b").build()),
    "data of a link": stream(REPARSE, link_point("x").build()) + stream(DATA, b"data"),
    "block of no stream": block(0, b"data"),
    "blocks out of order": stream(DATA, attributes=8) + block(2, b"xx") + block(0, b"xx") + block(4),
    "no last block": stream(DATA, attributes=8) + block(0, b"data"),
    "last block elsewhere": stream(DATA, attributes=8) + block(0, b"data") + block(5),
    "stream without colon": stream(DATA, b"data") + stream(STREAM, b"", "s:$DATA"),
    "stream without name": stream(DATA, b"data") + stream(STREAM, b"", "::$DATA"),
    "stream with a path": stream(DATA, b"data") + stream(STREAM, b"", ":..\\s:$DATA"),
    "stream of another type": stream(DATA, b"data") + stream(STREAM, b"", ":s:$INDEX"),
    "stream twice": stream(DATA, b"data") + stream(STREAM, b"", ":s") + stream(STREAM, b"", ":s:$DATA"),
}  # fmt: skip


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("pipe", [False, True], ids=["file", "pipe"])
def test_damaged_streams_are_refused_naming_the_entry(data: bytes, pipe: bool) -> None:
    writer = LayerTarWriter(io.BytesIO(), report=lambda _: None)
    with pytest.raises(FormatError, match=r"layer entry 'Files\\f'"):
        writer.add("Files\\f", 4, INFO, Pipe(data) if pipe else io.BytesIO(data))
    with pytest.raises(UsageError, match="an entry before this one failed"):
        writer.close()


def test_a_promise_to_have_the_metadata_first_is_held_to() -> None:
    class Promising(Pipe):
        metadata_first = True

    good = stream(SECURITY, NULL_DESCRIPTOR) + stream(DATA, b"data") + stream(STREAM, b"s", ":s")
    out = io.BytesIO()
    writer = LayerTarWriter(out)
    writer.add("f", 4, INFO, Promising(good))
    writer.add("g", 4, INFO, Promising(stream(DATA, attributes=8) + block(4)))
    with pytest.raises(FormatError, match="none was promised"):
        writer.add("h", 4, INFO, Promising(stream(DATA, b"data") + stream(EA)))
    assert out.getvalue().startswith(written(("f", 4, INFO, good))[:-1024])


def test_a_long_stream_that_cannot_seek_needs_a_spool() -> None:
    data = stream(DATA, bytes(65 << 20))
    writer = LayerTarWriter(io.BytesIO())
    with pytest.raises(LimitExceeded, match="spool"):
        writer.add("f", 65 << 20, INFO, Pipe(data))
    out = io.BytesIO()
    writer = LayerTarWriter(out, spool=io.BytesIO)
    writer.add("f", 65 << 20, INFO, Pipe(data))
    assert len(out.getvalue()) == (65 << 20) + 3 * 512


@pytest.mark.parametrize("name", ["..\\x", "\\x", "a\\\\b", "C:\\x", "", "Files\\.wh.x", "a:b\\c"])
def test_names_that_no_layer_has_are_not_written(name: str) -> None:
    for write in (
        lambda writer: writer.add(name, 0, INFO, io.BytesIO(b"")),
        lambda writer: writer.link(name, "Files\\a", INFO),
        lambda writer: writer.remove(name),
    )[: 2 if ".wh." in name else 3]:
        with pytest.raises(FormatError, match="layer entry"):
            write(LayerTarWriter(io.BytesIO()))
    if ".wh." not in name:
        with pytest.raises(FormatError, match="hard link to"):
            LayerTarWriter(io.BytesIO()).link("Files\\b", name, INFO)


@pytest.mark.parametrize("name", ["NUL", "a.", "a ", "a?", "x" * 256])
def test_strict_mode_writes_no_name_that_windows_cannot_hold(name: str) -> None:
    written((name, 0, INFO, b""))
    with pytest.raises(FormatError, match="layer entry"):
        written((name, 0, INFO, b""), mode=Mode.STRICT)


def test_whiteouts_are_written_as_the_reference_does_and_opaque_ones_too() -> None:
    out = io.BytesIO()
    with LayerTarWriter(out) as writer:
        writer.remove("Files\\d\\x")
        writer.remove("y")
        writer.remove("Files\\e", opaque=True)
    names = [entry.name for entry, _ in _entries(out.getvalue())]
    assert names == [b"Files/d/.wh.x", b".wh.y", b"Files/e/.wh..wh..opq"]
    assert len(out.getvalue()) == 5 * 512


def test_a_name_that_looks_like_a_whiteout_can_be_removed_but_not_be_made() -> None:
    out = io.BytesIO()
    with LayerTarWriter(out) as writer:
        writer.remove("d\\.wh.x")
    (operation,) = read_layer(io.BytesIO(out.getvalue()))
    assert operation == Remove("d\\.wh.x")
    with pytest.raises(FormatError, match="whiteout"):
        LayerTarWriter(io.BytesIO()).add(".wh.x", 0, INFO, io.BytesIO(b""))
    with pytest.raises(FormatError, match="whiteout"):
        LayerTarWriter(io.BytesIO()).remove(".wh..opq")  # its whiteout would be the opaque one


def test_a_stream_that_is_cut_off_is_an_error_at_its_end() -> None:
    for data in (stream(TXFS, bytes(100)), stream(DATA, attributes=8) + block(0, bytes(100))):
        cut = data[:-30]
        with pytest.raises(FormatError, match="truncated") as caught:
            LayerTarWriter(io.BytesIO()).add("f", 0, INFO, io.BytesIO(cut))
        assert caught.value.offset == len(cut)


def test_all_that_the_parents_have_can_be_removed() -> None:
    out = io.BytesIO()
    with LayerTarWriter(out) as writer:
        writer.remove("", opaque=True)
    assert list(read_layer(io.BytesIO(out.getvalue()))) == [Remove("", opaque=True)]
    with pytest.raises(FormatError, match="empty name"):
        LayerTarWriter(io.BytesIO()).remove("")


def test_an_exception_leaves_the_tar_without_an_end() -> None:
    out = io.BytesIO()
    with pytest.raises(RuntimeError), LayerTarWriter(out) as writer:
        writer.remove("x")
        raise RuntimeError
    assert len(out.getvalue()) == 512


def test_what_only_a_tar_knows_comes_back() -> None:
    out = io.BytesIO()
    writer = LayerTarWriter(out)
    fields = TarFields(mode=0o100755, uid=5, gid=6, records={b"VENDOR.x": b"1"})
    writer.add("f", 0, INFO, io.BytesIO(stream(DATA)), fields=fields)
    writer.link("g", "f")
    writer.close()
    tar = out.getvalue()
    assert rewritten(tar).startswith(tar[: 3 * 512])
    (first, _), _ = operations(tar)[0]
    assert isinstance(first, Add)
    assert first.fields == replace(fields, times=first.fields.times)


def test_a_link_target_keeps_its_spelling_while_it_means_the_same() -> None:
    names = LinkNames(substitute_name="a/b", print_name="a/b", flags=1)
    data = stream(REPARSE, names.build(ReparseTag.SYMLINK).build())
    tar = written(("l", 0, INFO, data), mode=Mode.GO)
    assert _entries(tar)[0][0].linkname == b"a/b"
    assert rewritten(tar) == tar
    out = io.BytesIO()
    writer = LayerTarWriter(out)
    other = stream(REPARSE, link_point("c\\d").build())
    writer.add("l", 0, INFO, io.BytesIO(other), fields=TarFields(linkname=b"a/b"))
    writer.close()
    assert _entries(out.getvalue())[0][0].linkname == b"c\\d"


LAYERS = {
    **{case: found["tar"] for case, found in load("layers-written").items()},
    **{case: found["read_twice"].get("tar") for case, found in CASES.items()},
    **{case: found["read_once"].get("tar") for case, found in CASES.items()},
}
# A name in it leads elsewhere, so it is refused.
REFUSED = {"name-06", "name-12", "sec-64k"}
# The reference wrote a slash that is not to be there, and one name twice.
CHANGED = {"dir-name-slash", "ads-name-empty"}
# The reference does not read these as it wrote them.
LOST_BY_REFERENCE = {"ads-name-empty", "ads-name-lone-surrogate"}


@pytest.mark.parametrize("case", [case for case, tar in LAYERS.items() if tar])
def test_what_the_reference_wrote_comes_back_byte_for_byte(case: str) -> None:
    data = bytes.fromhex(LAYERS[case])
    assert (rewritten(data, Mode.GO) == data) == (case not in LOST_BY_REFERENCE)
    if case in REFUSED:
        with pytest.raises(FormatError):
            rewritten(data)
    else:
        assert (rewritten(data) == data) == (case not in CHANGED)


def test_modes_are_told_by_their_names_too() -> None:
    assert list(read_layer(io.BytesIO(b""), Mode("strict"))) == []


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("size", [1 << 62, (1 << 63) - 30, (1 << 63) - 1])
@pytest.mark.parametrize("identity", [DATA, STREAM, OBJECT_ID])
def test_sizes_that_no_file_can_have_are_not_seeked_to(
    identity: int, size: int, mode: Mode, tmp_path: Path
) -> None:
    """A real file refuses to go there with an OSError, which would look like the disk's fault."""
    path = tmp_path / "streams"
    path.write_bytes(StreamHeader(id=identity, size=size, name=":s").build() + b"data")
    with path.open("rb") as source:
        writer = LayerTarWriter(io.BytesIO(), mode, report=lambda _: None)
        if mode is Mode.GO and identity != DATA and size < (1 << 63) - 26:
            writer.add("f", 0, INFO, source)  # to the reference that is the end
            return
        with pytest.raises(FormatError):
            writer.add("f", 0, INFO, source)
