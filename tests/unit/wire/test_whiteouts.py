from __future__ import annotations

import pytest

from windowsfilter.errors import FormatError
from windowsfilter.wire import whiteouts
from windowsfilter.wire.whiteouts import Whiteout


@pytest.mark.parametrize(
    ("leaf", "name"),
    [
        (b".wh.x", b"x"),
        (b".wh.SYSTEM32", b"SYSTEM32"),
        (b".wh..hidden", b".hidden"),
        (b".wh. ", b" "),
        (b".wh..wh.x", b".wh.x"),
        (b".wh....", b"..."),
    ],
)
def test_the_prefix_names_what_is_deleted(leaf: bytes, name: bytes) -> None:
    assert whiteouts.parse(leaf) == Whiteout(name)
    assert whiteouts.build(name) == leaf


def test_the_opaque_whiteout_deletes_everything() -> None:
    assert whiteouts.parse(b".wh..wh..opq") == Whiteout(b"", opaque=True)


@pytest.mark.parametrize("leaf", [b"x", b"", b".wh", b".WH.x", b".Wh.x", b"x.wh.y", b"wh.x"])
def test_other_names_are_ordinary(leaf: bytes) -> None:
    assert whiteouts.parse(leaf) is None


@pytest.mark.parametrize("leaf", [b".wh.", b".wh..", b".wh..."])
def test_whiteouts_of_nothing_of_the_directory_and_of_its_parent_are_refused(leaf: bytes) -> None:
    with pytest.raises(FormatError, match="whiteout"):
        whiteouts.parse(leaf)


@pytest.mark.parametrize("leaf", [b"", b".", b"..", b"a/b"])
def test_names_without_a_whiteout(leaf: bytes) -> None:
    with pytest.raises(FormatError, match="whiteout"):
        whiteouts.build(leaf)
