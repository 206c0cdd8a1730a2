"""umoci reads and unpacks the layouts we write, and we read what it makes of them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.images import BASE, CHILD, Layout, contents, export_of, layer_tar
from windowsfilter.images.sources import open_source
from windowsfilter.images.writing import write_oci_layout
from windowsfilter.wire.compression import Compression

Umoci = Callable[..., str]


@pytest.fixture
def umoci(program: Callable[[str], str], tmp_path: Path) -> Umoci:
    path = program("umoci")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [path, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """One image, named `win:1`, as we write it."""
    made = Layout()
    made.add(made.image(), ref="win:1")
    with open_source(made.write(tmp_path / "made")) as source:
        write_oci_layout(tmp_path / "win", [export_of(source.images[0])], directory=True)
    return tmp_path / "win"


def test_umoci_lists_and_unpacks_what_we_write(umoci: Umoci, layout: Path, tmp_path: Path) -> None:
    assert umoci("list", "--layout", str(layout)).split() == ["1"]
    umoci("raw", "unpack", "--rootless", "--image", f"{layout}:1", str(tmp_path / "root"))
    assert (tmp_path / "root/Files/Windows/notepad.exe").read_bytes() == b"MZ" * 3000
    assert (tmp_path / "root/Files/app/run.cmd").read_bytes() == b"echo hello\r\n"


def test_umoci_unpacks_plain_layers(umoci: Umoci, tmp_path: Path) -> None:
    made = Layout()
    made.add(made.image([BASE]), ref="win:latest")
    with open_source(made.write(tmp_path / "made")) as source:
        image = export_of(source.images[0])
    write_oci_layout(tmp_path / "win", [image], directory=True, compression=Compression.NONE)
    umoci("raw", "unpack", "--rootless", "--image", str(tmp_path / "win"), str(tmp_path / "root"))
    assert (tmp_path / "root/Hives/System_Delta").read_bytes() == b"regf"


def test_we_read_tags_and_layers_that_umoci_adds(
    umoci: Umoci, layout: Path, tmp_path: Path
) -> None:
    added = layer_tar({"Files/more": b"more"})
    (tmp_path / "added.tar").write_bytes(added)
    umoci("tag", "--image", f"{layout}:1", "2")
    umoci("raw", "add-layer", "--image", f"{layout}:1", "--tag", "3", str(tmp_path / "added.tar"))
    umoci("gc", "--layout", str(layout))
    with open_source(layout) as source:
        # umoci's tags have no name in front: they belong to the image they were made from.
        by_tag = {name.rpartition(":")[2]: i for i in source.images for name in i.references}
        assert contents(by_tag["1"]) == [BASE, CHILD]
        assert by_tag["2"] is by_tag["1"]
        assert by_tag["2"].references == ("win:1", "win:2")
        assert contents(by_tag["3"]) == [BASE, CHILD, added]
