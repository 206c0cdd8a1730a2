"""The decision table of docs/formats/scratch.md, row by row, on upper directories made by hand.

They are what overlayfs leaves (the property tests let the kernel itself make them), in whichever
namespace of attributes this user may write.
"""

import os
import socket
import stat

import pytest

from tests.support import chains, mounts
from tests.support.scratches import TestScratch, scratch
from windowsfilter.engines.portable.aliases import alias
from windowsfilter.engines.portable.scratch_upper import MAX_DEPTH, ScratchRefused
from windowsfilter.errors import HostError

LONG = "長" * 200
BASE = [
    chains.folder("Files", sd=chains.OWNER_SYSTEM),
    chains.folder("Files/Windows", sd=chains.OWNER_SYSTEM),
    chains.file("Files/Windows/notes", b"notes"),
    chains.file("Files/Windows/notes:keep", b"kept"),
    chains.file("Files/Windows/other", b"other"),
    chains.folder("Files/Windows/System"),
    chains.file("Files/Windows/System/dll", b"dll"),
    chains.file("Files/Windows/System/dll:mark", b"of dll"),
    chains.hard_link("Files/Windows/linked", "Files/Windows/other"),
    chains.symlink("Files/Windows/away", r"D:\away"),
    chains.symlink("Files/Windows/near", "notes"),
    chains.folder("Files/Empty"),
    chains.file(f"Files/{LONG}", b"long"),
    chains.folder("UtilityVM"),
    chains.folder("UtilityVM/Files"),
    chains.file("UtilityVM/Files/tool", b"tool"),
    chains.file("Hives/Sam_Delta", b"hive"),
]


@pytest.fixture
def work(tmp_path):
    with scratch(tmp_path / "work", BASE) as made:
        yield made


class Hand:
    """Makes what overlayfs would make."""

    def __init__(self, work: TestScratch) -> None:
        self.work = work
        self.upper = work.upper

    def folder(self, path: str, *, origin: str | None = None, **marks: bytes) -> None:
        """A directory copied up from where it is, or from `origin`; "" is a new one."""
        origin = path if origin is None else origin
        if not (self.upper / path).exists():
            (self.upper / path).mkdir()
            if origin:
                self.work.come_from(path, origin)
        for name, value in marks.items():
            self.work.mark(path, f"overlay.{name}", value)

    def above(self, path: str) -> None:
        """Copy up every directory above a path that is not in the upper yet."""
        parts = path.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            folder = "/".join(parts[:count])
            if not (self.upper / folder).exists():
                known = self.work.tree.lookup(folder.encode()) is not None
                self.folder(folder, origin=None if known else "")

    def file(self, path: str, data: bytes, *, origin: str = "") -> None:
        self.above(path)
        place = self.upper / path
        place.write_bytes(data)
        if origin:
            self.work.come_from(path, origin)
            os.utime(place, ns=(chains.A_TIME_NS, chains.A_TIME_NS))

    def whiteout(self, path: str) -> None:
        self.above(path)
        os.mknod(self.upper / path, stat.S_IFCHR, os.makedev(0, 0))


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


def test_row_14_a_new_directory_has_its_parents_descriptor(work, hand):
    hand.folder("Files")
    hand.folder("Files/new", origin="", opaque=b"y")
    hand.folder("Files/new/deeper", origin="")
    assert work.changes() == [("add", "Files/new"), ("add", "Files/new/deeper")]
    parent, _ = work.entry("Files")
    for name in ("Files/new", "Files/new/deeper"):
        entry, _ = work.entry(name)
        assert entry.records[b"MSWINDOWS.rawsd"] == parent.records[b"MSWINDOWS.rawsd"]
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


@pytest.mark.root  # `user.` attributes cannot be on links
def test_row_23_a_link_keeps_the_target_it_had(work, hand):
    hand.whiteout("Files/Windows/away")
    os.symlink(r"D:\away", work.upper / "Files/moved")
    work.come_from("Files/moved", "Files/Windows/away")
    assert work.changes() == [("delete", "Files/Windows/away"), ("add", "Files/moved")]
    entry, _ = work.entry("Files/moved")
    assert entry.linkname == rb"D:\away"
    assert entry.records[b"MSWINDOWS.fileattr"] == b"1024"


@pytest.mark.parametrize(
    ("target", "written", "attributes"),
    [
        ("../Windows", rb"..\Windows", b"1040"),
        ("../WINDOWS/notes", rb"..\WINDOWS\notes", b"1056"),
        ("/Windows/System", rb"C:\Windows\System", b"1040"),
        ("nowhere", b"nowhere", b"1056"),
        (r"C:\Windows", rb"C:\Windows", b"1040"),
        (r"\\server\share", rb"\\server\share", b"1056"),
        ("../../..", rb"..\..\..", b"1040"),
        ("to", b"to", b"1056"),  # to itself
        ("../Windows/near", rb"..\Windows\near", b"1056"),  # over a link to a file
    ],
)
def test_row_24_new_links_lead_where_windows_looks(work, hand, target, written, attributes):
    hand.above("Files/links/to")
    os.symlink(target, work.upper / "Files/links/to")
    entry, _ = work.entry("Files/links/to")
    assert entry.linkname == written
    assert entry.records[b"MSWINDOWS.fileattr"] == attributes
    assert entry.mode == (0o160000 if attributes == b"1040" else 0o120000)


