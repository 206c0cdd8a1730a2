"""Changes of sealed layers against what is below them."""

import pytest

from tests.support import chains
from tests.support.scratches import scratch
from windowsfilter.engines.portable.changes import Change, ChangeKind, layer_changes

BASE = [
    chains.folder("Files", sd=chains.OWNER_SYSTEM),
    chains.folder("Files/Windows"),
    chains.file("Files/Windows/a", b"a"),
    chains.file("Files/Windows/b", b"b"),
    chains.file("Files/gone", b"g"),
]


@pytest.fixture
def blobs(tmp_path):
    return chains.Blobs(tmp_path)


def changes_of(blobs, *layers):
    with blobs.tree(*layers[:-1]) as below, blobs.add(layers[-1]) as layer:
        return [(str(one.kind), one.path.decode()) for one in layer_changes(below, layer)]


def test_a_base_layer_adds_everything(blobs):
    assert changes_of(blobs, BASE) == [
        ("add", "Files"),
        ("add", "Files/Windows"),
        ("add", "Files/Windows/a"),
        ("add", "Files/Windows/b"),
        ("add", "Files/gone"),
    ]


def test_a_child_adds_modifies_and_deletes(blobs):
    child = [
        chains.folder("Files", sd=chains.OWNER_SYSTEM, mtime_ns=5),
        chains.whiteout("Files/GONE"),
        chains.whiteout("Files/never"),
        chains.folder("Files/windows"),
        chains.file("Files/windows/A", b"other"),
        chains.file("Files/windows/A:s", b"stream"),
        chains.file("Files/windows/b:s", b"stream of a file below"),
        chains.folder("Files/new"),
        chains.folder("Hives"),
    ]
    assert changes_of(blobs, BASE, child) == [
        ("delete", "Files/gone"),
        ("modify", "Files/windows"),  # another spelling
        ("modify", "Files/windows/A"),
        ("modify", "Files/windows/b"),
        ("add", "Files/new"),
    ]


@pytest.mark.parametrize(
    "more",
    [
        {"sd": None},
        {"sd": chains.OWNER_SYSTEM, "attributes": 0x12},
        {"sd": chains.OWNER_SYSTEM, "mode": 0o700},
        {"sd": chains.OWNER_SYSTEM, "records": {b"zzz": b"new"}},
    ],
)
def test_a_directory_that_says_more_than_times_is_modified(blobs, more):
    assert changes_of(blobs, BASE, [chains.folder("Files", **more)]) == [("modify", "Files")]


def test_an_opaque_whiteout_deletes_each_child(blobs):
    child = [
        chains.folder("Files", sd=chains.OWNER_SYSTEM),
        chains.folder("Files/Windows"),
        chains.opaque("Files/Windows"),
        chains.opaque("Files/never"),
    ]
    assert changes_of(blobs, BASE, child) == [
        ("delete", "Files/Windows/a"),
        ("delete", "Files/Windows/b"),
    ]


def test_a_file_in_place_of_a_directory_is_a_modification(blobs):
    assert changes_of(blobs, BASE, [chains.file("Files/Windows")]) == [("modify", "Files/Windows")]


def test_a_committed_scratch_changes_what_the_scratch_changed(tmp_path):
    with scratch(tmp_path / "work", BASE) as work:
        with work.edited() as editor:
            editor.write(b"Files/Windows/a", b"changed")
            editor.mkdir(b"Files/new")
            editor.remove(b"Files/gone")
            editor.write(b"Files/Windows/b:s", b"stream")
        expected = work.changes()
        with work.blobs.add(work.tar()) as layer:
            found = list(layer_changes(work.tree, layer))
    assert sorted((str(one.kind), one.path.decode()) for one in found) == sorted(expected)
    assert found[0] == Change(ChangeKind.DELETE, b"Files/gone")


def test_streams_of_a_directory_count_if_they_differ(blobs):
    base = [*BASE, chains.file("Files/gone:x", b"")]
    base.insert(2, chains.file("Files/Windows:zone", b"3"))
    child = [
        chains.folder("Files", sd=chains.OWNER_SYSTEM),
        chains.folder("Files/Windows"),
        chains.file("Files/Windows:Zone", b"3"),
    ]
    assert changes_of(blobs, base, child) == []
    child[2] = chains.file("Files/Windows:zone", b"4")
    assert changes_of(blobs, base, child) == [("modify", "Files/Windows")]
    child[2] = chains.file("Files/Windows:other", b"3")
    assert changes_of(blobs, base, child) == [("modify", "Files/Windows")]
