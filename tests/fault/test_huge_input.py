"""Input without end: millions of entries, gigabytes of PAX, hundreds of layers, in bounded memory."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support import tar_blocks as blocks
from tests.support.bad_input import contents
from tests.support.chains import file, folder, tar
from tests.support.command import Command, write_layout

SOAK = os.environ.get("WINDOWSFILTER_SOAK") == "1"
MIB = 1 << 20
MEMORY_MIB = 700
LIMIT = 2_000_000  # the documented one: formats/index.md

# Prints the exit code and the peak of memory in MiB as its last line.
MEASURE = """
import re, sys
from pathlib import Path
from windowsfilter.cli.program import run
code = run(sys.argv[1:])
# Not getrusage: that counts what the parent had before exec, too.
print(code, int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10)
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="this machine cannot: no /proc"
)


def measured(command: Command, *arguments: str | Path) -> tuple[int, int, str]:
    """Exit code, peak memory in MiB, and complaints of a command in a process of its own."""
    words = [sys.executable, "-c", MEASURE, "--root", str(command.root), *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    code, memory = done.stdout.splitlines()[-1].split()
    return int(code), int(memory), done.stderr


def empty_files(count: int) -> Iterator[bytes]:
    """A tar of so many empty files, in large pieces; only name and checksum differ."""
    block = bytearray(blocks.header(b"Files/" + b"0" * 8))
    base = sum(block[:148]) + 8 * 32 + sum(block[156:]) - 8 * 48
    piece = bytearray()
    for number in range(count):
        digits = b"%08d" % number
        block[6:14] = digits
        block[148:156] = b"%06o\0 " % (base + sum(digits))
        piece += block
        if len(piece) >= MIB:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)
    yield blocks.END


def padded_with_pax(count: int) -> Iterator[bytes]:
    """A tar whose every entry has 15 MiB of PAX records of its own."""
    records = b"".join(blocks.record(b"k%d" % n, b"v" * MIB) for n in range(15))
    for number in range(count):
        yield blocks.raw_pax(records) + blocks.header(b"Files/%d" % number)
    yield blocks.END


