"""The decision table of docs/formats/scratch.md, rows 1 to 22: files, directories, hard links.

The upper directories are made by hand, as overlayfs leaves them (the property tests let the kernel
itself make them), in whichever namespace of attributes this user may write.
"""

import os

import pytest

from tests.support import chains
from tests.support.scratches import scratch
from tests.support.upper_by_hand import BASE, Hand
from windowsfilter.engines.portable.scratch.upper import ScratchRefused
from windowsfilter.errors import HostError
from windowsfilter.ntfs.security import SecurityDescriptor
from windowsfilter.wire.backuptar.records import descriptor_of


@pytest.fixture
def work(tmp_path):
    with scratch(tmp_path / "work", BASE) as made:
        yield made


@pytest.fixture
def hand(work):
    return Hand(work)


def test_nothing_done_is_no_change_but_still_a_layer(work):
    assert work.changes() == []
    assert work.names() == ["Files", "Hives"]


def test_row_1_a_whiteout_deletes_and_only_the_top_of_a_directory_is_listed(work, hand):
    hand.whiteout("Files/Windows/notes")
    hand.whiteout("Files/Windows/System")
    assert work.changes() == [
        ("delete", "Files/Windows/System"),
        ("delete", "Files/Windows/notes"),
    ]
    assert work.names() == [
        "Files",
        "Files/Windows",
        "Files/Windows/.wh.System",
        "Files/Windows/.wh.notes",
        "Hives",
    ]


def test_row_2_a_whiteout_of_nothing_or_in_another_spelling_is_nothing(work, hand):
    hand.whiteout("Files/Windows/never")
    hand.whiteout("Files/windows")
    hand.whiteout("Files/Windows/NOTES")
    assert work.changes() == []
    assert work.names() == ["Files", "Hives"]


def test_row_3_a_copied_up_file_that_is_equal_is_no_change(work, hand):
    hand.file("Files/Windows/notes", b"notes", origin="Files/Windows/notes")
    assert work.changes() == []


def test_row_3_a_time_that_the_file_system_clamped_is_no_change(tmp_path):
    ancient = chains.file("Files/f", b"x", mtime_ns=-11_000_000_000 * chains.NS)
    with scratch(tmp_path / "work", [chains.folder("Files"), ancient]) as work:
        Hand(work).file("Files/f", b"x", origin="Files/f")
        for clamped in (-(1 << 31) * chains.NS,):
            os.utime(work.upper / "Files/f", ns=(clamped, clamped))
            assert work.changes() == []
        os.utime(work.upper / "Files/f", ns=(0, 0))
        assert work.changes() == [("modify", "Files/f")]


def test_row_4_other_data_is_a_modification_with_the_old_streams(work, hand):
    hand.file("Files/Windows/notes", b"new notes", origin="Files/Windows/notes")
    assert work.changes() == [("modify", "Files/Windows/notes")]
    assert work.entry("Files/Windows/notes")[1] == b"new notes"
    assert work.entry("Files/Windows/notes:keep")[1] == b"kept"
    names = work.names()
    place = names.index("Files/Windows/notes")
    assert names[place + 1] == "Files/Windows/notes:keep"


@pytest.mark.parametrize("what", ["time", "mode"])
def test_row_4_other_metadata_is_a_modification_without_the_archive_bit(work, hand, what):
    hand.file("Files/Windows/System/dll", b"dll", origin="Files/Windows/System/dll")
    place = work.upper / "Files/Windows/System/dll"
    if what == "time":
        os.utime(place, ns=(5 * chains.NS, 5 * chains.NS))
    else:
        place.chmod(0o600)
        os.utime(place, ns=(chains.A_TIME_NS, chains.A_TIME_NS))
    assert work.changes() == [("modify", "Files/Windows/System/dll")]
    entry, _ = work.entry("Files/Windows/System/dll")
    assert entry.mtime_ns == (5 * chains.NS if what == "time" else chains.A_TIME_NS)
    assert entry.mode == (0 if what == "time" else 0o100600)


