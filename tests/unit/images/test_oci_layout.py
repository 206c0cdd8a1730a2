"""OCI layouts: which images they hold, under which names, for which platform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import (
    BASE,
    CHILD,
    DOCKER,
    LAYERS,
    OCI,
    WINDOWS,
    Layout,
    config_json,
    contents,
    digest_of,
    gz,
    to_json,
)
from windowsfilter.errors import DigestMismatch, FormatError, LimitExceeded, UsageError
from windowsfilter.images import oci_layout, source_documents
from windowsfilter.images.platforms import Platform
from windowsfilter.images.sources import ImageSource, open_source

OLDER = {**WINDOWS, "os.version": "10.0.17763.6414"}
LINUX = {"os": "linux", "architecture": "amd64"}
ATTESTATION = {"os": "unknown", "architecture": "unknown"}


@pytest.fixture
def layout() -> Layout:
    return Layout()


def read(layout: Layout, tmp_path: Path, **options: Any) -> ImageSource:
    """Read the layout as a directory, and see that its tar gives the same."""
    folder = layout.write(tmp_path / "layout")
    tar = layout.tar(tmp_path / "layout.tar")
    with open_source(tar, **options) as packed, open_source(folder, **options) as plain:
        assert [(i.references, i.config) for i in packed.images] == [
            (i.references, i.config) for i in plain.images
        ]
        assert packed.passed_over == plain.passed_over
        for image, same in zip(plain.images, packed.images, strict=True):
            if not image.missing:
                assert contents(image) == contents(same)
        return plain


def test_an_image_with_all_that_is_known_of_it(layout: Layout, tmp_path: Path) -> None:
    layout.add(layout.image(), ref="mcr.example.com/win:1")
    source = read(layout, tmp_path)
    assert source.kind == "OCI layout"
    assert source.passed_over == ()
    (image,) = source.images
    assert image.references == ("mcr.example.com/win:1",)
    assert image.platform == Platform("windows", "amd64", os_version="10.0.20348.169")
    assert image.config.raw == config_json(LAYERS)
    assert image.manifest is not None
    assert image.manifest.raw == layout.blobs[image.manifest.digest[7:]]
    assert image.missing == ()
    for layer, plain in zip(image.layers, LAYERS, strict=True):
        assert layer.diff_id == digest_of(plain)
        assert layer.digest == digest_of(gz(plain))
        assert layer.size == len(gz(plain))
        assert layer.media_type == OCI + "layer.v1.tar+gzip"
        assert layer.present


@pytest.mark.parametrize(
    ("annotations", "references"),
    [
        ({}, ()),
        ({"ref": "1"}, ("layout:1",)),
        ({"ref": "latest"}, ("layout:latest",)),
        ({"ref": "win:1"}, ("win:1",)),
        ({"ref": "docker.io/library/win:1"}, ("win:1",)),
        ({"ref": "1", "name": "docker.io/library/win:1"}, ("win:1",)),
        ({"ref": "2", "name": "docker.io/library/win:1"}, ("win:2",)),
        ({"ref": "2", "name": "localhost:5000/win"}, ("localhost:5000/win:2",)),
        ({"ref": "a:1", "name": "b:1"}, ("b:1",)),
        ({"name": "b:1"}, ("b:1",)),
        ({"ref": "", "name": ""}, ()),
    ],
)
def test_names_come_from_annotations(
    layout: Layout,
    tmp_path: Path,
    annotations: dict[str, str],
    references: tuple[str, ...],
) -> None:
    layout.add(layout.image(), **annotations)
    (image,) = read(layout, tmp_path).images
    assert image.references == references


def test_a_name_that_is_none_is_reported_not_used(layout: Layout, tmp_path: Path) -> None:
    layout.add(layout.image(), ref="Not A Name")
    source = read(layout, tmp_path)
    assert source.images[0].references == ()
    assert "invalid image reference 'Not A Name'" in source.passed_over[0]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("out/win", "win"),
        ("out/win/", "win"),
        ("win.tar", "win"),
        ("Win.OCI.tar.gz", "win"),
        ("win.tgz", "win"),
        ("C:\\images\\win.tar", "win"),
        ("win-1.2", "win-1.2"),
        ("", ""),
    ],
)
def test_a_bare_tag_goes_behind_the_name_of_the_layout(path: str, name: str) -> None:
    assert oci_layout.short_name(path) == name


def test_one_manifest_under_several_names_is_one_image(layout: Layout, tmp_path: Path) -> None:
    descriptor = layout.image()
    layout.add(descriptor, ref="b:1")
    layout.add(descriptor, ref="a:1")
    (image,) = read(layout, tmp_path).images
    assert image.references == ("a:1", "b:1")


def test_several_images_in_one_layout(layout: Layout, tmp_path: Path) -> None:
    layout.add(layout.image(), ref="a:1")
    layout.add(layout.image([BASE], OLDER), ref="b:1")
    images = read(layout, tmp_path).images
    assert [image.references for image in images] == [("a:1",), ("b:1",)]


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("listed", [True, False])
def test_the_newest_windows_of_several_platforms(
    layout: Layout, tmp_path: Path, nested: bool, listed: bool
) -> None:
    platforms = [OLDER, LINUX, WINDOWS]
    manifests = [layout.image([BASE], platform, listed=listed) for platform in platforms]
    if nested:
        layout.add(layout.index(manifests), ref="win:1")
    else:
        for manifest in manifests:
            layout.add(manifest, ref="win:1")
    (image,) = read(layout, tmp_path).images
    assert image.platform.os_version == WINDOWS["os.version"]
    (image,) = read(
        layout, tmp_path, platform=Platform.parse("windows/amd64,osver=10.0.17763")
    ).images
    assert image.platform.os_version == OLDER["os.version"]
    (image,) = read(layout, tmp_path, platform=Platform.parse("linux")).images
    assert image.platform.os == "linux"


def test_versions_that_the_index_leaves_out_come_from_the_configs(
    layout: Layout, tmp_path: Path
) -> None:
    short = {"os": "windows", "architecture": "amd64"}
    manifests = [
        {**layout.image([BASE], platform), "platform": short} for platform in (OLDER, WINDOWS)
    ]
    layout.add(layout.index(manifests), ref="win:1")
    assert read(layout, tmp_path).images[0].platform.os_version == WINDOWS["os.version"]


def test_unnamed_entries_for_different_platforms_are_one_image(
    layout: Layout, tmp_path: Path
) -> None:
    for platform in (WINDOWS, OLDER):
        layout.add(layout.image([BASE], platform))
    (image,) = read(layout, tmp_path).images
    assert image.platform.os_version == WINDOWS["os.version"]


def test_unnamed_entries_for_one_platform_are_several_images(
    layout: Layout, tmp_path: Path
) -> None:
    layout.add(layout.image([BASE]))
    layout.add(layout.image([CHILD]))
    assert len(read(layout, tmp_path).images) == 2


def test_attestations_and_artifacts_are_passed_over_and_reported(
    layout: Layout, tmp_path: Path
) -> None:
    attestation = layout.image([b"{}"], ATTESTATION)
    noted = {
        **layout.image([b"[]"], LINUX, listed=False),
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
    }
    chart = layout.blob(
        to_json(
            {
                "schemaVersion": 2,
                "config": layout.blob(b"{}", "application/vnd.cncf.helm.config.v1+json"),
                "layers": [],
            }
        ),
        OCI + "manifest.v1+json",
    )
    other = layout.blob(b"x", "application/x-other")
    layout.add(layout.index([attestation, layout.image(), noted, chart, other]), ref="win:1")
    source = read(layout, tmp_path)
    assert [image.platform.os for image in source.images] == ["windows"]
    assert len(source.passed_over) == 4
    assert "attestation" in source.passed_over[0]
    assert "attestation" in source.passed_over[1]
    assert "helm" in source.passed_over[2]
    assert "x-other" in source.passed_over[3]


def test_a_platform_that_nothing_fits_is_a_usage_error_with_candidates(
    layout: Layout, tmp_path: Path
) -> None:
    layout.add(layout.index([layout.image([BASE], LINUX), layout.image([CHILD], OLDER)]), ref="w:1")
    with pytest.raises(UsageError, match="w:1 has no platform windows/arm64; it has: linux/amd64"):
        read(layout, tmp_path, platform=Platform.parse("windows/arm64"))


def test_images_that_the_platform_does_not_fit_are_reported(layout: Layout, tmp_path: Path) -> None:
    layout.add(layout.image([BASE], LINUX), ref="lin:1")
    layout.add(layout.image(), ref="win:1")
    source = read(layout, tmp_path, platform=Platform.parse("windows"))
    assert [image.references for image in source.images] == [("win:1",)]
    assert "lin:1 has no platform windows" in source.passed_over[0]


def test_manifests_listed_but_not_there_are_passed_over(layout: Layout, tmp_path: Path) -> None:
    absent = layout.image([BASE], WINDOWS)
    present = layout.image([CHILD], OLDER)
    del layout.blobs[absent["digest"][7:]]
    layout.add(layout.index([absent, present]), ref="win:1")
    source = read(layout, tmp_path)
    assert source.images[0].platform.os_version == OLDER["os.version"]
    assert f"manifest {absent['digest']} for windows/amd64" in source.passed_over[0]


def test_nested_indexes_and_configs_that_are_missing_are_reported(
    layout: Layout, tmp_path: Path
) -> None:
    absent = layout.index([layout.image([CHILD], OLDER)])
    del layout.blobs[absent["digest"][7:]]
    no_config = layout.image([CHILD], OLDER, listed=False)
    del layout.blobs[digest_of(config_json([CHILD], OLDER))[7:]]
    layout.add(layout.index([absent, no_config, layout.image()]), ref="win:1")
    source = read(layout, tmp_path)
    assert [image.platform.os_version for image in source.images] == [WINDOWS["os.version"]]
    assert source.passed_over[0].startswith(f"index {absent['digest']} is missing")
    assert source.passed_over[1].startswith("config sha256:")


def test_a_chosen_image_without_its_config_is_refused(layout: Layout, tmp_path: Path) -> None:
    layout.add(layout.image())
    config = digest_of(config_json(LAYERS))
    del layout.blobs[config[7:]]
    with pytest.raises(FormatError, match=f"config {config} is missing"):
        read(layout, tmp_path)


def test_a_layout_without_any_image_is_refused_saying_why(layout: Layout, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="holds no image"):
        read(layout, tmp_path)


def test_a_layout_whose_only_manifest_is_missing_is_refused(layout: Layout, tmp_path: Path) -> None:
    absent = layout.image()
    layout.blobs.clear()
    layout.add(absent)
    with pytest.raises(FormatError, match=f"holds no image.*{absent['digest']}.*is missing"):
        read(layout, tmp_path)


def test_a_missing_layer_is_named(layout: Layout, tmp_path: Path) -> None:
    layout.add(layout.image(), ref="win:1")
    del layout.blobs[digest_of(gz(CHILD))[7:]]
    folder = layout.write(tmp_path / "layout")
    with open_source(folder) as source:
        (missing,) = source.images[0].missing
        assert not missing.present
        with pytest.raises(
            FormatError, match=rf"layer 1 \({digest_of(gz(CHILD))}\) of win:1 is miss"
        ):
            missing.open()


def test_an_absent_foreign_layer_names_its_urls(layout: Layout, tmp_path: Path) -> None:
    foreign = {
        "mediaType": DOCKER + "image.rootfs.foreign.diff.tar.gzip",
        "digest": digest_of(gz(BASE)),
        "size": len(gz(BASE)),
        "urls": ["https://example.com/base"],
    }
    manifest = {
        "schemaVersion": 2,
        "config": layout.blob(config_json([BASE]), OCI + "config.v1+json"),
        "layers": [foreign],
    }
    layout.add(layout.blob(to_json(manifest), OCI + "manifest.v1+json"), ref="win:1")
    (layer,) = read(layout, tmp_path).images[0].missing
    assert layer.urls == ("https://example.com/base",)
    with pytest.raises(FormatError, match="foreign layer, to be fetched from https://example.com"):
        layer.open()


@pytest.mark.parametrize("what", ["manifest", "config"])
def test_a_document_with_another_digest_is_refused_unless_unverified(
    layout: Layout, tmp_path: Path, what: str
) -> None:
    descriptor = layout.image()
    layout.add(descriptor)
    manifest = json.loads(layout.blobs[descriptor["digest"][7:]])
    digest = descriptor["digest"] if what == "manifest" else manifest["config"]["digest"]
    data = layout.blobs[digest[7:]]
    layout.blobs[digest[7:]] = data.replace(b", ", b" ,", 1)
    with pytest.raises(DigestMismatch, match=f"{what} {digest} does not have that digest"):
        read(layout, tmp_path)
    layout.blobs[digest[7:]] = data + b" "
    with pytest.raises(FormatError, match=f"{what} {digest} is {len(data) + 1} bytes long"):
        read(layout, tmp_path)
    assert len(read(layout, tmp_path, verify=False).images) == 1


def test_a_layer_of_another_size_is_refused_naming_it(layout: Layout, tmp_path: Path) -> None:
    layout.add(layout.image())
    layout.blobs[digest_of(gz(BASE))[7:]] += b"\0"
    complaint = rf"layer 0 \({digest_of(gz(BASE))}\) is {len(gz(BASE)) + 1} bytes long"
    with pytest.raises(FormatError, match=complaint):
        open_source(layout.write(tmp_path / "layout"))
    with open_source(tmp_path / "layout", verify=False) as source:
        assert source.images[0].layers[0].present


def test_as_many_layers_as_diffids_are_needed(layout: Layout, tmp_path: Path) -> None:
    manifest = {
        "schemaVersion": 2,
        "config": layout.blob(config_json([BASE]), OCI + "config.v1+json"),
        "layers": [layout.blob(gz(layer), OCI + "layer.v1.tar+gzip") for layer in LAYERS],
    }
    layout.add(layout.blob(to_json(manifest), OCI + "manifest.v1+json"))
    with pytest.raises(FormatError, match="has 2 layers, but its config .* names 1 diffIDs"):
        read(layout, tmp_path)


def test_a_manifest_that_calls_itself_something_else_is_refused(
    layout: Layout, tmp_path: Path
) -> None:
    layout.add({**layout.image(), "mediaType": DOCKER + "distribution.manifest.v2+json"})
    with pytest.raises(FormatError, match="its index says"):
        read(layout, tmp_path)


def test_schema_1_is_refused_by_name(layout: Layout, tmp_path: Path) -> None:
    media_type = DOCKER + "distribution.manifest.v1+prettyjws"
    layout.add(layout.blob(b"{}", media_type))
    with pytest.raises(FormatError, match="schema 1"):
        read(layout, tmp_path)


def test_indexes_nested_without_end_are_refused(layout: Layout, tmp_path: Path) -> None:
    descriptor = layout.image()
    for _ in range(oci_layout.MAX_NESTING):
        descriptor = layout.index([descriptor])
    layout.add(descriptor)
    assert len(read(layout, tmp_path).images) == 1
    layout.entries.clear()
    layout.add(layout.index([descriptor]))
    with pytest.raises(FormatError, match="nested more than 8 deep"):
        read(layout, tmp_path)


def test_indexes_that_list_each_other_over_and_over_are_read_once(
    layout: Layout, tmp_path: Path
) -> None:
    descriptors = [layout.image()]
    for level in range(oci_layout.MAX_NESTING):
        # 2,000 paths at each level; only the names differ.
        one = layout.index(descriptors, annotations={"level": str(level)})
        descriptors = [one] * 2000
    layout.add(descriptors[0])
    assert len(read(layout, tmp_path).images) == 1


def test_an_index_that_contains_itself_ends_even_unverified(layout: Layout, tmp_path: Path) -> None:
    fake = "sha256:" + "0" * 64
    inner = {"mediaType": OCI + "index.v1+json", "digest": fake, "size": 1}
    layout.blobs[fake[7:]] = to_json({"schemaVersion": 2, "manifests": [inner, layout.image()]})
    layout.add(inner)
    assert len(read(layout, tmp_path, verify=False).images) == 1


def test_the_documents_have_a_budget(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        platform = {**WINDOWS, "os.version": f"10.0.{number}"}
        layout.add(layout.image([BASE], platform), ref=f"win:{number}")
    read(layout, tmp_path)
    monkeypatch.setattr(source_documents, "MAX_TOTAL", 10_000)
    with pytest.raises(LimitExceeded, match="10000 bytes in all"):
        read(layout, tmp_path)


@pytest.mark.parametrize(
    ("marker", "complaint"),
    [
        (b'{"imageLayoutVersion":"2.0.0"}', "version '2.0.0'"),
        (b"{}", "version None"),
        (b"[]", "not a JSON object"),
        (b"x", "not JSON"),
        (b" " * 5000, "longer than"),
    ],
)
def test_layouts_of_unknown_versions_are_refused(
    layout: Layout, tmp_path: Path, marker: bytes, complaint: str
) -> None:
    layout.add(layout.image())
    layout.files["oci-layout"] = marker
    with pytest.raises(FormatError, match=complaint):
        read(layout, tmp_path)


def test_a_layout_without_its_marker_is_read_all_the_same(layout: Layout, tmp_path: Path) -> None:
    layout.add(layout.image())
    del layout.files["oci-layout"]
    assert len(read(layout, tmp_path).images) == 1
