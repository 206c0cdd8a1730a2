"""A disk without a free byte: the error says so, and a store can always be emptied."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault.test_store_crashes import check
from tests.support.open_store import OpenStore, add_blob, load
from windowsfilter.errors import HostError
from windowsfilter.store.reserve import FILE, PLENTY_BYTES, RESERVE_BYTES, Reserve


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    size = PLENTY_BYTES + 4 * RESERVE_BYTES
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "none", str(place)]
    subprocess.run(command, check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path) -> None:
    descriptor = os.open(disk / "fill", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for size in (1 << 20, 1 << 12):
            with pytest.raises(OSError, match="No space left"):
                while True:
                    os.write(descriptor, b"\1" * size)
    finally:
        os.close(descriptor)


@pytest.mark.root
def test_an_image_can_be_removed_from_a_full_disk(disk: Path) -> None:
    root = disk / "store"
    with OpenStore(root) as store:
        image = load(store, [b"a" * (6 << 20)], "big")
        load(store, [b"b"], "kept")
    assert (root / FILE).stat().st_size == RESERVE_BYTES
    fill(disk)
    with OpenStore(root) as store:
        assert not (root / FILE).exists()
        store.garbage.remove_image(image)
        assert list(store.catalog.tags()) == ["kept"]
    info = os.statvfs(disk)
    assert info.f_bavail * info.f_frsize > 6 << 20
    (disk / "fill").unlink()
    with OpenStore(root) as store:
        check(store)
        assert (root / FILE).exists()


@pytest.mark.root
def test_a_store_that_is_open_when_the_disk_fills_up_can_be_emptied(disk: Path) -> None:
    with OpenStore(disk / "store") as store:
        image = load(store, [b"a" * (6 << 20)], "big")
        fill(disk)
        store.garbage.remove_image(image)
        assert store.catalog.images() == []


@pytest.mark.root
def test_what_does_not_fit_leaves_the_store_as_it_was(disk: Path) -> None:
    with OpenStore(disk / "store") as store:
        load(store, [b"a"], "kept")
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            add_blob(store, b"b" * (8 << 20))
        assert list(store.layout.blobs.iterdir()) != []
    with OpenStore(disk / "store") as store:
        check(store)
        assert list(store.catalog.tags()) == ["kept"]


@pytest.mark.root
def test_a_store_that_cannot_even_be_opened_says_that_the_disk_is_full(disk: Path) -> None:
    OpenStore(disk / "store").close()
    (disk / "store" / FILE).unlink()
    fill(disk)
    with pytest.raises(HostError, match="No space left on device") as caught:
        OpenStore(disk / "store")
    assert caught.value.errno == errno.ENOSPC


def test_no_reserve_is_kept_where_there_is_little_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = Reserve(tmp_path)
    monkeypatch.setattr(reserve, "_free", lambda: PLENTY_BYTES - 1)
    reserve.keep()
    assert not (tmp_path / FILE).exists()
    assert not reserve.spend()
    monkeypatch.setattr(reserve, "_free", lambda: RESERVE_BYTES - 1)
    assert not reserve.spend()
    (tmp_path / FILE).touch()
    assert reserve.spend()
