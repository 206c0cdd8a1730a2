"""The whole command on a small disk that fills up: exit code 4, nothing left over, usable after."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bad_input import contents
from tests.support.chains import file, folder, tar
from tests.support.command import Command, write_layout
from windowsfilter.store.reserve import RESERVE_BYTES

DISK_BYTES = 96 << 20
BODY = random.Random(5).randbytes(4 << 20)
SMALL = tar([folder("Files"), file("Files/a", b"hello"), file("Files/b", BODY)])
BIG = tar([folder("Files"), *(file(f"Files/{n}", b"%d" % n + BODY) for n in range(30))])
# Much larger as a mountable image than packed: long names, no data.
WIDE = tar([folder("Files"), *(file(f"Files/{n:05}{'x' * 200}", b"1") for n in range(20_000))])


@pytest.fixture(params=["ext4", "tmpfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if request.param == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(place)]
    else:
        image = tmp_path / "ext4"
        image.touch()
        os.truncate(image, DISK_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
        command = ["mount", "-o", "loop", str(image), str(place)]
    subprocess.run(command, check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def command(disk: Path, tmp_path: Path) -> Iterator[Command]:
    """The command on a store there, with the image `kept:1`."""
    found = Command(disk / "store")
    found.ok("load", write_layout(tmp_path / "kept", SMALL, tag="kept:1"))
    yield found
    (disk / "fill").unlink(missing_ok=True)
    for mount in found.json("mount"):
        found.ok("umount", mount["path"])


def fill(disk: Path, leave: int) -> None:
    """Take all space but `leave` bytes."""
    with open(disk / "fill", "wb", buffering=0) as out:
        while True:
            info = os.statvfs(disk)
            spare = info.f_bavail * info.f_frsize - leave
            if spare <= 0:
                return
            out.write(b"\1" * min(1 << 20, spare))


def full(command: Command, *arguments: str | Path) -> None:
    """Run what the disk has no room for."""
    done = command(*arguments)
    assert (done.code, done.out) == (4, b""), done.err
    assert done.err.splitlines()[-1].startswith("windowsfilter: ")
    assert "No space left on device" in done.err or "the disk is full" in done.err
    assert "bug" not in done.err


def sound(command: Command) -> None:
    """What was there is whole, and the store takes more."""
    assert list((command.root / "tmp").iterdir()) == []
    assert command.ok("cat", "kept:1", "b").out == BODY
    assert [image["references"] for image in command.json("images")] == [["kept:1"]]
    command.ok("tag", "kept:1", "other:1")
    command.ok("rmi", "other:1")


@pytest.mark.root
def test_a_load_that_does_not_fit_leaves_nothing(
    command: Command, disk: Path, tmp_path: Path
) -> None:
    layout = write_layout(tmp_path / "big", SMALL, BIG, tag="big:1")
    before = contents(command.root)
    full(command, "load", layout)
    assert contents(command.root) == before
    sound(command)


@pytest.mark.root
@pytest.mark.parametrize("engine", ["erofs-file", "erofs-loop", "fuse"])
def test_a_mount_whose_image_does_not_fit_leaves_nothing(
    command: Command, disk: Path, tmp_path: Path, engine: str
) -> None:
    if engine in command.json("info")["mount"]["unavailable"]:
        pytest.skip(f"this machine cannot mount with {engine}")
    command.ok("load", write_layout(tmp_path / "wide", WIDE, tag="wide:1"))
    place = tmp_path / "place"
    place.mkdir()
    before = contents(command.root)
    fill(disk, 0)
    done = command("--mount-engine", engine, "mount", "wide:1", place)
    if engine == "fuse" and done.code == 0:  # it needs no image
        command.ok("umount", place)
    else:
        assert done.code == 4, done.err
        assert "No space left" in done.err or "the disk is full" in done.err
    assert contents(command.root) == before
    (disk / "fill").unlink()
    command.ok("--mount-engine", engine, "mount", "wide:1", place)
    assert len(os.listdir(place)) == 20_000
    command.ok("umount", place)
    command.ok("rmi", "wide:1")
    sound(command)


@pytest.mark.root
def test_a_commit_that_does_not_fit_keeps_the_scratch(command: Command, disk: Path) -> None:
    command.ok("scratch", "create", "work", "kept:1")
    place = disk / "place"
    place.mkdir()
    command.ok("scratch", "mount", "work", place)
    (place / "new").write_bytes(BODY * 3)
    command.ok("scratch", "umount", "work")
    before = contents(command.root)
    fill(disk, 6 << 20)
    full(command, "scratch", "commit", "work", "new:1")
    assert contents(command.root) == before
    (disk / "fill").unlink()
    command.ok("scratch", "commit", "work", "new:1")
    assert command.ok("cat", "new:1", "new").out == BODY * 3
    command.ok("scratch", "rm", "work")
    command.ok("rmi", "new:1")
    sound(command)


@pytest.mark.root
@pytest.mark.parametrize("form", ["oci", "docker"])
def test_a_save_that_does_not_fit_leaves_no_file(command: Command, disk: Path, form: str) -> None:
    fill(disk, 0)  # what the store has in reserve is less than it takes
    assert len(BODY) >= RESERVE_BYTES
    there = sorted(path.name for path in disk.iterdir())
    for target in ["out.tar", "out/"] if form == "oci" else ["out.tar"]:
        full(command, "save", "kept:1", "-o", f"{disk}/{target}", "--format", form)
        assert sorted(path.name for path in disk.iterdir()) == there
    (disk / "fill").unlink()
    command.ok("save", "kept:1", "-o", disk / "out.tar", "--format", form)
    sound(command)


@pytest.mark.root
def test_an_image_can_be_removed_while_the_disk_is_full(
    command: Command, disk: Path, tmp_path: Path
) -> None:
    command.ok("load", write_layout(tmp_path / "wide", WIDE, tag="wide:1"))
    fill(disk, 0)
    command.ok("rmi", "wide:1")
    sound(command)
