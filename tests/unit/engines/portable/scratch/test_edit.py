"""Editing a scratch without a mount: what each call does, and what it refuses."""

import os

import pytest

from tests.support import chains
from tests.support.scratches import TestScratch, scratch
from windowsfilter.engines.portable.scratch.upper import Namespace, ScratchRefused, open_upper
from windowsfilter.errors import AlreadyExists, EntryNotFound, UsageError

BASE = [
    chains.folder("Files", sd=chains.OWNER_SYSTEM),
    chains.folder("Files/Windows"),
    chains.file("Files/Windows/notes", b"notes"),
    chains.file("Files/Windows/notes:keep", b"kept"),
    chains.folder("Files/Windows/System"),
    chains.file("Files/Windows/System/dll", b"dll"),
    chains.folder("Files/Empty"),
    chains.symlink("Files/link", r"C:\Windows\notes"),
    chains.symlink("Files/away", r"D:\x"),
    chains.file("Hives/Sam_Delta", b"hive"),
]


@pytest.fixture
def work(tmp_path):
    with scratch(tmp_path / "work", BASE) as made:
        yield made


def read(editor, path):
    return b"".join(editor.read(path))


def test_reading_shows_chain_and_scratch_as_one(work):
    with work.edited() as editor:
        editor.write(b"Files/WINDOWS/new", b"new")
        editor.remove(b"Files/empty")
        assert editor.listdir(b"files") == [b"Windows", b"away", b"link"]
        assert editor.listdir(b"Files/windows") == [b"System", b"new", b"notes"]
        assert read(editor, b"files/windows/NOTES") == b"notes"
        assert read(editor, b"files/windows/NOTES:Keep") == b"kept"
        assert read(editor, b"Files/Windows/NEW") == b"new"
        assert editor.exists(b"Files/Windows/System/DLL")
        assert not editor.exists(b"Files/Empty")
        editor.rename(b"Files/Windows", b"Files/W")
        assert editor.listdir(b"Files/w/system") == [b"dll"]
        assert read(editor, b"Files/w/system/dll") == b"dll"


def test_writing_twice_keeps_one_file_and_its_birth(work):
    with work.edited() as editor:
        editor.write(b"Files/new", b"1")
        inode = (work.upper / "Files/new").stat().st_ino
        editor.write(b"Files/NEW", b"2")
        assert (work.upper / "Files/new").stat().st_ino == inode
        assert read(editor, b"Files/new") == b"2"
    assert work.changes() == [("add", "Files/new")]


def test_making_a_thing_and_removing_it_leaves_nothing(work):
    with work.edited() as editor:
        editor.write(b"Files/new", b"1")
        editor.write(b"Files/new:s", b"1")
        editor.mkdir(b"Files/a/b/c", parents=True)
        editor.mkdir(b"Files/A/B", exist_ok=True)
        editor.remove(b"Files/NEW")
        editor.remove(b"Files/a", recursive=True)
    assert work.changes() == []
    assert os.listdir(work.upper / "Files") == []


def test_removing_and_making_again_hides_what_was_there(work):
    with work.edited() as editor:
        editor.remove(b"Files/Windows", recursive=True)
        editor.mkdir(b"Files/Windows")
        assert editor.listdir(b"Files/Windows") == []
    assert ("delete", "Files/Windows/notes") in work.changes()


def test_renaming_there_and_back_is_no_change(work):
    with work.edited() as editor:
        editor.rename(b"Files/Windows", b"Files/Other")
        editor.rename(b"Files/Other", b"Files/windows")
        editor.rename(b"Files/windows", b"Files/Windows")
        editor.rename(b"Files/Windows/notes", b"Files/Windows/NOTES")
        editor.rename(b"Files/Windows/NOTES", b"Files/Windows/notes")
        editor.rename(b"Files/link", b"Files/x")
        editor.rename(b"Files/x", b"Files/link")
    assert work.changes() == []


