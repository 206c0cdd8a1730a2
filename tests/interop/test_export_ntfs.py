"""NTFS volumes made of images, read back through ntfs-3g and its tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import ntfs_volumes, windows_image
from tests.support.command import write_layout
from tests.support.windows_image import BASE, HOSTILE, UPDATE, assert_same
from windowsfilter.ntfs.security import SecurityDescriptor
from windowsfilter.store.store import Store

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def _programs(program: Callable[[str], str]) -> None:
    for name in ("mkntfs", "ntfs-3g", "ntfsinfo"):
        program(name)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


def load(store: Store, tmp_path: Path, *layers: bytes):
    return store.load(write_layout(tmp_path / "oci", *layers))


@pytest.mark.parametrize("view", ["volume", "layer"])
def test_everything_of_an_image_is_on_the_volume(store: Store, tmp_path: Path, view: str) -> None:
    image = load(store, tmp_path, BASE, UPDATE)
    volume = tmp_path / "out.ntfs"
    exported = image.export_ntfs(volume, view=view, label="Läbel")
    assert not exported.not_carried
    ntfs_volumes.check(volume)
    found = ntfs_volumes.read(volume, tmp_path / "mnt")
    assert_same(image, found, view=view)
    assert exported.written.files + exported.written.directories == len(
        {entry.record for entry in found.values()}
    )
    prefix = b"Files/" if view == "layer" else b""
    links = [b"Windows/cmd.exe", b"Windows/command.exe"]
    [command, linked] = [found[prefix + name].record for name in links]
    assert command != linked  # the update replaced one of the names
    shared = {found[prefix + b"Windows/" + name].record for name in (b"shared", b"shared twice")}
    if view == "layer":
        shared.add(found[b"UtilityVM/Files/shared"].record)
    assert len(shared) == 1
    assert found[prefix + b"to file"].record == found[prefix + b"to file again"].record


def test_names_that_are_trouble_stand_on_the_volume(store: Store, tmp_path: Path) -> None:
    image = load(store, tmp_path, HOSTILE)
    volume = tmp_path / "out.ntfs"
    assert not image.export_ntfs(volume).not_carried
    ntfs_volumes.check(volume)
    found = ntfs_volumes.read(volume, tmp_path / "mnt")
    assert_same(image, found)
    assert set(windows_image.TROUBLE) <= set(found)


def test_what_has_no_descriptor_inherits_one(store: Store, tmp_path: Path) -> None:
    image = load(store, tmp_path, BASE)
    volume = tmp_path / "out.ntfs"
    image.export_ntfs(volume)
    found = ntfs_volumes.read(volume, tmp_path / "mnt")
    above = SecurityDescriptor.parse(found[b"Windows/inherits"].descriptor)
    below = SecurityDescriptor.parse(found[b"Windows/inherits/too"].descriptor)
    assert above.to_sddl().startswith("O:BAG:SYD:(A;OICIID;FA;;;S-1-5-80-")
    assert below.to_sddl().startswith("O:BAG:SYD:(A;ID;FA;;;S-1-5-80-")
