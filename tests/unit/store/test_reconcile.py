from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.open_store import OpenStore, add_layers, add_scratch, load
from windowsfilter.digests import Digest
from windowsfilter.errors import HostError
from windowsfilter.layers.manifest import LayerManifest, LayerState, Snapshot, SnapshotKind
from windowsfilter.store import reconcile
from windowsfilter.store.catalog import LabelKind
from windowsfilter.store.holds import HoldKind


def fill(store: OpenStore) -> Digest:
    """One of everything."""
    image = load(store, [b"a", b"b"], "t:1", "t:2")
    load(store, [b"a", b"c"], "other")
    add_scratch(store, "s", "work", add_layers(store, [b"a", b"b"])[-1])
    snapshot = Snapshot(key="k 1", kind=SnapshotKind.ACTIVE, created=1, updated=1)
    store.layers.add(
        LayerManifest(
            id="o",
            parent="s",
            state=LayerState.OPEN,
            created=3,
            aliases=("alias",),
            labels={"made": "with"},
            snapshots=(snapshot,),
            pins=("key",),
        )
    )
    store.holds.take([(HoldKind.LAYER, "s")], "mount", path="/m", lasting=True)
    store.catalog.set_labels(LabelKind.LAYER, "o", {"user": "label"})
    return image


def contents(store: OpenStore) -> tuple[object, ...]:
    catalog = store.catalog
    return (
        catalog.layers(),
        catalog.images(),
        catalog.tags(),
        catalog.snapshots(),
        catalog.resolve("alias"),
        catalog.layers_pinning("key"),
        catalog.scratch("work"),
        store.holds.live(),
        catalog.layer_stamps(),
        catalog.image_stamps(),
    )


def remove_files(root: Path) -> None:
    for path in root.glob("catalog.db*"):
        path.unlink()


def truncate(root: Path) -> None:
    with open(root / "catalog.db", "r+b") as file:
        file.truncate(5000)


def empty(root: Path) -> None:
    (root / "catalog.db").write_bytes(b"")


def overwrite(root: Path) -> None:
    (root / "catalog.db").write_bytes(b"\xff" * 100_000)


def damage_pages(root: Path) -> None:
    data = bytearray((root / "catalog.db").read_bytes())
    for at in range(4096, len(data), 4096):
        data[at : at + 64] = b"\xa5" * 64
    (root / "catalog.db").write_bytes(data)


def drop_table(root: Path) -> None:
    connection = sqlite3.connect(root / "catalog.db")
    connection.execute("DROP TABLE meta")
    connection.close()


def old_schema(root: Path) -> None:
    connection = sqlite3.connect(root / "catalog.db")
    connection.execute("PRAGMA user_version = 0")
    connection.close()


@pytest.mark.parametrize(
    "harm",
    [remove_files, truncate, empty, overwrite, damage_pages, drop_table, old_schema],
    ids=lambda harm: harm.__name__,
)
def test_without_its_catalog_everything_but_user_labels_is_back(
    root: Path, harm: Callable[[Path], None]
) -> None:
    with OpenStore(root) as store:
        fill(store)
        before = contents(store)
    harm(root)
    with OpenStore(root) as store:
        assert store.reconciled.rebuilt
        assert store.reconciled.problems == []
        assert contents(store) == before
        survived = harm in {drop_table, old_schema}
        assert store.catalog.labels(LabelKind.LAYER, "o") == ({"user": "label"} if survived else {})
        assert store.catalog.layer("o").labels == {"made": "with"}
    with OpenStore(root) as store:
        assert not store.reconciled.rebuilt
        assert store.reconciled.changed == 0
        assert contents(store) == before
    assert sorted(path.name for path in root.iterdir()) == [
        "blobs", "catalog.db", "chains", "holds", "images", "layers", "lock", "reserve",
        "store.json", "tmp",
    ]  # fmt: skip
    assert not list((root / "tmp").iterdir())


@pytest.mark.parametrize("bit", [0, 5])
def test_a_flipped_bit_anywhere_in_the_catalog_changes_no_answer(
    root: Path, bit: int, record_property: Callable[[str, object], None]
) -> None:
    with OpenStore(root) as store:
        fill(store)
        before = contents(store)[:-3]
    path = root / "catalog.db"
    data = path.read_bytes()
    flips = rebuilt = 0
    for at in range(0, len(data), 211):
        flips += 1
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
        with OpenStore(root) as store:
            assert contents(store)[:-3] == before, f"byte {at}"
            rebuilt += store.reconciled.rebuilt
        for name in ("catalog.db-wal", "catalog.db-shm"):
            (root / name).unlink(missing_ok=True)
    record_property("bits flipped", flips)
    assert 0 < rebuilt < flips


def test_a_catalog_in_use_is_not_replaced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_REPLACE_TIMEOUT_S", 0.01)
    with OpenStore(root) as store:
        fill(store)
        (root / "catalog.db").unlink()
        with pytest.raises(HostError, match="others have the store open: .* held by process"):
            OpenStore(root)
    with OpenStore(root) as store:
        assert len(store.catalog.images()) == 2


def test_the_catalog_of_another_store_is_not_taken_over(tmp_path: Path) -> None:
    with OpenStore(tmp_path / "a") as store:
        fill(store)
    with OpenStore(tmp_path / "b") as store:
        load(store, [b"x"], "mine")
    shutil.copy(tmp_path / "a" / "catalog.db", tmp_path / "b" / "catalog.db")
    with OpenStore(tmp_path / "b") as store:
        assert list(store.catalog.tags()) == ["mine"]


