"""`export` as a user types it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import ntfs_volumes
from tests.support.command import Command


@pytest.fixture
def programs(program: Callable[[str], str]) -> None:
    for name in ("mkntfs", "ntfs-3g", "ntfsinfo", "wimlib-imagex"):
        program(name)


@pytest.mark.root
@pytest.mark.usefixtures("programs")
def test_the_document_says_what_there_is_and_what_there_is_not(
    demo: Command, tmp_path: Path
) -> None:
    told = demo.json("export", "demo:1", "--to-ntfs", tmp_path / "out", "--view", "layer")
    assert told == {
        "file": str(tmp_path / "out"),
        "format": "ntfs",
        "size": (tmp_path / "out").stat().st_size,
        "directories": 7,
        "files": 7,
        "links": 0,
        "streams": 1,
        "reparse_points": 2,
        "data_bytes": 10_055,
        "not_carried": [
            {
                "path": "Files/Windows/System32/cmd.exe",
                "what": "the security descriptor as it is: completed or encoded anew",
            }
        ],
    }
    entries = ntfs_volumes.read(tmp_path / "out", tmp_path / "mnt")
    assert entries[b"Hives/System_Delta"].data == b"regf"


@pytest.mark.root
@pytest.mark.usefixtures("programs")
def test_a_layer_shows_what_it_and_those_below_it_hold(demo: Command, tmp_path: Path) -> None:
    base = demo.json("images")[0]["layers"][0]["id"]
    demo.ok("export", base, "--to-ntfs", tmp_path / "out", "--quiet")
    entries = ntfs_volumes.read(tmp_path / "out", tmp_path / "mnt")
    assert b"Users/old.txt" in entries
    assert entries[b"Windows/linked.ini"].record == entries[b"Windows/win.ini"].record


@pytest.mark.root
@pytest.mark.usefixtures("programs")
def test_a_wim_is_told_in_the_same_words(demo: Command, tmp_path: Path) -> None:
    done = demo.ok("export", "demo:1", "--to-wim", tmp_path / "out.wim")
    assert done.text == ""
    first, second = done.err.splitlines()
    assert first.startswith(f"Exported demo:1 to {tmp_path}/out.wim: 5 directories, 6 files")
    assert second.startswith("not carried: Files/Windows/System32/cmd.exe: ")
    told = demo.json("export", "demo:1", "--to-wim", tmp_path / "out.wim", "--force")
    assert told["format"] == "wim"
    assert told["size"] == (tmp_path / "out.wim").stat().st_size


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "one of --to-ntfs and --to-wim"),
        (["--to-ntfs", "a", "--to-wim", "b"], "one of --to-ntfs and --to-wim"),
        (["--to-wim", "b", "--label", "x"], "--label and --size are for --to-ntfs"),
        (["--to-wim", "b", "--size", "1G"], "--label and --size are for --to-ntfs"),
        (["--to-ntfs", "a", "--compress", "lzx"], "--compress is for --to-wim"),
        (["--to-wim", "b", "--compress", "zip"], "'zip' is not one of"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(
    demo: Command, options: list[str], said: str
) -> None:
    done = demo("export", "demo:1", *options)
    assert done.code == 2
    assert said in done.err


def test_help_says_what_force_permits(demo: Command) -> None:
    text = " ".join(demo.ok("export", "--help").text.split())
    assert "A device that is in use or not empty is refused all the same." in text
    assert "Replace FILE if it is there" in text
