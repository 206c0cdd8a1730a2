from __future__ import annotations

import os
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.open_store import OpenStore, add_layers, chain_of, load, sealed
from windowsfilter.digests import DiffID, Digest
from windowsfilter.errors import (
    AlreadyExists,
    HostError,
    ImageNotFound,
    LayerNotFound,
    StoreDamaged,
)
from windowsfilter.layers.manifest import (
    LayerManifest,
    LayerState,
    Snapshot,
    SnapshotKind,
)
from windowsfilter.store import database
from windowsfilter.store.catalog import Catalog, LabelKind
from windowsfilter.store.database import CatalogUnusable, Database
from windowsfilter.store.images import ImageRecord

DIFF = DiffID.of(b"x")


def layer(layer_id: str, parent: str | None = None, **more: object) -> LayerManifest:
    fields = {"state": LayerState.OPEN, "created": 1, **more}
    return LayerManifest(id=layer_id, parent=parent, **fields)  # type: ignore[arg-type]


def image(name: str, *layers: str, **references: int) -> ImageRecord:
    return ImageRecord(id=Digest.of(name.encode()), created=1, layers=layers, references=references)


@pytest.fixture
def catalog(store: OpenStore) -> Catalog:
    return store.catalog


def test_layers_come_back_as_they_went_in(catalog: Catalog) -> None:
    base = sealed("a", DIFF, chain_of([b"x"])[0], None)
    top = layer("b", "a", state=LayerState.SCRATCH, name="work", pins=("k",), created=2)
    catalog.put_layer(base, "s1")
    catalog.put_layer(top, "s2")
    assert catalog.layers() == [base, top]
    assert catalog.layers(LayerState.SCRATCH) == [top]
    assert catalog.layer("a") == base
    assert catalog.scratch("work") == top
    assert catalog.scratch("other") is None
    assert catalog.children("a") == ["b"]
    assert catalog.layers_with_blob(DIFF) == ["a"]
    assert catalog.layers_of_chain(chain_of([b"x"])[0]) == [base]
    assert catalog.layers_pinning("k") == ["b"]
    assert catalog.contents() == [("a", DIFF, chain_of([b"x"])[0]), ("b", None, None)]
    assert catalog.pins() == [("b", "k")]
    assert catalog.layer_stamps() == {"a": "s1", "b": "s2"}
    assert catalog.delete_layer("b")
    assert not catalog.delete_layer("b")
    assert catalog.layers_pinning("k") == []


def test_a_layer_that_is_put_again_is_changed(catalog: Catalog) -> None:
    catalog.put_layer(layer("a", aliases=("x", "y"), pins=("k",)), "1")
    changed = layer("a", aliases=("y", "z"))
    catalog.put_layer(changed, "2")
    assert catalog.layers() == [changed]
    assert catalog.layers_pinning("k") == []
    assert [catalog.resolve(name) for name in ("x", "y", "z")] == ["x", "a", "a"]


def test_a_chain_is_nearest_first_and_names_what_is_missing(catalog: Catalog) -> None:
    for item in (layer("a"), layer("b", "a"), layer("c", "b"), layer("lost", "gone")):
        catalog.put_layer(item, "")
    assert [item.id for item in catalog.chain("c")] == ["c", "b", "a"]
    with pytest.raises(LayerNotFound, match="layer lost: gone, parent of lost, is missing"):
        catalog.chain("lost")
    with pytest.raises(LayerNotFound, match="layer nobody: there is none"):
        catalog.chain("nobody")


def test_parents_that_run_in_a_circle_end(catalog: Catalog) -> None:
    catalog.put_layer(layer("a", "b"), "")
    catalog.put_layer(layer("b", "a"), "")
    with pytest.raises(LayerNotFound, match="above it"):
        catalog.chain("a")


