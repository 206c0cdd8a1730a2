"""Store: load, read, tag, save, remove, as a program does it."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.chains import file, folder, tar, whiteout
from windowsfilter import Store
from windowsfilter.digests import DiffID, chain_ids
from windowsfilter.errors import (
    DigestMismatch,
    FormatError,
    HostError,
    ImageNotFound,
    LayerInUse,
    LayerNotFound,
    UsageError,
)

BASE = tar([folder("Files"), file("Files/keep.txt", b"kept"), file("Files/drop.txt", b"gone")])
CHILD = tar([whiteout("Files/DROP.TXT"), file("Files/new.txt", b"new")])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "root") as store:
        yield store


@pytest.fixture
def layout(tmp_path: Path) -> Callable[..., Path]:
    def make(*layers: bytes, ref: str = "win:1") -> Path:
        made = images.Layout()
        made.add(made.image(layers or (BASE, CHILD)), name=ref)
        return made.write(tmp_path / f"layout-{hashlib.sha256(b''.join(layers)).hexdigest()[:8]}")

    return make


def content(root: Path) -> dict[str, bytes]:
    """Everything a store keeps, the catalog and empty files apart."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith("catalog.db") and path.name != "lock"
    }


def test_an_image_is_loaded_read_and_described(store: Store, layout: Callable[..., Path]) -> None:
    image = store.load(layout())
    diff_ids = [DiffID.of(BASE), DiffID.of(CHILD)]
    assert image.references == ("win:1",)
    assert [layer.diff_id for layer in image.layers] == diff_ids
    assert [layer.chain_id for layer in image.layers] == chain_ids(diff_ids)
    assert [layer.entries for layer in image.layers] == [3, 2]
    assert image.config["os"] == "windows"
    assert image.path("KEEP.txt").read_bytes() == b"kept"
    assert not image.path("drop.txt").exists()
    assert image.layer_path("files/NEW.TXT").read_bytes() == b"new"
    with image.layers[0].diff() as diff:
        assert diff.read() == BASE


def test_loading_twice_stores_once(store: Store, layout: Callable[..., Path]) -> None:
    first = store.load(layout())
    before = content(store.root)
    assert store.load(layout()).id == first.id
    assert content(store.root) == before
    assert len(store.images()) == 1


def test_images_share_their_layers(store: Store, layout: Callable[..., Path]) -> None:
    store.load(layout(BASE, ref="base:1"))
    store.load(layout(BASE, CHILD, ref="child:1"))
    assert len(store.layers()) == 2
    store.remove_image("child:1")
    assert [layer.diff_id for layer in store.layers()] == [DiffID.of(BASE)]
    assert store.image("base:1").path("drop.txt").read_bytes() == b"gone"


def test_images_are_found_by_tag_id_and_prefix(store: Store, layout: Callable[..., Path]) -> None:
    image = store.load(layout())
    for name in ("win:1", image.id, image.id.hex, image.id.hex[:12], f"sha256:{image.id.hex[:8]}"):
        assert store.image(name).id == image.id
    for name in ("win:2", "0" * 64, "docker.io/library/nothing"):
        with pytest.raises(ImageNotFound):
            store.image(name)
    with pytest.raises(UsageError):
        store.image("No Such Name")


def test_tags_move_and_go(store: Store, layout: Callable[..., Path]) -> None:
    first = store.load(layout(BASE, ref="a:1"))
    second = store.load(layout(BASE, CHILD, ref="b:1"))
    store.tag("a:1", "c")
    assert store.image("c:latest").id == first.id
    store.tag("b:1", "c")
    assert store.image("c").id == second.id
    assert not store.remove_image("c").items  # only the tag
    assert store.image("b:1").references == ("b:1",)
    store.tag("a:1", "d:1")
    with pytest.raises(UsageError, match="force"):
        store.remove_image(first.id)
    store.remove_image(first.id, force=True)
    assert [image.id for image in store.images()] == [second.id]


@pytest.mark.parametrize("form", ["oci", "docker"])
@pytest.mark.parametrize("compression", [None, "none", "gzip", "zstd"])
def test_a_saved_image_loads_again_with_the_same_layers(
    store: Store, layout: Callable[..., Path], tmp_path: Path, form: str, compression: str | None
) -> None:
    image = store.load(layout())
    target = tmp_path / "saved.tar"
    store.save(["win:1"], target, format=form, compression=compression)
    with Store(tmp_path / "other") as other:
        again = other.load(target)
        assert again.id == image.id
        assert again.references == ("win:1",)
        for layer, raw in zip(again.layers, (BASE, CHILD), strict=True):
            with layer.diff() as diff:
                assert diff.read() == raw


def test_the_manifest_survives_if_the_compressed_layers_are_kept(
    store: Store, layout: Callable[..., Path], tmp_path: Path
) -> None:
    source = layout()
    kept = store.load(source, keep_compressed=True)
    store.save([kept.id], f"{tmp_path / 'out'}{os.sep}")
    names = {path.name for path in (source / "blobs/sha256").iterdir()}
    assert {path.name for path in (tmp_path / "out/blobs/sha256").iterdir()} == names


