"""WIMs made of images, applied by wimlib to a new volume and read back through ntfs-3g."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import ntfs_volumes
from tests.support.command import write_layout
from tests.support.windows_image import BASE, HOSTILE, UPDATE, assert_same
from windowsfilter.store.store import Store

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def _programs(program: Callable[[str], str]) -> None:
    for name in ("mkntfs", "ntfs-3g", "ntfsinfo", "wimlib-imagex"):
        program(name)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


def applied(wim: Path, volume: Path) -> Path:
    """A volume with what is in a WIM, made by wimlib alone."""
    subprocess.run(["truncate", "-s", "96M", volume], check=True)
    subprocess.run(["mkntfs", "-F", "-Q", "-q", volume], check=True, capture_output=True)
    subprocess.run(
        ["wimlib-imagex", "apply", wim, "1", volume, "--strict-acls"],
        check=True,
        capture_output=True,
    )
    return volume


@pytest.mark.parametrize("compression", ["none", "xpress", "lzx", "lzms"])
def test_a_wim_has_everything_that_wims_can_have(
    store: Store, tmp_path: Path, compression: str
) -> None:
    image = store.load(write_layout(tmp_path / "oci", BASE, UPDATE))
    wim = tmp_path / "out.wim"
    exported = image.export_wim(wim, compression=compression)
    lost = {loss.path for loss in exported.not_carried}
    assert lost == {b"Files/Windows", b"Files/Windows/eas"}  # which have extended attributes
    subprocess.run(["wimlib-imagex", "verify", wim], check=True, capture_output=True)
    found = ntfs_volumes.read(applied(wim, tmp_path / "applied"), tmp_path / "mnt")
    assert_same(image, found, wim=True)


def test_names_that_are_trouble_stand_in_a_wim(store: Store, tmp_path: Path) -> None:
    image = store.load(write_layout(tmp_path / "oci", HOSTILE))
    wim = tmp_path / "out.wim"
    assert not image.export_wim(wim).not_carried
    found = ntfs_volumes.read(applied(wim, tmp_path / "applied"), tmp_path / "mnt")
    assert_same(image, found, wim=True)


def test_what_wimlib_usually_leaves_out_is_there(store: Store, tmp_path: Path) -> None:
    from tests.support.chains import file, folder, tar

    names = ("pagefile.sys", "hiberfil.sys", "$Recycle.Bin/x", "System Volume Information/y")
    layer = tar([folder("Files"), *(file(f"Files/{name}", b"kept") for name in names)])
    wim = tmp_path / "out.wim"
    store.load(write_layout(tmp_path / "oci", layer)).export_wim(wim)
    told = subprocess.run(["wimlib-imagex", "dir", wim], check=True, capture_output=True).stdout
    assert {f"/{name}" for name in names} <= set(told.decode().splitlines())
