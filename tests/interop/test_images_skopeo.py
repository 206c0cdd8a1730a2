"""skopeo reads what we write, in every form and packing, and we read what it writes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.images import BASE, DOCKER, LAYERS, WINDOWS, Layout, contents, export_of, gz
from windowsfilter.images.sources import open_source
from windowsfilter.images.writing import write_docker_archive, write_oci_layout
from windowsfilter.wire.compression import Compression

Skopeo = Callable[..., str]


@pytest.fixture
def skopeo(program: Callable[[str], str], tmp_path: Path) -> Skopeo:
    path = program("skopeo")

    def run(*arguments: str) -> str:
        (tmp_path / "home").mkdir(exist_ok=True)
        done = subprocess.run(
            [path, "--insecure-policy", "--tmpdir", str(tmp_path / "home"), *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home")},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A Windows image made by nobody's program, named `win:1`."""
    made = Layout()
    made.add(made.image(), ref="win:1")
    return made.write(tmp_path / "made")


@pytest.mark.parametrize("packing", list(Compression))
@pytest.mark.parametrize("form", ["oci", "oci-archive", "docker-archive"])
def test_skopeo_reads_what_we_write(
    skopeo: Skopeo, layout: Path, tmp_path: Path, form: str, packing: Compression
) -> None:
    target = tmp_path / "ours"
    with open_source(layout) as source:
        image = export_of(source.images[0])
    if form == "docker-archive":
        write_docker_archive(target, [image], compression=packing)
    else:
        write_oci_layout(target, [image], directory=form == "oci", compression=packing)
    seen = json.loads(skopeo("inspect", "--config", f"{form}:{target}"))
    assert seen["os"] == "windows"
    skopeo("copy", "--dest-decompress", f"{form}:{target}", f"dir:{tmp_path / 'theirs'}")
    with open_source(tmp_path / "theirs") as source:
        (copied,) = source.images
        assert copied.config.raw == image.config
        assert contents(copied) == list(LAYERS)


def test_skopeo_finds_images_by_the_names_we_write(
    skopeo: Skopeo, layout: Path, tmp_path: Path
) -> None:
    other = Layout()
    other.add(other.image([BASE]), ref="example.com/other:1")
    with open_source(layout) as one, open_source(other.write(tmp_path / "other")) as two:
        images = [export_of(one.images[0]), export_of(two.images[0])]
    write_oci_layout(tmp_path / "ours", images, directory=True)
    write_docker_archive(tmp_path / "ours.tar", images)
    for name, layers in (("win:1", 2), ("example.com/other:1", 1)):
        for place in (
            f"oci:{tmp_path / 'ours'}:{name}",
            f"docker-archive:{tmp_path}/ours.tar:{name}",
        ):
            manifest = json.loads(skopeo("inspect", "--raw", place))
            assert len(manifest["layers"]) == layers


@pytest.mark.parametrize("form", ["oci", "oci-archive", "docker-archive"])
def test_we_read_what_skopeo_writes(
    skopeo: Skopeo, layout: Path, tmp_path: Path, form: str
) -> None:
    target = tmp_path / "theirs"
    skopeo("copy", f"oci:{layout}", f"{form}:{target}:win:2")
    with open_source(target) as source:
        (image,) = source.images
        assert image.references == ("win:2",)
        assert image.platform.os_version == WINDOWS["os.version"]
        assert contents(image) == list(LAYERS)


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_we_read_layers_that_skopeo_packs(
    skopeo: Skopeo, layout: Path, tmp_path: Path, how: str
) -> None:
    target = tmp_path / "theirs"
    skopeo(
        "copy", "--dest-compress-format", how, "--dest-compress", f"oci:{layout}", f"dir:{target}"
    )
    with open_source(target) as source:
        assert contents(source.images[0]) == list(LAYERS)


def test_a_manifest_comes_back_from_skopeo_with_its_digest(
    skopeo: Skopeo, layout: Path, tmp_path: Path
) -> None:
    with open_source(layout) as source:
        image = export_of(source.images[0], keep=True)
        before = source.images[0].manifest
    write_oci_layout(tmp_path / "ours.tar", [image])
    skopeo("copy", f"oci-archive:{tmp_path / 'ours.tar'}", f"oci:{tmp_path / 'theirs'}:win:1")
    with open_source(tmp_path / "theirs") as source:
        after = source.images[0].manifest
    assert before is not None
    assert after is not None
    assert after.digest == before.digest


def test_all_platforms_that_skopeo_copies(skopeo: Skopeo, tmp_path: Path) -> None:
    made = Layout()
    older = {**WINDOWS, "os.version": "10.0.17763.6414"}
    linux = {"os": "linux", "architecture": "amd64"}
    manifests = [made.image([BASE], platform) for platform in (older, WINDOWS, linux)]
    made.add(made.index(manifests), ref="win:1")
    made.write(tmp_path / "made")
    for form in ("oci", "dir"):
        target = tmp_path / f"theirs-{form}"
        skopeo("copy", "--all", f"oci:{tmp_path / 'made'}", f"{form}:{target}")
        with open_source(target) as source:
            (image,) = source.images
            assert image.platform.os_version == WINDOWS["os.version"]


def test_a_foreign_layer_that_skopeo_leaves_out(skopeo: Skopeo, tmp_path: Path) -> None:
    made = Layout()
    descriptor = made.image([BASE])
    manifest = json.loads(made.blobs.pop(descriptor["digest"][7:]))
    manifest["mediaType"] = DOCKER + "distribution.manifest.v2+json"
    manifest["config"]["mediaType"] = DOCKER + "container.image.v1+json"
    (layer,) = manifest["layers"]
    layer["mediaType"] = DOCKER + "image.rootfs.foreign.diff.tar.gzip"
    layer["urls"] = ["https://example.com/base"]
    # As a registry has it: the layer is at its url only.
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    for digits, data in made.blobs.items():
        if data != gz(BASE):
            (folder / digits).write_bytes(data)
    skopeo("copy", f"dir:{folder}", f"oci:{tmp_path / 'theirs'}")
    for place in (folder, tmp_path / "theirs"):
        with open_source(place) as source:
            (missing,) = source.images[0].missing
            assert "https://example.com/base" in missing.why_missing()