def archive(path: Path, pieces: Iterable[bytes], tag: str) -> Path:
    """A docker archive of one image, whose layer is written as it is made."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as out:
        out.write(bytes(512))
        for piece in pieces:
            digest.update(piece)
            size += out.write(piece)
        out.write(bytes(-size % 512))
        config = json.loads(images.config_json([b""]))
        config["rootfs"]["diff_ids"] = [f"sha256:{digest.hexdigest()}"]
        listed = [{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]
        documents = {"config.json": config, "manifest.json": listed}
        out.write(images.archive({name: images.to_json(it) for name, it in documents.items()}))
        info = tarfile.TarInfo("layer.tar")
        info.size = size
        out.seek(0)
        out.write(info.tobuf(tarfile.GNU_FORMAT))
    return path


@pytest.fixture
def command(tmp_path: Path) -> Command:
    found = Command(tmp_path / "store")
    found.json("images")
    found.ok("load", write_layout(tmp_path / "kept", images.BASE, tag="kept:1"))
    return found


def refused_within_memory(command: Command, path: Path, *options: str, why: str) -> None:
    before = contents(command.root)
    code, memory, error = measured(command, "load", path, *options)
    assert code == 3, error
    assert why in error
    assert "(at byte" in error
    assert memory < MEMORY_MIB
    assert contents(command.root) == before


def test_more_entries_than_the_documented_limit_are_refused_in_bounded_memory(
    command: Command, tmp_path: Path
) -> None:
    count = 10_000_000 if SOAK else LIMIT + 1
    path = archive(tmp_path / "many.tar", empty_files(count), "many:1")
    why = f"more than {LIMIT} entries (--max-entries raises the limit)"
    refused_within_memory(command, path, why=why)


def test_the_limit_of_entries_can_be_lowered_and_raised(command: Command, tmp_path: Path) -> None:
    path = archive(tmp_path / "many.tar", empty_files(30_000), "many:1")
    refused_within_memory(command, path, "--max-entries", "29999", why="more than 29999 entries")
    code, _, error = measured(command, "load", path, "--max-entries", "30000")
    assert code == 0, error
    assert len(command.ok("ls", "many:1").lines) == 30_000


def test_as_many_entries_as_the_limit_allows_take_bounded_memory(
    command: Command, tmp_path: Path
) -> None:
    count = LIMIT if SOAK else 200_000
    path = archive(tmp_path / "many.tar", empty_files(count), "many:1")
    code, memory, error = measured(command, "load", path)
    assert code == 0, error
    assert memory < MEMORY_MIB * count // LIMIT + 60
    command.ok("rmi", "many:1")


def test_gigabytes_of_pax_take_bounded_memory(command: Command, tmp_path: Path) -> None:
    count = 200 if SOAK else 30
    path = archive(tmp_path / "pax.tar", padded_with_pax(count), "pax:1")
    code, memory, error = measured(command, "load", path)
    assert code == 0, error
    assert memory < 400
    assert len(command.ok("ls", "pax:1").lines) == count


def test_a_pax_header_without_end_is_refused_in_bounded_memory(
    command: Command, tmp_path: Path
) -> None:
    header = blocks.header(b"PaxHeaders.0/f", kind=b"x", size=3 << 30)
    path = archive(tmp_path / "pax.tar", [header, *[bytes(MIB)] * 64], "pax:1")
    refused_within_memory(command, path, why="extended header of 3221225472 bytes")


LAYERS = 500


@pytest.fixture(scope="module")
def tall(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A store with an image of 500 layers, each of which changes one file."""
    where = tmp_path_factory.mktemp("tall")
    layers = [
        tar([folder("Files"), file(f"Files/{n}"), file("Files/all", b"%d" % n)])
        for n in range(LAYERS)
    ]
    found = Command(where / "store")
    found.ok("load", write_layout(where / "oci", *layers, tag="tall:1"))
    return found


def test_a_chain_of_500_layers_can_be_read(tall: Command) -> None:
    assert len(tall.json("images")[0]["layers"]) == LAYERS
    assert len(tall.ok("ls", "tall:1").lines) == LAYERS + 1
    assert tall.ok("cat", "tall:1", "ALL").out == b"499"


@pytest.mark.root
@pytest.mark.parametrize("engine", ["erofs-file", "erofs-loop", "fuse"])
def test_a_chain_of_500_layers_can_be_mounted(tall: Command, tmp_path: Path, engine: str) -> None:
    if engine in tall.json("info")["mount"]["unavailable"]:
        pytest.skip(f"this machine cannot mount with {engine}")
    place = tmp_path / "place"
    place.mkdir()
    tall.ok("--mount-engine", engine, "mount", "tall:1", place)
    try:
        assert len(os.listdir(place)) == LAYERS + 1
        assert (place / "all").read_bytes() == b"499"
    finally:
        tall.ok("umount", place)


def test_a_chain_of_500_layers_comes_out_and_goes(tall: Command, tmp_path: Path) -> None:
    tall.ok("scratch", "create", "work", "tall:1")
    tall.ok("scratch", "rm", "work")
    out = tmp_path / "out.tar"
    tall.ok("save", "tall:1", "-o", out, "--compression", "none")
    with tarfile.open(fileobj=io.BytesIO(out.read_bytes())) as saved:
        blobs = [name for name in saved.getnames() if name.startswith("blobs/sha256/")]
    assert len(blobs) == LAYERS + 2
    before = contents(tall.root / "blobs"), contents(tall.root / "layers")
    tall.ok("load", out)
    assert (contents(tall.root / "blobs"), contents(tall.root / "layers")) == before
    tall.ok("tag", "tall:1", "again:1")
    tall.ok("rmi", "tall:1")
    tall.ok("rmi", "again:1")
    assert list((tall.root / "blobs/sha256").iterdir()) == []
