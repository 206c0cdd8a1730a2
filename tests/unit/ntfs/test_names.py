import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from windowsfilter.ntfs import upcase
from windowsfilter.ntfs.names import (
    check_component,
    fold,
    is_reserved_device,
    plain_stream,
    utf16_units,
)

FOLDED = {
    "ASCII": (b"Files/Windows/x.dll", b"FILES/WINDOWS/X.DLL"),
    "empty": (b"", b""),
    "Latin": ("Stra\u00dfe \u00e9\u00ff".encode(), "STRA\u00dfE \u00c9\u0178".encode()),
    "Greek final sigma is not sigma": ("\u03c2\u03c3".encode(), "\u03c2\u03a3".encode()),
    "dotless i stays": ("\u0131\u0130i".encode(), "\u0131\u0130I".encode()),
    "longer when folded": ("\u0250".encode(), "\u2c6f".encode()),
    "beyond the first plane nothing folds": ("\U00010428".encode(), "\U00010428".encode()),
    "a surrogate alone": (b"a\xed\xa0\x80b", b"A\xed\xa0\x80B"),
    "a pair encoded as two halves": (b"\xed\xa0\x81\xed\xb0\xa8", "\U00010428".encode()),
    "not UTF-8": (b"a\xff\xc3\xa9", b"A\xff\xc3\xa9"),
    "only one component is not UTF-8": (b"\xc3\xa9/a\xff", b"\xc3\x89/A\xff"),
}


@pytest.mark.parametrize(("name", "key"), FOLDED.values(), ids=FOLDED)
def test_fold_compares_as_ntfs_does(name, key):
    assert fold(name) == key
    assert fold(key) == key


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        (b"s", b"s"),
        (b"s:$DATA", b"s"),
        (b"s:$data", b"s"),
        (b":s:$Data", b":s"),
        (b":$DATA", b""),
        (b"$DATA", b"$DATA"),
        (b"s:$DATA:$DATA", b"s:$DATA"),
        (b"s:$INDEX_ALLOCATION", b"s:$INDEX_ALLOCATION"),
        (b"", b""),
    ],
)
def test_the_type_of_a_data_stream_is_no_part_of_its_name(name, plain):
    assert plain_stream(name) == plain


def test_the_table_is_what_mkntfs_writes(tmp_path: Path):
    mkntfs, ntfscat = (shutil.which(p, path="/usr/sbin:/usr/bin") for p in ("mkntfs", "ntfscat"))
    if not mkntfs or not ntfscat:
        pytest.skip("mkntfs is not installed")
    volume = tmp_path / "volume"
    with volume.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run([mkntfs, "-FQq", volume], check=True, capture_output=True)
    written = subprocess.run([ntfscat, volume, "$UpCase"], check=True, capture_output=True).stdout
    assert written[: 2 * upcase.UNITS] == upcase.build_upcase(upcase.table())


def test_the_table_folds_once_and_for_all():
    units = upcase.table()
    assert len(units) == upcase.UNITS
    assert all(units[upper] == upper for upper in units)
    # fold() leaves pairs of surrogates alone because of this.
    assert all(units[unit] == unit for unit in range(0xD800, 0xE000))
    # and takes the short way for ASCII because of this.
    assert all(bytes([units[unit]]) == bytes([unit]).upper() for unit in range(128))
    assert all(units[unit] >= 128 for unit in range(128, upcase.UNITS))


def test_fold_agrees_with_the_table_unit_by_unit():
    units = upcase.table()
    for unit, upper in enumerate(units):
        name = chr(unit).encode("utf-8", "surrogatepass")
        assert fold(name) == chr(upper).encode("utf-8", "surrogatepass"), hex(unit)


@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        (b"", "is empty"),
        (b".", "means a directory, it names nothing"),
        (b"..", "means a directory, it names nothing"),
        (b"a\x00b", "contains U+0000"),
        (b"a\x1f", "contains U+001F"),
        (b"a:b", "contains :"),
        (b"a\\b", "contains \\"),
        (b"a/b", "contains /"),
        (b"what?", "contains ?"),
        (b"a.", "ends in a dot"),
        (b"a ", "ends in a space"),
        (b"a\xff", "is not UTF-8 at byte 1"),
        (b"a" * 256, "has 256 UTF-16 units, 255 is the limit"),
        ("\U00010400".encode() * 128, "has 256 UTF-16 units, 255 is the limit"),
    ],
)
def test_windows_refuses(leaf, reason):
    assert check_component(leaf) == reason


@pytest.mark.parametrize(
    "leaf",
    [
        b"a",
        b"...a",
        b" a",
        b"a" * 255,
        "\u4e2d".encode() * 255,
        "\U00010400".encode() * 127,
        b"\xed\xa0\x80",
        b"nul",
    ],
)
def test_windows_holds(leaf):
    assert check_component(leaf) is None


@pytest.mark.parametrize(
    "leaf", [b"nul", b"CON.txt", b"com1", b"LPT9.a.b", b"COM\xc2\xb9", b"aux .c", b"conin$", b"prn"]
)
def test_device_names_are_reserved_with_any_extension(leaf):
    assert is_reserved_device(leaf)


@pytest.mark.parametrize("leaf", [b"null", b"com", b"com10", b"com0", b"xcon", b"a.nul", b"\xff"])
def test_other_names_are_not_reserved(leaf):
    assert not is_reserved_device(leaf)


@pytest.mark.parametrize(
    ("leaf", "units"),
    [(b"abc", 3), ("\u4e2d".encode(), 1), ("\U00010400".encode(), 2), (b"\xed\xa0\x80", 1)],
)
def test_units_count_as_utf16_does(leaf, units):
    assert utf16_units(leaf) == units


def test_upcase_file_has_two_bytes_a_unit():
    built = upcase.build_upcase(upcase.table())
    assert struct.unpack_from("<H", built, 2 * ord("a")) == (ord("A"),)
    assert len(built) == 2 * upcase.UNITS
