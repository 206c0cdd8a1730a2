"""FILE_BASIC_INFO."""

from __future__ import annotations

import pytest

from windowsfilter.errors import FormatError
from windowsfilter.ntfs.basic_info import SIZE, BasicInfo

INFO = BasicInfo(1, 2, 3, 2**64 - 1, 0x420)
WIRE = "010000000000000002000000000000000300000000000000" + "ffffffffffffffff" + "2004000000000000"


def test_parse_and_build_undo_each_other() -> None:
    data = bytes.fromhex(WIRE)
    assert INFO.build() == data
    assert BasicInfo.parse(data) == INFO


@pytest.mark.parametrize("size", [0, SIZE - 1, SIZE + 1])
def test_another_length_is_refused_with_its_offset(size: int) -> None:
    with pytest.raises(FormatError, match=f"of {size} bytes.*at byte 7"):
        BasicInfo.parse(bytes(size), at=7)


@pytest.mark.parametrize("info", [INFO._replace(write=2**64), INFO._replace(attributes=-1)])
def test_numbers_that_do_not_fit_are_refused(info: BasicInfo) -> None:
    with pytest.raises(FormatError, match="out of range"):
        info.build()
