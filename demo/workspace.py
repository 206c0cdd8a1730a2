"""The folder in which the demonstration works, left empty however it ends."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from windowsfilter.errors import HostError, UsageError

_RUN = "run"


@contextmanager
def workspace(cache: Path) -> Iterator[Path]:
    """An empty folder below `cache`; what an earlier run was killed over is taken away first.

    Raises UsageError while another demonstration uses the same cache.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another demonstration is running in {cache}") from None
        folder = cache / _RUN
        clear(folder)
        folder.mkdir()
        try:
            yield folder
        finally:
            clear(folder)


def clear(folder: Path) -> None:
    """Take down every mount below `folder`, then remove it."""
    for place in reversed(mounts_below(folder) + _store_mounts(folder)):
        unmount = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
        done = subprocess.run([*unmount, place], capture_output=True, text=True, check=False)
        if done.returncode:
            raise HostError(f"clean up after the demonstration: {done.stderr.strip()}")
    if folder.exists():
        shutil.rmtree(folder)


def _store_mounts(folder: Path) -> list[str]:
    """What the stores in `folder` have mounted where the system keeps such things."""
    places = []
    for store in folder.glob("*/store.json"):
        uuid = json.loads(store.read_text())["uuid"]
        places += mounts_below(Path("/run/windowsfilter", uuid))
    return places


def mounts_below(folder: Path) -> list[str]:
    """Mount points in `folder`, in the order in which they were mounted."""
    table = Path("/proc/self/mounts")
    if not table.exists():
        return []
    places = [_unescaped(line.split()[1]) for line in table.read_text().splitlines()]
    return [place for place in places if place.startswith(f"{folder}{os.sep}")]


def _unescaped(place: str) -> str:
    """The mount table writes space, tab, newline and backslash as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), place)


def file_system(folder: Path) -> str:
    """Type of the file system that `folder` is on; empty where that cannot be asked."""
    done = subprocess.run(
        ["stat", "--file-system", "--format=%T", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