def test_names_aliases_and_snapshot_keys_belong_to_one_layer(catalog: Catalog) -> None:
    snapshot = Snapshot(key="1", kind=SnapshotKind.ACTIVE, created=1, updated=1)
    first = layer("a", state=LayerState.SCRATCH, name="n", aliases=("x",), snapshots=(snapshot,))
    catalog.put_layer(first, "")
    for clash in (
        layer("b", state=LayerState.SCRATCH, name="n"),
        layer("b", aliases=("x",)),
        layer("b", snapshots=(snapshot,)),
    ):
        with pytest.raises(AlreadyExists, match="layer b"):
            catalog.put_layer(clash, "")
        assert catalog.layers() == [first]


def test_a_failure_inside_a_transaction_takes_back_its_own_changes_only(catalog: Catalog) -> None:
    with catalog.transaction():
        catalog.put_layer(layer("a", aliases=("x",)), "")
        with pytest.raises(AlreadyExists):
            catalog.put_layer(layer("b", aliases=("x",)), "")
        catalog.put_layer(layer("c"), "")
    assert [item.id for item in catalog.layers()] == ["a", "c"]
    with pytest.raises(ZeroDivisionError), catalog.transaction():
        catalog.delete_layer("a")
        raise ZeroDivisionError
    assert catalog.find_layer("a") is not None


def test_abbreviated_ids_are_found(catalog: Catalog) -> None:
    for name in ("abc", "abd", "b", "a%", "a_"):
        if name.isalnum():
            catalog.put_layer(layer(name), "")
    catalog.put_image(image("i"), "")
    assert catalog.layer_ids_starting("ab") == ["abc", "abd"]
    assert catalog.layer_ids_starting("a%") == []
    assert catalog.layer_ids_starting("ab", limit=1) == ["abc"]
    assert catalog.image_ids_starting(Digest.of(b"i").hex[:9]) == [Digest.of(b"i")]


def test_images_and_tags_come_back(catalog: Catalog) -> None:
    first, second = image("1", "a", "b", x=5, y=6), image("2", "a")
    catalog.put_image(first, "s")
    catalog.put_image(second, "t")
    assert catalog.image(first.id) == first
    assert sorted(item.id for item in catalog.images()) == sorted([first.id, second.id])
    assert catalog.tags() == {"x": first.id, "y": first.id}
    assert catalog.tags_of(first.id) == ["x", "y"]
    assert catalog.tag_owner("y") == (first.id, 6)
    assert catalog.tag_owner("z") is None
    assert catalog.images_with_layer("a") == sorted([first.id, second.id])
    assert catalog.image_stamps() == {first.id: "s", second.id: "t"}
    assert catalog.delete_image(first.id)
    assert catalog.tags() == {}
    assert catalog.images_with_layer("b") == []
    with pytest.raises(ImageNotFound):
        catalog.image(first.id)


def test_the_later_claim_of_a_tag_wins_in_any_order(catalog: Catalog) -> None:
    old, new = image("old", x=1, y=1), image("new", x=2)
    for order in ((old, new), (new, old)):
        for record in order:
            catalog.put_image(record, "")
        assert catalog.tags() == {"x": new.id, "y": old.id}
        assert catalog.image(old.id).references == {"y": 1}
        assert {item.id: dict(item.references) for item in catalog.images()} == {
            old.id: {"y": 1},
            new.id: {"x": 2},
        }
        assert old in catalog.claimed_images()


def test_snapshots_live_with_their_layer(catalog: Catalog) -> None:
    active = Snapshot(key="ns/1/k", kind=SnapshotKind.ACTIVE, parent="p", created=1, updated=2)
    catalog.put_layer(layer("a", snapshots=(active,)), "")
    catalog.set_labels(LabelKind.SNAPSHOT, "ns/1/k", {"x": "y"})
    assert catalog.snapshot("ns/1/k") == (active, "a")
    assert catalog.snapshot("other") is None
    assert catalog.snapshots() == [(active, "a")]
    catalog.delete_layer("a")
    assert catalog.snapshots() == []
    assert catalog.labels(LabelKind.SNAPSHOT, "ns/1/k") == {}