def test_replacing_by_rename_takes_the_place_and_keeps_the_metadata(work):
    with work.edited() as editor:
        with pytest.raises(AlreadyExists):
            editor.rename(b"Files/Windows/System/dll", b"Files/Windows/notes")
        editor.rename(b"Files/Windows/System/dll", b"Files/Windows/notes", replace=True)
        assert read(editor, b"Files/Windows/notes") == b"dll"
        with pytest.raises(AlreadyExists):
            editor.rename(b"Files/Windows/notes", b"Files/Empty", replace=True)
    assert work.changes() == [
        ("delete", "Files/Windows/System/dll"),
        ("modify", "Files/Windows/notes"),
    ]


def test_streams_are_written_moved_and_removed(work):
    with work.edited() as editor:
        editor.write(b"Files/Windows/notes:more", b"more")
        editor.write(b"Files/Windows/NOTES:MORE:$DATA", b"more!")
        editor.rename(b"Files/Windows/notes", b"Files/n")
        assert read(editor, b"Files/n:more") == b"more!"
        editor.remove(b"Files/n:KEEP")
        with pytest.raises(EntryNotFound):
            editor.remove(b"Files/n:keep")
        with pytest.raises(EntryNotFound):
            editor.read(b"Files/n:keep")
        editor.write(b"Files/made:s", b"makes its file")
    assert [name for name in work.names() if ":" in name] == ["Files/made:s", "Files/n:more"]


def test_streams_stay_with_the_names_that_a_file_has_left(work):
    with work.edited() as editor:
        editor.mkdir(b"Files/d")
        editor.write(b"Files/d/one", b"1")
        editor.write(b"Files/d/one:s", b"of all")
        editor.link(b"Files/two", b"Files/d/one")
        editor.link(b"Files/three", b"Files/two")
        assert read(editor, b"Files/three:s") == b"of all"
        editor.write(b"Files/three:S", b"again")
        assert read(editor, b"Files/d/one:s") == b"again"
        editor.remove(b"Files/d", recursive=True)
        editor.remove(b"Files/two")
        assert read(editor, b"Files/three:s") == b"again"
    assert work.changes() == [("add", "Files/three")]


def test_a_link_shares_data_until_the_end(work):
    with work.edited() as editor:
        editor.link(b"Files/same", b"Files/Windows/notes")
        assert work.changes() == [("add", "Files/same")]
        editor.write(b"Files/same", b"both")
        assert read(editor, b"Files/Windows/notes") == b"both"
    assert work.changes() == [("modify", "Files/Windows/notes"), ("add", "Files/same")]


def test_what_a_mount_made_beside_a_directory_is_found(work):
    (work.upper / "Files").mkdir()
    work.come_from("Files", "Files")
    (work.upper / "Files/windows").mkdir()
    work.mark("Files/windows", "overlay.opaque", b"y")
    (work.upper / "Files/windows/new").write_bytes(b"from Linux")
    with work.edited() as editor:
        assert read(editor, b"Files/Windows/New") == b"from Linux"
        editor.write(b"Files/Windows/new", b"edited")
        editor.write(b"Files/Windows/notes", b"edited too")
        with pytest.raises(UsageError, match="two spellings"):
            editor.rename(b"Files/Windows", b"Files/W")
        editor.remove(b"Files/Windows/new")
        editor.write(b"Files/Windows/other", b"")
    assert work.changes() == [("modify", "Files/Windows/notes"), ("add", "Files/Windows/other")]
    with work.edited() as editor:
        editor.remove(b"Files/windows", recursive=True)
    assert work.changes() == [("delete", "Files/Windows")]


