"""The layer a scratch becomes: order, headers, metadata, and files that do not hold still."""

import base64
import io
import os
import struct

import pytest

from tests.support import chains, windows_entries
from tests.support.scratches import TestScratch, scratch
from windowsfilter.engines.portable.scratch import content as scratch_content
from windowsfilter.engines.portable.scratch.export import export
from windowsfilter.engines.portable.scratch.upper import ScratchRefused
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.errors import HostError
from windowsfilter.ntfs import filetime
from windowsfilter.ntfs.security import SecurityDescriptor
from windowsfilter.wire.backuptar import records
from windowsfilter.wire.tar import read_entries

NAMESPACE = "trusted." if os.geteuid() == 0 else "user."
OTHER_SD = bytes.fromhex("0100048000000000000000000000000000000000")
BASE = [
    chains.folder("Files", sd=chains.OWNER_SYSTEM, records={b"MSWINDOWS.future": b"unknown"}),
    chains.folder("Files/b", sd=OTHER_SD),
    chains.file("Files/b/mine", b"mine", sd=chains.OWNER_SYSTEM, attributes=0x83),
    chains.file("Files/b/eas", b"x", records={b"MSWINDOWS.xattr.EA": b"AQI=", b"zzz": b"?"}),
    chains.file("Files/plain", b"plain", attributes=None, mode=0o100644, uid=5, gid=6),
    chains.folder("Files/text", records={b"MSWINDOWS.sd": b"O:SYG:SYD:"}),
    chains.folder("Files/heirs", sd=windows_entries.DESCRIPTOR),
    chains.folder("Files/nothing"),
    chains.folder("UtilityVM"),
    chains.folder("UtilityVM/Files"),
    chains.junction("Files/joint", r"C:\b"),
]


@pytest.fixture
def work(tmp_path):
    with scratch(tmp_path / "work", BASE) as made:
        yield made


def write(work, path, data, **more):
    with work.edited() as editor:
        editor.write(path, data, **more)


def test_order_is_the_references(work):
    with work.edited() as editor:
        for path in (b"Files/b/Z", b"Files/b/a", b"Files/b.txt", b"Files/B2", b"Hives/Sam_Delta"):
            editor.write(path, b"") if editor.exists(path[:5]) else None
        editor.write(b"UtilityVM/Files/new", b"")
        editor.remove(b"Files/plain")
        editor.remove(b"Files/b/mine")
        editor.mkdir(b"Hives")
        editor.write(b"Hives/Sam_Delta", b"")
    assert work.names() == [
        "Files",
        "Files/.wh.plain",
        "Files/B2",
        "Files/b",
        "Files/b/.wh.mine",
        "Files/b/Z",
        "Files/b/a",
        "Files/b.txt",
        "Hives",
        "Hives/Sam_Delta",
        "UtilityVM",
        "UtilityVM/Files",
        "UtilityVM/Files/new",
    ]


def test_every_ancestor_is_there_with_the_metadata_it_had(work):
    write(work, b"Files/b/new", b"1")
    files, _ = work.entry("Files")
    assert files.records[b"MSWINDOWS.future"] == b"unknown"
    assert files.records[b"LIBARCHIVE.creationtime"] == chains.A_CREATION
    assert base64.b64decode(files.records[b"MSWINDOWS.rawsd"]) == chains.OWNER_SYSTEM
    assert files.mtime_ns == chains.A_TIME_NS  # a directory copied up is no directory changed
    folder, _ = work.entry("Files/b")
    assert folder.mtime_ns > chains.A_TIME_NS


def test_a_modified_file_keeps_what_nobody_knows(work):
    write(work, b"Files/b/EAS", b"changed")
    entry, data = work.entry("Files/b/eas")
    assert data == b"changed"
    assert entry.records[b"MSWINDOWS.xattr.EA"] == b"AQI="
    assert entry.records[b"zzz"] == b"?"
    assert entry.atime_ns == entry.mtime_ns > chains.A_TIME_NS
    assert entry.ctime_ns > chains.A_TIME_NS


def test_changed_data_sets_archive_and_clears_normal(work):
    write(work, b"Files/b/mine", b"other")
    assert work.entry("Files/b/mine")[0].records[b"MSWINDOWS.fileattr"] == b"%d" % 0x23


def test_what_the_base_did_not_say_is_said_as_the_reference_would(work):
    write(work, b"Files/plain", b"changed")
    entry, _ = work.entry("Files/plain")
    assert entry.records[b"MSWINDOWS.fileattr"] == b"32"
    assert entry.records[b"LIBARCHIVE.creationtime"] == b"1476000000.1234567"
    assert (entry.mode, entry.uid, entry.gid) == (0o100644, 5, 6)


def sddl(entry):
    return SecurityDescriptor.parse(records.descriptor_of(entry.records) or b"").to_sddl()