def test_labels_are_replaced_and_go_with_their_object(catalog: Catalog) -> None:
    catalog.put_layer(layer("a"), "")
    catalog.put_image(image("a"), "")
    for kind, name in ((LabelKind.LAYER, "a"), (LabelKind.IMAGE, Digest.of(b"a"))):
        catalog.set_labels(kind, name, {"k": "v", "gone": ""})
        catalog.set_labels(kind, name, {"k": "w"})
        assert catalog.labels(kind, name) == {"k": "w"}
    catalog.delete_layer("a")
    catalog.delete_image(Digest.of(b"a"))
    assert catalog.labels(LabelKind.LAYER, "a") == {}
    assert catalog.labels(LabelKind.IMAGE, Digest.of(b"a")) == {}


def test_threads_share_a_catalog(catalog: Catalog) -> None:
    def work(number: int) -> None:
        for step in range(10):
            with catalog.transaction():
                catalog.put_layer(layer(f"l{number}-{step}"), "")
            catalog.layers()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(catalog.layers()) == 40


def test_commits_are_as_durable_as_sqlite_can_make_them(store: OpenStore) -> None:
    assert store.catalog._database._scalar("PRAGMA synchronous") == 2
    assert store.catalog._database._scalar("PRAGMA journal_mode") == "wal"
    assert store.layout.catalog.stat().st_mode & 0o777 == 0o600


def test_a_busy_catalog_is_an_error_of_the_machine(
    store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.01)
    other = Database(store.layout.catalog, store.layout.uuid)
    with store.catalog.transaction():
        with pytest.raises(HostError, match="locked"), other.transaction():
            pass
    other.close()


def test_a_full_disk_is_an_error_of_the_machine_and_changes_nothing(store: OpenStore) -> None:
    connection = store.catalog._database._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    big = layer("big", labels={"x": "y" * 1_000_000})
    with pytest.raises(HostError, match="full"):
        with store.catalog.transaction():
            store.catalog.put_layer(layer("small"), "")
            store.catalog.put_layer(big, "")
    assert store.catalog.layers() == []
    connection.execute("PRAGMA max_page_count = 1000000")
    store.catalog.put_layer(big, "")


def test_a_forked_child_must_open_the_store_itself(store: OpenStore) -> None:
    child = os.fork()
    if child == 0:
        try:
            store.catalog.layers()
        except RuntimeError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert store.catalog.layers() == []


def test_a_catalog_that_vanishes_while_open_is_noticed(store: OpenStore) -> None:
    store.layout.catalog.unlink()
    with pytest.raises(StoreDamaged, match="removed or replaced while the store was open"):
        store.catalog.layers()
    with pytest.raises(StoreDamaged):
        store.catalog.put_layer(layer("a"), "")


def test_only_a_catalog_of_this_store_and_schema_is_opened(store: OpenStore, root: Path) -> None:
    store.close()
    path = root / "catalog.db"
    Catalog(path, store.layout.uuid).close()
    with pytest.raises(CatalogUnusable, match="another store"):
        Catalog(path, "0")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 77")
    connection.close()
    with pytest.raises(CatalogUnusable, match="another schema"):
        Catalog(path, store.layout.uuid)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(CatalogUnusable, match="not a database"):
        Catalog(path, store.layout.uuid)
    path.unlink()
    with pytest.raises(CatalogUnusable, match="there is none"):
        Catalog(path, store.layout.uuid)
    assert not path.exists()


def test_five_hundred_layers_are_one_chain(store: OpenStore) -> None:
    # Through the catalog alone: the disk has its own tests.
    with store.catalog.transaction():
        for number in range(500):
            parent = f"l{number - 1}" if number else None
            store.catalog.put_layer(layer(f"l{number}", parent), "")
    assert len(store.catalog.chain("l499")) == 500


def test_what_a_load_stores_is_found_again(store: OpenStore) -> None:
    image_id = load(store, [b"a", b"b"], "t:1")
    assert store.catalog.tags() == {"t:1": image_id}
    assert [item.id for item in store.catalog.chain(add_layers(store, [b"a", b"b"])[-1])] == [
        chain.hex for chain in reversed(chain_of([b"a", b"b"]))
    ]
    assert replace(store.catalog.image(image_id), references={}).layers == tuple(
        chain.hex for chain in chain_of([b"a", b"b"])
    )
