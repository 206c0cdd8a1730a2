"""Scratches through the library: changed without a mount, listed, committed, removed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.chains import file, folder, tar
from windowsfilter import Image, Store
from windowsfilter.errors import (
    AlreadyExists,
    HostError,
    LayerInUse,
    ScratchNotFound,
    UsageError,
    WindowsFilterError,
)

BASE = tar(
    [
        folder("Files"),
        folder("Files/Windows", attributes=0x10),
        file("Files/Windows/old.txt", b"old", attributes=0x21),
        file("Files/Windows/keep.txt", b"keep", attributes=0x22),
        folder("Hives"),
        file("Hives/System_Delta", b"regf"),
    ]
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "root") as store:
        yield store


@pytest.fixture
def image(store: Store, tmp_path: Path) -> Image:
    made = images.Layout()
    made.add(made.image([BASE]), name="base:1")
    return store.load(made.write(tmp_path / "layout"))


def test_a_scratch_is_changed_listed_and_committed(store: Store, image: Image) -> None:
    scratch = store.create_scratch("work", "base:1")
    assert scratch.changes() == []
    scratch.write_bytes(r"C:\windows\NEW.txt", b"new")
    scratch.write_bytes("Windows/KEEP.TXT", b"kept and changed")
    scratch.remove(r"Windows\OLD.txt")
    scratch.mkdir("Program Files/App", parents=True)
    changes = {(str(change.kind), change.path) for change in scratch.changes()}
    assert {
        ("add", b"Files/Windows/NEW.txt"),
        ("modify", b"Files/Windows/keep.txt"),
        ("delete", b"Files/Windows/old.txt"),
        ("add", b"Files/Program Files"),
        ("add", b"Files/Program Files/App"),
    } <= changes
    made = scratch.commit("child:1")
    assert made.references == ("child:1",)
    assert [layer.diff_id for layer in made.layers][:1] == [image.layers[0].diff_id]
    assert len(made.layers) == 2
    assert made.path("windows/new.TXT").read_bytes() == b"new"
    assert made.path("windows/keep.txt").read_bytes() == b"kept and changed"
    assert made.path("windows/keep.txt").stat().attributes & 0x2
    assert not made.path("windows/old.txt").exists()
    assert made.path("program files/app").is_dir()
    assert made.config["rootfs"]["diff_ids"] == [layer.diff_id for layer in made.layers]
    assert [str(change.kind) for change in made.layers[1].changes()]


def test_what_a_scratch_shows_is_the_image_with_its_changes(store: Store, image: Image) -> None:
    scratch = store.create_scratch("work", image)
    scratch.write_bytes("a.txt:stream", b"hidden")
    assert scratch.read_bytes("A.TXT:STREAM") == b"hidden"
    assert scratch.read_bytes("Windows/old.txt") == b"old"
    scratch.rename("Windows", "WinNT")
    assert scratch.listdir() == ["WinNT", "a.txt"]
    assert scratch.exists(r"winnt\old.TXT") and not scratch.exists("Windows")


def test_an_untouched_scratch_commits_to_a_layer_without_changes(
    store: Store, image: Image
) -> None:
    made = store.create_scratch("idle", image).commit("same:1")
    changes = [change for change in made.layers[-1].changes() if str(change.kind) != "modify"]
    assert changes == []


def test_a_diff_is_the_tar_that_a_commit_stores(store: Store, image: Image) -> None:
    scratch = store.create_scratch("work", image)
    scratch.write_bytes("x", b"1")
    with scratch.diff() as stream:
        raw = stream.read()
    layer = scratch.commit().layers[-1]
    with layer.diff() as stored:
        assert stored.read() == raw


def test_a_refused_commit_leaves_nothing(store: Store, image: Image) -> None:
    scratch = store.create_scratch("work", image)
    (scratch.upper / "Files").mkdir()
    (scratch.upper / "Files" / "bad?name").write_bytes(b"x")
    with pytest.raises(WindowsFilterError, match=r"bad\?name"):
        scratch.commit("bad:1")
    assert len(store.layers()) == 2
    assert len(list(store.core.blobs.all())) == 1
    assert [image.references for image in store.images()] == [("base:1",)]


def test_a_commit_that_fails_at_the_image_leaves_no_layer(
    store: Store, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = store.create_scratch("work", image)
    scratch.write_bytes("new.txt", b"new")
    before = {layer.id for layer in store.layers()}

    def full(*_: object, **__: object) -> None:
        raise HostError(errno.ENOSPC, "the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(store.core.images, "add", full)
        with pytest.raises(HostError):
            scratch.commit("bad:1")
    assert {layer.id for layer in store.layers()} == before
    assert store.prune(dry_run=True).items == []
    assert scratch.commit("good:1").path("new.txt").read_bytes() == b"new"


def test_scratches_have_unique_names_and_keep_their_image(store: Store, image: Image) -> None:
    store.create_scratch("one", image)
    with pytest.raises(AlreadyExists):
        store.create_scratch("one", image)
    with pytest.raises(UsageError):
        store.create_scratch("a/b", image)
    with pytest.raises(LayerInUse, match="scratch one"):
        store.remove_image("base:1")
    assert [scratch.name for scratch in store.scratches()] == ["one"]
    store.remove_scratch("one")
    with pytest.raises(ScratchNotFound):
        store.scratch("one")
    store.remove_image("base:1")
    assert store.layers() == []


def test_scratches_survive_a_lost_catalog(store: Store, image: Image, tmp_path: Path) -> None:
    store.create_scratch("kept", image).write_bytes("file.txt", b"content")
    store.close()
    for path in (tmp_path / "root").glob("catalog.db*"):
        path.unlink()
    with Store(tmp_path / "root") as again:
        assert again.scratch("kept").read_bytes("FILE.txt") == b"content"
        assert again.image("base:1").id == image.id