def test_new_entries_inherit_from_their_directory(work):
    write(work, b"Files/heirs/new", b"1")
    with work.edited() as editor:
        editor.mkdir(b"Files/heirs/made")
        editor.write(b"Files/heirs/made/deeper", b"")
        editor.symlink(b"Files/heirs/to b", rb"C:\b")
    inherited = "O:BAG:SYD:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)"
    assert sddl(work.entry("Files/heirs/new")[0]) == inherited
    assert sddl(work.entry("Files/heirs/made/deeper")[0]) == inherited
    as_directory = "O:BAG:SYD:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;OICIIOID;GA;;;CO)(A;OICIID;0x1200a9;;;BU)"
    assert sddl(work.entry("Files/heirs/made")[0]) == as_directory
    assert sddl(work.entry("Files/heirs/to b")[0]) == as_directory  # it leads to a directory
    write(work, b"Files/nothing/new", b"1")
    assert records.descriptor_of(work.entry("Files/nothing/new")[0].records) is None


def test_new_entries_are_refused_where_the_descriptor_to_inherit_is_damaged(tmp_path):
    base = [
        chains.folder("Files"),
        chains.folder("Files/bad", sd=OTHER_SD[:19]),
        chains.file("Files/bad/f", b""),
    ]
    with chains.Blobs(tmp_path).add_anything(base) as layer:
        made = TestScratch(tmp_path / "work", chains.Blobs(tmp_path), Tree([layer]), NAMESPACE)
        write(made, b"Files/bad/f", b"other")  # what is there keeps what it has
        kept = made.entry("Files/bad")[0].records[records.RAW_DESCRIPTOR]
        assert kept == layer.index.records(1)[records.RAW_DESCRIPTOR]
        write(made, b"Files/bad/new", b"")
        with pytest.raises(ScratchRefused, match="Files/bad/new.*inherits.*cannot be used"):
            made.tar()
        made.mark("Files/bad/new", "windows.sd", OTHER_SD)
        assert records.descriptor_of(made.entry("Files/bad/new")[0].records) == OTHER_SD


def test_new_entries_are_files_to_windows(work):
    write(work, b"Files/b/new", b"1")
    write(work, b"Files/text/new", b"1")
    entry, _ = work.entry("Files/b/new")
    assert entry.records[b"MSWINDOWS.fileattr"] == b"32"
    assert (entry.mode, entry.uid, entry.gid) == (0o100644, 0, 0)
    assert entry.atime_ns == entry.mtime_ns
    text, _ = work.entry("Files/text/new")
    assert sddl(text) == "O:BAG:SYD:(A;;FA;;;SY)(A;;FA;;;BA)"
    assert b"MSWINDOWS.sd" not in text.records


def test_creation_time_is_when_the_file_was_made_whatever_its_write_time(work):
    write(work, b"Files/new", b"1")
    os.utime(work.upper / "Files/new", ns=(0, 0))
    entry, _ = work.entry("Files/new")
    assert entry.mtime_ns == 0
    created = filetime.parse_pax_time(entry.records[b"LIBARCHIVE.creationtime"])
    assert created > chains.A_TIME_NS or created == 0  # 0 where no birth time is kept


def test_modes_and_owners_set_in_the_scratch_travel(work):
    write(work, b"Files/b/mine", b"mine")
    (work.upper / "Files/b/mine").chmod(0o4711)
    entry, _ = work.entry("Files/b/mine")
    assert entry.mode == 0o104711


@pytest.mark.root
def test_owners_set_in_the_scratch_travel(work):
    write(work, b"Files/new", b"")
    os.chown(work.upper / "Files/new", 1000, 3_000_000)
    entry, _ = work.entry("Files/new")
    assert (entry.uid, entry.gid) == (1000, 3_000_000)


def test_windows_attributes_set_by_hand_count(work):
    write(work, b"Files/b/mine", b"mine")
    write(work, b"Files/new", b"")
    for path in ("Files/b/mine", "Files/new"):
        work.mark(path, "windows.attr", struct.pack("<I", 0x6))
        work.mark(path, "windows.sd", OTHER_SD)
        work.mark(path, "windows.crtime", struct.pack("<q", filetime.UNIX_EPOCH))
        entry, _ = work.entry(path)
        assert int(entry.records[b"MSWINDOWS.fileattr"]) & 0x6 == 0x6
        assert base64.b64decode(entry.records[b"MSWINDOWS.rawsd"]) == OTHER_SD
        assert entry.records[b"LIBARCHIVE.creationtime"] == b"0"


def test_windows_attributes_that_are_as_shown_change_nothing(work):
    write(work, b"Files/b/mine", b"mine")
    os.utime(work.upper / "Files/b/mine", ns=(chains.A_TIME_NS, chains.A_TIME_NS))
    assert work.changes() == []
    creation = filetime.from_unix_ns(filetime.parse_pax_time(chains.A_CREATION))
    work.mark("Files/b/mine", "windows.attr", struct.pack("<I", 0x83))
    work.mark("Files/b/mine", "windows.sd", chains.OWNER_SYSTEM)
    work.mark("Files/b/mine", "windows.crtime", struct.pack("<q", creation))
    assert work.changes() == []
    work.mark("Files/b/mine", "windows.attr", struct.pack("<I", 0x82))
    assert work.changes() == [("modify", "Files/b/mine")]