def test_a_copied_store_is_complete(root: Path, tmp_path: Path) -> None:
    with OpenStore(root) as store:
        fill(store)
        before = (store.catalog.layers(), store.catalog.images(), store.catalog.tags())
    shutil.copytree(root, tmp_path / "copy")
    with OpenStore(tmp_path / "copy") as store:
        assert not store.reconciled.rebuilt
        assert (store.catalog.layers(), store.catalog.images(), store.catalog.tags()) == before
        assert store.catalog.labels(LabelKind.LAYER, "o") == {"user": "label"}


def test_what_reached_the_disk_but_not_the_catalog_is_adopted(root: Path) -> None:
    with OpenStore(root) as store:
        image = fill(store)
        before = contents(store)
        store.catalog.delete_image(image)
        for layer in add_layers(store, [b"a", b"b"]):
            store.catalog.delete_layer(layer)
    with OpenStore(root) as store:
        assert store.reconciled.changed == 3
        assert contents(store) == before


def test_what_left_the_disk_leaves_the_catalog(root: Path) -> None:
    with OpenStore(root) as store:
        image = fill(store)
        shutil.rmtree(store.layout.layer("o"))
        shutil.rmtree(store.layout.image(image))
    with OpenStore(root) as store:
        assert store.catalog.find_layer("o") is None
        assert store.catalog.find_image(image) is None
        assert store.catalog.snapshots() == []
        assert list(store.catalog.tags()) == ["other"]


def test_a_record_that_was_replaced_is_read_again(root: Path) -> None:
    with OpenStore(root) as store:
        fill(store)
        changed = replace(store.catalog.layer("o"), limit=77)
        path = store.layout.layer("o") / "manifest.json"
        path.with_name("new").write_bytes(changed.build())
        path.with_name("new").rename(path)
    with OpenStore(root) as store:
        assert store.catalog.layer("o") == changed


@pytest.mark.parametrize("data", [b"", b"{", b'{"version": 1, "id": "x"}'])
def test_a_damaged_record_is_reported_and_keeps_its_row(root: Path, data: bytes) -> None:
    with OpenStore(root) as store:
        image = fill(store)
        before = (store.catalog.layers(), store.catalog.images())
        (store.layout.layer("o") / "manifest.json").write_bytes(data)
        (store.layout.image(image) / "image.json").write_bytes(data)
    for _ in range(2):
        with OpenStore(root) as store:
            first, second = store.reconciled.problems
            assert first.startswith("layers/o/manifest.json: ")
            assert second.startswith(f"images/sha256/{image.hex}/image.json: ")
            assert (store.catalog.layers(), store.catalog.images()) == before


def test_a_record_in_the_wrong_folder_is_reported(root: Path) -> None:
    with OpenStore(root) as store:
        image = fill(store)
        shutil.copytree(store.layout.layer("o"), store.layout.layer("p"))
        other = store.layout.images / ("0" * 64)
        shutil.copytree(store.layout.image(image), other)
        (store.layout.images / "stranger").mkdir()
        (store.layout.images / "stranger" / "image.json").touch()
    with OpenStore(root) as store:
        assert "it is the record of o" in store.reconciled.problems[0]
        assert "it is the record of sha256" in store.reconciled.problems[1]
        assert "not a sha256 digest" in store.reconciled.problems[2]
        assert store.catalog.find_layer("p") is None


def test_two_records_with_one_name_are_reported_and_the_first_counts(root: Path) -> None:
    with OpenStore(root) as store:
        fill(store)
        twin = replace(store.catalog.layer("s"), id="twin")
        store.layout.layer("twin").mkdir()
        (store.layout.layer("twin") / "manifest.json").write_bytes(twin.build())
    (root / "catalog.db").unlink()
    with OpenStore(root) as store:
        assert ["layer twin" in problem for problem in store.reconciled.problems] == [True]
        scratch = store.catalog.scratch("work")
        assert scratch is not None
        assert scratch.id == "s"
        assert len(store.catalog.images()) == 2


def test_an_object_that_somebody_is_changing_is_left_to_them(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "_BUSY_TIMEOUT_S", 0.0)
    with OpenStore(root) as store:
        fill(store)
        store.catalog.delete_layer("o")
        with store.locks.held("layer:o"), OpenStore(root) as second:
            assert second.catalog.find_layer("o") is None
        with OpenStore(root) as third:
            assert third.catalog.find_layer("o") is not None


def test_a_tag_move_that_was_interrupted_is_finished(root: Path) -> None:
    with OpenStore(root) as store:
        first, second = load(store, [b"a"], "t", "kept"), load(store, [b"b"])
        old = (store.layout.image(first) / "image.json").read_bytes()
        store.images.tag(second, ["t"])
        (store.layout.image(first) / "image.json").write_bytes(old)
    with OpenStore(root) as store:
        assert store.catalog.tags() == {"kept": first, "t": second}
    assert b'"t"' not in (root / "images" / "sha256" / first.hex / "image.json").read_bytes()


def test_more_layers_than_fit_one_transaction_are_found_again(root: Path) -> None:
    with OpenStore(root) as store:
        for number in range(200):
            name = f"l{number}"
            manifest = LayerManifest(id=name, state=LayerState.OPEN, created=number)
            store.layout.layer(name).mkdir()
            (store.layout.layer(name) / "manifest.json").write_bytes(manifest.build())
    with OpenStore(root) as store:
        assert [layer.id for layer in store.catalog.layers()] == [f"l{n}" for n in range(200)]
