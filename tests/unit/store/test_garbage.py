from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.open_store import (
    OpenStore,
    add_blob,
    add_chain_image,
    add_layers,
    add_scratch,
    chain_of,
    load,
)
from windowsfilter.digests import DiffID, Digest
from windowsfilter.errors import HostError, ImageNotFound, LayerInUse, LayerNotFound
from windowsfilter.layers.manifest import (
    LayerManifest,
    LayerState,
    Owner,
    Snapshot,
    SnapshotKind,
)
from windowsfilter.store import garbage
from windowsfilter.store.holds import ANY, HoldKind

ABC = [b"a", b"b", b"c"]


def blobs(store: OpenStore) -> set[str]:
    return {path.name for path in store.layout.blobs.iterdir()}


def hexes(*contents: bytes) -> set[str]:
    return {DiffID.of(content).hex for content in contents}


def nothing_is_left(store: OpenStore) -> bool:
    folders = (store.layout.blobs, store.layout.layers, store.layout.images, store.layout.chains)
    left = [path for folder in folders for path in folder.iterdir()]
    return left == [] and list(store.staging.folder.iterdir()) == []


def test_an_image_goes_with_all_that_only_it_needs(store: OpenStore) -> None:
    image = load(store, ABC, "t", "u")
    removed = store.garbage.remove_image(image)
    assert removed.ids("image") == [image]
    assert removed.ids("layer") == [chain.hex for chain in reversed(chain_of(ABC))]
    assert set(removed.ids("blob")) == hexes(*ABC)
    assert removed.bytes > 3 * 4096
    assert nothing_is_left(store)
    assert store.catalog.tags() == {}
    with pytest.raises(ImageNotFound):
        store.garbage.remove_image(image)


def test_what_another_image_needs_stays(store: OpenStore) -> None:
    first, second = load(store, [b"a", b"b"]), load(store, [b"a", b"c"], "t")
    removed = store.garbage.remove_image(first)
    assert len(removed.ids("layer")) == 1
    assert blobs(store) == hexes(b"a", b"c")
    assert [layer.id for layer in store.catalog.layers()] == list(
        store.catalog.image(second).layers
    )


def test_one_blob_may_be_in_many_layers(store: OpenStore) -> None:
    first, second = load(store, [b"a", b"x"]), load(store, [b"b", b"x"])
    store.garbage.remove_image(first)
    assert blobs(store) == hexes(b"b", b"x")
    store.garbage.remove_image(second)
    assert nothing_is_left(store)


def test_an_image_under_a_scratch_is_not_removed_unless_forced(store: OpenStore) -> None:
    image = load(store, ABC, "t")
    add_scratch(store, "s", "work", chain_of(ABC)[-1].hex)
    with pytest.raises(LayerInUse, match="remove image t: needed by scratch work"):
        store.garbage.remove_image(image)
    assert store.catalog.tags() == {"t": image}
    removed = store.garbage.remove_image(image, force=True)
    assert removed.ids("layer") == []
    assert blobs(store) == hexes(*ABC)
    store.garbage.remove_layer("s")
    assert store.garbage.prune().ids("layer") == [chain.hex for chain in reversed(chain_of(ABC))]
    assert nothing_is_left(store)


def test_a_mounted_image_is_not_removed(store: OpenStore) -> None:
    image = load(store, ABC, "t")
    top = chain_of(ABC)[-1].hex
    with store.holds.held([(HoldKind.LAYER, top)], "mount", path="/mnt"):
        with pytest.raises(LayerInUse, match=f"mount at /mnt by process {os.getpid()}"):
            store.garbage.remove_image(image)
    with store.holds.held([(HoldKind.IMAGE, image.hex)], "save"):
        with pytest.raises(LayerInUse, match="save by process"):
            store.garbage.remove_image(image)
    store.garbage.remove_image(image)


def test_a_load_at_the_same_time_keeps_the_layers_but_not_the_image(store: OpenStore) -> None:
    image = load(store, [b"a", b"b"])
    base = chain_of([b"a"])[0].hex
    held = [(HoldKind.LAYER, base), (HoldKind.BLOB, DiffID.of(b"b").hex)]
    with store.holds.held(held, "load"):
        removed = store.garbage.remove_image(image)
        assert removed.ids("layer") == [chain_of([b"a", b"b"])[-1].hex]
        assert blobs(store) == hexes(b"a", b"b")
    assert set(store.garbage.prune().ids("blob")) == hexes(b"a", b"b")


def test_a_layer_is_removed_when_nothing_needs_it(store: OpenStore) -> None:
    base = add_layers(store, [b"a"])[0]
    image = load(store, [b"a"], "t")
    scratch = add_scratch(store, "s", "work", base)
    (hold,) = store.holds.take([(HoldKind.LAYER, base)], "get", lasting=True)
    assert store.garbage.users(base) == ["image t", "scratch work", "get"]
    with pytest.raises(LayerInUse, match="needed by image t, scratch work, get"):
        store.garbage.remove_layer(base)
    store.holds.release([hold])
    store.garbage.remove_image(image, force=True)
    with pytest.raises(LayerInUse, match="needed by scratch work"):
        store.garbage.remove_layer(base)
    removed = store.garbage.remove_layer(scratch.id)
    assert removed.ids("layer") == ["s"]
    assert store.garbage.remove_layer(base).ids("blob") == [DiffID.of(b"a").hex]
    assert nothing_is_left(store)
    with pytest.raises(LayerNotFound):
        store.garbage.remove_layer(base)


