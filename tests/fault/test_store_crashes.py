"""Whatever a process was doing to the store when it was killed, the next one finds it in order."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.crash import crash_points, report
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
from windowsfilter.layers.manifest import LayerManifest, LayerState
from windowsfilter.store import reserve
from windowsfilter.store.catalog import LabelKind
from windowsfilter.store.holds import HoldKind
from windowsfilter.store.images import ImageRecord


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in memory if there is one: killing a process asks nothing of the disk."""
    monkeypatch.setattr(reserve, "PLENTY_BYTES", 1 << 62)  # no megabytes in reserve to copy
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


def check(store: OpenStore) -> None:
    """Everything that must hold in a store at rest."""
    layout, catalog = store.layout, store.catalog
    assert store.reconciled.problems == []
    # Our own folder, where a new catalog was made, may be there, empty.
    assert list(store.staging.folder.iterdir()) == []
    assert list(layout.tmp.iterdir()) == [store.staging.folder]
    assert {path.name for path in layout.layers.iterdir()} == catalog.layer_stamps().keys()
    for layer in catalog.layers():
        record = (layout.layer(layer.id) / "manifest.json").read_bytes()
        assert LayerManifest.parse(record) == layer
        assert catalog.chain(layer.id)
        if layer.diff_id is not None:
            content = (layout.blob(layer.diff_id) / "blob").read_bytes()
            assert DiffID.of(content) == layer.diff_id
    for path in layout.blobs.iterdir():
        assert DiffID.of((path / "blob").read_bytes()).hex == path.name
    claims: list[str] = []
    for path in layout.images.iterdir():
        image = ImageRecord.parse((path / "image.json").read_bytes())
        assert image == catalog.image(image.id)
        assert Digest.of((path / "config.json").read_bytes()) == image.id
        assert all(catalog.find_layer(layer) for layer in image.layers)
        claims += image.references
    assert sorted(claims) == list(catalog.tags())
    assert len(catalog.images()) == len(list(layout.images.iterdir()))


def check_no_leak(store: OpenStore) -> None:
    """After a prune nothing is left that nobody needs."""
    store.garbage.prune(untagged_images=True)
    assert store.garbage.plan(untagged_images=True).items == []
    used = {layer.diff_id.hex for layer in store.catalog.layers() if layer.diff_id}
    assert {path.name for path in store.layout.blobs.iterdir()} == used


def prepare_nothing(_store: OpenStore) -> None:
    return


def prepare_images(store: OpenStore) -> None:
    load(store, [b"a", b"b"], "kept", "moving")
    load(store, [b"a", b"c"], "victim")
    add_scratch(store, "s", "work", chain_of([b"a", b"b"])[-1].hex)
    store.layers.add(LayerManifest(id="open", state=LayerState.OPEN, created=1), fill=fill_open)


def fill_open(folder: Path) -> None:
    (folder / "upper").mkdir()
    (folder / "upper" / "file").write_bytes(b"x")


def do_load(store: OpenStore) -> None:
    load(store, [b"a", b"new"], "new", "moving")
    report(b"tag new")


def do_create_scratch(store: OpenStore) -> None:
    add_scratch(store, "s2", "play", chain_of([b"a", b"b"])[-1].hex)
    report(b"scratch play")


def do_seal(store: OpenStore) -> None:
    with store.locks.held("layer:open"):
        diff_id = add_blob(store, b"sealed content")
        layer = store.catalog.layer("open")
        store.layers.rewrite(replace(layer, state=LayerState.SEALED, diff_id=diff_id))
    report(b"sealed open")


def do_move_tag(store: OpenStore) -> None:
    store.images.tag(store.catalog.tags()["victim"], ["moving"])
    report(b"tag moving")


def do_untag(store: OpenStore) -> None:
    store.images.untag("moving")
    report(b"untagged moving")


def do_remove_image(store: OpenStore) -> None:
    store.garbage.remove_image(store.catalog.tags()["victim"])
    report(b"removed victim")


def do_remove_scratch(store: OpenStore) -> None:
    store.garbage.remove_layer("s")
    report(b"removed scratch")


def do_prune(store: OpenStore) -> None:
    add_blob(store, b"garbage")
    add_layers(store, [b"a", b"garbage layer"])
    add_chain_image(store, "k", chain_of([b"gone"])[0])
    store.images.untag("victim")
    store.garbage.prune(untagged_images=True)
    report(b"pruned")


def do_hold(store: OpenStore) -> None:
    holds = store.holds.take([(HoldKind.LAYER, "s")], "mount", path="/m", lasting=True)
    report(b"held")
    store.holds.release(holds)
    report(b"released")


