"""Docker archives: of Docker before and since 25, of skopeo and podman, and wrong ones."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import (
    BASE,
    CHILD,
    LAYERS,
    WINDOWS,
    Layout,
    archive,
    config_json,
    contents,
    digest_of,
    docker_members,
    gz,
    link,
    to_json,
)
from windowsfilter.errors import DigestMismatch, FormatError, UsageError
from windowsfilter.images.platforms import Platform
from windowsfilter.images.sources import ImageSource, open_source

OLDER = {**WINDOWS, "os.version": "10.0.17763.6414"}


def read(
    members: dict[str, bytes | tarfile.TarInfo], tmp_path: Path, **options: Any
) -> ImageSource:
    path = tmp_path / "archive.tar"
    path.write_bytes(archive(members))
    return open_source(path, **options)


def edited(members: dict[str, bytes | tarfile.TarInfo], **changes: Any) -> None:
    """Change the first image in manifest.json."""
    data = members["manifest.json"]
    assert isinstance(data, bytes)
    items = json.loads(data)
    items[0].update(changes)
    members["manifest.json"] = to_json(items)


def test_an_archive_of_docker_before_25(tmp_path: Path) -> None:
    with read(docker_members(tags=("win:1", "example.com/win:2")), tmp_path) as source:
        assert source.kind == "docker archive"
        (image,) = source.images
        assert image.references == ("example.com/win:2", "win:1")
        assert image.manifest is None
        assert image.config.raw == config_json(LAYERS)
        assert [layer.digest for layer in image.layers] == [None, None]
        assert [layer.size for layer in image.layers] == [len(layer) for layer in LAYERS]
        assert contents(image) == list(LAYERS)


def test_an_unpacked_archive_is_read_as_well(tmp_path: Path) -> None:
    for name, data in docker_members().items():
        assert isinstance(data, bytes)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    with open_source(tmp_path) as source:
        assert contents(source.images[0]) == list(LAYERS)


def test_layers_that_are_links_to_another_images_layer(tmp_path: Path) -> None:
    members = docker_members([BASE, BASE, CHILD])
    first, second, third = (f"{digest_of(b'id' + x)[7:]}/layer.tar" for x in (BASE, b"", CHILD))
    # Docker's links are relative to the folder of the layer.
    members[second] = link(second, "../" + first)
    members["hard/layer.tar"] = link("hard/layer.tar", first, hard=True)
    edited(members, Layers=[second, "hard/layer.tar", third])
    with read(members, tmp_path) as source:
        assert contents(source.images[0]) == [BASE, BASE, CHILD]


@pytest.mark.parametrize("target", ["../../../etc/passwd", "/etc/passwd"])
def test_a_layer_that_is_a_link_out_of_the_archive_is_refused(tmp_path: Path, target: str) -> None:
    members = docker_members([BASE])
    name = f"{digest_of(b'id' + BASE)[7:]}/layer.tar"
    members[name] = link(name, target)
    with pytest.raises(FormatError, match="is a link to"):
        read(members, tmp_path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "C:/x", ""])
@pytest.mark.parametrize("field", ["Config", "Layers"])
def test_names_out_of_the_archive_are_refused(tmp_path: Path, field: str, name: str) -> None:
    members = docker_members([BASE])
    edited(members, **{field: [name] if field == "Layers" else name})
    with pytest.raises(FormatError, match="not the name of a file inside"):
        read(members, tmp_path)


def test_backslashes_of_docker_on_windows(tmp_path: Path) -> None:
    members = docker_members([BASE])
    edited(members, Layers=[digest_of(b"id" + BASE)[7:] + "\\layer.tar"])
    with read(members, tmp_path) as source:
        assert contents(source.images[0]) == [BASE]


def test_packed_layers_are_given_out_as_they_are(tmp_path: Path) -> None:
    members = docker_members([BASE])
    members[f"{digest_of(b'id' + BASE)[7:]}/layer.tar"] = gz(BASE)
    with read(members, tmp_path) as source:
        (layer,) = source.images[0].layers
        assert layer.open().read() == gz(BASE)
        assert layer.diff_id == digest_of(BASE)


def test_tags_that_are_none_are_reported(tmp_path: Path) -> None:
    with read(docker_members(tags=("<none>:<none>", "ok:1")), tmp_path) as source:
        assert source.images[0].references == ("ok:1",)
        assert "<none>" in source.passed_over[0]
    with read(docker_members(tags=None), tmp_path) as source:
        assert source.images[0].references == ()


def test_a_platform_chooses_among_images(tmp_path: Path) -> None:
    members = docker_members(tags=["new:1"])
    older = docker_members(tags=["old:1"], platform=OLDER)
    lists = [json.loads(m["manifest.json"]) for m in (members, older)]  # type: ignore[arg-type]
    members.update(older)
    members["manifest.json"] = to_json(lists[0] + lists[1])
    with read(members, tmp_path) as source:
        assert [image.references for image in source.images] == [("new:1",), ("old:1",)]
    with read(members, tmp_path, platform=Platform.parse("windows,osver=10.0.17763")) as source:
        assert [image.references for image in source.images] == [("old:1",)]
        assert "osver=10.0.20348.169" in source.passed_over[0]
    with pytest.raises(
        UsageError, match="the archive has no platform linux/amd64; it has: windows"
    ):
        read(members, tmp_path, platform=Platform.parse("linux/amd64"))


def test_a_config_named_by_a_digest_must_have_it(tmp_path: Path) -> None:
    members = docker_members()
    (name,) = (n for n in members if n.endswith(".json") and n != "manifest.json")
    members[name] = config_json(LAYERS, OLDER)
    with pytest.raises(DigestMismatch, match=f"config {name} of win:1"):
        read(members, tmp_path)
    with read(members, tmp_path, verify=False) as source:
        assert source.images[0].platform.os_version == OLDER["os.version"]


def test_a_config_of_any_other_name_is_read(tmp_path: Path) -> None:
    members = docker_members()
    members["config.json"] = config_json(LAYERS)
    edited(members, Config="config.json")
    with read(members, tmp_path) as source:
        assert source.images[0].config.digest == digest_of(config_json(LAYERS))


def test_a_missing_layer_is_named(tmp_path: Path) -> None:
    members = docker_members()
    name = f"{digest_of(b'id' + CHILD)[7:]}/layer.tar"
    del members[name]
    with read(members, tmp_path) as source:
        (missing,) = source.images[0].missing
        with pytest.raises(FormatError, match=rf"layer 1 \({name}\) of win:1 is missing"):
            missing.open()


def test_a_foreign_layer_that_was_left_out_names_its_urls(tmp_path: Path) -> None:
    members = docker_members([BASE])
    del members[f"{digest_of(b'id' + BASE)[7:]}/layer.tar"]
    foreign = {
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": digest_of(gz(BASE)),
        "size": 5,
        "urls": ["https://example.com/base"],
    }
    edited(members, LayerSources={digest_of(BASE): foreign})
    with read(members, tmp_path) as source:
        (missing,) = source.images[0].missing
        assert "https://example.com/base" in missing.why_missing()


def test_a_missing_config_and_a_wrong_number_of_layers_are_refused(tmp_path: Path) -> None:
    members = docker_members()
    edited(members, Config="none.json")
    with pytest.raises(FormatError, match="config none.json of win:1 is missing"):
        read(members, tmp_path)
    members = docker_members()
    edited(members, Layers=[])
    with pytest.raises(FormatError, match="win:1 has 0 layers, but its config .* names 2"):
        read(members, tmp_path)


def test_an_archive_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="holds no image"):
        read({"manifest.json": b"[]"}, tmp_path)


def test_archives_before_docker_1_10_are_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="Docker before 1.10"):
        read({"repositories": b"{}", "x/layer.tar": BASE}, tmp_path)


def docker_25(tags: list[str], *, annotated: bool) -> dict[str, bytes | tarfile.TarInfo]:
    """An archive as Docker writes it since 25."""
    layout = Layout()
    descriptor = layout.image()
    for tag in tags:
        names = {"name": f"docker.io/library/{tag}", "ref": tag.split(":")[1]}
        layout.add(descriptor, **(names if annotated else {}))
    manifest = json.loads(layout.blobs[descriptor["digest"][7:]])
    blobs = [manifest["config"], *manifest["layers"]]
    config, *layers = ["blobs/sha256/" + blob["digest"][7:] for blob in blobs]
    item = {"Config": config, "RepoTags": tags, "Layers": layers}
    members: dict[str, bytes | tarfile.TarInfo] = {**layout.members()}
    members["manifest.json"] = to_json([item])
    return members


@pytest.mark.parametrize("annotated", [True, False])
def test_an_archive_of_docker_since_25_has_manifests_and_tags(
    tmp_path: Path, annotated: bool
) -> None:
    members = docker_25(["win:1", "win:2"], annotated=annotated)
    with read(members, tmp_path) as source:
        assert source.kind == "docker archive with OCI layout"
        (image,) = source.images
        assert image.references == ("win:1", "win:2")
        assert image.manifest is not None
        assert [layer.digest for layer in image.layers] == [digest_of(gz(x)) for x in LAYERS]
        assert contents(image) == list(LAYERS)


def test_unnamed_images_of_docker_since_25_are_not_platforms_of_one(tmp_path: Path) -> None:
    layout = Layout()
    layout.add(layout.image([BASE]))
    layout.add(layout.image([BASE], OLDER))
    members: dict[str, bytes | tarfile.TarInfo] = {**layout.members(), "manifest.json": b"[]"}
    with read(members, tmp_path) as source:
        assert len(source.images) == 2


def test_blobs_that_only_manifest_json_names_are_read(tmp_path: Path) -> None:
    members = docker_25(["win:1"], annotated=True)
    members["index.json"] = to_json({"schemaVersion": 2, "manifests": []})
    with read(members, tmp_path) as source:
        (image,) = source.images
        assert image.references == ("win:1",)
        assert [layer.digest for layer in image.layers] == [digest_of(gz(x)) for x in LAYERS]


def test_the_trimmed_real_image_opens(shared: Path) -> None:
    with open_source(shared / "samples" / "windows-mini-image.tar.gz") as source:
        (image,) = source.images
        assert image.platform.os_version == "10.0.19042.985"
        (layer,) = image.layers
        # Its layer is not what the config says: that is for the reader of the layer to find out.
        assert digest_of(layer.open().read()) != layer.diff_id
