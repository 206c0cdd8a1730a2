from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from bench import corpus
from bench.corpus import Corpus, Shape
from windowsfilter.wire import whiteouts
from windowsfilter.wire.tar import TarEntry, read_entries

SHAPE = Shape(entries=1500, bytes=12_000_000, child_entries=200)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return corpus.ensure(tmp_path_factory.mktemp("corpus"), SHAPE)


def entries(made: Corpus, number: int) -> list[TarEntry]:
    with gzip.open(made.blob(number)) as stream:
        return [entry for entry, _ in read_entries(stream)]


def test_it_has_exactly_the_entries_and_about_the_bytes_asked_for(made: Corpus) -> None:
    assert [len(entries(made, number)) for number in (0, 1)] == [1300, 200]
    assert made.entries == 1500
    # A small one may be off by one of its large files.
    assert 0.5 * SHAPE.bytes < made.size < 2 * SHAPE.bytes


def test_it_is_the_same_every_time(made: Corpus, tmp_path: Path) -> None:
    again = corpus.ensure(tmp_path, SHAPE)
    assert [layer.diff_id for layer in again.layers] == [layer.diff_id for layer in made.layers]
    assert corpus.ensure(tmp_path, SHAPE) == again


def test_the_base_has_everything_a_windows_layer_has(made: Corpus) -> None:
    found = entries(made, 0)
    kinds = {chr(entry.kind) for entry in found}
    assert kinds == set("0125")
    assert any(b":" in entry.name for entry in found)
    assert any(b"MSWINDOWS.mountpoint" in entry.records for entry in found)
    assert len({entry.records.get(b"MSWINDOWS.rawsd") for entry in found}) > 100
    names = {entry.name for entry in found}
    for entry in found:
        parent = entry.name.rpartition(b"/")[0]
        assert not parent or parent.upper() in {name.upper() for name in names}
        if entry.kind == ord("1"):
            assert entry.linkname in names


def test_the_child_deletes_and_changes_in_other_spellings(made: Corpus) -> None:
    below = {entry.name: entry for entry in entries(made, 0)}
    folded = {name.decode().upper(): name for name in below}
    deleted = changed = 0
    for entry in entries(made, 1):
        folder, _, leaf = entry.name.rpartition(b"/")
        if found := whiteouts.parse(leaf):
            target = (folder + b"/" + found.name).decode().upper()
            assert target in folded
            deleted += folded[target] != folder + b"/" + found.name
        elif entry.kind == ord("0") and entry.name.decode().upper() in folded:
            changed += entry.name not in below
    assert deleted > 10
    assert changed > 10


def test_both_layouts_are_images_of_windows(made: Corpus) -> None:
    for layout, layers in ((made.base, 1), (made.app, 2)):
        (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
        assert entry["platform"]["os"] == "windows"
        name = entry["digest"].removeprefix("sha256:")
        manifest = json.loads((layout / "blobs" / "sha256" / name).read_text())
        assert len(manifest["layers"]) == layers
        for layer in manifest["layers"]:
            blob = layout / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")
            assert blob.stat().st_size == layer["size"]


@pytest.mark.parametrize("count", [2, 3, 4098, 10_000])
def test_empty_entries_are_a_tar_of_as_many(tmp_path: Path, count: int) -> None:
    layout = corpus.ensure_empty(tmp_path, count)
    (blob,) = [
        path for path in (layout / "blobs" / "sha256").iterdir() if path.read_bytes()[:1] == b"\x1f"
    ]
    with gzip.open(blob) as stream:
        found = [entry for entry, _ in read_entries(stream)]
    assert len(found) == count == len({entry.name for entry in found})
    assert all(entry.size == 0 for entry in found)