def do_lose_catalog(store: OpenStore) -> None:
    store.close()
    store.layout.catalog.unlink()
    OpenStore(store.layout.root).close()
    report(b"rebuilt")


SCENARIOS: list[tuple[Callable[[OpenStore], None], Callable[[OpenStore], None]]] = [
    (prepare_nothing, do_load),
    (prepare_images, do_load),
    (prepare_images, do_create_scratch),
    (prepare_images, do_seal),
    (prepare_images, do_move_tag),
    (prepare_images, do_untag),
    (prepare_images, do_remove_image),
    (prepare_images, do_remove_scratch),
    (prepare_images, do_prune),
    (prepare_images, do_hold),
    (prepare_images, do_lose_catalog),
]


@pytest.mark.parametrize(
    ("prepare", "work"),
    SCENARIOS,
    ids=[f"{prepare.__name__[8:]}-{work.__name__[3:]}" for prepare, work in SCENARIOS],
)
def test_a_killed_process_leaves_the_old_state_or_the_new_one(
    memory: Path,
    prepare: Callable[[OpenStore], None],
    work: Callable[[OpenStore], None],
    record_property: Callable[[str, object], None],
) -> None:
    origin, root = memory / "origin", memory / "store"
    with OpenStore(origin) as store:
        prepare(store)
        kept = store.catalog.tags().get("kept")

    def child() -> None:
        with OpenStore(root) as store:
            work(store)

    shutil.copytree(origin, root)
    OpenStore(root).close()  # stamps of the copy
    shutil.rmtree(origin)
    shutil.copytree(root, origin)
    points = 0
    for where, said in crash_points(child):
        points += 1
        try:
            with OpenStore(root) as store:
                check(store)
                expect(store, said, kept)
                check_no_leak(store)
                check_again = store.catalog.tags()
            with OpenStore(root) as store:
                check(store)
                assert store.catalog.tags() == check_again
        except Exception as error:
            raise AssertionError(f"killed {where}: {error}") from error
        shutil.rmtree(root)
        shutil.copytree(origin, root)
    record_property("crash points", points)
    assert points > 10


def expect(store: OpenStore, said: bytes, kept: Digest | None) -> None:
    """What was reported as done is done; what was there before is not lost."""
    tags = store.catalog.tags()
    lines = said.splitlines()
    if kept is not None:
        assert tags["kept"] == kept
        scratch = store.catalog.scratch("work")
        assert scratch is not None or not (store.layout.root / "layers" / "s").exists()
        opened = store.catalog.layer("open")
        sealed = opened.state is LayerState.SEALED
        assert sealed or (store.layout.layer("open") / "upper" / "file").exists()
        assert sealed or b"sealed open" not in lines
    if b"tag new" in lines:
        assert tags["new"] == tags["moving"]
    if b"scratch play" in lines:
        assert store.catalog.scratch("play") is not None
    if b"tag moving" in lines:
        assert tags["moving"] == tags["victim"]
    if b"untagged moving" in lines:
        assert "moving" not in tags
    if b"removed victim" in lines:
        assert "victim" not in tags
    if b"removed scratch" in lines:
        assert store.catalog.scratch("work") is None
    held = [hold.path for hold in store.holds.live() if hold.process is None]
    if b"released" in lines:
        assert held == []
    elif b"held" in lines and held:
        assert held == ["/m"]
        store.holds.cleanup(lasting=True)


def test_the_making_of_a_store_can_be_interrupted_anywhere(memory: Path) -> None:
    root = memory / "store"

    def child() -> None:
        with OpenStore(root) as store:
            load(store, [b"a"], "t")

    for where, _ in crash_points(child):
        try:
            with OpenStore(root) as store:
                check(store)
                load(store, [b"b"], "u")
        except Exception as error:
            raise AssertionError(f"killed {where}: {error}") from error
        shutil.rmtree(root)


def test_labels_survive_every_interruption_of_a_rebuild_that_could_save_them(
    memory: Path,
) -> None:
    origin, root = memory / "origin", memory / "store"
    with OpenStore(origin) as store:
        prepare_images(store)
        store.catalog.set_labels(LabelKind.LAYER, "open", {"user": "label"})
    connection = sqlite3.connect(origin / "catalog.db")
    connection.execute("PRAGMA user_version = 0")
    connection.close()

    def child() -> None:
        OpenStore(root).close()

    shutil.copytree(origin, root)
    for where, _ in crash_points(child):
        with OpenStore(root) as store:
            check(store)
            assert store.catalog.labels(LabelKind.LAYER, "open") == {"user": "label"}, where
        shutil.rmtree(root)
        shutil.copytree(origin, root)
