"""Any image at all, exported and read back: equal, or what differs was said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support import ntfs_volumes
from tests.support.chains import Entry, file, folder, symlink, tar
from tests.support.command import write_layout
from tests.support.windows_image import assert_entry, distinct_descriptor, expected
from windowsfilter.ntfs import filetime
from windowsfilter.ntfs.eas import ExtendedAttribute
from windowsfilter.ntfs.names import fold
from windowsfilter.ntfs.reparse import ReparsePoint
from windowsfilter.store.store import Store
from windowsfilter.wire.backuptar import records

pytestmark = pytest.mark.root

# All units that NTFS takes in a name, single halves of pairs among them; streams stand behind `:`.
UNITS = st.integers(1, 0xFFFF).map(chr).filter(lambda unit: unit not in "/\\:")
NAMES = st.one_of(
    st.text("aB.~ $", min_size=1, max_size=4), st.text(UNITS, min_size=1, max_size=80)
)
TIMES = st.integers(1, (1 << 63) - 1)
EAS = st.lists(
    st.builds(
        ExtendedAttribute,
        st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="="))
        .filter(bool)
        .map(str.encode),
        st.binary(max_size=60),
        st.sampled_from([0, 0x80]),
    ),
    max_size=3,
    unique_by=lambda ea: ea.name,
)
# Tags that ntfs-3g knows nothing of, so that it has no opinion on their data.
POINTS = st.builds(ReparsePoint, st.integers(0x80009000, 0x80009FFF), st.binary(max_size=200))
SETTABLE = (0x1, 0x2, 0x4, 0x20, 0x100, 0x1000, 0x2000)


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    """Folders and what is in them, each with streams behind it."""
    found = [folder("Files")]
    places = ["Files"]
    taken: set[bytes] = set()
    for _ in range(draw(st.integers(1, 12))):
        name = f"{draw(st.sampled_from(places))}/{draw(NAMES)}"
        raw = utf8(name)
        leaf = raw.rpartition(b"/")[2]
        if fold(raw) in taken or leaf in (b".", b"..") or leaf.upper().startswith((b".WH.", b"$")):
            continue
        taken.add(fold(raw))
        kind = draw(st.sampled_from(["file", "file", "folder", "link", "point"]))
        more = records.eas_records(draw(EAS))
        attributes = sum(draw(st.sets(st.sampled_from(SETTABLE)))) or 0x80
        if kind == "point":
            more |= records.reparse_records(draw(POINTS))[1]
            attributes |= 0x400
        how = {
            "attributes": attributes,
            "sd": draw(st.none() | st.integers(0, 9).map(distinct_descriptor)),
            "records": more,
        }
        body = draw(st.binary(max_size=40)) * draw(st.sampled_from([1, 1, 300]))
        if kind == "folder":
            made = folder(raw, **how | {"attributes": attributes | 0x10})
            places.append(name)
        elif kind == "link":
            target = draw(st.text("ab\\.:C ", min_size=1, max_size=30))
            directory = draw(st.sampled_from([0, 0x10]))
            made = symlink(raw, target, **how | {"attributes": attributes | 0x400 | directory})
        else:
            made = file(raw, body, **how)
        found.append(timed(made, draw(st.tuples(TIMES, TIMES, TIMES, TIMES))))
        for stream in draw(st.sets(st.text(UNITS, min_size=1, max_size=20), max_size=2)):
            path = raw + b":" + utf8(stream)
            if fold(path) not in taken and not stream.upper().endswith(":$DATA"):
                taken.add(fold(path))
                found.append(file(path, body[::-1], attributes=None))
    return found


def timed(entry: Entry, times: tuple[int, int, int, int]) -> Entry:
    creation, access, write, change = times
    found = dict(entry.member.records)
    found[records.CREATION_TIME] = filetime.format_pax_time(creation)
    member = replace(
        entry.member,
        records=found,
        mtime_ns=filetime.to_unix_ns(write),
        atime_ns=filetime.to_unix_ns(access),
        ctime_ns=filetime.to_unix_ns(change),
    )
    return Entry(member, entry.body)


def utf8(name: str) -> bytes:
    """WTF-8: pairs of halves are one character."""
    units = name.encode("utf-16-le", "surrogatepass")
    return units.decode("utf-16-le", "surrogatepass").encode("utf-8", "surrogatepass")


@settings(
    max_examples=12,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would export for minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(found=entries())
def test_any_image_is_on_the_volume_as_it_is(
    found: list[Entry], tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]
) -> None:
    ntfs_volumes.require(program)
    place = tmp_path_factory.mktemp("any")
    with Store(place / "store") as store:
        image = store.load(write_layout(place / "oci", tar(found)))
        volume = place / "out"
        made = image.export_ntfs(volume)
        assert not made.not_carried
        ntfs_volumes.check(volume)
        seen = ntfs_volumes.read(volume, place / "mnt")
        wanted = dict(expected(image, "volume"))
        assert set(seen) == set(wanted)
        for name, path in wanted.items():
            assert_entry(path, seen[name])
    shutil.rmtree(place)
