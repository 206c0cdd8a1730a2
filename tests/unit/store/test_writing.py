from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.open_store import OpenStore, add_layers, add_scratch, chain_of, load
from windowsfilter.digests import DiffID, Digest
from windowsfilter.errors import (
    AlreadyExists,
    DigestMismatch,
    HostError,
    ImageNotFound,
    LayerNotFound,
    UsageError,
)
from windowsfilter.layers.manifest import LayerManifest, LayerState, Snapshot, SnapshotKind
from windowsfilter.store.images import ImageRecord

CONFIG = b'{"os": "windows"}'
IMAGE = Digest.of(CONFIG)


def test_a_layer_is_a_folder_with_its_record(store: OpenStore) -> None:
    (base,) = add_layers(store, [b"a"])
    folder = store.layout.layer(base)
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]
    assert LayerManifest.parse((folder / "manifest.json").read_bytes()) == store.catalog.layer(base)
    assert not list(store.staging.folder.iterdir())


def test_what_fills_a_layer_is_there_before_the_layer(store: OpenStore) -> None:
    (base,) = add_layers(store, [b"a"])
    scratch = add_scratch(store, "s", "work", base)
    assert (store.layout.layer("s") / "upper" / "Files").is_dir()
    assert store.catalog.scratch("work") == scratch

    def fail(folder: Path) -> None:
        (folder / "upper").mkdir()
        raise UsageError("no")

    with pytest.raises(UsageError):
        store.layers.add(LayerManifest(id="t", state=LayerState.OPEN, created=1), fill=fail)
    assert store.catalog.find_layer("t") is None
    assert not store.layout.layer("t").exists()
    assert not list(store.staging.folder.iterdir())


def test_layers_need_their_parent_and_names_of_their_own(store: OpenStore) -> None:
    (base,) = add_layers(store, [b"a"])
    snapshot = Snapshot(key="k", kind=SnapshotKind.ACTIVE, created=1, updated=1)
    add_scratch(store, "s", "work", base)
    opened = LayerManifest(id="o", state=LayerState.OPEN, created=1, aliases=("x",))
    store.layers.add(replace(opened, snapshots=(snapshot,)))
    scratch = LayerManifest(id="t", state=LayerState.SCRATCH, created=1)
    for manifest, message in (
        (opened, "add layer o: it exists"),
        (replace(scratch, name="work"), "there is a scratch named work"),
        (replace(scratch, aliases=("x",)), "alias x is taken"),
        (replace(scratch, snapshots=(snapshot,)), "there is a snapshot k"),
    ):
        with pytest.raises(AlreadyExists, match=message):
            store.layers.add(manifest)
    with pytest.raises(LayerNotFound, match="parent gone is missing"):
        store.layers.add(replace(scratch, parent="gone"))
    assert sorted(path.name for path in store.layout.layers.iterdir()) == sorted([base, "o", "s"])


def test_a_record_is_replaced_whole(store: OpenStore) -> None:
    opened = LayerManifest(id="o", state=LayerState.OPEN, created=1)
    store.layers.add(opened)
    sealed = replace(opened, state=LayerState.SEALED, diff_id=DiffID.of(b""), limit=5)
    store.layers.rewrite(sealed)
    assert store.catalog.layer("o") == sealed
    assert LayerManifest.parse((store.layout.layer("o") / "manifest.json").read_bytes()) == sealed
    with pytest.raises(LayerNotFound):
        store.layers.rewrite(replace(opened, id="p"))
    add_scratch(store, "s", "work", "o")
    add_scratch(store, "t", "play", "o")
    with pytest.raises(AlreadyExists, match="scratch named play"):
        store.layers.rewrite(replace(store.catalog.layer("s"), name="play"))


def test_remains_without_a_row_make_room_for_a_new_layer(store: OpenStore) -> None:
    # What a removal leaves that is killed between its transaction and its rename.
    (base,) = add_layers(store, [b"a"])
    manifest = store.catalog.layer(base)
    store.catalog.delete_layer(base)
    (store.layout.layer(base) / "old").touch()
    store.layers.add(manifest)
    assert [path.name for path in store.layout.layer(base).iterdir()] == ["manifest.json"]


def test_an_image_keeps_config_and_manifest_byte_for_byte(store: OpenStore) -> None:
    layers = tuple(add_layers(store, [b"a"]))
    manifest = b'{"config": 1}'
    record = ImageRecord(
        id=IMAGE,
        created=5,
        layers=layers,
        manifest_digest=Digest.of(manifest),
        platform={"os": "windows", "os.features": ["win32k"]},
    )
    assert store.images.add(record, config=CONFIG, manifest=manifest) == record
    assert store.images.config(IMAGE) == CONFIG
    assert store.images.manifest(IMAGE) == manifest
    assert store.catalog.image(IMAGE) == record
    names = sorted(path.name for path in store.layout.image(IMAGE).iterdir())
    assert names == ["config.json", "image.json", "manifest.json"]


