"""Tars that GNU tar, bsdtar and Python's tarfile write are read right, and ours by them."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from windowsfilter.wire.tar import Member, TarEntry, TarWriter, read_entries

NAMES = {
    "short": b"a.txt",
    "prefix and name": b"p" * 80 + b"/" + b"n" * 80,
    "long component": b"n" * 180,
    "very long": b"/".join([b"d" * 200] * 4) + b"/leaf",
    "not ASCII": "日本語/ファイル.txt".encode(),
}
GNU_FORMATS = ["v7", "ustar", "oldgnu", "gnu", "posix"]
BSD_FORMATS = ["ustar", "pax", "gnutar"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with every kind of name, links, odd times, and one with holes."""
    root = tmp_path_factory.mktemp("tree")
    for number, name in enumerate(NAMES.values()):
        place = root / os.fsdecode(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"%d" % number * 700)
        os.utime(place, ns=(1_600_000_000_123_456_789, 1_500_000_000_987_654_321 + number))
    (root / "old").write_bytes(b"from before 1970")
    os.utime(root / "old", ns=(-1_500_000_000, -2_000_000_000))
    (root / "link").symlink_to("a.txt")
    (root / "far").symlink_to("t" * 150)
    os.link(root / os.fsdecode(NAMES["very long"]), root / "zz-hard")
    with (root / "holes").open("wb") as stream:
        for number in range(40):
            stream.seek(number * 200_000 + 65_536)
            stream.write(b"%02d" % number * 3000)
        stream.truncate(40 * 200_000)
    return root


def read(data: bytes) -> dict[bytes, tuple[TarEntry, bytes]]:
    return {
        entry.path: (entry, body.read())
        for entry, body in read_entries(io.BytesIO(data), 10_000)
        if entry.path not in (b"", b".")
    }


def run(*command: str | os.PathLike[str]) -> bytes:
    return subprocess.run(command, check=True, capture_output=True).stdout


def check(tree: Path, found: dict[bytes, tuple[TarEntry, bytes]], *, fraction: bool) -> None:
    """Every entry is what the file system says."""
    for path, (entry, body) in found.items():
        real = tree / os.fsdecode(path)
        status = real.lstat()
        if entry.kind == ord("0"):
            assert hashlib.sha256(body).digest() == hashlib.sha256(real.read_bytes()).digest()
        elif entry.kind == ord("1"):
            assert os.path.samefile(tree / os.fsdecode(entry.linkname), real)
        elif entry.kind == ord("2"):
            assert entry.linkname == os.fsencode(os.readlink(real))
        else:
            assert entry.kind == ord("5")
            assert real.is_dir()
        assert entry.mode & 0o7777 == status.st_mode & 0o7777
        assert (entry.uid, entry.gid) == (status.st_uid, status.st_gid)
        expected = status.st_mtime_ns if fraction else status.st_mtime_ns // 10**9 * 10**9
        if entry.kind != ord("1"):
            assert entry.mtime_ns == expected


def everything(tree: Path) -> set[bytes]:
    return {os.fsencode(path.relative_to(tree)) for path in tree.rglob("*")}


@pytest.mark.parametrize("form", GNU_FORMATS)
def test_what_gnu_tar_writes(tree: Path, program: Callable[[str], str], form: str) -> None:
    # What a format cannot hold tar refuses, so the old ones get what they can.
    small = {"v7": ["a.txt", "link", "holes"], "ustar": ["a.txt", "link", "holes", "p" * 80]}
    names = small.get(form, ["."])
    data = run(program("tar"), "-C", tree, f"--format={form}", "-cf", "-", *names)
    found = read(data)
    if names == ["."]:
        assert set(found) == everything(tree)
    check(tree, found, fraction=form == "posix")


@pytest.mark.parametrize(
    "form",
    [
        ["--format=gnu"],
        ["--format=oldgnu"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
    ids=" ".join,
)
def test_sparse_files_of_gnu_tar(
    tree: Path, program: Callable[[str], str], form: list[str]
) -> None:
    data = run(program("tar"), "-C", tree, *form, "-S", "-cf", "-", "holes", "a.txt")
    found = read(data)
    check(tree, found, fraction="posix" in form[0])
    holes = found[b"holes"][0]
    assert holes.sparse is not None
    assert len(holes.sparse) >= 39
    assert holes.stored_size < holes.size == 40 * 200_000


@pytest.mark.parametrize("form", BSD_FORMATS)
def test_what_bsdtar_writes(tree: Path, program: Callable[[str], str], form: str) -> None:
    names = ["a.txt", "link", "holes", "p" * 80] if form == "ustar" else ["."]
    # bsdtar puts fractions of a second only where they are not zero, and only into pax.
    data = run(program("bsdtar"), "-C", tree, "--format", form, "-cf", "-", *names)
    found = read(data)
    if names == ["."]:
        assert set(found) == everything(tree)
    if form == "gnutar":
        found.pop(b"old")  # it writes 0 for times before 1970 here
    check(tree, found, fraction=form == "pax")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_pythons_tarfile_writes(tree: Path, form: int) -> None:
    stream = io.BytesIO()
    names = ["link", "holes", "p" * 80] if form == tarfile.USTAR_FORMAT else os.listdir(tree)
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name in names:
            archive.add(tree / name, name)
    found = read(stream.getvalue())
    if form != tarfile.USTAR_FORMAT:
        assert set(found) == everything(tree)
    # It keeps times in floating point; what it wrote is what we must read.
    with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as archive:
        for info in archive:
            entry = found[os.fsencode(info.name)][0]
            assert entry.size == (info.size if info.isreg() else 0)
            assert abs(entry.mtime_ns / 1e9 - info.mtime) < 1e-6


def test_numbers_in_base_256_of_gnu_tar(tmp_path: Path, program: Callable[[str], str]) -> None:
    place = tmp_path / "f"
    place.write_bytes(b"x")
    data = run(
        program("tar"), "-C", tmp_path, "--format=gnu", "--owner=o:4000000000",
        "--group=g:3000000", "--mtime=@-86400", "-cf", "-", "f",
    )  # fmt: skip
    entry = read(data)[b"f"][0]
    assert (entry.uid, entry.gid) == (4_000_000_000, 3_000_000)
    assert entry.mtime_ns == -86_400_000_000_000


@pytest.mark.parametrize("name", ["tar", "bsdtar"])
def test_others_read_what_we_write(
    tmp_path: Path, program: Callable[[str], str], name: str
) -> None:
    archive = tmp_path / "ours.tar"
    with archive.open("wb") as stream:
        writer = TarWriter(stream)
        for number, path in enumerate(NAMES.values()):
            records = {b"MSWINDOWS.fileattr": b"32"}
            member = Member(
                name=path, size=3, mode=0o100644, mtime_ns=1_500_000_000_123_456_700 + 100 * number,
                atime_ns=0, ctime_ns=0, records=records,
            )  # fmt: skip
            writer.add(member, b"%03d" % number)
        writer.close()
    out = tmp_path / "out"
    out.mkdir()
    run(program(name), "-C", out, "-xf", archive)
    for number, path in enumerate(NAMES.values()):
        place = out / os.fsdecode(path)
        assert place.read_bytes() == b"%03d" % number
        assert place.stat().st_mtime_ns == 1_500_000_000_123_456_700 + 100 * number
