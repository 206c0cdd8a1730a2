"""Choosing a way to mount, and that every way shows the same."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import chains, mounts
from windowsfilter.engines.portable import mount_table
from windowsfilter.engines.portable.chains import ChainImages
from windowsfilter.engines.portable.fuse import mount as fuse_mount
from windowsfilter.engines.portable.mount_engines import (
    ENGINES,
    KernelEngine,
    MountEngines,
    Request,
)
from windowsfilter.engines.portable.mounting import Upper
from windowsfilter.engines.portable.view import View
from windowsfilter.errors import HostError, UsageError

LAYER = [
    chains.folder("Files/Windows"),
    chains.file("Files/Windows/a.txt", b"hello"),
    chains.file("Files/Windows/a.txt:s", b"stream"),
    chains.hard_link("Files/b.txt", "Files/WINDOWS/A.TXT"),
    chains.junction("Files/j", r"C:\windows"),
    chains.file("Hives/Sam_Delta", b"hive"),
]


@contextmanager
def free(_key: str) -> Iterator[None]:
    yield


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = chains.Blobs(folder / "store")
        self.made = 0
        for name in ("chains", "target", "upper", "work"):
            (folder / name).mkdir(mode=0o700)
        self.target = folder / "target"
        self.upper = Upper(folder / "upper", folder / "work")

    def staging(self, purpose: str) -> Path:
        self.made += 1
        place = self.folder / f"{purpose}.{self.made}"
        place.mkdir()
        return place

    def engines(self, forced: str | None = None) -> MountEngines:
        images = ChainImages(self.folder / "chains", staging=self.staging, lock=free)
        return MountEngines(images, self.folder / "run", forced=forced)


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    with mounts.disk(tmp_path) as folder:
        yield Place(folder)


@pytest.fixture(params=[name for name in ENGINES if name != "api"])
def forced(request, place) -> MountEngines:
    engines = place.engines(request.param)
    reason = engines.available[request.param]
    if reason is not None:
        pytest.skip(f"this machine cannot: {reason}")
    return engines


@pytest.mark.root
def test_every_engine_shows_a_chain_and_takes_it_away(place, forced):
    with place.blobs.chain(LAYER) as chain:
        mounted = forced.mount(Request(layers=chain, target=place.target))
        try:
            assert (place.target / "b.txt").read_bytes() == b"hello"
            assert os.readlink(place.target / "j") == "Windows"
            found = mount_table.at(place.target)
            assert found is not None
            name = found.name(place.folder / "chains")
            if mounted.images:
                assert (name,) == mounted.images
                assert found.subtree == "/Files"
            assert name and found.is_fuse == (mounted.server is not None)
        finally:
            forced.unmount(place.target, server=mounted.server)
    assert mount_table.at(place.target) is None


@pytest.mark.root
def test_every_engine_carries_a_scratch(place, forced):
    with place.blobs.chain(LAYER) as chain:
        request = Request(layers=chain, target=place.target, view=View.LAYER, name="scratch1")
        mounted = forced.mount_scratch(request, place.upper)
        try:
            (place.target / "Files/Windows/a.txt").write_bytes(b"changed")
            found = mount_table.at(place.target)
            assert found is not None
            assert (found.name(place.folder), found.kind) == ("scratch1", "overlay")
        finally:
            forced.unmount(place.target, server=mounted.server)
    assert (place.upper.upper / "Files/Windows/a.txt").read_bytes() == b"changed"
    run = place.folder / "run"
    assert not run.exists() or not os.listdir(run)


@pytest.mark.root
def test_a_damaged_image_is_made_again_when_the_kernel_refuses_it(place):
    engines = place.engines("erofs-file")
    with place.blobs.chain(LAYER) as chain:
        mounted = engines.mount(Request(layers=chain, target=place.target))
        engines.unmount(place.target)
        image = place.folder / "chains" / mounted.images[0] / "image"
        whole = image.read_bytes()
        data = bytearray(whole)
        # The root's inode, where the metadata begins: a glance does not see it.
        root = int.from_bytes(data[1064:1068], "little") * 512
        data[root : root + 64] = b"\xff" * 64
        image.write_bytes(data)
        again = engines.mount(Request(layers=chain, target=place.target))
        try:
            assert (place.target / "b.txt").read_bytes() == b"hello"
        finally:
            engines.unmount(place.target)
        assert again == mounted
        assert image.read_bytes() == whole


@pytest.mark.root
def test_a_busy_mount_stays_unless_told_otherwise(place):
    engines = place.engines()
    with place.blobs.chain(LAYER) as chain:
        mounted = engines.mount(Request(layers=chain, target=place.target))
    inside = os.open(place.target / "b.txt", os.O_RDONLY)
    try:
        with pytest.raises(HostError) as caught:
            engines.unmount(place.target)
        assert caught.value.errno == errno.EBUSY
        engines.unmount(place.target, lazy=True, server=mounted.server)
        assert mount_table.at(place.target) is None
        assert os.read(inside, 9) == b"hello"
    finally:
        os.close(inside)


@pytest.mark.root
def test_streams_are_for_the_fuse_server(place):
    if fuse_mount.probe() is not None:
        pytest.skip(f"this machine cannot: {fuse_mount.probe()}")
    engines = place.engines()
    with place.blobs.chain(LAYER) as chain:
        mounted = engines.mount(Request(layers=chain, target=place.target, streams=True))
        try:
            assert (place.target / "Windows/a.txt:s").read_bytes() == b"stream"
        finally:
            engines.unmount(place.target, server=mounted.server)
        with pytest.raises(UsageError, match="streams"):
            place.engines("erofs-file").mount(
                Request(layers=chain, target=place.target, streams=True)
            )


@pytest.mark.root
def test_others_get_in_only_when_allowed(place):
    engines = place.engines()
    if not isinstance(engines.chosen, KernelEngine):
        pytest.skip("this machine cannot mount images")
    with place.blobs.chain(LAYER) as chain:
        for allow, mode in ((False, 0o700), (True, 0o755)):
            request = Request(layers=chain, target=place.target, allow_other=allow)
            engines.mount(request)
            try:
                assert place.target.stat().st_mode & 0o777 == mode
            finally:
                engines.unmount(place.target)


def test_the_first_engine_that_works_is_chosen(tmp_path):
    engines = Place(tmp_path).engines()
    assert list(engines.available) == list(ENGINES)
    assert engines.available["api"] is None
    first = next(name for name, reason in engines.available.items() if reason is None)
    assert engines.chosen.name == first
    assert all(reason is None or reason for reason in engines.available.values())


def test_the_api_mounts_nothing(tmp_path):
    place = Place(tmp_path)
    with place.blobs.chain(LAYER) as chain, pytest.raises(HostError, match="without"):
        place.engines("api").mount(Request(layers=chain, target=place.target))


def test_unknown_engines_are_the_callers_mistake(tmp_path):
    with pytest.raises(UsageError, match="erofs-file, erofs-loop, fuse, api"):
        Place(tmp_path).engines("squashfs")


@pytest.mark.root
def test_a_forced_engine_that_cannot_work_says_why(tmp_path):
    with mounts.tmpfs(tmp_path):
        engines = Place(tmp_path).engines("erofs-file")
        with pytest.raises(HostError, match="mount engine erofs-file: the kernel cannot mount"):
            _ = engines.chosen
        reason = engines.available["erofs-loop"]
        assert reason is None or "loop" in reason