def test_an_image_that_is_there_keeps_its_tags_and_age(store: OpenStore) -> None:
    layers = tuple(add_layers(store, [b"a"]))
    store.images.add(ImageRecord(id=IMAGE, created=5, layers=layers), config=CONFIG)
    assert store.images.manifest(IMAGE) is None
    store.images.tag(IMAGE, ["t"])
    record = ImageRecord(
        id=IMAGE, created=9, layers=layers, manifest_digest=Digest.of(b"m"), references={"u": 1}
    )
    again = store.images.add(record, config=CONFIG, manifest=b"m")
    assert again.created == 5
    assert list(again.references) == ["t"]
    assert store.images.manifest(IMAGE) == b"m"
    assert store.catalog.tags() == {"t": IMAGE}


def test_images_are_checked_before_anything_is_stored(store: OpenStore) -> None:
    record = ImageRecord(id=IMAGE, created=1, layers=("gone",))
    with pytest.raises(LayerNotFound, match="layer gone is missing"):
        store.images.add(record, config=CONFIG)
    with pytest.raises(DigestMismatch, match="the config is"):
        store.images.add(record, config=b"other")
    with pytest.raises(DigestMismatch, match="its manifest is"):
        store.images.add(record, config=CONFIG, manifest=b"m")
    assert not list(store.layout.images.iterdir())


def test_damaged_documents_are_noticed(store: OpenStore) -> None:
    layers = tuple(add_layers(store, [b"a"]))
    record = ImageRecord(id=IMAGE, created=1, layers=layers, manifest_digest=Digest.of(b"m"))
    store.images.add(record, config=CONFIG, manifest=b"m")
    (store.layout.image(IMAGE) / "config.json").write_bytes(b"x")
    (store.layout.image(IMAGE) / "manifest.json").write_bytes(b"x")
    with pytest.raises(DigestMismatch, match=r"config\.json is damaged"):
        store.images.config(IMAGE)
    assert store.images.manifest(IMAGE) is None
    (store.layout.image(IMAGE) / "manifest.json").unlink()
    assert store.images.manifest(IMAGE) is None
    with pytest.raises(ImageNotFound):
        store.images.config(Digest.of(b"nobody"))


def test_a_tag_names_one_image_at_a_time(store: OpenStore) -> None:
    first = load(store, [b"a"], "t", "u")
    second = load(store, [b"b"], "t")
    assert store.catalog.tags() == {"t": second, "u": first}
    on_disk = {
        image: ImageRecord.parse((store.layout.image(image) / "image.json").read_bytes())
        for image in (first, second)
    }
    assert list(on_disk[first].references) == ["u"]
    assert list(on_disk[second].references) == ["t"]
    store.images.tag(first, ["t"])
    assert store.catalog.tags() == {"t": first, "u": first}
    assert store.images.untag("t") == first
    assert store.catalog.tags() == {"u": first}
    with pytest.raises(ImageNotFound, match="'t'"):
        store.images.untag("t")


def test_a_clock_set_back_does_not_bring_an_old_tag_back(
    store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = load(store, [b"a"], "t"), load(store, [b"b"])
    monkeypatch.setattr("time.time_ns", lambda: 1000)
    store.images.tag(second, ["t"])
    assert store.catalog.tags() == {"t": second}
    owner = store.catalog.tag_owner("t")
    assert owner is not None
    assert owner[1] > 1000
    store.images.tag(first, ["t"])
    assert store.catalog.tags() == {"t": first}


def test_giving_a_tag_again_changes_nothing(store: OpenStore) -> None:
    image = load(store, [b"a"], "t")
    before = (store.layout.image(image) / "image.json").stat()
    store.images.tag(image, ["t"])
    assert (store.layout.image(image) / "image.json").stat().st_ino == before.st_ino
    with pytest.raises(ImageNotFound):
        store.images.tag(Digest.of(b"nobody"), ["t"])


def test_what_does_not_reach_the_catalog_does_not_stay_on_disk(
    store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = tuple(add_layers(store, [b"a"]))

    def full(*_: object) -> None:
        raise HostError(errno.ENOSPC, "database or disk is full")

    monkeypatch.setattr(store.catalog, "put_layer", full)
    monkeypatch.setattr(store.catalog, "put_image", full)
    with pytest.raises(HostError, match="full"):
        store.layers.add(LayerManifest(id="o", state=LayerState.OPEN, created=1))
    with pytest.raises(HostError, match="full"):
        store.images.add(ImageRecord(id=IMAGE, created=1, layers=layers), config=CONFIG)
    assert not store.layout.layer("o").exists()
    assert not store.layout.image(IMAGE).exists()


def test_ids_of_equal_layers_are_equal(store: OpenStore) -> None:
    assert add_layers(store, [b"a", b"b"]) == add_layers(store, [b"a", b"b"])
    assert add_layers(store, [b"b"]) != add_layers(store, [b"a", b"b"])[1:]
    assert [chain.hex for chain in chain_of([b"b"])] == add_layers(store, [b"b"])