@pytest.mark.parametrize("target", [b"\xff\xfe", b"x/" * 2047])
def test_row_24_targets_that_windows_cannot_hold_are_refused(work, hand, target):
    hand.above("Files/links/to")
    os.symlink(target, os.fsencode(work.upper / "Files/links/to"))
    with pytest.raises(ScratchRefused, match="'Files/links/to' leads to a target"):
        work.changes()


def test_row_25_sockets_and_fifos_are_refused_by_name(work, hand):
    hand.folder("Files")
    os.mkfifo(work.upper / "Files/pipe")
    with pytest.raises(ScratchRefused, match="'Files/pipe' is a FIFO"):
        work.changes()
    os.unlink(work.upper / "Files/pipe")
    os.chdir(work.upper / "Files")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("plug")
    with pytest.raises(ScratchRefused, match="'Files/plug' is a socket"):
        work.tar()


@pytest.mark.root
@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_row_25_devices_are_refused_by_name(work, hand, kind):
    hand.folder("Files")
    os.mknod(work.upper / "Files/zero", kind, os.makedev(1, 5))
    with pytest.raises(ScratchRefused, match="'Files/zero' is a .* device"):
        work.changes()


@pytest.mark.parametrize(
    "leaf",
    [b"a?b", b"a\\b", b"dot.", b"space ", b"\xff\xfe", b".wh.x", b"tab\t", b"<", b"a:b:c", b":x"],
)
def test_row_26_names_that_windows_cannot_hold_are_refused(work, hand, leaf):
    hand.folder("Files")
    (work.upper / "Files" / os.fsdecode(leaf)).write_bytes(b"")
    with pytest.raises(ScratchRefused, match="'Files/"):
        work.changes()


def test_row_26_a_path_longer_than_windows_holds_is_refused(work, hand):
    hand.folder("Files")
    place = os.open(work.upper / "Files", os.O_RDONLY)
    for _ in range(130):
        os.mkdir("d" * 255, dir_fd=place)
        inner = os.open("d" * 255, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)
    with pytest.raises(ScratchRefused, match="longer than Windows can hold"):
        work.changes()


def test_row_26_reserved_device_names_are_carried(work, hand):
    hand.file("Files/NUL.txt", b"")
    assert work.changes() == [("add", "Files/NUL.txt")]


def test_row_27_an_alias_is_mapped_back_to_the_long_name(work, hand):
    shown = os.fsdecode(alias(LONG.encode()))
    hand.whiteout(f"Files/{shown}")
    hand.file("Files/short", b"long", origin=f"Files/{LONG}")
    assert work.changes() == [("delete", f"Files/{LONG}"), ("add", "Files/short")]
    os.unlink(work.upper / f"Files/{shown}")
    hand.file(f"Files/{shown}", b"changed", origin=f"Files/{LONG}")
    assert ("modify", f"Files/{LONG}") in work.changes()


def test_row_28_nothing_new_beside_the_top_directories(work, hand):
    hand.folder("Else", origin="")
    with pytest.raises(ScratchRefused, match="'Else' is outside"):
        work.changes()


def test_row_29_only_files_can_be_deleted(work, hand):
    hand.whiteout("UtilityVM/Files/tool")
    assert work.changes() == [("delete", "UtilityVM/Files/tool")]
    hand.whiteout("Hives/Sam_Delta")
    with pytest.raises(ScratchRefused, match="'Hives/Sam_Delta' was deleted"):
        work.changes()


def test_row_30_files_without_their_data_are_an_error(work, hand):
    hand.file("Files/Windows/notes", b"", origin="Files/Windows/notes")
    work.mark("Files/Windows/notes", "overlay.metacopy", b"")
    with pytest.raises(HostError, match="no data of its own"):
        work.changes()


@pytest.mark.parametrize("value", [bytes(3), (7).to_bytes(8, "little"), b"\xff" * 8])
def test_row_31_a_scratch_of_another_chain_is_an_error(work, hand, value):
    hand.file("Files/Windows/notes", b"")
    work.mark("Files/Windows/notes", "windows.entry", value)
    if value[:1] == b"\x07":
        value = (7).to_bytes(4, "little") + bytes(4)
        work.mark("Files/Windows/notes", "windows.entry", value)
    with pytest.raises((HostError, ScratchRefused), match="Files/Windows/notes"):
        work.changes()


def test_row_32_endless_nesting_is_refused(work, hand):
    hand.folder("Files")
    place = os.open(work.upper / "Files", os.O_RDONLY)
    for _ in range(MAX_DEPTH + 1):
        os.mkdir("d", dir_fd=place)
        inner = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)
    with pytest.raises(ScratchRefused, match="directories deep"):
        work.changes()


