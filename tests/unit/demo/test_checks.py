"""The demonstration's comparisons find what is wrong; they are no use if they cannot fail."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from demo import checks
from demo.layertree import Kind, Written
from demo.model import Model
from demo.report import CheckFailed

LONG = "長" * 100


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def mounted(tmp_path: Path) -> tuple[Path, Model]:
    """A folder that looks like the mount of a small volume, and the model of it."""
    volume = tmp_path / "volume"
    (volume / "Users").mkdir(parents=True)
    (volume / "Users" / "a.txt").write_bytes(b"abc")
    os.link(volume / "Users" / "a.txt", volume / "b.txt")
    (volume / "Users" / "alias~1").write_bytes(b"long")
    (volume / "Documents").symlink_to("Users")
    (volume / "Outside").symlink_to("D:\\x")
    model = Model()
    model.apply(
        [
            Written(Kind.DIRECTORY, "Files"),
            Written(Kind.DIRECTORY, "Files/Users"),
            Written(Kind.FILE, "Files/Users/a.txt", 3, sha256(b"abc")),
            Written(Kind.STREAM, "Files/Users/a.txt:s", 1, ""),
            Written(Kind.HARD_LINK, "Files/b.txt", target="Files/Users/a.txt"),
            Written(Kind.FILE, f"Files/Users/{LONG}", 4, sha256(b"long")),
            Written(Kind.SYMLINK, "Files/Documents", target="C:\\Users"),
            Written(Kind.SYMLINK, "Files/Outside", target="D:\\x"),
        ]
    )
    return volume, model


def test_a_mount_that_agrees_is_counted(mounted: tuple[Path, Model]) -> None:
    facts = checks.compare_mount(*mounted)
    assert (facts.files, facts.folders, facts.symlinks) == (3, 1, 2)
    assert (facts.linked, facts.aliased, facts.data) == (2, 1, 10)


def other_bytes(volume: Path) -> None:
    (volume / "Users" / "a.txt").write_bytes(b"abd")


def other_size(volume: Path) -> None:
    (volume / "Users" / "a.txt").write_bytes(b"abcd")


def missing(volume: Path) -> None:
    (volume / "Outside").unlink()


def additional(volume: Path) -> None:
    (volume / "new").touch()


def link_broken(volume: Path) -> None:
    (volume / "b.txt").unlink()
    (volume / "b.txt").write_bytes(b"abc")


def leads_out(volume: Path) -> None:
    (volume / "Documents").unlink()
    (volume / "Documents").symlink_to("/etc")


def leads_elsewhere(volume: Path) -> None:
    (volume / "Documents").unlink()
    (volume / "Documents").symlink_to(".")


def folder_for_file(volume: Path) -> None:
    (volume / "b.txt").unlink()
    (volume / "b.txt").mkdir()


def wrong_alias(volume: Path) -> None:
    (volume / "Users" / "alias~1").write_bytes(b"shor")


@pytest.mark.parametrize(
    "spoil",
    [
        other_bytes,
        other_size,
        missing,
        additional,
        link_broken,
        leads_out,
        leads_elsewhere,
        folder_for_file,
        wrong_alias,
    ],
)
def test_a_mount_that_differs_is_found(
    mounted: tuple[Path, Model], spoil: Callable[[Path], None]
) -> None:
    volume, model = mounted
    spoil(volume)
    with pytest.raises(CheckFailed):
        checks.compare_mount(volume, model)


def save(path: Path, tars: list[bytes], diff_ids: list[str]) -> None:
    blobs: dict[str, bytes] = {}

    def put(data: bytes) -> dict[str, object]:
        blobs[f"blobs/sha256/{sha256(data)}"] = data
        return {"digest": f"sha256:{sha256(data)}", "size": len(data)}

    layers = [put(gzip.compress(tar)) for tar in tars]
    config = put(json.dumps({"rootfs": {"diff_ids": diff_ids}}).encode())
    manifest = put(json.dumps({"config": config, "layers": layers}).encode())
    blobs["index.json"] = json.dumps({"manifests": [manifest]}).encode()
    with tarfile.open(path, "w") as archive:
        for name, data in blobs.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def small_tar(name: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    return out.getvalue()


def test_a_saved_image_is_read_with_its_layers(tmp_path: Path) -> None:
    tars = [small_tar("Files"), small_tar("Files/x")]
    diff_ids = [f"sha256:{sha256(tar)}" for tar in tars]
    save(tmp_path / "saved.tar", tars, diff_ids)
    layers = checks.read_saved(tmp_path / "saved.tar", members_of=1)
    assert [layer.diff_id for layer in layers] == diff_ids
    assert [member.name for member in layers[1].members] == ["Files/x"]


def test_a_saved_layer_with_another_byte_is_found(tmp_path: Path) -> None:
    tar = small_tar("Files")
    save(tmp_path / "saved.tar", [tar + b"\0"], [f"sha256:{sha256(tar)}"])
    with pytest.raises(CheckFailed, match="not those of the configuration"):
        checks.read_saved(tmp_path / "saved.tar", members_of=0)
