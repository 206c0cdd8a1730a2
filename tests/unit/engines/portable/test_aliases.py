import pytest

from windowsfilter.engines.portable.aliases import (
    alias,
    is_shown,
    looks_like_alias,
    real_name,
    shown_names,
)
from windowsfilter.ntfs.names import fold

LONG = ("\u4e2d" * 255).encode()


@pytest.mark.parametrize("name", [b"a", b"a" * 255, b"x:y", b"a.", b"\xff", "\u4e2d".encode() * 85])
def test_what_linux_can_hold_is_shown_as_it_is(name):
    assert is_shown(name)
    assert alias(name) == name
    assert shown_names([name]) == {}


@pytest.mark.parametrize(
    "name", [LONG, b"a" * 256, b"", b".", b"..", b"a\0b", b"a/b", b"\xff" * 300]
)
def test_other_names_get_an_alias(name):
    shown = alias(name)
    assert is_shown(shown)
    assert looks_like_alias(shown)
    assert real_name([b"other", name], shown) == name


def test_an_alias_keeps_whole_characters():
    assert alias(LONG).decode().startswith("\u4e2d" * 48 + "~")


def test_spellings_of_one_name_have_one_alias_but_for_case():
    name = ("\u0250" * 200).encode()  # grows when folded
    assert fold(alias(name)) == fold(alias(fold(name)))


def test_a_real_name_that_looks_like_the_alias_keeps_its_name():
    taken = alias(LONG)
    shown = shown_names([taken.upper(), LONG])
    assert list(shown) == [LONG]
    assert fold(shown[LONG]) != fold(taken)
    assert real_name([taken, LONG], taken) == taken
    assert real_name([taken, LONG], shown[LONG]) == LONG


def test_aliases_do_not_depend_on_order():
    names = [LONG + b"%d" % number for number in range(5)] + [alias(LONG + b"3")]
    assert shown_names(names) == shown_names(reversed(names))
    assert len({fold(name) for name in shown_names(names).values()}) == 5


def test_unknown_names_are_nobody():
    assert real_name([b"a", LONG], b"b") is None
