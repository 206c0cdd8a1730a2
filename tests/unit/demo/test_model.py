"""The model of the demonstration follows the rules by which Windows lays layers on each other."""

from __future__ import annotations

from demo.layertree import Kind, Written
from demo.model import Model


def model(*layers: list[Written]) -> Model:
    made = Model()
    for layer in layers:
        made.apply(layer)
    return made


def directory(path: str) -> Written:
    return Written(Kind.DIRECTORY, path)


def file(path: str, sha256: str = "") -> Written:
    return Written(Kind.FILE, path, sha256=sha256)


def paths(made: Model) -> list[str]:
    return [seen.path for seen in made.of_kind(*Kind)]


BASE = [directory("A"), file("A/one", "1"), directory("A/sub"), file("A/sub/two", "2")]


def test_a_changed_file_keeps_its_first_spelling() -> None:
    made = model(BASE, [directory("a"), file("a/ONE", "new")])
    assert made["A/one"].sha256 == "new"
    assert paths(made) == ["A", "A/one", "A/sub", "A/sub/two"]


def test_a_whiteout_in_another_case_removes_a_directory_with_all_below_it() -> None:
    made = model(BASE, [directory("A"), Written(Kind.WHITEOUT, "A/SUB")])
    assert paths(made) == ["A", "A/one"]


def test_an_opaque_whiteout_hides_only_what_was_below() -> None:
    made = model(BASE, [directory("A"), Written(Kind.OPAQUE, "a"), file("A/three")])
    assert paths(made) == ["A", "A/three"]


def test_a_file_takes_the_place_of_a_directory_and_the_reverse() -> None:
    made = model(BASE, [directory("A"), file("A/SUB", "f"), directory("A/ONE"), file("A/ONE/x")])
    assert made["A/sub"].kind is Kind.FILE
    assert paths(made) == ["A", "A/one", "A/one/x", "A/sub"]


def test_a_replaced_file_loses_its_streams_and_a_directory_keeps_them() -> None:
    base = [*BASE, Written(Kind.STREAM, "A/one:s"), Written(Kind.STREAM, "A/sub:s")]
    made = model(base, [directory("A"), file("A/One"), directory("A/Sub")])
    assert "A/one:s" not in made
    assert made["a/SUB:S"].path == "A/sub:s"


def test_hard_links_share_a_file_until_one_of_them_is_replaced() -> None:
    link = Written(Kind.HARD_LINK, "A/link", target="A/one")
    made = model([*BASE, link])
    assert made["A/link"].inode == made["A/one"].inode
    assert made.links()[made["A/one"].inode] == 2
    made.apply([directory("A"), file("A/one", "new")])
    assert made["A/link"].sha256 == "1"
    assert made.links()[made["A/link"].inode] == 1


def test_what_was_deleted_comes_back_in_its_new_spelling() -> None:
    made = model(BASE, [directory("A"), Written(Kind.WHITEOUT, "A/one"), file("A/One")])
    assert made["A/one"].path == "A/One"
