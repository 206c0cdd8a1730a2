"""The decision table of docs/formats/scratch.md, rows 23 to 39: symlinks, refusals, streams."""

import os
import socket
import stat

import pytest

from tests.support import chains, mounts
from tests.support.scratches import scratch
from tests.support.upper_by_hand import BASE, LONG, Hand
from windowsfilter.engines.portable.aliases import alias
from windowsfilter.engines.portable.scratch.upper import MAX_DEPTH, ScratchRefused
from windowsfilter.errors import HostError


@pytest.fixture
def work(tmp_path):
    with scratch(tmp_path / "work", BASE) as made:
        yield made


@pytest.fixture
def hand(work):
    return Hand(work)


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


def test_row_25_sockets_and_fifos_are_refused_by_name(work, hand, monkeypatch):
    hand.folder("Files")
    os.mkfifo(work.upper / "Files/pipe")
    with pytest.raises(ScratchRefused, match="'Files/pipe' is a FIFO"):
        work.changes()
    os.unlink(work.upper / "Files/pipe")
    monkeypatch.chdir(work.upper / "Files")  # a socket's path must be short
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