def test_row_5_a_moved_file_keeps_its_metadata_and_streams(work, hand):
    hand.whiteout("Files/Windows/System/dll")
    hand.file("Files/Empty/lib", b"dll", origin="Files/Windows/System/dll")
    assert work.changes() == [
        ("add", "Files/Empty/lib"),
        ("delete", "Files/Windows/System/dll"),
    ]
    entry, data = work.entry("Files/Empty/lib")
    assert data == b"dll"
    assert entry.records[b"LIBARCHIVE.creationtime"] == chains.A_CREATION
    assert work.entry("Files/Empty/lib:mark")[1] == b"of dll"


def test_row_6_a_new_file_in_place_of_an_old_one_has_nothing_of_it(work, hand):
    hand.file("Files/Windows/notes", b"notes")
    assert work.changes() == [("modify", "Files/Windows/notes")]
    entry, _ = work.entry("Files/Windows/notes")
    assert entry.records[b"LIBARCHIVE.creationtime"] != chains.A_CREATION
    assert b"MSWINDOWS.rawsd" in entry.records
    assert "Files/Windows/notes:keep" not in work.names()
    with work.committed() as tree:
        assert tree.streams(tree.lookup(b"Files/Windows/notes")) == {}


def test_row_7_another_case_is_a_modification_and_never_a_whiteout(work, hand):
    hand.whiteout("Files/Windows/notes")
    hand.file("Files/Windows/NOTES", b"notes", origin="Files/Windows/notes")
    assert work.changes() == [("modify", "Files/Windows/NOTES")]
    assert "Files/Windows/.wh.notes" not in work.names()
    assert work.entry("Files/Windows/NOTES:keep")[1] == b"kept"


def test_row_7_a_directory_in_another_case_keeps_what_is_in_it(work, hand):
    hand.whiteout("Files/Windows")
    hand.folder("Files/WINDOWS", origin="Files/Windows", redirect=b"Windows")
    hand.file("Files/WINDOWS/more", b"more")
    assert work.changes() == [("modify", "Files/WINDOWS"), ("add", "Files/WINDOWS/more")]
    assert not [name for name in work.names() if ".wh." in name]


def test_row_8_a_file_beside_one_of_the_same_name_is_that_file(work, hand):
    hand.file("Files/Windows/NOTES", b"written on Linux")
    assert work.changes() == [("modify", "Files/Windows/notes")]
    entry, data = work.entry("Files/Windows/notes")
    assert data == b"written on Linux"
    assert entry.records[b"LIBARCHIVE.creationtime"] == chains.A_CREATION
    assert work.entry("Files/Windows/notes:keep")[1] == b"kept"


def test_row_9_mkdir_windows_does_not_delete_windows(work, hand):
    hand.folder("Files")
    hand.folder("Files/windows", origin="", opaque=b"y")
    hand.file("Files/windows/more", b"more")
    hand.folder("Files/windows/system", origin="")
    hand.file("Files/windows/system/DLL", b"new dll")
    assert work.changes() == [
        ("modify", "Files/Windows/System/dll"),
        ("add", "Files/Windows/more"),
    ]
    assert not [name for name in work.names() if ".wh." in name or "windows" in name]


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("Files/windows", "Files/Windows"),  # a file beside a directory
        ("Files/Windows/NOTES", "Files/Windows/notes"),  # a link beside a file
    ],
)
def test_row_10_what_cannot_be_one_thing_is_refused_by_both_names(work, hand, path, other):
    hand.above(path)
    if path == "Files/windows":
        hand.file(path, b"")
    else:
        os.symlink("elsewhere", work.upper / path)
    with pytest.raises(ScratchRefused) as refused:
        work.changes()
    assert path in str(refused.value)
    assert other in str(refused.value)


def test_row_10_a_renamed_directory_beside_one_of_its_name_is_refused(work, hand):
    hand.folder("Files")
    hand.whiteout("Files/Empty")
    hand.folder("Files/windows", origin="Files/Empty", redirect=b"Empty")
    with pytest.raises(ScratchRefused, match="same name"):
        work.changes()


@pytest.mark.parametrize("first", ["new", "notes"])
def test_row_11_two_new_names_that_fold_together_are_refused(work, hand, first):
    hand.file(f"Files/Windows/{first}", b"1")
    hand.file(f"Files/Windows/{first.upper()}", b"2")
    with pytest.raises(ScratchRefused) as refused:
        work.changes()
    assert f"Files/Windows/{first}'" in str(refused.value)
    assert f"Files/Windows/{first.upper()}'" in str(refused.value)