def test_hives_has_the_time_of_files_where_no_layer_has_it(work):
    files, hives = work.entries()[:2]
    assert (files[0].name, hives[0].name) == (b"Files", b"Hives")
    assert hives[0].mtime_ns == files[0].mtime_ns == chains.A_TIME_NS
    assert hives[0].records[b"MSWINDOWS.fileattr"] == b"16"
    assert b"MSWINDOWS.rawsd" not in hives[0].records


def test_whiteouts_are_plain_ustar(work):
    with work.edited() as editor:
        editor.remove(b"Files/plain")
    raw = work.tar()
    [entry] = [one for one, _ in read_entries(io.BytesIO(raw)) if b".wh." in one.name]
    assert entry.pax_raw == b""
    assert (entry.mode, entry.mtime_ns, entry.size, entry.kind) == (0, 0, 0, ord("0"))


def test_no_time_is_later_than_asked_for(work):
    write(work, b"Files/new", b"1")
    write(work, b"Files/b/mine", b"other")
    latest = filetime.from_unix_ns(chains.A_TIME_NS)
    first = work.tar(latest)
    (work.upper / "Files/new").write_bytes(b"1")
    assert work.tar(latest) == first
    for entry, _ in read_entries(io.BytesIO(first)):
        assert max(entry.mtime_ns, entry.atime_ns or 0, entry.ctime_ns or 0) <= chains.A_TIME_NS


def test_big_files_pass_in_pieces(work, monkeypatch):
    monkeypatch.setattr(scratch_content, "PIECE_BYTES", 7)
    data = bytes(range(256)) * 5
    write(work, b"Files/new", (data[at : at + 100] for at in range(0, len(data), 100)))
    assert work.entry("Files/new")[1] == data


class Growing(io.BytesIO):
    """Changes a file of the scratch once its header was written."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def write(self, data):
        if b"Files/new\0" in bytes(data) and self.change:
            change, self.change = self.change, None
            change()
        return super().write(data)


@pytest.mark.parametrize("how", ["grow", "shrink", "replace", "vanish", "link"])
def test_a_file_that_changes_while_it_is_read_fails_by_name(work, how):
    write(work, b"Files/new", b"some data")
    place = work.upper / "Files/new"

    def change():
        if how in ("grow", "shrink"):
            os.truncate(place, 20 if how == "grow" else 2)
        else:
            place.unlink()
            if how == "replace":
                place.write_bytes(b"some data")
            elif how == "link":
                place.symlink_to("/etc/passwd")

    with pytest.raises(HostError, match="'Files/new' changed while it was read"):
        export(work.tree, work.upper, Growing(change))


def test_exporting_leaves_the_scratch_as_it_was(work):
    write(work, b"Files/b/new", b"1")
    assert work.tar() == work.tar()
    assert sorted(os.listdir(work.folder)) == ["upper"]


def test_a_junction_that_was_moved_is_still_one(work):
    with work.edited() as editor:
        editor.rename(b"Files/joint", b"Files/b/joint2")
    entry, _ = work.entry("Files/b/joint2")
    assert entry.linkname == rb"C:\b"
    assert entry.records[b"MSWINDOWS.mountpoint"] == b"1"
    assert entry.records[b"MSWINDOWS.fileattr"] == b"1040"


def test_memory_does_not_grow_with_untouched_entries(tmp_path):
    base = [chains.folder("Files"), *(chains.file(f"Files/{n}") for n in range(500))]
    with scratch(tmp_path / "many", base) as work:
        write(work, b"Files/7", b"x")
        assert work.names() == ["Files", "Files/7", "Hives"]


def has_holes(path):
    with path.open("rb") as file:
        return os.lseek(file.fileno(), 0, os.SEEK_HOLE) < path.stat().st_size


def test_files_with_holes_are_sparse_and_stay_it(tmp_path):
    body = b"head".ljust(1 << 20, b"\0") + b"tail"
    base = [
        chains.folder("Files"),
        chains.file("Files/sparse", body, attributes=0x220),
        chains.file("Files/dense", b"dense"),
    ]
    with scratch(tmp_path / "work", base) as work:
        with work.edited() as editor:
            editor.rename(b"Files/sparse", b"Files/moved")
            editor.write(b"Files/dense", b"")
            editor.write(b"Files/new", b"")
        if not has_holes(work.upper / "Files/moved"):
            pytest.skip("this machine cannot: its temporary files have no holes")
        assert (work.upper / "Files/moved").read_bytes() == body
        entry, data = work.entry("Files/moved")
        assert (entry.records[b"MSWINDOWS.fileattr"], data) == (b"544", body)
        for name in ("dense", "new"):
            with (work.upper / "Files" / name).open("r+b") as file:
                file.truncate(1 << 20)
                file.seek(1 << 19)
                file.write(b"middle")
            entry, data = work.entry(f"Files/{name}")
            assert (entry.records[b"MSWINDOWS.fileattr"], len(data)) == (b"544", 1 << 20)
            assert data.strip(b"\0") == b"middle"
