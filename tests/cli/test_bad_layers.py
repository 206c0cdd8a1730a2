"""Layers that no Windows layer can be: refused with operation, layer and place, nothing stays."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from tests.support import chains, images
from tests.support import tar_blocks as blocks
from tests.support.bad_input import one_bad_layer, refused, unchanged
from tests.support.chains import file, folder, hard_link, tar
from tests.support.command import Command, write_layout
from windowsfilter.wire.compression import Compression, compressor

GOOD = [folder("Files"), file("Files/good", b"good")]
NAMED = r"load layer 2/2 \(layer 1 \(sha256:[0-9a-f]{64}\) of bad:1\): "


def entries(*bad: chains.Entry) -> bytes:
    return tar([*GOOD, *bad])


NAMES = {
    "parent directory": (entries(file("Files/../../etc/passwd")), r"'\.\.'"),
    "parent directory first": (entries(file("../Files/x")), r"'\.\.'"),
    "absolute": (entries(file("/etc/passwd")), "absolute"),
    "absolute, in the root": (entries(file("/x")), "absolute"),
    "absolute directory in the root": (entries(folder("/Files2/")), "absolute"),
    "the root as an absolute name": (entries(folder("/")), "absolute"),
    "absolute twice over": (entries(file("//server/share/x")), "absolute"),
    "drive": (entries(file("C:/Windows/x")), "drive letter"),
    "relative to a drive": (entries(file("c:x")), "drive letter"),
    "device namespace": (entries(file("\\\\.\\PhysicalDrive0")), "backslash"),
    "device namespace with slashes": (entries(file("//./PhysicalDrive0")), "absolute"),
    "object namespace": (entries(file("\\??\\C:\\x")), "backslash"),
    "backslash": (entries(file("Files\\..\\x")), "backslash"),
    "backslash in a directory": (entries(folder("Files/a\\b")), "backslash"),
    "dot": (entries(file("Files/./x")), "'.' component"),
    "doubled slash": (entries(file("Files//x")), "empty"),
    "not UTF-8": (entries(file(b"Files/\xff\xfe")), "not UTF-8"),
    "whiteout of its directory": (entries(file("Files/.wh...")), "whiteout"),
    "below a stream": (entries(file("Files/good:s/x")), "below a stream"),
    "hard link upward": (entries(hard_link("Files/l", "../../etc/shadow")), "out of the tree"),
    "hard link to an absolute name": (entries(hard_link("Files/l", "/etc/shadow")), "out of"),
    "hard link to a drive": (entries(hard_link("Files/l", "C:/x")), "out of the tree"),
    "hard link to a device": (entries(hard_link("Files/l", "\\\\.\\C:")), "out of the tree"),
    "hard link to nothing": (entries(hard_link("Files/l", "")), "out of the tree"),
    "file, then directory": (entries(folder("Files/good")), "both a file and a directory"),
    "directory, then file": (entries(file("Files")), "both a file and a directory"),
    "below a file": (entries(file("Files/good/x")), "below b'Files/good', which is a file"),
    "equal but for case": (entries(file("Files/GOOD")), "differ at most in case"),
    "equal but for Greek case": (
        entries(file("Files/\u03c3"), file("Files/\u03a3")),
        "differ at most in case",
    ),
    "the same again": (entries(file("Files/good")), "twice"),
    "character device": (entries(chains.Entry(chains._member("Files/d", b"3"))), "character"),
    "block device": (entries(chains.Entry(chains._member("Files/d", b"4"))), "block device"),
    "FIFO": (entries(chains.Entry(chains._member("Files/d", b"6"))), "FIFO"),
}


@pytest.mark.parametrize(("layer", "why"), NAMES.values(), ids=NAMES)
def test_a_hostile_name_is_refused_with_layer_entry_and_offset(
    demo: Command, tmp_path: Path, layer: bytes, why: str
) -> None:
    error = refused(demo, "load", one_bad_layer(tmp_path / "oci", layer))
    assert re.search(rf"{NAMED}entry .*{why}.*\(at byte [1-9]\d+\)$", error), error


def test_hard_links_in_a_circle_are_refused(demo: Command, tmp_path: Path) -> None:
    circle = [hard_link(f"Files/{n}", f"FILES/{(n + 1) % 500}") for n in range(500)]
    error = refused(demo, "load", one_bad_layer(tmp_path / "oci", entries(*circle)))
    assert re.search(NAMED + r"hard links in a circle at 'FILES/\d+'", error), error


def pax_entry(body: bytes) -> bytes:
    """A good layer whose last entry has this extended header."""
    start = tar(GOOD)[:-1024]
    return start + blocks.raw_pax(body) + blocks.file(b"Files/x", b"data") + blocks.END


def sized(size: int | bytes, kind: bytes = b"0") -> bytes:
    header = blocks.header(b"Files/x", size=size, kind=kind)
    return tar(GOOD)[:-1024] + header + bytes(2048)


NUMBERS = {
    "PAX length beyond the header": (pax_entry(b"99 path=x\n"), "a length of 99"),
    "PAX length too short": (pax_entry(b"3 path=x\n"), "a length of 3"),
    "PAX length of nothing": (pax_entry(b"0 path=x\n"), "a length of 0"),
    "PAX length negative": (pax_entry(b"-9 path=x\n"), "without a length"),
    "PAX length giant": (pax_entry(b"99999999999999999999 path=x\n"), "without a length"),
    "PAX length of letters": (pax_entry(b"x path=x\n"), "without a length"),
    "PAX size negative": (pax_entry(blocks.record(b"size", b"-1")), "size"),
    "PAX size of 2^63": (pax_entry(blocks.record(b"size", b"%d" % 2**63)), "size"),
    "PAX size of many digits": (pax_entry(blocks.record(b"size", b"9" * 5000)), "size"),
    "PAX header of 17 MiB announced": (sized(17 << 20, b"x"), "extended header of 17825792 bytes"),
    "PAX header of 2^60 bytes announced": (sized(blocks.base256(1 << 60), b"x"), "header of"),
    "global PAX header of a gigabyte": (sized(1 << 30, b"g"), "global extended header of"),
    "long name of 100 MB": (sized(100 << 20, b"L"), "long name of 104857600 bytes"),
    "long link of 100 MB": (sized(100 << 20, b"K"), "long name of 104857600 bytes"),
    "size negative": (sized(blocks.base256(-1)), "size of -1 bytes"),
    "size of 2^63 - 1": (sized(blocks.base256(2**63 - 1)), "size of 9223372036854775807 bytes"),
    "size of 2^80": (sized(blocks.base256(2**80)), "size"),
    "size of letters": (sized(b"12x45678901\0"), "size"),
    "size of more than there is": (
        sized(blocks.base256(1 << 40)),
        r"truncated, \d+ of 1099511627776 bytes",
    ),
    "owner beyond 32 bits": (pax_entry(blocks.record(b"uid", b"%d" % 2**32)), "uid"),
    "time of no digits": (pax_entry(blocks.record(b"mtime", b"noon")), "mtime"),
}


@pytest.mark.parametrize(("layer", "why"), NUMBERS.values(), ids=NUMBERS)
def test_a_forged_number_is_refused_with_its_offset(
    demo: Command, tmp_path: Path, layer: bytes, why: str
) -> None:
    error = refused(demo, "load", one_bad_layer(tmp_path / "oci", layer))
    assert re.search(rf"{NAMED}.*{why}.*\(at byte [1-9]\d+\)$", error), error


def sparse(size: int, *pieces: tuple[int, int], stored: bytes = b"") -> bytes:
    numbers = [len(pieces), *(number for piece in pieces for number in piece)]
    body = blocks.padded(b"".join(b"%d\n" % number for number in numbers)) + stored
    header = blocks.pax(
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"Files/sparse"),
        (b"GNU.sparse.realsize", b"%d" % size),
    )
    return header + blocks.header(b"Files/x", size=len(body)) + blocks.padded(body) + blocks.END


DEEP = {
    "16,383 directories deep": (tar([file("/".join(["a"] * 16_384))]), "too long in all"),
    "49,000 directories deep": (tar([file("/".join(["a"] * 49_000))]), "longer than a Windows"),
    "twenty times 8,000 directories deep": (
        tar([file(f"{n}/" + "/".join(["a"] * 8_000)) for n in range(20)]),
        "too long in all",
    ),
}


@pytest.mark.parametrize(("layer", "why"), DEEP.values(), ids=DEEP)
def test_names_that_would_fill_the_memory_are_refused(
    demo: Command, tmp_path: Path, layer: bytes, why: str
) -> None:
    error = refused(demo, "load", write_layout(tmp_path / "oci", layer, tag="deep:1"))
    assert re.search(rf"load layer 1/1 .*entry '.*{why}.*\(at byte \d+\)$", error), error[-300:]


def test_link_targets_count_as_names(demo: Command, tmp_path: Path) -> None:
    target = "\u4e2d" * 30_000
    plain = tar([hard_link(f"Files/{n}", f"{n}{target}") for n in range(800)])
    layout = layout_with(tmp_path / "oci", plain, plain)
    error = refused(demo, "load", layout, "--max-entries", "1000")
    assert "too long in all (--max-entries raises the limit)" in error


def test_sparse_files_of_too_many_pieces_in_all_are_refused(demo: Command, tmp_path: Path) -> None:
    pieces = [(2 * n, 1) for n in range(200_000)]
    files = [sparse(400_000, *pieces, stored=bytes(200_000))[:-1024] for _ in range(6)]
    named = [data.replace(b"Files/sparse", b"Files/part_%d" % n) for n, data in enumerate(files)]
    error = refused(demo, "load", one_bad_layer(tmp_path / "oci", [*named, blocks.END]))
    assert re.search(rf"{NAMED}entry 'Files/part_5' is sparse, .*1048576 pieces", error), error


SPARSE = {
    "8 EiB": (sparse(2**63 - 1, (0, 0)), "size of 9223372036854775807 bytes"),
    "6 EiB": (sparse(6 << 60, (0, 0)), "sparse, and with others over"),
    "behind its end": (sparse(10, (8, 4), stored=b"abcd"), "sparse"),
    "backwards": (sparse(99, (8, 4), (2, 2), stored=b"abcdef"), "sparse"),
    "more than is stored": (sparse(1 << 40, (0, 1 << 39)), "sparse"),
}


@pytest.mark.parametrize(("layer", "why"), SPARSE.values(), ids=SPARSE)
def test_a_forged_sparse_file_is_refused(
    demo: Command, tmp_path: Path, layer: bytes, why: str
) -> None:
    error = refused(demo, "load", one_bad_layer(tmp_path / "oci", layer))
    assert re.search(rf"{NAMED}.*{why}.*\(at byte \d+\)$", error), error


@pytest.mark.parametrize("keep", [100, 511, 513, 1024, 1500, 2049])
@pytest.mark.parametrize("packing", ["as tar", "as gzip", "inside gzip", "as zstd"])
def test_a_truncated_layer_is_refused(
    demo: Command, tmp_path: Path, keep: int, packing: str
) -> None:
    plain = tar([*GOOD, file("Files/long", bytes(range(256)) * 20)])
    zstd = compressor(Compression.ZSTD)
    cut = {
        "as tar": lambda: plain[:keep],
        "as gzip": lambda: gzip.compress(plain)[: keep // 16],
        "inside gzip": lambda: gzip.compress(plain[:keep]),
        "as zstd": lambda: (zstd.feed(plain) + zstd.finish())[: keep // 16],
    }[packing]()
    layout = layout_with(tmp_path / "oci", cut, plain)
    error = refused(demo, "load", layout)
    assert re.search(r"load layer 1/1 \(layer 0 .*\(at byte \d+\)$", error), error


def layout_with(path: Path, stored: bytes, plain: bytes) -> Path:
    """A layout of one image, whose layer is stored as these bytes."""
    layout = images.Layout()
    config = layout.blob(images.config_json([plain]), images.OCI + "config.v1+json")
    layer = layout.blob(stored, images.OCI + "layer.v1.tar")
    manifest = {"schemaVersion": 2, "config": config, "layers": [layer]}
    kind = images.OCI + "manifest.v1+json"
    layout.add(layout.blob(images.to_json({**manifest, "mediaType": kind}), kind), ref="bad:1")
    return layout.write(path)


def test_a_layer_that_is_not_what_the_config_says_is_refused(demo: Command, tmp_path: Path) -> None:
    layout = layout_with(tmp_path / "oci", gzip.compress(tar(GOOD)), tar([*GOOD, file("Files/x")]))
    error = refused(demo, "load", layout)
    assert re.search(r"load layer 1/1 .* has diffID sha256:\w+, not sha256:\w+", error)


@pytest.mark.parametrize("damage", ["flipped", "longer", "shorter", "empty"])
def test_a_blob_that_is_not_what_its_name_says_is_refused(
    demo: Command, tmp_path: Path, damage: str
) -> None:
    layout = layout_with(tmp_path / "oci", tar(GOOD), tar(GOOD))
    blob = layout / "blobs/sha256" / images.digest_of(tar(GOOD))[7:]
    good = blob.read_bytes()
    blob.write_bytes(
        {
            "flipped": good[:-1] + b"\1",
            "longer": good + b"\0",
            "shorter": good[:-1],
            "empty": b"",
        }[damage]
    )
    error = refused(demo, "load", layout)
    assert "layer" in error and blob.name in error


def bomb(packing: Compression, size: int = 80 << 20) -> bytes:
    packer = compressor(packing, 9)
    header = blocks.header(b"Files/zeros", size=size)
    piece = bytes(1 << 20)
    packed = [packer.feed(header), *(packer.feed(piece) for _ in range(size >> 20))]
    return b"".join([*packed, packer.feed(blocks.END), packer.finish()])


def zeros_tar(size: int = 80 << 20) -> bytes:
    return blocks.header(b"Files/zeros", size=size) + bytes(size) + blocks.END


@pytest.mark.parametrize("packing", [Compression.GZIP, Compression.ZSTD])
def test_a_bomb_is_refused_unless_the_ratio_is_raised(
    demo: Command, tmp_path: Path, packing: Compression
) -> None:
    layout = layout_with(tmp_path / "oci", bomb(packing), zeros_tar())
    error = refused(demo, "load", layout)
    assert re.search(r"load layer 1/1 .*200 times its size \(--max-ratio raises", error)
    assert "(at byte" in error
    demo.ok("load", layout, "--max-ratio", "1000000")
    assert demo.json("stat", "bad:1", "Files/zeros")["size"] == 80 << 20


@pytest.mark.parametrize("packing", [Compression.GZIP, Compression.ZSTD])
def test_an_archive_that_is_a_bomb_is_refused_unless_the_ratio_is_raised(
    demo: Command, tmp_path: Path, packing: Compression
) -> None:
    plain = images.archive(images.docker_members([zeros_tar()], ["bomb:1"]))
    packer = compressor(packing, 9)
    archive = tmp_path / "bomb.tar.packed"
    archive.write_bytes(packer.feed(plain) + packer.finish())
    error = refused(demo, "load", archive)
    assert re.search(r"read image .*bomb.tar.packed: .*--max-ratio raises the limit", error)
    demo.ok("load", archive, "--max-ratio", "1000000")
    assert demo.json("stat", "bomb:1", "Files/zeros")["size"] == 80 << 20


def test_limits_of_a_layer_have_options(demo: Command, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "oci", tar([file(f"{n}") for n in range(50)]), tag="many:1")
    error = refused(demo, "load", layout, "--max-entries", "49")
    assert re.search(r"load layer 1/1 .*more than 49 entries \(--max-entries raises", error)
    assert "(at byte" in error
    error = refused(demo, "load", layout, "--max-bytes", "10K")
    assert re.search(r"load layer 1/1 .*more than 10240 bytes \(--max-bytes raises", error)
    demo.ok("load", layout, "--max-entries", "50")


def test_json_says_the_same_with_offset_and_code(demo: Command, tmp_path: Path) -> None:
    layout = one_bad_layer(tmp_path / "oci", entries(file("Files/../x")))
    with unchanged(demo):
        done = demo("--json", "load", layout)
    error = json.loads(done.err.splitlines()[-1])
    assert (done.code, error["exit_code"], error["error"]) == (3, 3, "FormatError")
    assert error["offset"] > 0
    assert "Files/../x" in error["message"]


def test_a_bad_third_layer_takes_the_good_ones_with_it(demo: Command, tmp_path: Path) -> None:
    good = [tar([file(f"Files/{n}", b"%d" % n)]) for n in range(2)]
    layout = write_layout(tmp_path / "oci", *good, entries(file("/x")), tag="bad:1")
    assert "load layer 3/3" in refused(demo, "load", layout)