@pytest.mark.parametrize(
    "change",
    [
        {"owner": Owner.USER},
        {"owner": Owner.DRIVER},
        {"aliases": ("x",)},
        {"snapshots": (Snapshot(key="k", kind=SnapshotKind.COMMITTED, created=1, updated=1),)},
    ],
    ids=str,
)
def test_what_somebody_asked_for_is_no_garbage(store: OpenStore, change: dict[str, object]) -> None:
    ids = add_layers(store, [b"a", b"b"])
    store.layers.rewrite(replace(store.catalog.layer(ids[-1]), **change))  # type: ignore[arg-type]
    assert store.garbage.plan().items == []
    assert store.garbage.prune().items == []
    store.garbage.remove_layer(ids[-1])
    assert store.garbage.prune().ids("layer") == [ids[0]]


def test_the_plan_is_what_prune_does(store: OpenStore) -> None:
    load(store, [b"a", b"b"], "kept")
    untagged = load(store, [b"a", b"u"])
    add_layers(store, [b"a", b"b", b"orphan", b"orphan's child"])
    add_blob(store, b"left over")
    keep, gone = chain_of([b"a", b"b"])[-1], chain_of([b"gone"])[0]
    add_chain_image(store, "used", keep)
    add_chain_image(store, "useless", gone)
    (store.layout.chains / "damaged").mkdir()
    sealed = store.layout.layer(keep.hex)
    (sealed / "upper").mkdir()
    (sealed / "upper" / "file").touch()
    for untagged_images in (False, True):
        before = sorted(path for path in store.layout.root.rglob("*") if "tmp" not in path.parts)
        plan = store.garbage.plan(untagged_images=untagged_images)
        after = sorted(path for path in store.layout.root.rglob("*") if "tmp" not in path.parts)
        assert after == before
        if not untagged_images:
            assert set(plan.ids("blob")) == hexes(b"orphan", b"orphan's child", b"left over")
            assert plan.ids("chain") == ["damaged", "useless"]
            assert plan.ids("leftover") == [f"layers/{keep.hex}/upper"]
            assert len(plan.ids("layer")) == 2
            assert plan.ids("image") == []
        else:
            assert plan.ids("image") == [untagged]
            assert set(plan.ids("blob")) == hexes(b"u")
        done = store.garbage.prune(untagged_images=untagged_images)
        assert sorted(done.items, key=str) == sorted(plan.items, key=str)
    assert store.garbage.plan(untagged_images=True).items == []
    assert list(store.catalog.tags()) == ["kept"]
    assert blobs(store) == hexes(b"a", b"b")


def test_chain_images_stay_while_a_layer_a_scratch_or_another_needs_them(store: OpenStore) -> None:
    image = load(store, [b"a", b"b"])
    top = chain_of([b"a", b"b"])[-1]
    gone = chain_of([b"gone"])[0]
    add_chain_image(store, "base", gone)
    add_chain_image(store, "middle", gone, ("base",))
    add_chain_image(store, "top", top, ("middle",))
    add_chain_image(store, "pinned", gone)
    add_chain_image(store, "mounted", gone)
    scratch = add_scratch(store, "s", "work", top.hex)
    store.layers.rewrite(replace(scratch, pins=("pinned",)))
    with store.holds.held([(HoldKind.CHAIN, "mounted")], "mount", path="/m"):
        assert store.garbage.prune().items == []
    assert store.garbage.prune().ids("chain") == ["mounted"]
    assert store.garbage.remove_layer("s").ids("chain") == ["pinned"]
    assert store.garbage.remove_image(image).ids("chain") == ["base", "middle", "top"]


def test_held_blobs_without_layers_stay(store: OpenStore) -> None:
    add_blob(store, b"coming")
    with store.holds.held([(HoldKind.BLOB, DiffID.of(b"coming").hex)], "load"):
        assert store.garbage.prune().items == []
    assert store.garbage.prune().ids("blob") == list(hexes(b"coming"))


def test_work_that_cannot_name_its_blobs_yet_holds_them_all(store: OpenStore) -> None:
    image = load(store, [b"a"])
    add_blob(store, b"written")
    add_chain_image(store, "k", chain_of([b"gone"])[0])
    with store.holds.held([(HoldKind.BLOB, ANY), (HoldKind.CHAIN, ANY)], "commit"):
        assert store.garbage.prune().items == []
        removed = store.garbage.remove_image(image)
        assert removed.ids("layer") != []
        assert removed.ids("blob") == []
    with store.holds.held([(HoldKind.LAYER, ANY)], "commit"):
        add_layers(store, [b"a"])
        assert store.garbage.prune().ids("layer") == []
    assert len(store.garbage.prune().ids("blob")) == 1
    assert nothing_is_left(store)


