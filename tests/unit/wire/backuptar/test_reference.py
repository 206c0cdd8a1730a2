"""Layer tars and backup streams against the reference's own answers (tests/vectors/backuptar)."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tests.support.backup_streams import Pipe, load, operations
from windowsfilter.errors import WindowsFilterError
from windowsfilter.ntfs.eas import ExtendedAttribute, parse_list
from windowsfilter.wire.backupstream import StreamHeader, StreamId
from windowsfilter.wire.backuptar import Add, BasicInfo, LayerTarWriter, Link, Mode, Remove

WAYS = ("read_once", "read_twice")
READ = load("read")
WRITTEN = load("written")
LAYERS_READ = load("layers-read")
LAYERS_WRITTEN = load("layers-written")
ODD_READ = load("odd-read")
ODD_WRITTEN = {
    f"{key}, {way}": (case, way) for key, case in load("odd-written").items() for way in WAYS
}

# Wine compiled what Windows refuses.
ONLY_WINE = {"sd-bad"}
# The vectors were made header by header; Docker's loop makes a link of these and goes on.
LINKS_WITH_STREAMS = {"hardlink-ads-after"}
# The reference writes extended attributes in random order, we by name.
UNORDERED = {"ea-two-unordered"}


@pytest.mark.parametrize("case", READ.values(), ids=READ)
def test_go_mode_reads_what_the_reference_reads(case: dict[str, Any]) -> None:
    found, error = operations(bytes.fromhex(case["tar"]), Mode.GO)
    if case["id"] in ONLY_WINE:
        assert error is not None
        return
    failed = case["error"] or any(entry["error"] for entry in case["operations"])
    assert (error is not None) == bool(failed), error
    expected = [entry for entry in case["operations"] if entry["stage"] != "fileinfo"]
    if case["id"] in LINKS_WITH_STREAMS:
        found = found[: len(expected)]
    assert len(found) == len(expected)
    for (operation, stream), entry in zip(found, expected, strict=True):
        name = bytes.fromhex(entry["name"]).replace(b"/", b"\\")
        assert operation.name == _reference_text(name)
        if isinstance(operation, Link):
            assert operation.target == entry["link"].replace("/", "\\")
            continue
        assert isinstance(operation, Add)
        assert list(operation.info) == entry["info"]
        if entry["stream"] is not None:
            expected_stream = bytes.fromhex(entry["stream"])
            if case["id"] in UNORDERED:
                assert _eas(stream) == _eas(expected_stream)
            else:
                assert stream == expected_stream


def _eas(stream: bytes) -> tuple[set[ExtendedAttribute], bytes]:
    """The attributes at the front of a backup stream, and what follows them."""
    found = StreamHeader.parse(stream)
    assert found is not None and found[0].id == StreamId.EA_DATA
    start, end = found[1], found[1] + found[0].size
    return set(parse_list(stream[start:end])), stream[end:]


def _reference_text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("ascii", "replace")


@pytest.mark.parametrize("case", LAYERS_READ.values(), ids=LAYERS_READ)
def test_go_mode_makes_the_operations_of_dockers_loop(case: dict[str, Any]) -> None:
    found, error = operations(bytes.fromhex(case["tar"]), Mode.GO)
    assert (error is not None) == bool(case["error"]), error
    assert [_described(operation, stream) for operation, stream in found] == case["operations"]


@pytest.mark.parametrize("case", ODD_READ.values(), ids=ODD_READ)
def test_go_mode_guesses_as_the_reference_does(case: dict[str, Any]) -> None:
    found, error = operations(bytes.fromhex(case["tar"]), Mode.GO)
    assert [_described(operation, stream) for operation, stream in found] == case["operations"]
    assert (error is not None) == bool(case["error"]), error


def _described(operation: Any, stream: bytes) -> dict[str, Any]:
    if isinstance(operation, Remove):
        return {"op": "remove", "name": operation.name}
    if isinstance(operation, Link):
        return {"op": "link", "name": operation.name, "target": operation.target}
    return {
        "op": "add",
        "name": operation.name,
        "size": operation.size,
        "info": list(operation.info),
        "stream": stream.hex(),
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", WRITTEN.values(), ids=WRITTEN)
def test_go_mode_writes_what_the_reference_writes(case: dict[str, Any], way: str) -> None:
    _check_written(case, way)


@pytest.mark.parametrize(("case", "way"), ODD_WRITTEN.values(), ids=ODD_WRITTEN)
def test_go_mode_takes_the_streams_that_the_reference_takes(case: dict[str, Any], way: str) -> None:
    _check_written(case, way)


def _check_written(case: dict[str, Any], way: str) -> None:
    data = bytes.fromhex(case["stream"])
    out = io.BytesIO()
    writer = LayerTarWriter(out, Mode.GO)
    expected = case[way]

    def write() -> None:
        source = io.BytesIO(data) if way == "read_twice" else Pipe(data)
        writer.add(case["name"], case["size"], BasicInfo(*case["info"]), source)
        writer.close()

    if "error" in expected:
        with pytest.raises(WindowsFilterError):
            write()
        return
    write()
    assert out.getvalue().hex() == expected["tar"]


@pytest.mark.parametrize("case", LAYERS_WRITTEN.values(), ids=LAYERS_WRITTEN)
def test_go_mode_writes_the_references_layers(case: dict[str, Any]) -> None:
    out = io.BytesIO()
    writer = LayerTarWriter(out, Mode.GO)

    def write() -> None:
        for operation in case["operations"]:
            _write(writer, operation)
        writer.close()

    if case["error"]:
        with pytest.raises(WindowsFilterError):
            write()
        return
    write()
    assert out.getvalue().hex() == case["tar"]


def _write(writer: LayerTarWriter, operation: dict[str, Any]) -> None:
    name = operation["name"]
    if operation["op"] == "remove":
        writer.remove(name)
    elif operation["op"] == "link":
        writer.link(name, operation["target"], BasicInfo(*operation["info"]))
    else:
        data = bytes.fromhex(operation["stream"])
        source = io.BytesIO(data) if operation["seekable"] else Pipe(data)
        writer.add(name, operation["size"], BasicInfo(*operation["info"]), source)
