"""The merged tree: NTFS names, whiteouts, hard links and streams over several layers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.chains import (
    Blobs,
    file,
    folder,
    hard_link,
    junction,
    opaque,
    symlink,
    whiteout,
)
from windowsfilter.engines.portable.index import Kind
from windowsfilter.engines.portable.tree import Tree


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path)


def shown(tree: Tree) -> list[bytes]:
    return [tree.path(slot) for slot in tree.walk() if slot != tree.ROOT]


def content(tree: Tree, path: bytes) -> bytes:
    slot = tree.lookup(path)
    assert slot is not None, path
    record, ref = tree.record(slot), tree.ref(tree.inode(slot))
    assert record is not None and ref is not None
    return tree.layers[ref[0]].read(record, record.size, 0)  # type: ignore[attr-defined]


def test_entries_keep_the_order_of_the_tar(blobs: Blobs) -> None:
    names = ["Files", "Files/b", "Files/a", "Files/C"]
    with blobs.tree([folder("Files"), *map(file, names[1:])]) as tree:
        assert shown(tree) == [name.encode() for name in names]


def test_names_are_found_in_any_case(blobs: Blobs) -> None:
    with blobs.tree([file("Files/Straße/Ünïcode.TXT", b"x")]) as tree:
        assert tree.lookup("FILES/STRAßE/üNÏCODE.txt".encode()) is not None
        assert tree.lookup(b"Files/Strasse/x") is None


def test_a_replaced_file_keeps_the_spelling_that_was_there_first(blobs: Blobs) -> None:
    with blobs.tree([file("Files/Read.Me", b"1")], [file("Files/READ.ME", b"22")]) as tree:
        assert shown(tree) == [b"Files", b"Files/Read.Me"]
        assert content(tree, b"files/read.me") == b"22"


def test_a_file_that_was_deleted_and_made_again_has_its_new_spelling(blobs: Blobs) -> None:
    layers = [file("Files/a.txt", b"1")], [whiteout("Files/A.TXT")], [file("Files/A.txt", b"3")]
    with blobs.tree(*layers) as tree:
        assert shown(tree) == [b"Files", b"Files/A.txt"]


def test_a_whiteout_and_an_entry_of_one_name_in_one_layer_both_count(blobs: Blobs) -> None:
    below = [folder("Files/Dir"), file("Files/Dir/old")]
    for above in (
        [whiteout("Files/dir"), folder("Files/DIR"), file("Files/DIR/new")],
        [folder("Files/DIR"), file("Files/DIR/new"), whiteout("Files/dir")],
    ):
        with blobs.tree(below, above) as tree:
            assert shown(tree) == [b"Files", b"Files/DIR", b"Files/DIR/new"]


def test_a_whiteout_hides_whatever_its_case(blobs: Blobs) -> None:
    below = [file("Files/Windows/KILL.me"), file("Files/Windows/stay")]
    with blobs.tree(below, [whiteout("files/WINDOWS/kill.ME")]) as tree:
        assert tree.lookup(b"Files/Windows/KILL.me") is None
        assert tree.lookup(b"Files/Windows/stay") is not None


def test_an_opaque_whiteout_empties_a_directory_of_what_lay_below(blobs: Blobs) -> None:
    below = [file("Files/d/one"), file("Files/d/sub/two"), file("Files/e")]
    with blobs.tree(below, [opaque("Files/D"), file("Files/d/new")]) as tree:
        assert shown(tree) == [b"Files", b"Files/d", b"Files/d/new", b"Files/e"]


def test_a_whiteout_of_nothing_has_no_effect(blobs: Blobs) -> None:
    with blobs.tree([file("Files/a")], [whiteout("Files/b"), whiteout("Gone/c")]) as tree:
        assert shown(tree) == [b"Files", b"Files/a"]


def test_a_file_replaces_a_directory_and_the_reverse(blobs: Blobs) -> None:
    below = [file("Files/x/deep/file"), file("Files/y", b"y")]
    with blobs.tree(below, [file("Files/X", b"now a file"), file("Files/Y/inner")]) as tree:
        assert sorted(shown(tree)) == [b"Files", b"Files/x", b"Files/y", b"Files/y/inner"]
        assert content(tree, b"Files/x") == b"now a file"


def test_a_restated_directory_keeps_its_children_and_gets_new_metadata(blobs: Blobs) -> None:
    below = [folder("Files/d"), file("Files/d/kept")]
    with blobs.tree(below, [folder("Files/D", attributes=0x12)]) as tree:
        slot = tree.lookup(b"Files/d")
        assert slot is not None
        record = tree.record(slot)
        assert record is not None and record.attributes == 0x12
        assert tree.lookup(b"Files/d/kept") is not None


def test_missing_parents_are_implied(blobs: Blobs) -> None:
    with blobs.tree([file("Files/a/b/c")]) as tree:
        slot = tree.lookup(b"Files/a/b")
        assert slot is not None and tree.is_directory(slot)
        assert tree.ref(slot) is None and tree.record(slot) is None


def test_hard_links_share_an_inode_within_and_across_layers(blobs: Blobs) -> None:
    layers = (
        [hard_link("Files/first", "Files/real"), file("Files/real", b"data")],
        [hard_link("Files/later", "files/FIRST")],
    )
    with blobs.tree(*layers) as tree:
        slots = [tree.lookup(b"Files/" + name) for name in (b"real", b"first", b"later")]
        assert None not in slots
        assert len({tree.inode(slot) for slot in slots if slot is not None}) == 1
        assert all(tree.link_count(slot) == 3 for slot in slots if slot is not None)
        assert content(tree, b"Files/later") == b"data"


def test_a_hard_link_survives_the_removal_of_the_name_it_was_made_to(blobs: Blobs) -> None:
    below = [file("Files/real", b"data"), hard_link("Files/link", "Files/real")]
    with blobs.tree(below, [whiteout("Files/real")]) as tree:
        slot = tree.lookup(b"Files/link")
        assert slot is not None
        assert content(tree, b"Files/link") == b"data"
        assert tree.link_count(slot) == 1


def test_replacing_one_name_leaves_the_other_names_of_the_file_alone(blobs: Blobs) -> None:
    below = [file("Files/real", b"old"), hard_link("Files/link", "Files/real")]
    with blobs.tree(below, [file("Files/real", b"new")]) as tree:
        assert content(tree, b"Files/link") == b"old"
        assert content(tree, b"Files/real") == b"new"


def test_chains_of_hard_links_resolve_in_any_order(blobs: Blobs) -> None:
    links = [hard_link(f"Files/{n}", f"Files/{n + 1}") for n in range(50)]
    with blobs.tree([*links, file("Files/50", b"end")]) as tree:
        assert content(tree, b"Files/0") == b"end"
        assert tree.problems == []


def test_a_dangling_hard_link_is_kept_listed_and_reported(blobs: Blobs) -> None:
    with blobs.tree([folder("Files"), hard_link("Files/lost", "Files/nowhere")]) as tree:
        slot = tree.lookup(b"Files/lost")
        assert slot is not None and tree.is_dangling(slot)
        assert [problem.name for problem in tree.problems] == [b"Files/lost"]
        assert "nowhere" in tree.problems[0].reason


def test_a_hard_link_to_a_directory_dangles(blobs: Blobs) -> None:
    with blobs.tree([folder("Files/d"), hard_link("Files/l", "Files/d")]) as tree:
        slot = tree.lookup(b"Files/l")
        assert slot is not None and tree.is_dangling(slot)


def test_streams_hang_on_files_directories_and_links(blobs: Blobs) -> None:
    layer = [
        file("Files/a.txt", b"main"),
        file("Files/a.txt:Zone.Identifier", b"zone", attributes=None),
        folder("Files/d"),
        file("Files/d:note", b"dir", attributes=None),
        symlink("Files/s", "a.txt"),
        file("Files/s:of link", b"", attributes=None),
    ]
    with blobs.tree(layer) as tree:
        slot = tree.lookup(b"Files/a.txt")
        assert slot is not None
        assert list(tree.streams(slot)) == [b"Zone.Identifier"]
        ref = tree.stream(slot, b"zone.identifier:$DATA")
        assert ref is not None
        assert tree.layers[ref[0]].index.record(ref[1]).kind == Kind.STREAM
        for owner in (b"Files/d", b"Files/s"):
            other = tree.lookup(owner)
            assert other is not None and len(tree.streams(other)) == 1
        assert tree.lookup(b"Files/a.txt:Zone.Identifier") is None


def test_a_replaced_file_loses_its_streams_and_a_restated_directory_keeps_them(
    blobs: Blobs,
) -> None:
    below = [file("Files/f"), file("Files/f:s"), folder("Files/d"), file("Files/d:s")]
    with blobs.tree(below, [file("Files/f"), folder("Files/d")]) as tree:
        of_file, of_folder = tree.lookup(b"Files/f"), tree.lookup(b"Files/d")
        assert of_file is not None and tree.streams(of_file) == {}
        assert of_folder is not None and list(tree.streams(of_folder)) == [b"s"]


def test_a_stream_without_its_file_is_reported(blobs: Blobs) -> None:
    with blobs.tree([file("Files/ghost:s", b"boo")]) as tree:
        assert [problem.name for problem in tree.problems] == [b"Files/ghost:s"]


def test_junctions_and_links_are_told_apart(blobs: Blobs) -> None:
    with blobs.tree([junction("Files/j", r"C:\Users"), symlink("Files/s", "x")]) as tree:
        kinds = {tree.names[slot]: tree.kinds[slot] for slot in tree.walk()}
        assert kinds[b"j"] == Kind.JUNCTION
        assert kinds[b"s"] == Kind.SYMLINK


def test_a_chain_of_500_layers_merges(blobs: Blobs) -> None:
    layers = [[file(f"Files/n{n}", b"%d" % n), file("Files/top", b"%d" % n)] for n in range(500)]
    with blobs.tree(*layers) as tree:
        assert content(tree, b"Files/top") == b"499"
        assert content(tree, b"Files/N0") == b"0"


def test_names_of_lone_surrogates_survive(blobs: Blobs) -> None:
    name = b"Files/\xed\xa0\x80x"
    with blobs.tree([file(name)]) as tree:
        assert shown(tree)[-1] == name
        assert tree.lookup(b"FILES/\xed\xa0\x80X") is not None


def test_paths_of_a_thousand_directories_merge(blobs: Blobs) -> None:
    deep = "/".join(["Files"] + ["d"] * 1000 + ["f"])
    with blobs.tree([file(deep)], [whiteout("Files/D")]) as tree:
        assert shown(tree) == [b"Files"]
