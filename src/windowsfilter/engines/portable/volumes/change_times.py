"""Change times, written into the MFT of a volume that nobody has mounted.

NTFS keeps four times, and ntfs-3g's interface sets three of them: its own clock makes the change time.
So this goes to the disk itself, to the one place that holds it: eight bytes in the standard information
of a file's first record, which lie far from the ends of sectors that NTFS protects. A volume that does not
look as expected is left as it is.
Source: layout.h of ntfs-3g (boot sector, MFT_RECORD, ATTR_RECORD, STANDARD_INFORMATION).
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

_BOOT_BYTES = 512
_OEM = b"NTFS    "
_GEOMETRY = struct.Struct("<HB")  # at 0x0B: bytes per sector, sectors per cluster
_MFT = struct.Struct("<Q")  # at 0x30: first cluster of $MFT; at 0x40 the record size
_RECORD = b"FILE"
_HEADER = struct.Struct("<4sHH")  # magic, where the update sequence is, how many words
_FIRST_ATTRIBUTE_AT = 20
_BASE_AT = 32
_ATTRIBUTE = struct.Struct("<IIBB")  # type, bytes, whether the value is elsewhere, name length
_RUNS_AT = 32
_VALUE_AT = 20
_CHANGE_AT = 16  # in the standard information: after creation and write time
_STANDARD_INFORMATION, _ATTRIBUTE_LIST, _DATA, _END = 0x10, 0x20, 0x80, 0xFFFFFFFF
_STRIDE = 512  # of the update sequence
_U16 = struct.Struct("<H")
_U64 = struct.Struct("<Q")
_HEAD = 128
"""Bytes of a record that hold everything up to the change time."""


def restore(volume: Path, times: Sequence[int]) -> int:
    """Write change times; `times` is record number, FILETIME, and so on.

    Returns how many could not be written. The caller makes the file durable. Raises OSError.
    """
    pairs = len(times) // 2
    descriptor = os.open(volume, os.O_RDWR | os.O_CLOEXEC)
    try:
        table = _Table.find(descriptor)
        if table is None:
            return pairs
        return sum(not table.write(times[at], times[at + 1]) for at in range(0, 2 * pairs, 2))
    finally:
        os.close(descriptor)


class _Table:
    """The records of an MFT in a file, found through its runs."""

    def __init__(self, descriptor: int, record: int, runs: list[tuple[int, int, int]]) -> None:
        """`runs` are (first byte in the table, place in the volume, bytes)."""
        self._descriptor = descriptor
        self._record = record
        self._runs = runs
        self._starts = [run[0] for run in runs]

    @classmethod
    def find(cls, descriptor: int) -> _Table | None:
        """The table of the volume; None if it is not laid out as mkntfs lays it out."""
        boot = os.pread(descriptor, _BOOT_BYTES, 0)
        if len(boot) < _BOOT_BYTES or boot[3:11] != _OEM:
            return None
        sector, per_cluster = _GEOMETRY.unpack_from(boot, 0x0B)
        cluster = sector * per_cluster
        (power,) = struct.unpack_from("<b", boot, 0x40)
        record = 1 << -power if -16 <= power < 0 else power * cluster
        if not cluster or not _STRIDE <= record <= 1 << 16:
            return None
        first = os.pread(descriptor, record, _MFT.unpack_from(boot, 0x30)[0] * cluster)
        runs = _data_runs(_without_fixups(first), cluster)
        return cls(descriptor, record, runs) if runs else None

    def write(self, number: int, change: int) -> bool:
        """Set a file's change time; False if the record is not what it must be."""
        start = number * self._record
        found = bisect_right(self._starts, start) - 1
        if found < 0:
            return False
        first, place, size = self._runs[found]
        if start + self._record > first + size:
            return False
        at = place + start - first
        head = os.pread(self._descriptor, _HEAD, at)
        if len(head) < _HEAD or head[:4] != _RECORD or _U64.unpack_from(head, _BASE_AT)[0]:
            return False
        attribute = _U16.unpack_from(head, _FIRST_ATTRIBUTE_AT)[0]
        if attribute + _VALUE_AT + 2 > _HEAD:
            return False
        kind, _, elsewhere, _ = _ATTRIBUTE.unpack_from(head, attribute)
        value = attribute + _U16.unpack_from(head, attribute + _VALUE_AT)[0] + _CHANGE_AT
        if kind != _STANDARD_INFORMATION or elsewhere or value + _U64.size > _HEAD:
            return False
        return os.pwrite(self._descriptor, _U64.pack(change), at + value) == _U64.size


def _without_fixups(record: bytes) -> bytes:
    """A record with the ends of its sectors put back; empty if it is none."""
    if len(record) < _HEAD or record[:4] != _RECORD:
        return b""
    _, at, count = _HEADER.unpack_from(record)
    if not 1 <= count <= 1 + len(record) // _STRIDE or at + 2 * count > _STRIDE:
        return b""
    plain = bytearray(record)
    for number in range(1, count):
        end = number * _STRIDE - 2
        if plain[end : end + 2] != record[at : at + 2]:
            return b""
        plain[end : end + 2] = record[at + 2 * number : at + 2 * number + 2]
    return bytes(plain)


def _data_runs(record: bytes, cluster: int) -> list[tuple[int, int, int]]:
    """The runs of the table's data; empty if they cannot be read from this record alone."""
    if not record:
        return []
    at = _U16.unpack_from(record, _FIRST_ATTRIBUTE_AT)[0]
    while at + _RUNS_AT + 2 <= len(record):
        kind, size, elsewhere, name = _ATTRIBUTE.unpack_from(record, at)
        if kind in (_ATTRIBUTE_LIST, _END) or size < 24 or at + size > len(record):
            return []
        if kind == _DATA and elsewhere and not name:
            runs = at + _U16.unpack_from(record, at + _RUNS_AT)[0]
            return _unpacked(record[runs : at + size], cluster)
        at += size
    return []


def _unpacked(data: bytes, cluster: int) -> list[tuple[int, int, int]]:
    """Mapping pairs: a byte with two sizes, the length, the distance from the run before."""
    runs: list[tuple[int, int, int]] = []
    at = start = place = 0
    while at < len(data) and data[at]:
        length_size, distance_size = data[at] & 15, data[at] >> 4
        end = at + 1 + length_size + distance_size
        if not length_size or not distance_size or end > len(data):
            return []
        length = int.from_bytes(data[at + 1 : at + 1 + length_size], "little")
        place += int.from_bytes(data[at + 1 + length_size : end], "little", signed=True)
        if place <= 0:
            return []
        runs.append((start * cluster, place * cluster, length * cluster))
        start += length
        at = end
    return runs
