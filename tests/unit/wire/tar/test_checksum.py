from __future__ import annotations

import pytest

from windowsfilter.wire.tar.checksum import byte_sum


@pytest.mark.parametrize("byte", [0, 1, 0x7E, 0x7F, 0x80, 0xFE, 0xFF])
@pytest.mark.parametrize("length", [0, 1, 511, 512])
def test_the_sum_is_exact_whatever_the_bytes(byte: int, length: int) -> None:
    assert byte_sum(bytes([byte]) * length) == byte * length