def test_an_image_that_was_tagged_meanwhile_is_not_pruned(store: OpenStore) -> None:
    image = load(store, [b"a"], "t")
    assert store.garbage.remove_image(image, tags=()).items == []
    store.images.untag("t")
    assert store.garbage.remove_image(image, tags=()).ids("image") == [image]


def test_a_long_chain_goes_in_one_go(store: OpenStore) -> None:
    contents = [str(number).encode() for number in range(150)]
    image = load(store, contents)
    assert len(store.garbage.remove_image(image).ids("layer")) == 150
    assert nothing_is_left(store)


def test_a_layer_whose_lock_is_kept_stays_with_all_below_it(
    store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "_LOCK_TIMEOUT_S", 0.0)
    image = load(store, ABC)
    ids = store.catalog.image(image).layers
    lock = store.locks.attempt(f"layer:{ids[1]}")
    assert lock is not None
    removed = store.garbage.remove_image(image)
    assert removed.ids("layer") == [ids[2]]
    lock.release()
    assert store.garbage.prune().ids("layer") == [ids[1], ids[0]]


def test_the_parents_of_a_scratch_stay_when_everything_else_goes(store: OpenStore) -> None:
    load(store, ABC, "t")
    add_scratch(store, "s", "work", chain_of(ABC)[1].hex)
    store.garbage.remove_image(store.catalog.tags()["t"], force=True)
    assert {layer.id for layer in store.catalog.layers()} == {
        "s",
        *(chain.hex for chain in chain_of(ABC)[:2]),
    }
    assert blobs(store) == hexes(b"a", b"b")


def test_a_deletion_that_fails_is_finished_by_the_next_open(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OpenStore(root) as store:
        image = load(store, ABC)
        unlink = os.unlink

        def fail(path: object, **more: object) -> None:
            if path == "blob":
                raise OSError(errno.EIO, "input/output error")
            unlink(path, **more)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", fail)
            with pytest.raises(HostError, match=r"delete .*input/output error"):
                store.garbage.remove_image(image)
        assert blobs(store) == set()
        assert store.catalog.layers() == []
    with OpenStore(root) as store:
        assert nothing_is_left(store)


def test_removal_costs_the_same_whatever_a_layer_contains(
    store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("rename", "unlink", "rmdir", "open", "fsync", "scandir"):
        original = getattr(os, name)

        def counted(*args: object, _name: str = name, _original: object = original, **more: object):
            calls.append(_name)
            return _original(*args, **more)  # type: ignore[operator]

        monkeypatch.setattr(os, name, counted)
    counts = []
    for content in (b"small", b"large" * 1_000_000):
        image = load(store, [content])
        calls.clear()
        store.garbage.remove_image(image)
        counts.append(len(calls))
    assert counts[0] == counts[1] < 60


def test_the_order_of_layers_is_children_first_even_when_parents_are_missing(
    store: OpenStore,
) -> None:
    def layer(name: str, parent: str | None) -> LayerManifest:
        return LayerManifest(id=name, parent=parent, state=LayerState.OPEN, created=1)

    tree = [layer("a", None), layer("c", "b"), layer("b", "a"), layer("d", "b"), layer("x", "gone")]
    for order in (tree, tree[::-1]):
        found = [item.id for item in store.garbage._children_first(order)]
        assert sorted(found) == ["a", "b", "c", "d", "x"]
        assert found.index("c") < found.index("b") < found.index("a")
        assert found.index("d") < found.index("b")
    circle = [layer("p", "q"), layer("q", "p")]
    assert len(store.garbage._children_first(circle)) == 2


def test_named_layers_are_collected_if_nothing_needs_them(store: OpenStore) -> None:
    ids = add_layers(store, [b"a", b"b"])
    assert store.garbage.collect([ids[0], "unknown"]).items == []
    assert store.garbage.collect(ids).ids("layer") == [ids[1], ids[0]]
    assert nothing_is_left(store)


def test_an_open_child_is_named_by_its_id(store: OpenStore) -> None:
    (base,) = add_layers(store, [b"a"])
    store.layers.add(LayerManifest(id="o", parent=base, state=LayerState.OPEN, created=1))
    assert store.garbage.users(base) == ["layer o"]


def test_a_prune_goes_round_images_in_use(store: OpenStore) -> None:
    image, other = load(store, [b"a"]), load(store, [b"b"])
    add_scratch(store, "s", "work", store.catalog.image(image).layers[-1])
    assert store.garbage.plan(untagged_images=True).ids("image") == [other]
    assert store.garbage.prune(untagged_images=True).ids("image") == [other]
    assert store.catalog.find_image(image) is not None


def test_images_are_named_by_digest_when_they_have_no_tag(store: OpenStore) -> None:
    image = load(store, [b"a"])
    (layer,) = store.catalog.image(image).layers
    assert store.garbage.users(layer) == [f"image {image}"]
    assert isinstance(image, Digest)
