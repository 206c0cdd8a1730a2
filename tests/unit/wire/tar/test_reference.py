"""Our reader and writer against tars that the reference wrote and read (tests/vectors/tar)."""

from __future__ import annotations

import io
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from windowsfilter.errors import FormatError
from windowsfilter.wire import whiteouts
from windowsfilter.wire.tar import Member, TarEntry, TarReader, TarWriter, read_entries

VECTORS = Path(__file__).parents[3] / "vectors" / "tar"


def _load(name: str) -> dict[str, dict[str, Any]]:
    cases = json.loads(lzma.decompress((VECTORS / f"reference-{name}.json.xz").read_bytes()))
    return {case["id"]: case for case in cases}


WRITTEN = _load("written")
READ = _load("read")

# Where we refuse what the reference takes for the end of the tar, without a word.
TRUNCATED = {"pax-truncated"}
# What stopped the reference later than in its tar reader: contents of Windows records.
NOT_THE_TARS_FAULT = ("illegal base64", "extended attribute", "strconv", "convert ")
# The reference ends at 1 MiB of records, we at 16.
OTHER_LIMITS = {"pax-1mib-plus"}


def _read(data: bytes, chunk_size: int) -> list[TarEntry]:
    reader = TarReader()
    entries = []
    for start in range(0, len(data), chunk_size):
        entries += reader.feed(data[start : start + chunk_size])
    reader.close()
    return entries


@pytest.mark.parametrize("case", WRITTEN.values(), ids=WRITTEN)
def test_what_the_reference_wrote_is_written_again_byte_for_byte(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["tar"])
    stream = io.BytesIO()
    writer = TarWriter(stream)
    for entry, body in read_entries(io.BytesIO(data)):
        leaf = entry.name.rpartition(b"/")[2]
        member = Member(
            name=entry.name,
            typeflag=entry.typeflag,
            size=entry.size,
            mode=entry.mode,
            uid=entry.uid,
            gid=entry.gid,
            linkname=entry.linkname,
            mtime_ns=entry.mtime_ns,
            atime_ns=entry.atime_ns,
            ctime_ns=entry.ctime_ns,
            records=entry.records,
            pax=whiteouts.parse(leaf) is None,
        )
        writer.add(member, body)
    writer.close()
    assert stream.getvalue() == data


@pytest.mark.parametrize("chunk_size", [100, 1 << 20])
@pytest.mark.parametrize("case", READ.values(), ids=READ)
def test_what_the_reference_read_is_read_alike(case: dict[str, Any], chunk_size: int) -> None:
    data = bytes.fromhex(case["tar"])
    error: str | None = case["error"]
    if error and error.startswith(NOT_THE_TARS_FAULT):
        error = None
    if case["id"] in TRUNCATED or (error and case["id"] not in OTHER_LIMITS):
        with pytest.raises(FormatError):
            _read(data, chunk_size)
        return
    entries = {entry.name: entry for entry in _read(data, chunk_size)}
    for expected in case["entries"]:
        if expected["type"] == "g":  # a file to the reference, defaults to us
            continue
        entry = entries[bytes.fromhex(expected["name"])]
        assert chr(entry.kind) == chr(_folded(ord(expected["type"])))
        assert entry.linkname.decode() == expected["link"]
        if expected["type"] == "0":  # of contiguous files the reference drops the data
            assert entry.size == expected["size"]
        for key, value in expected["pax"].items():
            # The reference rewrites version 0.0 of the sparse format as 0.1.
            if key != "GNU.sparse.map":
                assert entry.records[key.encode()].decode("utf-8", "replace") == value


def _folded(kind: int) -> int:
    return ord("0") if kind in b"7S" else kind