REFUSED = {
    "reading what is not there": (EntryNotFound, lambda e: e.read(b"Files/no")),
    "reading a directory": (UsageError, lambda e: e.read(b"Files/Windows")),
    "listing a file": (EntryNotFound, lambda e: e.listdir(b"Files/Windows/notes")),
    "writing a directory": (UsageError, lambda e: e.write(b"Files/Windows", b"")),
    "writing a link": (UsageError, lambda e: e.write(b"Files/link", b"")),
    "writing below nothing": (EntryNotFound, lambda e: e.write(b"Files/no/x", b"")),
    "writing below a file": (EntryNotFound, lambda e: e.write(b"Files/Windows/notes/x", b"")),
    "a name Windows cannot hold": (ScratchRefused, lambda e: e.write(b"Files/a?", b"")),
    "a whiteout's name": (ScratchRefused, lambda e: e.write(b"Files/.wh.x", b"")),
    "dots that climb": (UsageError, lambda e: e.write(b"Files/../x", b"")),
    "a stream's odd name": (ScratchRefused, lambda e: e.write(b"Files/Windows/notes:a:b", b"")),
    "a new top directory": (ScratchRefused, lambda e: e.mkdir(b"Else")),
    "a directory that is there": (AlreadyExists, lambda e: e.mkdir(b"Files/WINDOWS")),
    "a file that is there": (
        AlreadyExists,
        lambda e: e.mkdir(b"Files/Windows/notes", exist_ok=True),
    ),
    "a link in place": (AlreadyExists, lambda e: e.symlink(b"Files/Windows", b"x")),
    "a hard link in place": (
        AlreadyExists,
        lambda e: e.link(b"Files/away", b"Files/Windows/notes"),
    ),
    "a hard link to a directory": (UsageError, lambda e: e.link(b"Files/x", b"Files/Windows")),
    "removing nothing": (EntryNotFound, lambda e: e.remove(b"Files/no")),
    "removing a full directory": (UsageError, lambda e: e.remove(b"Files/Windows")),
    "removing a hive": (ScratchRefused, lambda e: e.remove(b"Hives/Sam_Delta")),
    "removing everything": (ScratchRefused, lambda e: e.remove(b"Files", recursive=True)),
    "renaming nothing": (EntryNotFound, lambda e: e.rename(b"Files/no", b"Files/yes")),
    "renaming into itself": (UsageError, lambda e: e.rename(b"Files/Windows", b"Files/windows/x")),
    "renaming to nowhere": (EntryNotFound, lambda e: e.rename(b"Files/link", b"Files/no/x")),
    "renaming a hive": (ScratchRefused, lambda e: e.rename(b"Hives/Sam_Delta", b"Hives/x")),
}


@pytest.mark.parametrize(("error", "call"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_changes_nothing(work, error, call):
    with work.edited() as editor, pytest.raises(error):
        call(editor)
    assert work.changes() == []
    assert sorted(os.listdir(work.folder)) == ["upper"]


def work_of_all_kinds(work: TestScratch) -> None:
    with work.edited() as editor:
        editor.write(b"Files/Windows/notes", b"changed")
        editor.write(b"Files/Windows/notes:new", b"stream")
        editor.remove(b"Files/Empty")
        editor.rename(b"Files/Windows/System", b"Files/System")
        editor.rename(b"Files/away", b"Files/System/away")
        editor.rename(b"Files/link", b"Files/System/near")
        editor.symlink(b"Files/System/made", rb"..\Windows")
        editor.link(b"Files/x", b"Files/Windows/notes")
        editor.mkdir(b"Files/Empty")


@pytest.mark.root
def test_without_root_the_same_work_gives_the_same_bytes(work):
    work_of_all_kinds(work)
    other = TestScratch(work.folder.parent / "other", work.blobs, work.tree, "user.")
    os.chown(other.upper, 1234, 1234)
    with open_upper(other.upper) as root:
        assert root.namespace is Namespace.USER
    work_of_all_kinds(other)
    latest = 131_000_000_000_000_000
    assert other.tar(latest) == work.tar(latest)
    assert other.changes() == work.changes()


def test_marks_of_the_other_namespace_do_not_count(work):
    (work.upper / "Files").mkdir()
    work.come_from("Files", "Files")
    (work.upper / "Files/Windows").mkdir()
    work.come_from("Files/Windows", "Files/Windows")
    if work.namespace == "user.":
        pytest.skip("needs root")
    os.setxattr(work.upper / "Files/Windows", "user.overlay.opaque", b"y")
    assert work.changes() == []
