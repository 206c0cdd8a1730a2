"""Descriptors, attributes and times set without a mount: on what is there, with marks of either kind."""

import os

import pytest

from tests.support import chains, windows_entries
from tests.support.scratches import scratch
from windowsfilter.engines.portable.scratch import choices
from windowsfilter.engines.portable.scratch.upper import ScratchRefused
from windowsfilter.errors import EntryNotFound, UsageError
from windowsfilter.ntfs import attributes, filetime
from windowsfilter.ntfs.attributes import FileAttribute
from windowsfilter.ntfs.security import SecurityDescriptor
from windowsfilter.ntfs.sids import SYSTEM, USERS
from windowsfilter.wire.backuptar import records

OTHER = SecurityDescriptor.from_sddl("O:SYG:SYD:P(A;;FR;;;WD)S:(AU;SA;FA;;;WD)")
T = filetime.from_unix_ns(chains.A_TIME_NS)
EARLY, LATE = 1, filetime.MAX - 807  # beyond what any file system here can hold
UNKNOWN = {b"MSWINDOWS.future": b"?", b"SCHILY.xattr.user.x": b"\xff"}
BASE = [
    *windows_entries.entries(),
    chains.file("Files/plain", b"plain", attributes=0x80, records=UNKNOWN),
    chains.file("Files/zero", b"zero", attributes=0),
    chains.hard_link("Files/plain too", "Files/plain"),
    chains.folder("Files/deep", sd=windows_entries.DESCRIPTOR),
    chains.folder("Files/deep/er"),
    chains.file("Files/deep/er/one", b"1"),
    chains.file("Files/deep/er/two", b"2"),
    chains.file("Files/implied/f", b"f"),
]


@pytest.fixture(params=["as owner", "of another user"])
def work(tmp_path, request):
    with scratch(tmp_path / "work", BASE) as made:
        if request.param == "of another user":
            if os.geteuid() != 0:
                pytest.skip("needs root")
            os.chown(made.upper, 1234, 1234)
            made.namespace = "user."
        yield made


def change(work, path, choice, **more):
    with work.edited() as editor:
        editor.metadata.change(os.fsencode(path), choice, **more)


def descriptor(work, path):
    return records.descriptor_of(work.entry(path)[0].records)


def sddl(work, path):
    return SecurityDescriptor.parse(descriptor(work, path)).to_sddl()


def attributes_of(work, path):
    return records.attributes_of(work.entry(path)[0].records)


def times_of(work, path):
    entry, _ = work.entry(path)
    creation = filetime.parse_pax_time(entry.records[records.CREATION_TIME])
    ns = (creation, entry.atime_ns, entry.mtime_ns, entry.ctime_ns)
    return tuple(map(filetime.from_unix_ns, ns))


PATHS = ["Files/eas", "Files/Windows", "Files/link", "Files/app.exe", "Files/implied", "Files"]


@pytest.mark.parametrize("path", PATHS)
def test_a_descriptor_is_written_exactly_and_nothing_else_changes(work, path):
    slot = work.tree.lookup(os.fsencode(path))
    before = work.tree.record(slot)
    change(work, path, choices.security(OTHER))
    assert work.changes() == [("modify", path)]
    assert descriptor(work, path) == OTHER.build()
    entry, _ = work.entry(path)
    if before is None:
        return
    assert (entry.mtime_ns, entry.mode) == (chains.A_TIME_NS, before.mode)
    [original] = [one.member for one in BASE if one.member.name == os.fsencode(path)]
    changed = {records.RAW_DESCRIPTOR, b"atime", b"ctime", b"mtime"}
    assert {k: v for k, v in entry.records.items() if k not in changed} == {
        k: v for k, v in original.records.items() if k not in changed
    }
    assert filetime.from_unix_ns(entry.atime_ns) == before.access
    assert entry.ctime_ns > chains.A_TIME_NS


@pytest.mark.parametrize("path", PATHS)
def test_what_is_as_it_was_is_no_change(work, path):
    with work.edited() as editor:
        subject = editor.metadata.look(os.fsencode(path))
    found = subject.metadata.descriptor()
    if found is not None:
        change(work, path, choices.security(SecurityDescriptor.parse(found)))
    change(work, path, choices.attributes(remove=FileAttribute.OFFLINE))
    info = choices.basic_info(subject.metadata)
    change(work, path, choices.times(*info[:4]))
    assert list(work.upper.iterdir()) == []


@pytest.mark.parametrize("path", ["Files/eas", "Files/Windows"])
def test_changes_can_be_taken_back(work, path):
    change(work, path, choices.security(OTHER))
    change(work, path, choices.attributes(add=FileAttribute.HIDDEN))
    change(work, path, choices.times(creation=5, write=LATE, access=EARLY))
    assert work.changes() == [("modify", path)]
    before = SecurityDescriptor.parse(windows_entries.DESCRIPTOR)
    change(work, path, choices.security(before))
    change(work, path, choices.attributes(remove=FileAttribute.HIDDEN))
    change(work, path, choices.times(130_444_736_007_654_321, T, T, T))
    assert work.changes() == []