@pytest.mark.root
def test_row_32_another_file_system_in_the_upper_is_refused(work, hand):
    hand.folder("Files")
    hand.folder("Files/Windows")
    with mounts.tmpfs(work.upper / "Files/Windows"):
        with pytest.raises(ScratchRefused, match="'Files/Windows' is on another file system"):
            work.changes()


def test_row_33_a_stream_is_a_modification_of_its_file(work, hand):
    hand.file("Files/Windows/Notes:New", b"new")
    assert work.changes() == [("modify", "Files/Windows/notes")]
    names = work.names()
    place = names.index("Files/Windows/notes")
    assert names[place + 1 : place + 3] == ["Files/Windows/notes:keep", "Files/Windows/notes:New"]
    assert work.entry("Files/Windows/notes")[1] == b"notes"


def test_row_33_an_equal_stream_is_no_change(work, hand):
    hand.file("Files/Windows/notes:KEEP", b"kept")
    assert work.changes() == []
    hand.file("Files/Windows/notes:KEEP", b"other")
    assert work.changes() == [("modify", "Files/Windows/notes")]
    assert work.entry("Files/Windows/notes:keep")[1] == b"other"


def test_row_33_a_directory_has_streams_too(work, hand):
    hand.file("Files/Empty:zone:$DATA", b"3")
    assert work.changes() == [("modify", "Files/Empty")]
    names = work.names()
    assert names[names.index("Files/Empty") + 1] == "Files/Empty:zone"


def test_row_34_a_stream_can_be_taken_away_from_a_file(work, hand):
    hand.whiteout("Files/Windows/notes:keep")
    assert work.changes() == [("modify", "Files/Windows/notes")]
    with work.committed() as tree:
        assert tree.streams(tree.lookup(b"Files/Windows/notes")) == {}


def test_row_34_a_layer_cannot_take_a_stream_from_a_directory(tmp_path):
    base = [chains.folder("Files"), chains.folder("Files/d"), chains.file("Files/d:s", b"x")]
    with scratch(tmp_path / "work", base) as work:
        Hand(work).whiteout("Files/d:s")
        with pytest.raises(ScratchRefused, match="'Files/d' lost a stream"):
            work.changes()


def test_row_35_streams_follow_a_file_that_was_moved_later(work, hand):
    hand.file("Files/Windows/notes:new", b"written first")
    hand.whiteout("Files/Windows/notes")
    hand.file("Files/Empty/moved", b"notes", origin="Files/Windows/notes")
    assert work.changes() == [("add", "Files/Empty/moved"), ("delete", "Files/Windows/notes")]
    assert work.entry("Files/Empty/moved:new")[1] == b"written first"
    assert work.entry("Files/Empty/moved:keep")[1] == b"kept"


def test_row_36_streams_die_with_their_file(work, hand, caplog):
    caplog.set_level("INFO")
    hand.file("Files/Windows/notes:new", b"written first")
    hand.whiteout("Files/Windows/notes")
    assert work.changes() == [("delete", "Files/Windows/notes")]
    assert "Files/Windows/notes:new" in caplog.text


def test_row_37_a_stream_of_nothing_is_refused(work, hand):
    hand.file("Files/Windows/never:s", b"")
    with pytest.raises(ScratchRefused, match="'Files/Windows/never:s' is a stream of a file that"):
        work.changes()


def test_row_38_two_spellings_of_one_stream_are_refused(work, hand):
    hand.file("Files/Windows/notes:s", b"1")
    hand.file("Files/Windows/notes:S", b"2")
    with pytest.raises(ScratchRefused, match="same name"):
        work.changes()


@pytest.mark.parametrize("leaf", ["notes:", "notes:a:b", "notes::$DATA", "notes:a\\b"])
def test_row_38_odd_stream_names_are_refused(work, hand, leaf):
    hand.file(f"Files/Windows/{leaf}", b"")
    with pytest.raises(ScratchRefused, match="neither a file name nor"):
        work.changes()


def test_row_38_a_stream_is_a_plain_file(work, hand):
    hand.above("Files/Windows/notes:s")
    (work.upper / "Files/Windows/notes:s").mkdir()
    with pytest.raises(ScratchRefused, match="streams are plain files"):
        work.changes()


def test_row_39_a_stream_belongs_to_every_name_of_its_file(work, hand):
    hand.file("Files/one", b"data")
    os.link(work.upper / "Files/one", work.upper / "Files/two")
    hand.file("Files/two:s", b"stream")
    assert work.changes() == [("add", "Files/one"), ("add", "Files/two")]
    assert work.entry("Files/one:s")[1] == b"stream"
    assert work.entry("Files/two")[0].linkname == b"Files/one"
    hand.file("Files/one:s", b"another")
    with pytest.raises(ScratchRefused, match="two names of one file"):
        work.changes()


def test_what_is_in_the_upper_cannot_lead_out_of_it(work, hand, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    hand.folder("Files")
    os.symlink(tmp_path / "outside", work.upper / "Files/out")
    assert work.changes() == [("add", "Files/out")]
    assert b"secret" not in work.tar().replace(b"outside", b"")
