"""Commands killed at any moment, and commands side by side: the next open finds a whole store."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.bad_input import contents
from tests.support.chains import file, folder, tar
from tests.support.command import Command, write_layout

SOAK = os.environ.get("WINDOWSFILTER_SOAK") == "1"
ROUNDS = 60 if SOAK else 5
BODY = random.Random(6).randbytes(1 << 20)
BASE = tar([folder("Files"), *(file(f"Files/{n}", b"%d" % n + BODY) for n in range(12))])
CHILD = tar([folder("Files"), *(file(f"Files/c{n}", b"%d" % n) for n in range(2000))])


def whole(command: Command) -> None:
    """All images there are can be read, and nothing is there that no image needs."""
    listed = command.json("images")
    for image in listed:
        for number in (0, 11):
            assert command.ok("cat", image["id"], str(number)).out == b"%d" % number + BODY
    assert list((command.root / "tmp").iterdir()) == []
    needed = {layer["id"] for image in listed for layer in image["layers"]}
    assert {path.name for path in (command.root / "layers").iterdir()} == needed
    blobs = {path.name for path in (command.root / "blobs/sha256").iterdir()}
    assert len(blobs) == len(needed)


def killed(command: Command, *arguments: str | Path, moment: float) -> int:
    """Run a command, and kill it after so many seconds unless it has ended; its code."""
    process = command.process(*arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        return process.wait()


def moments(command: Command, *arguments: str | Path) -> list[float]:
    """Moments all over the time that the command takes when it is let run."""
    start = time.monotonic()
    assert killed(command, *arguments, moment=600) == 0
    taken = time.monotonic() - start
    return [random.uniform(0.1, 1.1) * taken for _ in range(ROUNDS)]


def test_a_load_killed_at_any_moment_is_there_or_not(command: Command, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "oci", BASE, CHILD, tag="demo:1")
    for moment in moments(command, "load", layout):
        command.ok("rmi", "demo:1")
        killed(command, "load", layout, moment=moment)
        command.ok("prune")
        whole(command)
        command.ok("load", layout)
        whole(command)


def test_a_removal_killed_at_any_moment_is_done_or_not(command: Command, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "oci", BASE, CHILD, tag="demo:1")
    command.ok("load", layout)
    for moment in moments(command, "rmi", "demo:1"):
        command.ok("load", layout)
        killed(command, "rmi", "demo:1", moment=moment)
        command.ok("prune")
        whole(command)


def test_a_save_killed_at_any_moment_leaves_no_half_image(command: Command, tmp_path: Path) -> None:
    command.ok("load", write_layout(tmp_path / "oci", BASE, CHILD, tag="demo:1"))
    before = contents(command.root)
    out = tmp_path / "out"
    out.mkdir()
    for moment in moments(command, "save", "demo:1", "-o", out / "a.tar"):
        (out / "a.tar").unlink(missing_ok=True)
        code = killed(command, "save", "demo:1", "-o", out / "a.tar", moment=moment)
        assert (out / "a.tar").exists() or code != 0
        if (out / "a.tar").exists():
            Command(tmp_path / "again").ok("load", out / "a.tar")
        whole(command)
        assert contents(command.root) == before


@pytest.mark.root
def test_a_commit_killed_at_any_moment_keeps_the_scratch(command: Command, tmp_path: Path) -> None:
    command.ok("load", write_layout(tmp_path / "oci", BASE, CHILD, tag="demo:1"))
    command.ok("scratch", "create", "work", "demo:1")
    place = tmp_path / "place"
    place.mkdir()
    command.ok("scratch", "mount", "work", place)
    (place / "new").write_bytes(BODY * 8)
    (place / "c7").unlink()
    command.ok("scratch", "umount", "work")
    for moment in moments(command, "scratch", "commit", "work", "new:1"):
        command.ok("rmi", "new:1")
        killed(command, "scratch", "commit", "work", "new:1", moment=moment)
        command.ok("prune")
        command.ok("scratch", "commit", "work", "new:1")
        assert command.ok("cat", "new:1", "new").out == BODY * 8
    command.ok("scratch", "rm", "work")
    command.ok("rmi", "new:1")
    whole(command)


def test_processes_that_load_the_same_image_at_once_share_it(
    command: Command, tmp_path: Path
) -> None:
    layout = write_layout(tmp_path / "oci", BASE, CHILD, tag="demo:1")
    processes = [command.process("load", layout, "-t", f"mine:{n}") for n in range(4)]
    for process in processes:
        _, err = process.communicate()
        assert process.returncode == 0, err
    (image,) = command.json("images")
    assert sorted(image["references"]) == ["demo:1", *(f"mine:{n}" for n in range(4))]
    whole(command)


def test_a_load_and_a_removal_at_once_leave_an_image_or_none(
    command: Command, tmp_path: Path
) -> None:
    layout = write_layout(tmp_path / "oci", BASE, CHILD, tag="demo:1")
    for _ in range(ROUNDS):
        command.ok("load", layout)
        loading, removing = command.process("load", layout), command.process("rmi", "demo:1")
        for process in (loading, removing):
            _, err = process.communicate()
            assert process.returncode == 0 or (process is removing and process.returncode == 2), err
        command.ok("prune")
        whole(command)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path / "store")
