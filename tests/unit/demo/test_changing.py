"""The container's work in deeds is the work in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo import changing
from demo.layertree import Kind, Written
from demo.model import Model


def volume() -> Model:
    model = Model()
    files = (
        changing.CHANGED,
        changing.DELETED,
        changing.MOVED,
        changing.RESPELLED,
        f"{changing.DELETED_FOLDER}/a/b.txt",
        "Files/Windows/x",
    )
    folders = set(changing.parents({*files, changing.NEW_FILE.rpartition("/")[0]}))
    model.apply(
        [
            *(Written(Kind.DIRECTORY, folder) for folder in sorted(folders)),
            *(Written(Kind.FILE, file, 3, "abc") for file in files),
        ]
    )
    return model


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    for seen in volume().below("Files"):
        place = tmp_path / seen.path.removeprefix("Files/")
        if seen.kind is Kind.DIRECTORY:
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"abc")
    return tmp_path


def test_the_model_and_a_folder_end_alike_but_for_spelling(mounted: Path) -> None:
    model = volume()
    before = {seen.path for seen in model.below("Files")}
    changing.apply_to(model)
    changing.work(changing.MountedHands(mounted))
    after = {seen.path for seen in model.below("Files")}
    on_disk = {f"Files/{path.relative_to(mounted)}" for path in mounted.rglob("*")}
    assert on_disk - after == {"Files/windows", changing.LOOK_ALIKE, changing.RESPELLED_TO}
    assert after - on_disk == {changing.LOOK_ALIKE_SHOWN, changing.RESPELLED}
    assert model[changing.CHANGED].size == len(changing.NEW_TEXT)
    assert before - after == {
        changing.DELETED,
        changing.DELETED_FOLDER,
        f"{changing.DELETED_FOLDER}/a",
        f"{changing.DELETED_FOLDER}/a/b.txt",
        changing.MOVED,
    }


def test_the_listed_changes_are_those_of_the_model() -> None:
    model = volume()
    before = {seen.path: seen for seen in model.below("Files")}
    changing.apply_to(model)
    after = {seen.path: seen for seen in model.below("Files")}
    respelled = ("modify", changing.RESPELLED_TO)
    assert respelled in changing.changes()
    added = {("add", path) for path in after.keys() - before.keys()}
    modified = {("modify", p) for p in after.keys() & before.keys() if after[p] != before[p]}
    deleted = {
        ("delete", path)
        for path in before.keys() - after.keys()
        if not path.startswith(f"{changing.DELETED_FOLDER}/")
    }
    # To Windows a name in another case is the same name, and a stream is part of its file.
    added -= {("add", changing.STREAM)}
    modified -= {("modify", changing.RESPELLED)}
    assert added | modified | deleted | {respelled} == changing.changes()
