"""What is set on files of a scratch as attributes, the way a mount shows it, and what is refused."""

import base64
import os
import struct

import pytest

from tests.support import chains, windows_entries
from tests.support.scratches import scratch
from windowsfilter.engines.portable.scratch.upper import ScratchRefused
from windowsfilter.engines.portable.shown_metadata import ea_attribute
from windowsfilter.errors import UsageError
from windowsfilter.ntfs.eas import NEED_EA, ExtendedAttribute
from windowsfilter.ntfs.reparse import ReparsePoint
from windowsfilter.wire.backuptar import records

KERNEL, TEXT, LARGE = windows_entries.EAS


@pytest.fixture
def work(tmp_path):
    with scratch(tmp_path / "work", windows_entries.entries()) as made:
        yield made


def touched(work, path):
    """Copy a file up by asking for something that changes it, and take that back."""
    with work.edited() as editor:
        data = b"".join(editor.read(os.fsencode(path)))
        editor.write(os.fsencode(path), data)
    os.utime(work.upper / path, ns=(chains.A_TIME_NS, chains.A_TIME_NS))


def name(ea):
    return ea_attribute(ea).decode()


def remove(work, path, attribute):
    os.removexattr(work.upper / path, work.namespace + attribute, follow_symlinks=False)


def eas(work, path):
    return records.eas_of(work.entry(path)[0].records)


def test_a_copied_up_file_has_the_attributes_that_a_mount_shows(work):
    touched(work, "Files/eas")
    found = {key.removeprefix(work.namespace) for key in os.listxattr(work.upper / "Files/eas")}
    assert {name(KERNEL.name), name(TEXT.name), "windows.eas", "windows.sd"} <= found
    assert name(LARGE.name) not in found
    assert work.changes() == []


def test_values_of_eas_that_are_set_travel_and_keep_their_flags(work):
    touched(work, "Files/eas")
    work.mark("Files/eas", name(KERNEL.name), b"other")
    work.mark("Files/eas", name(b"NEW"), b"")
    assert work.changes() == [("modify", "Files/eas")]
    assert eas(work, "Files/eas") == (
        ExtendedAttribute(KERNEL.name, b"other", NEED_EA),
        TEXT,
        LARGE,
        ExtendedAttribute(b"NEW", b""),
    )


def test_eas_that_are_taken_away_are_gone_and_others_are_not(work):
    touched(work, "Files/eas")
    remove(work, "Files/eas", name(TEXT.name))
    assert work.changes() == [("modify", "Files/eas")]
    assert eas(work, "Files/eas") == (KERNEL, LARGE)
    remove(work, "Files/eas", name(KERNEL.name))
    assert eas(work, "Files/eas") == (LARGE,)
    assert records.RAW_EAS not in work.entry("Files/eas")[0].records


def test_nothing_is_taken_away_where_nothing_was_shown(work):
    touched(work, "Files/eas")
    for attribute in (name(TEXT.name), name(KERNEL.name), "windows.eas"):
        remove(work, "Files/eas", attribute)
    assert work.changes() == []


def test_an_ea_is_one_in_any_case(work):
    touched(work, "Files/eas")
    remove(work, "Files/eas", name(TEXT.name))
    work.mark("Files/eas", name(TEXT.name.lower()), b"lower")
    assert eas(work, "Files/eas")[1] == ExtendedAttribute(TEXT.name, b"lower")
    work.mark("Files/eas", name(TEXT.name), b"upper")
    with pytest.raises(ScratchRefused, match="Files/eas.*twice"):
        work.changes()


def test_new_files_and_directories_can_have_eas(work):
    with work.edited() as editor:
        editor.write(b"Files/new", b"")
        editor.mkdir(b"Files/made")
    for path in ("Files/new", "Files/made"):
        work.mark(path, name(b"WITH SPACE"), b"value")
        assert eas(work, path) == (ExtendedAttribute(b"WITH SPACE", b"value"),)


