"""Mounts of a store: every engine this machine has, holds, unmounting, scratches written through."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.chains import file, folder, junction, symlink, tar, whiteout
from windowsfilter import Image, Store, View
from windowsfilter.engines.portable import mount_table
from windowsfilter.engines.portable.mount_engines import API, ENGINES
from windowsfilter.errors import HostError, LayerInUse, UsageError

BASE = tar(
    [
        folder("Files"),
        folder("Files/Windows"),
        file("Files/Windows/Notepad.exe", b"MZ" * 5000),
        file("Files/Windows/notepad.exe:secret", b"stream", attributes=None),
        file("Files/gone.txt", b"gone"),
        junction("Files/Link", r"C:\Windows"),
        symlink("Files/etc", "/etc"),
        folder("Hives"),
        file("Hives/System_Delta", b"regf"),
    ]
)
CHILD = tar([whiteout("Files/GONE.txt"), file("Files/WINDOWS/new.dll", b"new")])


@pytest.fixture(params=[name for name in ENGINES if name != API])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "root", mount_engine=request.param) as store:
        unavailable = store.info()["mount"]["unavailable"]
        if request.param in unavailable:
            pytest.skip(f"this machine cannot: {unavailable[request.param]}")
        yield store
        for mount in store.mounts():
            store.unmount(mount.path, lazy=True)


@pytest.fixture
def image(store: Store, tmp_path: Path) -> Image:
    made = images.Layout()
    made.add(made.image([BASE, CHILD]), name="win:1")
    return store.load(made.write(tmp_path / "layout"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "a place, with\tstrange name"
    path.mkdir()
    return path


@pytest.mark.root
def test_an_image_is_mounted_read_and_unmounted(store: Store, image: Image, place: Path) -> None:
    image.mount(place)
    assert sorted(os.listdir(place)) == ["Link", "Windows", "etc"]
    assert sorted(os.listdir(place / "Windows")) == ["Notepad.exe", "new.dll"]
    assert (place / "Windows/Notepad.exe").read_bytes() == b"MZ" * 5000
    assert os.readlink(place / "Link") == "Windows"
    assert os.readlink(place / "etc") != "/etc"
    assert not (place / "etc").exists()
    with pytest.raises(OSError, match="Read-only"):
        (place / "new").touch()
    store.unmount(place)
    assert os.listdir(place) == []
    assert store.mounts() == []


@pytest.mark.root
def test_the_layer_view_shows_hives_too(store: Store, image: Image, place: Path) -> None:
    image.mount(place, view=View.LAYER)
    assert sorted(os.listdir(place)) == ["Files", "Hives"]
    assert (place / "Hives/System_Delta").read_bytes() == b"regf"
    store.unmount(place)


@pytest.mark.root
def test_a_mounted_image_cannot_be_removed(store: Store, image: Image, place: Path) -> None:
    image.mount(place)
    with pytest.raises(LayerInUse, match="strange name"):
        store.remove_image("win:1")
    store.unmount(place)
    store.remove_image("win:1")
    assert store.layers() == []


@pytest.mark.root
def test_a_mount_taken_away_behind_our_back_is_noticed(
    store: Store, image: Image, place: Path
) -> None:
    image.mount(place)
    subprocess.run(["umount", str(place)], check=True)
    assert store.mounts() == []
    store.remove_image("win:1")


@pytest.mark.root
def test_mounts_outlive_the_store_object(store: Store, image: Image, place: Path) -> None:
    image.mount(place)
    with Store(store.root) as other:
        assert [mount.path for mount in other.mounts()] == [place]
        assert (place / "Windows/new.dll").read_bytes() == b"new"
        other.unmount(place)
    assert mount_table.at(place) is None


@pytest.mark.root
def test_an_image_can_be_mounted_for_a_block_only(store: Store, image: Image) -> None:
    with image.mounted() as root:
        assert (root / "Windows/new.dll").read_bytes() == b"new"
        listed = subprocess.run(["ls", f"{root}/"], capture_output=True, text=True, check=True)
        assert listed.stdout.split() == ["Link", "Windows", "etc"]
    assert not (root / "Windows").exists()
    assert store.mounts() == []
    store.remove_image("win:1")


@pytest.mark.root
def test_a_scratch_is_written_through_its_mount(store: Store, image: Image, place: Path) -> None:
    scratch = store.create_scratch("work", image)
    scratch.mount(place)
    (place / "Windows/Notepad.exe").write_bytes(b"patched")
    (place / "Windows/added.txt").write_text("added")
    (place / "Windows/new.dll").unlink()
    with pytest.raises(UsageError, match="mounted at"):
        scratch.mount(place)
    with pytest.raises(LayerInUse):
        scratch.write_bytes("x", b"")
    with pytest.raises(LayerInUse):
        store.remove_scratch("work")
    assert {(str(change.kind), change.path) for change in scratch.changes()} == {
        ("modify", b"Files/Windows/Notepad.exe"),
        ("add", b"Files/Windows/added.txt"),
        ("delete", b"Files/Windows/new.dll"),
    } | {("modify", b"Files/Windows")} & {
        (str(change.kind), change.path) for change in scratch.changes()
    }
    scratch.unmount()
    made = scratch.commit("child:1")
    assert made.path("windows/NOTEPAD.exe").read_bytes() == b"patched"
    assert [stream.name for stream in made.path("windows/notepad.exe").streams()] == ["secret"]
    assert not made.path("windows/new.dll").exists()
    scratch.mount(place)
    assert (place / "Windows/added.txt").read_text() == "added"
    scratch.unmount()
    store.remove_scratch("work")
    assert mount_table.at(place) is None


@pytest.mark.root
def test_nothing_is_held_after_a_mount_that_fails(
    store: Store, image: Image, tmp_path: Path
) -> None:
    with pytest.raises(UsageError):
        image.mount(tmp_path / "missing")
    with pytest.raises(UsageError):
        store.unmount(tmp_path)
    store.remove_image("win:1")


def test_without_a_mount_engine_the_reasons_are_told(tmp_path: Path) -> None:
    made = images.Layout()
    made.add(made.image([BASE]), name="win:1")
    with Store(tmp_path / "root", mount_engine=API) as store:
        image = store.load(made.write(tmp_path / "layout"))
        with pytest.raises(HostError, match="windowsfilter info"):
            image.mount(tmp_path)
        assert image.path("gone.txt").read_bytes() == b"gone"
    with Store(tmp_path / "root", mount_engine="magic") as store, pytest.raises(UsageError):
        store.info()
