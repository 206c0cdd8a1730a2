"""Layer tars as operations, in the modes that are not the reference's."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.support.backup_streams import INFO, Pipe, block, load, operations, stream
from tests.support.tar_blocks import file, header, pax
from windowsfilter.errors import FormatError, UsageError
from windowsfilter.ntfs.filetime import UNIX_EPOCH
from windowsfilter.wire.backupstream import BackupStreamReader
from windowsfilter.wire.backuptar import Add, LayerTarWriter, Link, Mode, Remove, read_layer
from windowsfilter.wire.tar import Member, TarWriter

NS = 1_480_000_000_000_000_000
FILETIME = NS // 100 + UNIX_EPOCH
UNIT = 64 << 10
# What the reference makes of a time that is not there.
NO_TIME = 48491090211286549
CASES = {**load("read"), **load("layers-read")}

DIFFERENCES = {
    "a trailing slash is no part of a name": {
        "dir-slash", "dir-noattr", "dir-v7-trailing-slash", "in-type-null-dir",
    },
    "streams belong to a directory with a trailing slash, too": {
        "ads-dir-slash", "ads-dir-slash-mismatch", "in-ads-dir-slash",
    },
    "a stream's name has its type once": {"ads-colon-data"},
    "names compare as on NTFS": {"ads-case-mismatch"},
    "a stream that does not follow its file is refused": {
        "ads-orphan-first", "ads-other-base", "ads-not-adjacent", "hardlink-ads-after",
    },
    "a leading ./ is no part of a name": {"name-odd-00"},
    "names that lead elsewhere are refused": {
        "name-odd-03", "name-odd-04", "name-odd-06", "name-odd-14", "in-dotdot",
    },
    "names that are no text are refused": {"chksum-signed"},
    "contiguous files have their data": {"file-contiguous-7"},
    "sparse files stay sparse": {"sparse-attr-only", "rt-sparse-empty", "rt-sparse-multi"},
    "what is no descriptor is refused": {"rawsd-garbage-bytes", "rawsd-64k", "in-rawsd-garbage"},
    "textual descriptors are laid out as Windows does": {"sd-sddl-sacl", "in-sd"},
    "times do not wrap": {
        "ctime-11", "ctime-12", "mtime-13", "mtime-15", "mtime-16", "in-time-1601",
    },
    "devices and unknown types are refused": {"type-3", "type-D", "in-type-3", "in-type-6"},
    "global headers are defaults": {"type-g", "global-then-local"},
    "an extended header may be longer than 1 MiB": {"pax-1mib-plus"},
    "a tar must not end inside an extended header": {"pax-truncated"},
}  # fmt: skip
DIFFERENT = {case: why for why, cases in DIFFERENCES.items() for case in cases}


def _tar(*members: tuple[Member, bytes]) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out)
    for member, body in members:
        writer.add(member, body)
    writer.close()
    return out.getvalue()


def _file(
    name: bytes, data: bytes = b"", records: Mapping[bytes, bytes] | None = None, **more: Any
) -> tuple[Member, bytes]:
    return Member(name=name, size=len(data), mtime_ns=NS, records=records or {}, **more), data


def _shape(tar: bytes, mode: Mode) -> tuple[list[object], bool]:
    """What can be compared; missing times are the write time in either mode."""
    found, error = operations(tar, mode)
    shapes: list[object] = []
    for operation, data in found:
        info = getattr(operation, "info", None)
        if info is not None:
            times = [info.write if time == NO_TIME else time for time in info[:4]]
            info = (*times, info.attributes)
        size = getattr(operation, "size", None)
        shapes.append((type(operation), operation.name, size, info, data))
    return shapes, error is not None


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_correct_mode_differs_from_the_reference_where_it_is_documented(
    case: dict[str, Any],
) -> None:
    tar = bytes.fromhex(case["tar"])
    same = _shape(tar, Mode.GO) == _shape(tar, Mode.CORRECT)
    assert same == (case["id"] not in DIFFERENT), DIFFERENT.get(case["id"])


def test_times_that_are_missing_are_the_write_time() -> None:
    (found,), error = operations(_tar(_file(b"Files/a", b"x")))
    operation = found[0]
    assert error is None and isinstance(operation, Add)
    assert operation.info == (FILETIME, FILETIME, FILETIME, FILETIME, 0)
    assert (operation.name, operation.size, found[1]) == ("Files\\a", 1, stream(1, b"x"))


def test_a_stream_is_read_in_pieces_of_any_size() -> None:
    data = bytes(range(256)) * 9
    tar = _tar(_file(b"a", data), _file(b"a:s", b"stream"), _file(b"b"))
    whole = stream(1, data) + stream(4, b"stream", ":s:$DATA")
    for size in (1, 7, 20, 1000, 1 << 20):
        operations_ = read_layer(Pipe(tar, 300))
        first = next(operations_)
        assert isinstance(first, Add)
        pieces = []
        while piece := first.read_stream(size):
            pieces.append(piece)
        assert b"".join(pieces) == whole
        assert all(len(piece) == size for piece in pieces[:-1])
        assert [operation.name for operation in operations_] == ["b"]
    first = next(read_layer(io.BytesIO(tar)))
    assert isinstance(first, Add)
    assert first.read_stream(30) + first.read_stream() == whole
    assert first.read_stream() == b""


def test_a_stream_left_unread_is_stepped_over_and_cannot_be_read_later() -> None:
    found = list(read_layer(io.BytesIO(_tar(_file(b"a"), _file(b"a:s", b"x"), _file(b"b")))))
    assert [operation.name for operation in found] == ["a", "b"]
    assert isinstance(found[0], Add)
    with pytest.raises(UsageError, match="after the next operation"):
        found[0].read_stream()


def test_a_source_that_does_not_block_is_no_empty_layer() -> None:
    class Waiting:
        def read(self, size: int, /) -> bytes | None:
            return None

    with pytest.raises(UsageError, match="does not block"):
        next(read_layer(Waiting()))
    with pytest.raises(UsageError, match="does not block"):
        LayerTarWriter(io.BytesIO()).add("a", 0, INFO, Waiting())


def test_errors_come_out_of_the_iteration_behind_what_preceded_them() -> None:
    records = {b"MSWINDOWS.rawsd": b"***"}
    found = read_layer(io.BytesIO(_tar(_file(b"a", b"x"), _file(b"b", b"y", records))))
    assert next(found).name == "a"
    damaged = next(found)
    assert isinstance(damaged, Add)
    assert (damaged.name, damaged.read_stream()) == ("b", b"")
    with pytest.raises(
        FormatError, match="layer entry 'b' at byte 1024: MSWINDOWS.rawsd"
    ) as caught:
        next(found)
    assert caught.value.offset == 1024


def test_a_truncated_body_ends_the_stream_early_and_then_the_iteration() -> None:
    tar = _tar(_file(b"a", b"x" * 2000))[:1500]
    (found,), error = operations(tar)
    assert found[1] == stream(1, b"x" * 2000)[: 20 + 1500 - 512]
    assert error is not None and "truncated" in str(error)


@pytest.mark.parametrize("most", [1 << 20, 700, 512, 100])
def test_a_body_is_whole_however_near_the_fault_behind_it_is_read(most: int) -> None:
    tar = _tar(_file(b"a", b"x" * 420))[:1024] + b"no header" * 100
    found = read_layer(Pipe(tar, most))
    first = next(found)
    assert isinstance(first, Add)
    assert first.read_stream() == stream(1, b"x" * 420)
    with pytest.raises(FormatError, match="checksum") as caught:
        next(found)
    assert caught.value.offset == 1024


def test_an_opaque_whiteout_removes_what_a_directory_has() -> None:
    gone = Member(name=b"Files/d/.wh.x/", typeflag=ord("5"))
    found, error = operations(_tar(_file(b"Files/d/.wh..wh..opq"), (gone, b"")))
    assert error is None
    assert [operation for operation, _ in found] == [
        Remove("Files\\d", opaque=True),
        Remove("Files\\d\\x"),
    ]


@pytest.mark.parametrize("leaf", [b".wh.", b".wh..", b".wh..."])
def test_whiteouts_of_nothing_are_refused(leaf: bytes) -> None:
    _, error = operations(_tar(_file(b"Files/d/" + leaf)))
    assert error is not None and "whiteout" in str(error)


def test_a_hard_link_has_what_the_tar_says_of_it() -> None:
    member = Member(name=b"Files/b", typeflag=ord("1"), linkname=b"Files/a", mtime_ns=NS)
    (found,), error = operations(_tar((member, b"")))
    assert error is None
    assert found[0] == Link("Files\\b", "Files\\a")
    assert isinstance(found[0], Link)
    assert found[0].info is not None
    assert found[0].info.write == FILETIME


SPARSE = {
    "nothing": (b"", stream(1, attributes=8)),
    "less than a unit": (b"data", stream(1, b"data", attributes=8)),
    "less than a unit of zeros": (bytes(1000), stream(1, attributes=8) + block(1000)),
    "zeros only": (bytes(3 * UNIT), stream(1, attributes=8) + block(3 * UNIT)),
    "a hole between": (
        b"a" * UNIT + bytes(UNIT) + b"b" * 10,
        stream(1, attributes=8)
        + block(0, b"a" * UNIT)
        + block(2 * UNIT, b"b" * 10)
        + block(2 * UNIT + 10),
    ),
    "a hole at the end": (
        bytes(UNIT) + b"a" * UNIT + bytes(7),
        stream(1, attributes=8) + block(UNIT, b"a" * UNIT) + block(2 * UNIT + 7),
    ),
}


@pytest.mark.parametrize(("data", "expected"), SPARSE.values(), ids=SPARSE)
def test_sparse_files_come_back_sparse(data: bytes, expected: bytes) -> None:
    (found,), error = operations(_tar(_file(b"s", data, {b"MSWINDOWS.fileattr": b"512"})))
    assert error is None
    assert found[1] == expected


def test_large_sparse_files_come_in_blocks_of_bounded_size() -> None:
    data = b"x" * (2 << 20) + bytes(UNIT)
    (found,), error = operations(_tar(_file(b"s", data, {b"MSWINDOWS.fileattr": b"512"})))
    assert error is None
    assert found[1] == (
        stream(1, attributes=8)
        + block(0, b"x" * (1 << 20))
        + block(1 << 20, b"x" * (1 << 20))
        + block(len(data))
    )


def _sparse_tar(pieces: list[tuple[int, bytes]], size: int, attributes: int = 0x200) -> bytes:
    """A tar of one file whose holes the tar knows of."""
    listed = ",".join(f"{at},{len(data)}" for at, data in pieces)
    records = (
        (b"GNU.sparse.size", b"%d" % size),
        (b"GNU.sparse.numblocks", b"%d" % len(pieces)),
        (b"GNU.sparse.map", listed.encode()),
        (b"MSWINDOWS.fileattr", b"%d" % attributes),
    )
    return pax(*records) + file(b"s", b"".join(data for _, data in pieces)) + bytes(1024)


HOLES = {
    "none": [(0, b"a" * UNIT)],
    "in front and behind": [(3 * UNIT + 5, b"a")],
    "off units": [(7, b"a" * UNIT), (3 * UNIT - 1, b"b" * 2)],
    "many in a unit": [(2 * UNIT + at, b"c") for at in range(0, 600, 3)],
    "pieces of nothing": [(UNIT, b""), (2 * UNIT, b"d"), (5 * UNIT, b"")],
    "longer than what is read at once": [(0, b"a"), (40 * UNIT, b"b" * 20 * UNIT)],
}


@pytest.mark.parametrize("pieces", HOLES.values(), ids=HOLES)
def test_holes_that_a_tar_knows_of_come_to_the_same_as_zeros(
    pieces: list[tuple[int, bytes]],
) -> None:
    size = 70 * UNIT + 3
    dense = bytearray(size)
    for at, data in pieces:
        dense[at : at + len(data)] = data
    found, error = operations(_sparse_tar(pieces, size))
    assert error is None
    expected, _ = operations(_tar(_file(b"s", bytes(dense), {b"MSWINDOWS.fileattr": b"512"})))
    assert _allocated(found[0][1]) == _allocated(expected[0][1])


def _allocated(data: bytes) -> dict[int, bytes]:
    """Place -> unit of a sparse stream, however its blocks are cut; the end has no bytes."""
    reader = BackupStreamReader(io.BytesIO(data))
    first = reader.next_header()
    assert first is not None and first.size == 0
    units = {}
    while (header := reader.next_header()) is not None:
        body = reader.read()
        for at in range(0, max(len(body), 1), UNIT):
            units[header.offset + at] = body[at : at + UNIT]
    return units


def test_a_hole_of_exabytes_is_stepped_over() -> None:
    """Looking through it for what is not zero would take years."""
    tar = _sparse_tar([(1 << 60, b"x")], 1 << 62)
    (found,), error = operations(tar)
    assert error is None
    assert _allocated(found[1]) == {1 << 60: b"x" + bytes(UNIT - 1), 1 << 62: b""}


def test_what_only_a_tar_knows_is_carried() -> None:
    member, data = _file(
        b"a", records={b"VENDOR.key": b"v", b"MSWINDOWS.fileattr": b"32"}, mode=0o755, uid=7
    )
    (found,), error = operations(_tar((member, data)))
    assert error is None and isinstance(found[0], Add)
    fields = found[0].fields
    assert (fields.mode, fields.uid, fields.gid) == (0o755, 7, 0)
    assert fields.records == {b"VENDOR.key": b"v"}


def test_times_beyond_filetime_become_the_nearest_and_are_reported() -> None:
    told: list[str] = []
    tar = _tar((Member(name=b"a", mtime_ns=-62_135_596_800 * 10**9), b""))
    (operation,) = read_layer(io.BytesIO(tar), report=told.append)
    assert isinstance(operation, Add) and operation.info.write == 0
    assert len(told) == 1 and "'a'" in told[0]


def test_the_layers_own_folder_is_passed_over_and_reported() -> None:
    told: list[str] = []
    folder = Member(name=b"./", typeflag=ord("5"))
    tar = _tar((folder, b""), _file(b"./Files"))
    assert [found.name for found in read_layer(io.BytesIO(tar), report=told.append)] == ["Files"]
    assert told == ["an entry for the layer's own folder, './', was passed over"]


HOSTILE = {
    "absolute": (b"/etc/passwd", "absolute"),
    "upwards": (b"Files/../../x", "'..'"),
    "upwards with backslashes": (b"Files\\..\\x", "'..'"),
    "empty component": (b"Files//x", "empty"),
    "dot": (b"Files/./x", "'.'"),
    "drive": (b"C:\\x", "stream|drive"),
    "below a stream": (b"Files/a:b/c", "below a stream"),
    "stream of nothing": (b"Files/:s", "stream"),
    "stream of another file": (b"Files/x:s", "does not follow"),
    "stream of another file, behind a backslash": (b"Files\\x:s", "does not follow"),
    "no text": (b"Files/\xff", "UTF-8"),
    "too long": (b"a/" * 20_000 + b"x", "longer than"),
}


@pytest.mark.parametrize(("name", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_names_that_lead_elsewhere_are_refused(name: bytes, reason: str) -> None:
    found, error = operations(_tar(_file(b"Files", b""), _file(name)))
    assert len(found) == 1 and error is not None and error.offset
    with pytest.raises(FormatError, match=reason):
        raise error


STREAMS = {"empty": b"a:", "two colons": b"a:b:c", "path": b"a:b\\c"}


@pytest.mark.parametrize("name", STREAMS.values(), ids=STREAMS)
def test_streams_whose_names_windows_cannot_hold_are_refused(name: bytes) -> None:
    _, error = operations(_tar(_file(b"a"), _file(name)))
    assert error is not None


RECORDS = {
    "attributes": (b"MSWINDOWS.fileattr", b"0x20"),
    "attributes beyond 32 bits": (b"MSWINDOWS.fileattr", b"4294967296"),
    "creation time": (b"LIBARCHIVE.creationtime", b"yesterday"),
    "no base64": (b"MSWINDOWS.rawsd", b"AQAE!"),
    "no descriptor": (b"MSWINDOWS.rawsd", base64.b64encode(b"garbage")),
    "no text of a descriptor": (b"MSWINDOWS.sd", b"D:(A;;"),
    "base64 of an attribute": (b"MSWINDOWS.xattr.A", b"YQ"),
    "base64 with padding for nothing": (b"MSWINDOWS.xattr.A", b"YWFh="),
    "base64 with twice its padding": (b"MSWINDOWS.xattr.A", b"YWFh===="),
    "list of attributes": (b"MSWINDOWS.eas", base64.b64encode(b"1234567")),
    "reparse buffer": (b"MSWINDOWS.reparse", base64.b64encode(b"123")),
}


@pytest.mark.parametrize(("key", "value"), RECORDS.values(), ids=RECORDS)
def test_records_that_say_nothing_are_refused_naming_entry_and_offset(
    key: bytes, value: bytes
) -> None:
    _, error = operations(_tar(_file(b"ok"), _file(b"Files/bad", records={key: value})))
    assert error is not None
    assert "layer entry 'Files/bad' at byte 512" in str(error)


def _folder(name: bytes) -> tuple[Member, bytes]:
    return Member(name=name, typeflag=ord("5"), mtime_ns=NS), b""


def test_the_type_of_an_entry_decides_whether_it_is_a_directory() -> None:
    """Else a file with data would be written as a directory without, and the reverse."""
    said: list[str] = []
    record = b"MSWINDOWS.fileattr"
    folder, body = _folder(b"d")
    tar = _tar(
        (replace(folder, records={record: b"32"}), body),
        _file(b"a", b"data", {record: b"48"}),
        (Member(name=b"l", typeflag=ord("2"), linkname=b"d", records={record: b"1040"}), b""),
    )
    found = [
        (operation.name, operation.info.attributes)
        for operation in read_layer(io.BytesIO(tar), report=said.append)
        if isinstance(operation, Add)
    ]
    assert found == [("d", 0x30), ("a", 0x20), ("l", 0x410)]
    assert len(said) == 2


def test_separators_behind_a_name_mean_nothing() -> None:
    tar = _tar(
        _file(b"d\\/\\"),
        _folder(b"e\\"),
        (Member(name=b"f", typeflag=ord("1"), linkname=b"d\\"), b""),
    )
    found, error = operations(tar)
    assert error is None
    assert [operation.name for operation, _ in found] == ["d", "e", "f"]
    assert isinstance(found[2][0], Link) and found[2][0].target == "d"


TOLERATED = {
    "a name twice": [_file(b"a"), _file(b"A")],
    "an entry before its directory": [_file(b"d/a")],
    "a device's name": [_file(b"NUL.txt")],
    "a name that ends in a dot": [_file(b"a.")],
    "a name with a backslash": [_folder(b"d"), _file(b"d\\a")],
    "an unknown record": [_file(b"a", records={b"MSWINDOWS.new": b"1"})],
    "a leading ./": [_file(b"./a")],
    "the layer's own folder": [_folder(b"./")],
    "a time of the year 1": [(Member(name=b"a", mtime_ns=-62_135_596_800 * 10**9), b"")],
    "a stream twice": [_file(b"a"), _file(b"a:s"), _file(b"a:S")],
    "a file with the attribute of directories": [
        _file(b"a", records={b"MSWINDOWS.fileattr": b"16"})
    ],
    "a contiguous file": [(Member(name=b"a", typeflag=ord("7")), b"")],
}


@pytest.mark.parametrize("members", TOLERATED.values(), ids=TOLERATED)
def test_strict_mode_refuses_what_is_merely_tolerated(members: list[tuple[Member, bytes]]) -> None:
    tar = _tar(*members)
    _, error = operations(tar, Mode.CORRECT)
    assert error is None
    _, error = operations(tar, Mode.STRICT)
    assert error is not None and "layer entry" in str(error)


def test_strict_mode_refuses_a_file_with_a_slash() -> None:
    tar = header(b"a/") + bytes(1024)
    assert operations(tar, Mode.CORRECT)[1] is None
    assert operations(tar, Mode.STRICT)[1] is not None


def test_strict_mode_takes_what_the_reference_writes() -> None:
    case = load("layers-written")["layer-diff"]
    found, error = operations(bytes.fromhex(case["tar"]), Mode.STRICT)
    assert error is None
    assert found and INFO.attributes == 0x20