def test_owner_and_group_change_alone(work):
    change(work, "Files/eas", choices.security(owner=SYSTEM, group=USERS))
    assert sddl(work, "Files/eas") == windows_entries.SDDL.replace("O:BAG:SY", "O:SYG:BU")
    change(work, "Files/old", choices.security(owner=SYSTEM))
    assert sddl(work, "Files/old") == windows_entries.SDDL.replace("O:BA", "O:SY")
    assert records.TEXT_DESCRIPTOR not in work.entry("Files/old")[0].records
    with pytest.raises(UsageError, match="plain.*no security descriptor"):
        change(work, "Files/plain", choices.security(owner=SYSTEM))


def test_inherited_is_what_a_new_file_gets_but_for_its_owner(work):
    change(work, "Files/eas", choices.security(OTHER))
    change(work, "Files/eas", choices.security(inherited=True))
    acl = "D:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)"
    assert sddl(work, "Files/eas") == "O:SYG:SY" + acl
    change(work, "Files/plain", choices.security(inherited=True))
    assert sddl(work, "Files/plain") == "O:BAG:SY" + acl
    change(work, "Files/deep/er/one", choices.security(inherited=True))
    assert ("modify", "Files/deep/er/one") not in work.changes()  # its directory has none


def test_a_whole_tree_inherits_from_the_top(work):
    change(work, "Files/deep", choices.security(OTHER))
    change(work, "Files/deep/er", choices.security(inherited=True), recursive=True)
    assert [path for _, path in work.changes()] == [
        "Files/deep",
        "Files/deep/er",
        "Files/deep/er/one",
        "Files/deep/er/two",
    ]
    # Nothing of the new one can be inherited, so these have what new files have.
    for path in ("Files/deep/er", "Files/deep/er/two"):
        assert sddl(work, path) == "O:BAG:SYD:(A;;FA;;;SY)(A;;FA;;;BA)"
    change(
        work, "Files/deep", choices.security(SecurityDescriptor.parse(windows_entries.DESCRIPTOR))
    )
    change(work, "Files/deep", choices.security(inherited=True), recursive=True)
    assert sddl(work, "Files/deep").startswith("O:BAG:SYD:AI(A;OICIID;FA;;;SY)")
    assert sddl(work, "Files/deep/er/two") == (
        "O:BAG:SYD:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)"
    )


def test_attributes_are_set_and_cleared(work):
    change(work, "Files/eas", choices.attributes(0x3, 0x20))
    assert attributes_of(work, "Files/eas") == 0x3
    change(work, "Files/eas", choices.attributes(remove=0x3))
    assert attributes_of(work, "Files/eas") == 0x80  # NORMAL: none
    change(work, "Files/plain", choices.attributes(add=0x1))
    assert attributes_of(work, "Files/plain") == 0x1
    change(work, "Files/Windows", choices.attributes(add=0x6))
    assert attributes_of(work, "Files/Windows") == 0x16
    change(work, "Files/link", choices.attributes(add=0x2))
    assert attributes_of(work, "Files/link") == 0x402
    change(work, "Files/zero", choices.attributes(remove=0x1))
    assert ("modify", "Files/zero") not in work.changes()


def test_an_archive_attribute_stays_cleared_until_the_next_write(work):
    with work.edited() as editor:
        editor.write(b"Files/plain", b"other")
        editor.write(b"Files/new", b"new")
    assert attributes_of(work, "Files/plain") == 0x20
    for path in ("Files/plain", "Files/new"):
        change(work, path, choices.attributes(remove=0x20))
        assert attributes_of(work, path) == 0x80
    change(work, "Files/plain", choices.times(write=T + 5))
    assert attributes_of(work, "Files/plain") == 0x80
    with work.edited() as editor:
        editor.write(b"Files/plain", b"again")
    assert attributes_of(work, "Files/plain") == 0x20


@pytest.mark.parametrize("flag", [f for f in FileAttribute if not f & attributes.SETTABLE])
def test_attributes_that_describe_a_state_are_refused_with_a_reason(flag):
    for mask in ({"add": flag}, {"remove": flag}):
        with pytest.raises(UsageError, match="cannot be set"):
            choices.attributes(**mask)


def test_directories_cannot_be_temporary(work):
    with pytest.raises(ScratchRefused, match="Files/Windows.*temporary"):
        change(work, "Files/Windows", choices.attributes(add=FileAttribute.TEMPORARY))
    with pytest.raises(UsageError, match="set and cleared"):
        choices.attributes(add=3, remove=2)


@pytest.mark.parametrize("path", ["Files/eas", "Files/Windows", "Files/link", "Files/implied"])
@pytest.mark.parametrize(
    "times", [(T + 1, T + 2, T + 3, T + 4), (EARLY, EARLY, EARLY, EARLY), (LATE,) * 4]
)
def test_times_are_exact_to_100_ns_wherever_they_are(work, path, times):
    change(work, path, choices.times(*times))
    assert work.changes() == [("modify", path)]
    assert times_of(work, path) == times
    with work.committed() as tree:
        record = tree.record(tree.lookup(os.fsencode(path)))
        assert (record.creation, record.access, record.write, record.change) == times


