"""Change times go where they belong, or nowhere: whatever the volume looks like."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windowsfilter.engines.portable.volumes import change_times

CLUSTER = 4096
CHANGED = 130_000_000_000_000_007


def boot(first: int = 4, power: int = -10) -> bytes:
    data = bytearray(512)
    data[3:11] = b"NTFS    "
    struct.pack_into("<HB", data, 0x0B, 512, 8)
    struct.pack_into("<Q", data, 0x30, first)
    struct.pack_into("<b", data, 0x40, power)
    return bytes(data)


def record(*attributes: bytes, base: int = 0) -> bytes:
    """A record of two sectors, with its update sequence applied."""
    data = bytearray(1024)
    struct.pack_into("<4sHH", data, 0, b"FILE", 48, 3)
    struct.pack_into("<H", data, 20, 56)
    struct.pack_into("<Q", data, 32, base)
    body = b"".join(attributes) + struct.pack("<I", 0xFFFFFFFF)
    data[56 : 56 + len(body)] = body
    struct.pack_into("<HHH", data, 48, 7, *struct.unpack_from("<H", data, 510), 0)
    data[510:512] = data[1022:1024] = struct.pack("<H", 7)
    return bytes(data)


def standard_information() -> bytes:
    header = struct.pack("<IIBBHHHIHBB", 0x10, 96, 0, 0, 24, 0, 0, 72, 24, 0, 0)
    return header + struct.pack("<4Q", 1, 2, 3, 4) + bytes(40)


def table_data(*runs: tuple[int, int]) -> bytes:
    """The $DATA attribute of the table: (clusters, distance from the run before) each."""
    pairs = b"".join(struct.pack("<Bii", 0x44, *run) for run in runs) + b"\0"
    size = 64 + len(pairs) + (-len(pairs) % 8)
    header = struct.pack("<IIBBHHHQQH6xQQQ", 0x80, size, 1, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0)
    return (header + pairs).ljust(size, b"\0")


def volume(path: Path, *, first: bytes | None = None, start: bytes | None = None) -> Path:
    """16 clusters: the table has records 0 to 3 in cluster 4 and 4 to 7 in cluster 2."""
    data = bytearray(16 * CLUSTER)
    data[:512] = boot() if start is None else start
    own = record(standard_information(), table_data((1, 4), (1, -2))) if first is None else first
    data[4 * CLUSTER : 4 * CLUSTER + len(own)] = own
    for number in range(1, 4):
        at = 4 * CLUSTER + number * 1024
        data[at : at + 1024] = record(standard_information())
    data[2 * CLUSTER : 2 * CLUSTER + 1024] = record(standard_information())
    data[2 * CLUSTER + 1024 : 2 * CLUSTER + 2048] = record(standard_information(), base=9)
    path.write_bytes(data)
    return path


def change_time(path: Path, cluster: int, number: int) -> int:
    data = path.read_bytes()
    return int(struct.unpack_from("<Q", data, cluster * CLUSTER + number * 1024 + 96)[0])


def test_the_time_stands_in_the_record_of_its_number_in_any_run(tmp_path: Path) -> None:
    path = volume(tmp_path / "v")
    before = path.read_bytes()
    assert change_times.restore(path, [2, CHANGED, 4, CHANGED + 1]) == 0
    assert change_time(path, 4, 2) == CHANGED
    assert change_time(path, 2, 0) == CHANGED + 1
    after = path.read_bytes()
    places = [at for at in range(len(after)) if after[at] != before[at]]
    ranges = (
        range(4 * CLUSTER + 2048 + 96, 4 * CLUSTER + 2048 + 104),
        range(8192 + 96, 8192 + 104),
    )
    assert all(any(at in part for part in ranges) for at in places)


def test_records_that_are_not_what_they_must_be_are_counted_and_left_alone(tmp_path: Path) -> None:
    path = volume(tmp_path / "v")
    before = path.read_bytes()
    # An extension of another file, no record, beyond the table, far beyond it.
    assert change_times.restore(path, [5, 1, 6, 1, 8, 1, 1 << 60, 1]) == 4
    assert path.read_bytes() == before


ELSEWHERE = record(standard_information(), struct.pack("<IIBB", 0x20, 32, 0, 0) + bytes(22))
ODD = {
    "no boot sector": {"start": bytes(512)},
    "another file system": {"start": b"\xeb\x52\x90EXFAT   " + bytes(501)},
    "records of no size": {"start": boot(power=0)},
    "giant records": {"start": boot(power=-60)},
    "a table beyond all numbers": {"start": boot(first=(1 << 64) - 1)},
    "runs beyond the volume": {"first": record(table_data((1, 1 << 30)))},
    "a table beyond the end": {"start": boot(first=1 << 40)},
    "no table": {"first": bytes(1024)},
    "a table torn in the middle": {"first": record(table_data((1, 4)))[:-2] + b"xx"},
    "a table whose runs are in other records": {"first": ELSEWHERE},
    "runs before the volume": {"first": record(table_data((1, -4)))},
    "no data": {"first": record(standard_information())},
}


@pytest.mark.parametrize("how", ODD.values(), ids=ODD)
def test_a_volume_that_looks_otherwise_is_left_alone(tmp_path: Path, how: dict[str, bytes]) -> None:
    path = volume(tmp_path / "v", **how)
    before = path.read_bytes()
    assert change_times.restore(path, [2, CHANGED]) == 1
    assert path.read_bytes() == before


@given(st.data())
def test_damage_anywhere_never_raises(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = volume(tmp_path_factory.mktemp("v") / "v")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, 511), st.integers(4 * CLUSTER, 4 * CLUSTER + 300)))
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    assert change_times.restore(path, [2, CHANGED, 5, CHANGED]) in (0, 1, 2)