def test_row_12_two_spellings_of_one_directory_are_one(work, hand):
    hand.file("Files/Windows/one", b"1")
    hand.folder("Files/windows", origin="", opaque=b"y")
    hand.file("Files/windows/two", b"2")
    assert work.changes() == [("add", "Files/Windows/one"), ("add", "Files/Windows/two")]
    hand.file("Files/windows/ONE", b"2")
    with pytest.raises(ScratchRefused, match="same name"):
        work.changes()


def test_row_13_a_directory_on_the_way_is_written_but_not_listed(work, hand):
    hand.file("Files/Windows/System/new", b"")
    assert work.changes() == [("add", "Files/Windows/System/new")]
    assert work.names()[:4] == [
        "Files",
        "Files/Windows",
        "Files/Windows/System",
        "Files/Windows/System/new",
    ]
    (work.upper / "Files/Windows").chmod(0o700)
    assert ("modify", "Files/Windows") in work.changes()


def test_row_13_a_directory_that_no_tar_describes_is_described_now(tmp_path):
    base = [chains.folder("Files", sd=chains.OWNER_SYSTEM), chains.file("Files/implied/f", b"x")]
    with scratch(tmp_path / "work", base) as work:
        Hand(work).file("Files/implied/g", b"")
        assert work.changes() == [("add", "Files/implied/g")]
        entry, _ = work.entry("Files/implied")
        assert entry.records[b"MSWINDOWS.fileattr"] == b"16"
        assert b"MSWINDOWS.rawsd" in entry.records


def test_row_14_a_new_directory_inherits_from_its_parent(work, hand):
    hand.folder("Files")
    hand.folder("Files/new", origin="", opaque=b"y")
    hand.folder("Files/new/deeper", origin="")
    assert work.changes() == [("add", "Files/new"), ("add", "Files/new/deeper")]
    for name in ("Files/new", "Files/new/deeper"):
        entry, _ = work.entry(name)
        # Nothing can be inherited here, so it is what new files have.
        descriptor = SecurityDescriptor.parse(descriptor_of(entry.records) or b"")
        assert descriptor.to_sddl() == "O:BAG:SYD:(A;;FA;;;SY)(A;;FA;;;BA)"
        assert entry.records[b"MSWINDOWS.fileattr"] == b"16"


def test_row_15_a_directory_made_again_loses_what_it_had(work, hand):
    hand.folder("Files")
    hand.folder("Files/Windows", origin="", opaque=b"y")
    hand.file("Files/Windows/notes", b"again")
    hand.folder("Files/Windows/System", origin="")
    assert work.changes() == [
        ("modify", "Files/Windows"),
        ("delete", "Files/Windows/away"),
        ("delete", "Files/Windows/linked"),
        ("delete", "Files/Windows/near"),
        ("delete", "Files/Windows/other"),
        ("modify", "Files/Windows/System"),
        ("delete", "Files/Windows/System/dll"),
        ("modify", "Files/Windows/notes"),
    ]
    with work.committed() as tree:
        assert set(tree.kids[tree.lookup(b"Files/Windows")]) == {b"NOTES", b"SYSTEM"}


def test_row_15_also_after_a_whiteout_of_the_other_spelling(work, hand):
    hand.whiteout("Files/Windows")
    hand.folder("Files/windows", origin="")
    changes = work.changes()
    assert changes[0] == ("modify", "Files/windows")
    assert ("delete", "Files/windows/notes") in changes


def test_row_16_a_directory_in_place_of_a_file(work, hand):
    hand.folder("Files")
    hand.folder("Files/Windows")
    hand.folder("Files/Windows/notes", origin="", opaque=b"y")
    hand.file("Files/Windows/notes/inside", b"x")
    assert work.changes() == [
        ("modify", "Files/Windows/notes"),
        ("add", "Files/Windows/notes/inside"),
    ]
    with work.committed() as tree:
        assert tree.is_directory(tree.lookup(b"Files/Windows/notes"))


def test_row_17_a_file_in_place_of_a_directory(work, hand):
    hand.file("Files/Windows/System", b"now a file")
    assert work.changes() == [("modify", "Files/Windows/System")]
    with work.committed() as tree:
        assert tree.lookup(b"Files/Windows/System/dll") is None
        assert not tree.is_directory(tree.lookup(b"Files/Windows/System"))


