"""The demonstration leaves nothing behind and runs once at a time."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.workspace import mounts_below, workspace
from windowsfilter.errors import UsageError


def test_the_folder_is_empty_at_first_and_gone_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "run" / "left").mkdir(parents=True)
    with workspace(tmp_path) as folder:
        assert not list(folder.iterdir())
        (folder / "file").touch()
    assert not folder.exists()


def test_the_folder_is_gone_after_a_failure_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), workspace(tmp_path) as folder:
        (folder / "file").touch()
        raise KeyboardInterrupt
    assert not folder.exists()


def test_a_second_run_at_the_same_time_is_refused(tmp_path: Path) -> None:
    with workspace(tmp_path), pytest.raises(UsageError, match="another demonstration"):
        with workspace(tmp_path):
            pass


@pytest.mark.root
def test_mounts_that_were_left_are_taken_down(
    tmp_path: Path, program: Callable[[str], str]
) -> None:
    with workspace(tmp_path) as folder:
        place = folder / "with space"
        place.mkdir()
        subprocess.run([program("mount"), "-t", "tmpfs", "demo", place], check=True)
        assert mounts_below(folder) == [str(place)]
    assert not mounts_below(tmp_path)
    assert not folder.exists()
