"""The two layers hold every kind of thing that Windows layers are made of, from small wheels."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from demo import content, wheels
from demo.image import ImageWriter
from demo.layertree import Kind
from demo.model import Model

FILES = {
    "ziglang": ["ziglang/zig.exe", "ziglang/lib/std/std.zig"],
    "cmake": [
        "cmake/data/bin/cmake.exe",
        "cmake/data/doc/readme.txt",
        *(f"cmake/data/share/{n}.cmake" for n in range(200)),
    ],
    "numpy": [
        "numpy/__init__.py",
        "numpy/tests/test_numpy.py",
        "numpy-2.1.3.data/scripts/f2py.exe",
    ],
    "pandas": ["pandas/__init__.py"],
    "pywin32": ["win32/win32api.pyd"],
}


def make_wheels(folder: Path) -> tuple[wheels.Pin, ...]:
    pins = []
    for project, names in FILES.items():
        path = folder / f"{project}-1-py3-none-win_amd64.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, f"content of {name}")
        pins.append(wheels.Pin(project, "1", hashlib.sha256(path.read_bytes()).hexdigest()))
    return tuple(pins)


@pytest.fixture
def built(tmp_path: Path) -> tuple[ImageWriter, Path]:
    folder = tmp_path / "image"
    writer = ImageWriter(folder)
    with wheels.Wheels(tmp_path, make_wheels(tmp_path)) as packages:
        tree, facts = content.base_layer(packages)
        writer.add_layer(tree)
        writer.add_layer(content.update_layer(packages, facts)[0])
    writer.finish("demo:1")
    return writer, folder


def test_every_kind_of_entry_is_there(built: tuple[ImageWriter, Path]) -> None:
    base, update = built[0].layers
    assert {entry.kind for entry in base.entries} == {
        Kind.FILE,
        Kind.DIRECTORY,
        Kind.SYMLINK,
        Kind.HARD_LINK,
        Kind.STREAM,
    }
    assert {Kind.WHITEOUT, Kind.OPAQUE, Kind.STREAM} <= {entry.kind for entry in update.entries}
    assert [e.path for e in update.entries if e.path.startswith("Hives/")] == [
        f"Hives/{hive}_Delta" for hive in ("DefaultUser", "Sam", "Security", "Software", "System")
    ]


def test_wheels_land_where_an_installer_would_put_them(built: tuple[ImageWriter, Path]) -> None:
    paths = {entry.path for entry in built[0].layers[0].entries}
    assert "Files/Program Files/Zig/lib/std/std.zig" in paths
    assert "Files/Program Files/CMake/bin/cmake.exe" in paths
    assert "Files/Program Files/Python311/Lib/site-packages/numpy/__init__.py" in paths
    assert "Files/Program Files/Python311/Scripts/f2py.exe" in paths


def test_parents_come_before_children_and_no_name_twice(built: tuple[ImageWriter, Path]) -> None:
    for layer in built[0].layers:
        seen: set[str] = set()
        for entry in layer.entries:
            if entry.kind in (Kind.OPAQUE, Kind.STREAM):
                continue
            parent = entry.path.rpartition("/")[0]
            assert not parent or parent in seen
            key = entry.path.upper()
            assert key not in {path.upper() for path in seen} or entry.kind is Kind.WHITEOUT
            seen.add(entry.path)


def test_the_update_speaks_of_the_base_in_another_case(built: tuple[ImageWriter, Path]) -> None:
    base, update = built[0].layers
    spelled = {entry.path for entry in base.entries}
    deleted = [entry.path for entry in update.entries if entry.kind is Kind.WHITEOUT]
    assert deleted
    assert not spelled.intersection(deleted)
    merged = Model()
    merged.apply(base.entries)
    assert all(path in merged for path in deleted)
    merged.apply(update.entries)
    assert not any(path in merged for path in deleted)
    assert merged["Files/Program Files/CMake/doc"].kind is Kind.FILE
    assert merged["Files/Windows/System32/drivers/etc/services"].kind is Kind.DIRECTORY
    tests = "Files/Program Files/Python311/Lib/site-packages/numpy/tests"
    assert [seen.path for seen in merged.below(tests)] == [f"{tests}/ONLY_THIS.PY"]


def test_the_layout_is_what_its_digests_say(built: tuple[ImageWriter, Path]) -> None:
    writer, folder = built

    def blob(digest: str) -> bytes:
        data = (folder / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest
        return data

    index = json.loads((folder / "index.json").read_text())
    manifest = json.loads(blob(index["manifests"][0]["digest"]))
    config = json.loads(blob(manifest["config"]["digest"]))
    assert config["os"] == "windows"
    for layer, described, diff_id in zip(
        writer.layers, manifest["layers"], config["rootfs"]["diff_ids"], strict=True
    ):
        tar = gzip.decompress(blob(described["digest"]))
        assert f"sha256:{hashlib.sha256(tar).hexdigest()}" == diff_id == layer.diff_id
        with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
            assert len(opened.getmembers()) == len(layer.entries)
    assert not (folder / "layer").exists()


def test_a_damaged_wheel_is_not_used(tmp_path: Path) -> None:
    pins = make_wheels(tmp_path)
    (tmp_path / "numpy-1-py3-none-win_amd64.whl").write_bytes(b"something else")
    with pytest.raises(ValueError, match="no wheel numpy"):
        wheels.Wheels(tmp_path, pins)


def test_nothing_is_fetched_when_all_wheels_are_there(tmp_path: Path) -> None:
    assert wheels.fetch(tmp_path, make_wheels(tmp_path)) == 0
