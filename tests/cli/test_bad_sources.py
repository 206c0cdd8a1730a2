"""Sources that are no image, hold no whole image, or cannot be read: refused, and nothing stays."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import images, unprivileged
from tests.support.bad_input import refused, unchanged
from tests.support.command import BASE, CHILD, ODD, Command, write_layout

IMAGE = r"read image .*: "


NO_IMAGES = {
    "nothing": b"",
    "text": b"hello\n" * 1000,
    "zeros": bytes(100_000),
    "a program": b"MZ\x90\0" + bytes(range(256)) * 100,
    "a layer": BASE,
    "a packed layer": gzip.compress(BASE),
    "gzip of nothing": gzip.compress(b""),
    "gzip's first bytes": b"\x1f\x8b\x08",
    "xz": b"\xfd7zXZ\0" + bytes(1000),
    "a zip": b"PK\3\4" + bytes(1000),
    "an archive without documents": images.archive({"x": b"1"}),
    "an index that is no JSON": images.archive({"index.json": b"{"}),
    "an index of numbers": images.archive({"index.json": b'{"manifests": 5}'}),
    "an index of nothing": images.archive({"index.json": b'{"manifests": []}'}),
    "an index nested deeply": images.archive({"index.json": b"[" * 100_000}),
    "an index with a lone surrogate": images.archive({"index.json": b'{"manifests": ["\\ud800"]}'}),
    "a manifest.json of nothing": images.archive({"manifest.json": b"[]"}),
    "only repositories": images.archive({"repositories": b"{}"}),
}


@pytest.mark.parametrize("data", NO_IMAGES.values(), ids=NO_IMAGES)
@pytest.mark.parametrize("way", ["file", "standard input"])
def test_what_is_no_image_is_refused(demo: Command, tmp_path: Path, data: bytes, way: str) -> None:
    path = tmp_path / "thing"
    path.write_bytes(data)
    if way == "file":
        error = refused(demo, "load", path)
        assert str(path) in error
        return
    with unchanged(demo), path.open("rb") as stream:
        process = demo.process("load", "-", stdin=stream)
        out, err = process.communicate()
    assert (process.returncode, out) == (3, b""), err
    assert err.startswith(b"windowsfilter: read image from a stream: ")


@pytest.mark.parametrize("thing", ["folder", "empty folder", "device", "missing", "socket"])
def test_a_path_that_is_no_source_is_refused(demo: Command, tmp_path: Path, thing: str) -> None:
    path = tmp_path / "thing"
    code = 3
    if thing.endswith("folder"):
        path.mkdir()
        if thing == "folder":
            (path / "x").write_bytes(b"1")
    elif thing == "device":
        path = Path("/dev/null")
    elif thing == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
        code = 4
    else:
        code = 2
    assert str(path) in refused(demo, "load", path, code=code)


@pytest.mark.parametrize("whole", [True, False])
def test_a_fifo_is_read_like_standard_input(demo: Command, tmp_path: Path, whole: bool) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    archive = images.archive(images.docker_members((ODD,), ["fifo:1"]))
    process = demo.process("load", path)
    with path.open("wb") as fifo:
        fifo.write(archive if whole else archive[:-20_000])
    _, err = process.communicate()
    assert process.returncode == (0 if whole else 3), err
    assert not list((demo.root / "tmp").iterdir())


@pytest.mark.parametrize("keep", [100, 700, 1100, 5_000, 20_000, 40_000, 60_000])
def test_a_truncated_archive_is_refused(
    demo: Command, tmp_path: Path, layout: Path, keep: int
) -> None:
    whole = images.archive(images.docker_members((ODD, CHILD * 3, BASE), ["cut:1"]))
    assert keep < len(whole)
    path = tmp_path / "cut.tar"
    path.write_bytes(whole[:keep])
    assert re.search(IMAGE, refused(demo, "load", path))
    path.write_bytes(gzip.compress(whole)[: 10 + keep // 100])
    assert re.search(IMAGE + "gzip stream is truncated", refused(demo, "load", path))


def test_every_missing_blob_is_named(demo: Command, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "oci", ODD, CHILD, tag="holes:1")
    for blob in sorted((layout / "blobs/sha256").iterdir()):
        away = tmp_path / "away"
        blob.rename(away)
        error = refused(demo, "load", layout)
        assert blob.name in error
        assert "missing" in error
        away.rename(blob)
    demo.ok("load", layout)


OTHER = {
    "sha512": "sha512:" + "a" * 128,
    "md5": "md5:" + "a" * 32,
    "upper case": "sha256:" + "A" * 64,
    "too short": "sha256:" + "a" * 63,
    "a path": "sha256:../../../../etc/passwd",
    "no algorithm": "a" * 64,
    "a number": 5,
    "nothing": "",
}


@pytest.mark.parametrize("digest", OTHER.values(), ids=OTHER)
@pytest.mark.parametrize("where", ["index", "manifest", "layer", "diff_id"])
def test_digests_that_are_not_sha256_are_refused(
    demo: Command, tmp_path: Path, digest: object, where: str
) -> None:
    layout = images.Layout()
    config = json.loads(images.config_json([ODD]))
    if where == "diff_id":
        config["rootfs"]["diff_ids"] = [digest]
    listed = layout.blob(images.to_json(config), images.OCI + "config.v1+json")
    layer = layout.blob(ODD, images.OCI + "layer.v1.tar")
    if where == "layer":
        layer["digest"] = digest
    if where == "manifest":
        listed["digest"] = digest
    kind = images.OCI + "manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": listed, "layers": [layer]}
    entry = layout.blob(images.to_json(manifest), kind)
    if where == "index":
        entry["digest"] = digest
    layout.add(entry, ref="bad:1")
    error = refused(demo, "load", layout.write(tmp_path / "oci"))
    assert "digest" in error.lower() or "diff_id" in error, error
    if digest == OTHER["sha512"]:
        assert "sha512" in error


def test_a_manifest_with_more_or_fewer_layers_than_its_config_is_refused(
    demo: Command, tmp_path: Path
) -> None:
    for number, (stored, told) in enumerate([((ODD,), (ODD, CHILD)), ((ODD, CHILD), (ODD,))]):
        layout = images.Layout()
        config = layout.blob(images.config_json(told), images.OCI + "config.v1+json")
        layers = [layout.blob(layer, images.OCI + "layer.v1.tar") for layer in stored]
        kind = images.OCI + "manifest.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers}
        layout.add(layout.blob(images.to_json(manifest), kind), ref="bad:1")
        error = refused(demo, "load", layout.write(tmp_path / f"oci{number}"))
        assert "layers" in error


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "C:\\secret", "a/../../secret"])
@pytest.mark.parametrize("where", ["Config", "Layers"])
def test_a_docker_archive_cannot_name_files_outside(
    demo: Command, tmp_path: Path, name: str, where: str
) -> None:
    members = images.docker_members((ODD,), ["evil:1"])
    document = members["manifest.json"]
    assert isinstance(document, bytes)
    items = json.loads(document)
    items[0][where] = name if where == "Config" else [name]
    members["manifest.json"] = images.to_json(items)
    folder = tmp_path / "unpacked"
    for member, content in members.items():
        assert isinstance(content, bytes)
        (folder / member).parent.mkdir(parents=True, exist_ok=True)
        (folder / member).write_bytes(content)
    (tmp_path / "secret").write_bytes(ODD)
    archive = tmp_path / "evil.tar"
    archive.write_bytes(images.archive(members))
    for source in (archive, folder):
        error = refused(demo, "load", source)
        assert "not the name of a file inside" in error


def test_indexes_that_list_each_other_without_end_are_refused(
    demo: Command, tmp_path: Path
) -> None:
    layout = images.Layout()
    inner = layout.image((ODD,))
    for _ in range(20):
        inner = layout.index([inner, inner])
    layout.add(inner, ref="deep:1")
    error = refused(demo, "load", layout.write(tmp_path / "oci"))
    assert "nested more than 8 deep" in error


def test_layouts_whose_blobs_are_links_out_are_refused(demo: Command, tmp_path: Path) -> None:
    real = write_layout(tmp_path / "real", ODD, tag="links:1")
    for relative in (True, False):
        fake = tmp_path / f"fake{relative}"
        (fake / "blobs/sha256").mkdir(parents=True)
        for name in ("index.json", "oci-layout"):
            (fake / name).write_bytes((real / name).read_bytes())
        for blob in (real / "blobs/sha256").iterdir():
            target = f"../../../real/blobs/sha256/{blob.name}" if relative else str(blob)
            (fake / "blobs/sha256" / blob.name).symlink_to(target)
        assert "outside the image's archive" in refused(demo, "load", fake)
    circle = tmp_path / "circle"
    circle.mkdir()
    (circle / "index.json").symlink_to("oci-layout")
    (circle / "oci-layout").symlink_to("index.json")
    assert "links" in refused(demo, "load", circle)


def test_a_link_to_a_layout_and_links_inside_one_are_followed(
    command: Command, tmp_path: Path
) -> None:
    real = write_layout(tmp_path / "real", ODD, tag="links:1")
    (real / "kept").mkdir()
    for blob in list((real / "blobs/sha256").iterdir()):
        blob.rename(real / "kept" / blob.name)
        blob.symlink_to(f"../../kept/{blob.name}")
    (tmp_path / "way").symlink_to(real)
    command.ok("load", tmp_path / "way")
    assert command.json("images")[0]["references"] == ["links:1"]


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"caf\xe9.tar", b"new\nline"])
def test_arguments_that_are_not_utf_8_are_names_like_others(
    command: Command, tmp_path: Path, raw: bytes
) -> None:
    path = os.fsencode(tmp_path) + b"/" + raw
    arguments = [sys.executable, "-m", "windowsfilter", "--root", str(command.root), "load"]
    missing = subprocess.run([*arguments, path], capture_output=True, check=False)
    assert missing.returncode == 2
    assert missing.stderr.count(b"\n") == 1
    assert b"nothing of that name" in missing.stderr
    write_layout(Path(os.fsdecode(path)), ODD, tag="odd:1")
    done = subprocess.run([*arguments, path], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    again = subprocess.run(
        [*arguments[:-1], "stat", b"odd:1", b"Files\\" + raw], capture_output=True, check=False
    )
    assert (again.returncode, again.stderr.count(b"\n")) == (2, 1), again.stderr
    assert b"bug" not in again.stderr


def test_a_source_that_may_not_be_read_is_the_machines_fault(tmp_path: Path) -> None:
    source = tmp_path / "secret.tar"
    source.write_bytes(b"x")
    source.chmod(0)
    code = "import sys; from windowsfilter.cli.program import run; print(run(sys.argv[1:]))"
    done = unprivileged.run(code, tmp_path, "--root", tmp_path / "store", "load", source)
    assert done.stdout == "4\n", done.stderr
    assert "Permission denied" in done.stderr
    assert str(source) in done.stderr