@pytest.mark.parametrize(
    ("attribute", "value", "why"),
    [
        ("windows.ea.41Z", b"x", "lower-case hex"),
        ("windows.ea.4", b"x", "lower-case hex"),
        (name(b"A=B"), b"x", "refuses"),
        (name(b"tab\t"), b"x", "refuses"),
        ("windows.sd", b"\x01\0\0\0", "no security descriptor"),
        ("windows.attr", b"\x01", "wrong length"),
        ("windows.attr", b"\x30\0\0\0", "is a file, but"),
        ("windows.crtime", b"1234567", "wrong length"),
        ("windows.crtime", struct.pack("<q", -5), "Windows cannot hold"),
        ("windows.set", b"x" * 39, "wrong length"),
        ("windows.reparse", b"\x0c\0\0\xa0\xff\0\0\0", "no reparse buffer"),
        ("windows.reparse", windows_entries.UNSHOWN_LINK.build(), "make it a link"),
    ],
)
@pytest.mark.parametrize("path", ["Files/eas", "Files/new"])
def test_what_no_file_can_have_is_refused_by_name(work, path, attribute, value, why):
    touched(work, "Files/eas")
    with work.edited() as editor:
        editor.write(b"Files/new", b"")
    work.mark(path, attribute, value)
    with pytest.raises(ScratchRefused, match=f"{path}.*{why}"):
        work.tar()
    with pytest.raises(UsageError):
        work.changes() if path == "Files/eas" else work.tar()


def test_a_directory_stays_one_to_windows(work):
    with work.edited() as editor:
        editor.mkdir(b"Files/made")
    work.mark("Files/made", "windows.attr", b"\x22\0\0\0")
    with pytest.raises(ScratchRefused, match="Files/made.*is a directory, but"):
        work.tar()


def test_a_descriptor_set_to_nothing_is_none(work):
    touched(work, "Files/eas")
    with work.edited() as editor:
        editor.write(b"Files/new", b"")
    for path in ("Files/eas", "Files/new"):
        work.mark(path, "windows.sd", b"")
        assert records.descriptor_of(work.entry(path)[0].records) is None


def test_reparse_points_of_files_are_kept_set_and_taken_away(work):
    touched(work, "Files/app.exe")
    assert work.changes() == []
    other = ReparsePoint(0x8000001B, b"other")
    work.mark("Files/app.exe", "windows.reparse", other.build())
    entry, _ = work.entry("Files/app.exe")
    assert records.reparse_of(entry.records, b"", is_link=False) == other
    work.mark("Files/app.exe", "windows.reparse", b"")
    entry, _ = work.entry("Files/app.exe")
    assert records.RAW_REPARSE not in entry.records
    assert entry.records[records.FILE_ATTRIBUTES] == b"32"
    work.mark("Files/app.exe", "windows.reparse", windows_entries.PLACEHOLDER.build())
    assert work.changes() == []


def test_a_file_with_other_data_is_a_plain_file(work):
    with work.edited() as editor:
        editor.write(b"Files/app.exe", b"a program")
    entry, data = work.entry("Files/app.exe")
    assert data == b"a program"
    assert records.RAW_REPARSE not in entry.records
    assert entry.records[records.FILE_ATTRIBUTES] == b"32"


def test_a_link_with_another_target_has_a_reparse_point_of_its_own(work):
    with work.edited() as editor:
        editor.rename(b"Files/unshown", b"Files/moved")
    moved, _ = work.entry("Files/moved")
    raw = base64.b64encode(windows_entries.UNSHOWN_LINK.build())
    assert moved.records[records.RAW_REPARSE] == raw
    with work.edited() as editor:
        editor.remove(b"Files/moved")
        editor.symlink(b"Files/unshown", rb"C:\eas")
    entry, _ = work.entry("Files/unshown")
    assert entry.linkname == rb"C:\eas"
    assert records.RAW_REPARSE not in entry.records
    with work.committed() as tree:
        assert tree.problems == []


def test_everything_that_is_not_changed_stays_byte_for_byte(work):
    originals = {entry.member.name: entry.member.records for entry in windows_entries.entries()}
    with work.edited() as editor:
        editor.rename(b"Files/Windows", b"Files/Other")
        for leaf in (b"eas", b"link", b"app.exe", b"unshown", b"old", b"odd"):
            editor.rename(b"Files/" + leaf, b"Files/Other/" + leaf)
    for path in ("eas", "link", "app.exe", "unshown", "old", "odd"):
        entry, _ = work.entry(f"Files/Other/{path}")
        original = originals[f"Files/{path}".encode()]
        assert {key: entry.records[key] for key in original} == original
    with work.committed() as tree:
        assert tree.problems == []
