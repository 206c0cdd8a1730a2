from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Command, write_layout


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """The command on an empty store; what a test left mounted is taken down."""
    found = Command(tmp_path / "store")
    yield found
    if (found.root / "store.json").exists():
        for mount in found.json("mount"):
            found.ok("umount", mount["path"])


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """An OCI layout of `demo:1`."""
    return write_layout(tmp_path / "oci")


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The command on a store that has `demo:1`, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("reader")
    found = Command(folder / "store")
    found.ok("load", write_layout(folder / "oci"))
    return found


@pytest.fixture
def demo(command: Command, reader: Command) -> Command:
    """The command on a store of its own that has `demo:1`."""
    shutil.copytree(reader.root, command.root)
    return command