def test_a_load_from_a_stream_needs_no_seeking(
    store: Store, layout: Callable[..., Path], tmp_path: Path
) -> None:
    store.load(layout())
    target = tmp_path / "x.tar"
    store.save(["win:1"], target, format="docker")

    class Pipe(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self._inner = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            return self._inner.readinto(buffer)  # type: ignore[arg-type]

    with Store(tmp_path / "other") as other:
        assert other.load(io.BufferedReader(Pipe(target.read_bytes()))).references == ("win:1",)


def broken(kind: str, tmp_path: Path) -> Path:
    made = images.Layout()
    descriptor = made.image((BASE, CHILD))
    made.add(descriptor, name="win:1")
    path = made.write(tmp_path / kind)
    blobs = path / "blobs/sha256"
    layers = sorted(
        (file for file in blobs.iterdir() if file.read_bytes()[:2] == b"\x1f\x8b"),
        key=lambda file: len(file.read_bytes()),
    )
    victim = next(file for file in layers if images.gz(CHILD) == file.read_bytes())
    data = victim.read_bytes()
    if kind == "truncated":
        victim.write_bytes(data[:-20])
    elif kind == "missing":
        victim.unlink()
    elif kind == "other bytes":
        victim.write_bytes(images.gz(CHILD.replace(b"new", b"odd")))
    elif kind == "no tar":
        victim.write_bytes(images.gz(b"hello" * 1000))
    return path


@pytest.mark.parametrize("kind", ["truncated", "missing", "other bytes", "no tar"])
def test_a_load_that_fails_leaves_the_store_as_it_was(
    store: Store, layout: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    store.load(layout(tar([file("Files/other")]), ref="other:1"))
    before = content(store.root)
    with pytest.raises(FormatError) as caught:
        store.load(broken(kind, tmp_path))
    assert caught.value.exit_code == 3
    assert content(store.root) == before
    assert len(store.layers()) == 1


def test_a_load_that_fails_behind_its_blob_leaves_no_blob(
    store: Store, layout: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(store.root)

    def full(*_: object, **__: object) -> None:
        raise HostError(28, "the disk is full")

    monkeypatch.setattr(store.core.layers, "add", full)
    with pytest.raises(HostError):
        store.load(layout())
    assert content(store.root) == before


def test_sources_that_are_no_images_are_refused(store: Store, tmp_path: Path) -> None:
    for name, data in {"text": b"hello world", "empty": b"", "tar": tar([file("x")])}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(FormatError):
            store.load(tmp_path / name)
    with pytest.raises(UsageError):
        store.load(tmp_path / "nothing")
    assert store.images() == []


def test_removal_gives_the_space_back(store: Store, layout: Callable[..., Path]) -> None:
    empty = content(store.root)
    image = store.load(layout())
    image.path("keep.txt").read_bytes()
    removed = store.remove_image("win:1")
    assert removed.bytes > 0
    assert content(store.root) == empty


def test_a_held_image_is_not_removed(store: Store, layout: Callable[..., Path]) -> None:
    from windowsfilter.store.holds import HoldKind

    image = store.load(layout())
    top = image.record.layers[-1]
    with store.core.holds.held([(HoldKind.LAYER, top)], "mount", path="/mnt/here"):
        with pytest.raises(LayerInUse, match="/mnt/here"):
            store.remove_image("win:1")
    assert store.image("win:1").path("keep.txt").exists()


def test_prune_removes_what_nothing_needs(store: Store, layout: Callable[..., Path]) -> None:
    image = store.load(layout())
    store.core.images.untag("win:1")
    assert store.prune(dry_run=True).items == []
    planned = store.prune(dry_run=True, untagged=True)
    assert store.image(image.id).id == image.id
    assert store.prune(untagged=True).ids("image") == planned.ids("image") == [image.id]
    assert store.layers() == []


def test_usage_tells_shared_from_exclusive(store: Store, layout: Callable[..., Path]) -> None:
    store.load(layout(BASE, ref="base:1"))
    store.load(layout(BASE, CHILD, ref="child:1"))
    usage = store.usage()
    by_tag = {image.references: image for image in usage.images}
    assert by_tag[("base:1",)].exclusive == 0
    assert by_tag[("child:1",)].exclusive > 0
    assert by_tag[("base:1",)].shared == by_tag[("child:1",)].shared > 0
    assert usage.total >= sum(layer.bytes for layer in usage.layers)
    assert usage.reclaimable == 0


def test_layers_are_found_by_id_and_prefix(store: Store, layout: Callable[..., Path]) -> None:
    image = store.load(layout())
    top = image.layers[-1]
    assert store.layer(top.id).id == store.layer(top.id[:10]).id == top.id
    with pytest.raises(LayerNotFound):
        store.layer("0" * 64)


def test_an_image_that_is_not_what_it_says_loads_without_verification(
    store: Store, shared: Path, tmp_path: Path
) -> None:
    sample = shared / "samples" / "windows-mini-image.tar.gz"
    with pytest.raises(DigestMismatch):
        store.load(sample)
    assert content(store.root).keys() == {"reserve", "store.json"}
    image = store.load(sample, verify=False)
    assert {problem.reason[:12] for problem in image.problems} == {"hard link to"}
    assert len(image.problems) == 3
    assert image.path("License.txt").stat().hard_links == 2
    target = tmp_path / "again.tar"
    store.save([image.id], target, format="docker", compression="none")
    with Store(tmp_path / "other") as other:
        again = other.load(target, verify=False)
        assert again.id == image.id
        with image.layers[0].diff() as one, again.layers[0].diff() as two:
            assert one.read() == two.read()