def test_times_that_are_not_given_stay_but_for_the_change_time(work):
    change(work, "Files/eas", choices.times(access=T + 7))
    creation, access, write, changed = times_of(work, "Files/eas")
    assert (creation, access, write) == (130_444_736_007_654_321, T + 7, T)
    assert changed > T + 7
    change(work, "Files/eas", choices.times(change=T + 8))
    assert times_of(work, "Files/eas") == (creation, T + 7, T, T + 8)
    change(work, "Files/eas", choices.attributes(add=2))  # a change is a change
    assert times_of(work, "Files/eas")[3] > T + 8


def test_times_that_were_set_are_out_of_date_once_the_file_is_written(work):
    change(work, "Files/eas", choices.times(access=5, write=6, change=7))
    with work.edited() as editor:
        editor.write(b"Files/eas", b"other")
    assert min(times_of(work, "Files/eas")[1:]) > T
    change(work, "Files/deep", choices.times(access=5, write=6))
    with work.edited() as editor:
        editor.write(b"Files/deep/new", b"")
    _, access, write, _ = times_of(work, "Files/deep")
    assert access == 5
    assert write > T


def test_new_entries_and_their_links_change_too(work):
    with work.edited() as editor:
        editor.write(b"Files/new", b"1")
        editor.link(b"Files/second", b"Files/new")
        editor.symlink(b"Files/to", b"new")
        editor.mkdir(b"Files/made")
    for path in ("Files/new", "Files/to", "Files/made"):
        change(work, path, choices.security(OTHER))
        change(work, path, choices.attributes(add=2))
        change(work, path, choices.times(1, 2, 3, 4))
        assert descriptor(work, path) == OTHER.build()
        assert attributes_of(work, path) & 2
        assert times_of(work, path) == (1, 2, 3, 4)
    link, _ = work.entry("Files/second")
    assert link.linkname == b"Files/new"
    assert (records.attributes_of(link.records) or 0) & 2
    with work.edited() as editor:
        editor.rename(b"Files/to", b"Files/made/moved")
    assert descriptor(work, "Files/made/moved") == OTHER.build()
    assert times_of(work, "Files/made/moved") == (1, 2, 3, 4)


def test_one_of_several_links_of_the_chain_is_parted_from_the_others(work):
    change(work, "Files/plain too", choices.attributes(add=1))
    assert work.changes() == [("modify", "Files/plain too")]
    entry, data = work.entry("Files/plain too")
    assert data == b"plain"
    assert entry.records[b"MSWINDOWS.future"] == b"?"
    assert entry.records[b"SCHILY.xattr.user.x"] == b"\xff"
    assert records.attributes_of(entry.records) == 1


def test_paths_are_found_in_any_case_and_streams_have_no_metadata_of_their_own(work):
    change(work, "FILES/WINDOWS", choices.attributes(add=2))
    assert work.changes() == [("modify", "Files/Windows")]
    for path in ("Files/nothing", "Files/eas/below", "Files/eas:stream", "", "Files/deep/nothing"):
        with pytest.raises(EntryNotFound):
            change(work, path, choices.attributes(add=2))


def test_all_below_a_directory_changes_and_links_are_not_followed(work):
    with work.edited() as editor:
        editor.remove(b"Files/deep/er/two")
        editor.write(b"Files/deep/new", b"")
        editor.symlink(b"Files/deep/away", rb"C:\Windows")
    change(work, "Files/deep", choices.attributes(add=2), recursive=True)
    assert work.changes() == [
        ("modify", "Files/deep"),
        ("add", "Files/deep/away"),
        ("modify", "Files/deep/er"),
        ("delete", "Files/deep/er/two"),
        ("modify", "Files/deep/er/one"),
        ("add", "Files/deep/new"),
    ]
    for path in (
        "Files/deep",
        "Files/deep/away",
        "Files/deep/er",
        "Files/deep/er/one",
        "Files/deep/new",
    ):
        assert attributes_of(work, path) & 2
    assert work.entry("Files/deep/er/one")[1] == b"1"


def test_a_tree_of_which_nothing_changes_is_not_copied_up(work):
    change(work, "Files/deep", choices.attributes(remove=1), recursive=True)
    assert list(work.upper.iterdir()) == []


def test_metadata_is_looked_up_as_it_would_be_written(work):
    with work.edited() as editor:
        editor.mkdir(b"Files/made")
        editor.write(b"Files/made/new", b"")
        subject = editor.metadata.look(b"files/MADE/new")
    assert subject.path == b"Files/made/new"
    entry, _ = work.entry("Files/made/new")
    assert subject.metadata.descriptor() == records.descriptor_of(entry.records)
    assert choices.basic_info(subject.metadata).attributes == 0x20
