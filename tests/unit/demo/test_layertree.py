"""The demonstration's layers are written as the reference exporter writes them."""

from __future__ import annotations

import base64
import io
import tarfile

import pytest

from demo import descriptors
from demo.layertree import Kind, LayerTree, NameTaken


def written(tree: LayerTree) -> tuple[list[tarfile.TarInfo], bytes]:
    out = io.BytesIO()
    list(tree.write(out))
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        return tar.getmembers(), out.getvalue()


def names(tree: LayerTree) -> list[str]:
    return [member.name for member in written(tree)[0]]


def test_entries_come_depth_first_in_byte_order_with_streams_and_whiteouts_behind_their_owner() -> (
    None
):
    tree = LayerTree()
    tree.directory("Files")
    tree.file("Files/b.txt", b"b").streams["s"] = b"stream"
    tree.file("Files/B.dll", b"B")
    tree.directory("Files/a").streams["d"] = b"stream of a directory"
    tree.whiteout("Files/a/gone")
    tree.opaque("Files/a")
    tree.file("Files/a/x", b"x")
    tree.file("Files/a.txt", b"a")
    tree.file("Hives/System_Delta", b"regf")
    assert names(tree) == [
        "Files",
        "Files/B.dll",
        "Files/a",
        "Files/a:d",
        "Files/a/.wh..wh..opq",
        "Files/a/.wh.gone",
        "Files/a/x",
        "Files/a.txt",
        "Files/b.txt",
        "Files/b.txt:s",
        "Hives",
        "Hives/System_Delta",
    ]


def test_the_first_name_of_a_file_has_the_content_whichever_was_added_first() -> None:
    tree = LayerTree()
    node = tree.file("Files/z.dll", b"content", descriptors.SYSTEM_FILE)
    tree.link("Files/a.dll", node)
    members = {member.name: member for member in written(tree)[0]}
    assert members["Files/a.dll"].isreg()
    assert members["Files/z.dll"].islnk()
    assert members["Files/z.dll"].linkname == "Files/a.dll"
    assert "MSWINDOWS.rawsd" not in members["Files/z.dll"].pax_headers


def test_windows_metadata_travels_in_pax_records() -> None:
    tree = LayerTree()
    node = tree.file("Files/x.exe", b"MZ", descriptors.SYSTEM_FILE, 0x21)
    node.extended["$EA"] = b"\x00\xff"
    (record,) = [m.pax_headers for m in written(tree)[0] if m.name == "Files/x.exe"]
    assert record["MSWINDOWS.fileattr"] == "33"
    assert base64.b64decode(record["MSWINDOWS.rawsd"]) == descriptors.SYSTEM_FILE
    assert base64.b64decode(record["MSWINDOWS.xattr.$EA"]) == b"\x00\xff"
    assert {"atime", "ctime", "LIBARCHIVE.creationtime"} <= set(record)


def test_streams_and_whiteouts_carry_no_windows_metadata() -> None:
    tree = LayerTree()
    tree.file("Files/x", b"").streams["s"] = b"1"
    tree.whiteout("Files/gone")
    members = {member.name: member.pax_headers for member in written(tree)[0]}
    assert members["Files/.wh.gone"] == {}
    assert not any(key.startswith(("MSWINDOWS", "LIBARCHIVE")) for key in members["Files/x:s"])


def test_junctions_and_symbolic_links_differ_by_record_and_attributes() -> None:
    tree = LayerTree()
    tree.symlink("Files/j", "C:\\Users", descriptors.SYSTEM_FOLDER, directory=True, junction=True)
    tree.symlink("Files/s", "x", descriptors.SYSTEM_FILE, directory=False)
    members = {member.name: member for member in written(tree)[0]}
    assert members["Files/j"].linkname == "C:\\Users"
    assert members["Files/j"].pax_headers["MSWINDOWS.mountpoint"] == "1"
    assert int(members["Files/j"].pax_headers["MSWINDOWS.fileattr"]) & 0x410 == 0x410
    assert members["Files/j"].mode == 0o160000
    assert "MSWINDOWS.mountpoint" not in members["Files/s"].pax_headers
    assert int(members["Files/s"].pax_headers["MSWINDOWS.fileattr"]) & 0x410 == 0x400
    assert members["Files/s"].mode == 0o120000


def test_a_name_that_differs_by_case_alone_is_refused() -> None:
    tree = LayerTree()
    tree.file("Files/ß/x.txt", b"")
    with pytest.raises(NameTaken, match="X.TXT"):
        tree.file("FILES/ß/X.TXT", b"")


def test_the_same_tree_gives_the_same_bytes() -> None:
    def build() -> bytes:
        tree = LayerTree()
        tree.file("Files/x", b"1")
        return written(tree)[1]

    assert build() == build()


def test_what_was_written_is_reported_with_digests() -> None:
    tree = LayerTree()
    node = tree.file("Files/x", b"abc")
    tree.link("Files/y", node)
    tree.whiteout("Files/z")
    entries = {entry.path: entry for entry in tree.write(io.BytesIO())}
    assert entries["Files/x"].size == 3
    assert entries["Files/x"].sha256.startswith("ba7816bf")
    assert (entries["Files/y"].kind, entries["Files/y"].target) == (Kind.HARD_LINK, "Files/x")
    assert entries["Files/z"].kind is Kind.WHITEOUT
