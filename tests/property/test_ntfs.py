from hypothesis import given
from hypothesis import strategies as st

from windowsfilter.errors import FormatError
from windowsfilter.ntfs import filetime, upcase
from windowsfilter.ntfs.names import check_component, fold, is_reserved_device, utf16_units

TABLE = upcase.table()
UNITS = st.lists(st.integers(0, 0xFFFF), max_size=12)


def _name(units: list[int]) -> bytes:
    data = b"".join(unit.to_bytes(2, "little") for unit in units)
    return data.decode("utf-16-le", "surrogatepass").encode("utf-8", "surrogatepass")


@given(UNITS)
def test_fold_takes_each_unit_through_the_table(units):
    assert fold(_name(units)) == _name([TABLE[unit] for unit in units])
    assert utf16_units(_name(units)) == len(units)


@given(st.binary(max_size=40))
def test_fold_takes_any_bytes_and_nothing_changes_the_second_time(name):
    assert fold(fold(name)) == fold(name)
    check_component(name)
    is_reserved_device(name)
    utf16_units(name)


@given(st.lists(st.binary(max_size=8), max_size=5))
def test_a_path_folds_component_by_component(leaves):
    leaves = [leaf.replace(b"/", b"") for leaf in leaves]
    assert fold(b"/".join(leaves)) == b"/".join(map(fold, leaves))


@given(st.integers(0, filetime.MAX))
def test_every_filetime_survives_pax(ticks):
    assert filetime.from_unix_ns(filetime.parse_pax_time(filetime.format_pax_time(ticks))) == ticks


@given(st.binary(max_size=30) | st.from_regex(rb"[+-]?[0-9]{1,25}(\.[0-9]{0,12})?\Z"))
def test_any_bytes_are_a_time_or_our_error(text):
    try:
        ns = filetime.parse_pax_time(text)
        filetime.from_unix_ns(ns)
    except FormatError:
        return
    assert filetime.parse_pax_time(filetime.format_pax_ns(ns)) == ns