@pytest.mark.parametrize("redirect", [b"/Files/Windows", b"Windows"])
def test_row_18_a_renamed_directory_is_expanded(work, hand, redirect):
    hand.whiteout("Files/Windows")
    hand.folder("Files/Old", origin="Files/Windows", redirect=redirect)
    hand.whiteout("Files/Old/other")
    hand.file("Files/Old/new", b"new")
    assert work.changes() == [
        ("delete", "Files/Windows"),
        ("add", "Files/Old"),
        ("add", "Files/Old/System"),
        ("add", "Files/Old/System/dll"),
        ("add", "Files/Old/away"),
        ("add", "Files/Old/linked"),
        ("add", "Files/Old/near"),
        ("add", "Files/Old/new"),
        ("add", "Files/Old/notes"),
    ]
    assert work.entry("Files/Old/notes:keep")[1] == b"kept"
    assert work.entry("Files/Old/away")[0].linkname == rb"D:\away"


def test_row_18_a_renamed_directory_hides_what_was_at_its_new_place(work, hand):
    hand.whiteout("Files/Empty")
    hand.folder("Files/Windows", origin="Files/Empty", redirect=b"Empty")
    changes = work.changes()
    assert ("modify", "Files/Windows") in changes
    assert ("delete", "Files/Windows/notes") in changes


def test_row_19_a_redirect_to_nothing_is_an_error(work, hand):
    hand.folder("Files")
    hand.folder("Files/Old", origin="", redirect=b"/Files/never")
    with pytest.raises(HostError, match="Files/never"):
        work.changes()


def test_row_20_links_of_the_scratch_are_links(work, hand):
    hand.file("Files/z", b"data")
    os.link(work.upper / "Files/z", work.upper / "Files/b")
    assert work.changes() == [("add", "Files/b"), ("add", "Files/z")]
    entry, data = work.entry("Files/b")
    assert (entry.kind, data) == (ord("0"), b"data")
    link, _ = work.entry("Files/z")
    assert (link.kind, link.linkname, link.mode, link.size) == (ord("1"), b"Files/b", 0o644, 0)
    assert set(link.records) - {b"atime", b"ctime", b"mtime"} == {
        b"MSWINDOWS.fileattr",
        b"LIBARCHIVE.creationtime",
    }


def test_row_21_a_link_to_an_unchanged_file_leaves_that_file_alone(work, hand):
    hand.file("Files/Windows/notes", b"notes", origin="Files/Windows/notes")
    os.link(work.upper / "Files/Windows/notes", work.upper / "Files/alias")
    assert work.changes() == [("add", "Files/alias")]
    assert work.entry("Files/alias")[0].linkname == b"Files/Windows/notes"
    with work.committed() as tree:
        slot = tree.lookup(b"Files/alias")
        assert tree.inode(slot) == tree.lookup(b"Files/Windows/notes")
        assert list(tree.streams(slot)) == [b"keep"]


def test_row_21_a_copy_with_all_attributes_is_no_link(work, hand):
    hand.file("Files/copy", b"notes", origin="Files/Windows/notes")
    assert work.entry("Files/copy")[0].kind == ord("0")
    assert work.entry("Files/copy:keep")[1] == b"kept"


def test_row_22_a_written_link_is_parted_from_the_others(work, hand):
    hand.file("Files/Windows/linked", b"mine", origin="Files/Windows/other")
    assert work.changes() == [("modify", "Files/Windows/linked")]
    with work.committed() as tree:
        linked, other = tree.lookup(b"Files/Windows/linked"), tree.lookup(b"Files/Windows/other")
        assert tree.inode(linked) != tree.inode(other)


def test_row_22_also_where_the_first_name_is_gone_from_the_chain(tmp_path):
    child = [chains.folder("Files"), chains.whiteout("Files/Windows/other")]
    with scratch(tmp_path / "work", BASE, child) as work:
        hand = Hand(work)
        hand.file("Files/Windows/linked", b"other", origin="Files/Windows/linked")
        assert work.changes() == []
        hand.file("Files/Windows/linked", b"mine", origin="Files/Windows/linked")
        assert work.changes() == [("modify", "Files/Windows/linked")]
        entry, _ = work.entry("Files/Windows/linked")
        assert entry.records[b"LIBARCHIVE.creationtime"] == chains.A_CREATION
