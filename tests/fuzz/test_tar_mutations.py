"""Tars of many dialects, damaged at random: entries or FormatError, the same for any chunks.

Seeds are fixed, so a failure repeats; `make soak` tries many more.
"""

from __future__ import annotations

import json
import lzma
import os
import random
from pathlib import Path

import pytest

from windowsfilter.errors import FormatError
from windowsfilter.wire.tar import Limits, TarReader

VECTORS = Path(__file__).parents[1] / "vectors" / "tar" / "reference-read.json.xz"
ROUNDS = 400 if os.environ.get("WINDOWSFILTER_SOAK") == "1" else 8
LIMITS = Limits(max_pax=1 << 20, max_records=1000, max_name=4096, max_sparse_pieces=1000)

CORPUS = [
    data
    for case in json.loads(lzma.decompress(VECTORS.read_bytes()))
    if len(data := bytes.fromhex(case["tar"])) < 10_000
]
# What is worth writing over a byte or a few: digits, signs, ends, the marks of number formats.
MORSELS = [b"0", b"9", b"-", b"+", b"_", b" ", b"\0", b"\n", b"=", b"\xff", b"\x80", b"99999999"]


def read(data: bytes, chunk_size: int) -> object:
    reader = TarReader(LIMITS)
    entries = []
    try:
        for start in range(0, len(data), chunk_size):
            entries += reader.feed(data[start : start + chunk_size])
        reader.close()
    except FormatError as error:
        return str(error), error.offset
    return entries


def summed(data: bytearray) -> None:
    """Make the checksums of all blocks right again, so that damage gets past them."""
    for start in range(0, len(data) - 511, 512):
        if data[start + 257 : start + 262] == b"ustar":
            data[start + 148 : start + 156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])


def damaged(data: bytes, chance: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(result) + 1)
        match chance.randrange(4):
            case 0:
                morsel = chance.choice(MORSELS)
                result[place : place + len(morsel)] = morsel
            case 1:
                result[place:place] = chance.choice(MORSELS)
            case 2:
                del result[place : place + chance.randint(1, 600)]
            case 3:
                block = place // 512 * 512
                result[block:block] = result[block : block + 512]
    if chance.random() < 0.7:
        summed(result)
    return bytes(result)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_damaged_tars(seed: int) -> None:
    chance = random.Random(seed)
    for data in CORPUS:
        broken = damaged(data, chance)
        found = read(broken, 1 << 20)
        if isinstance(found, tuple):
            assert 0 <= found[1] <= len(broken)
        assert found == read(broken, chance.choice((1, 100, 511, 513, 1000)))
