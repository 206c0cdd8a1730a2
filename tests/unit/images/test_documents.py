"""Image documents: what is read from them, and everything that is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.images import DOCKER, LAYERS, OCI, config_json, digest_of, to_json
from windowsfilter.digests import DiffID, Digest
from windowsfilter.errors import FormatError, LimitExceeded
from windowsfilter.images.documents import (
    MAX_CONFIG,
    MAX_MANIFEST,
    Descriptor,
    build_child_config,
    build_index,
    build_manifest,
    parse_archive_items,
    parse_config,
    parse_index,
    parse_manifest,
)
from windowsfilter.images.platforms import Platform

A, B = digest_of(b"a"), digest_of(b"b")


def manifest_value(**changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI + "manifest.v1+json",
        "config": {"mediaType": OCI + "config.v1+json", "digest": A, "size": 5},
        "layers": [{"mediaType": OCI + "layer.v1.tar+gzip", "digest": B, "size": 7}],
    }
    value.update(changes)
    return {key: member for key, member in value.items() if member is not ...}


def layer_value(**changes: Any) -> dict[str, Any]:
    layer = {**manifest_value()["layers"][0], **changes}
    return {key: member for key, member in layer.items() if member is not ...}


def read_manifest(value: object) -> Any:
    return parse_manifest(to_json(value), what="manifest m")


def test_a_manifest_keeps_its_bytes_and_names_its_blobs() -> None:
    raw = to_json(manifest_value(annotations={"a": "b"}, unknown=[1]))
    manifest = parse_manifest(raw, what="m")
    assert manifest.raw == raw
    assert manifest.digest == digest_of(raw)
    assert manifest.config.digest == A
    assert [layer.size for layer in manifest.layers] == [7]
    assert manifest.foreign_type is None


def test_dockers_manifest_with_a_foreign_layer() -> None:
    foreign = layer_value(
        mediaType=DOCKER + "image.rootfs.foreign.diff.tar.gzip", urls=["https://example.com/l"]
    )
    value = manifest_value(
        mediaType=DOCKER + "distribution.manifest.v2+json",
        config={"mediaType": DOCKER + "container.image.v1+json", "digest": A, "size": 5},
        layers=[foreign],
    )
    manifest = read_manifest(value)
    assert manifest.layers[0].urls == ("https://example.com/l",)
    assert manifest.foreign_type is None


def test_a_manifest_without_a_media_type_is_ocis() -> None:
    assert read_manifest(manifest_value(mediaType=...)).media_type == OCI + "manifest.v1+json"
    assert read_manifest(manifest_value(layers=None)).layers == ()


@pytest.mark.parametrize(
    ("changes", "media_type"),
    [
        ({"config": {"mediaType": "application/x.chart", "digest": A, "size": 1}}, "x.chart"),
        ({"layers": [layer_value(mediaType="application/vnd.in-toto+json")]}, "in-toto"),
        ({"layers": [layer_value(mediaType=OCI + "layer.v1.tar+gzip+encrypted")]}, "encrypted"),
    ],
    ids=["chart", "attestation", "encrypted image"],
)
def test_what_travels_as_a_manifest_without_being_an_image(
    changes: dict[str, Any], media_type: str
) -> None:
    foreign = read_manifest(manifest_value(**changes)).foreign_type
    assert foreign is not None
    assert media_type in foreign


def test_old_documents_that_do_not_say_what_a_blob_is_are_images() -> None:
    value = manifest_value(
        config={"mediaType": "application/octet-stream", "digest": A, "size": 1},
        layers=[layer_value(mediaType=...)],
    )
    assert read_manifest(value).foreign_type is None


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ([], "not a JSON object"),
        ({}, "names no config"),
        (manifest_value(schemaVersion=1), "schema 1"),
        (manifest_value(fsLayers=[]), "schema 1"),
        (manifest_value(schemaVersion=3), "schemaVersion 3"),
        (manifest_value(schemaVersion=True), "schemaVersion"),
        (manifest_value(schemaVersion="2"), "schemaVersion"),
        (manifest_value(mediaType="text/plain"), "calls itself 'text/plain'"),
        (manifest_value(mediaType=OCI + "index.v1+json"), "calls itself"),
        (manifest_value(mediaType=["text/plain"]), "calls itself"),
        (manifest_value(manifests=[]), "is an index"),
        (manifest_value(config=...), "names no config"),
        (manifest_value(config=[]), "config is not a JSON object"),
        (manifest_value(layers={}), "layers: not a JSON array"),
        (manifest_value(layers=["x"]), "layer 0 is not a JSON object"),
        (manifest_value(layers=[layer_value(), layer_value(size=-1)]), "layer 1.*>= 0"),
        (manifest_value(layers=[layer_value(size=1 << 63)]), "layer 0.*<= 9223372036854775807"),
        (manifest_value(layers=[layer_value(size=1.5)]), "layer 0.*float"),
        (manifest_value(layers=[layer_value(size="7")]), "layer 0.*str"),
        (manifest_value(layers=[layer_value(size=True)]), "layer 0.*bool"),
        (manifest_value(layers=[layer_value(size=...)]), "layer 0.*size"),
        (manifest_value(layers=[layer_value(digest=...)]), "layer 0.*digest"),
        (manifest_value(layers=[layer_value(digest=B[:-1])]), "layer 0.*not a sha256 digest"),
        (manifest_value(layers=[layer_value(digest=B.upper())]), "layer 0"),
        (manifest_value(layers=[layer_value(digest=B + "\n")]), "layer 0"),
        (manifest_value(layers=[layer_value(digest="sha256:../../etc/x")]), "layer 0"),
        (manifest_value(layers=[layer_value(digest="sha512:" + "0" * 128)]), "sha512"),
        (manifest_value(layers=[layer_value(digest="md5:" + "0" * 32)]), "md5"),
        (manifest_value(layers=[layer_value(digest=5)]), "Expected a digest, got int"),
        (manifest_value(layers=[layer_value(urls="https://x")]), "layer 0"),
        (manifest_value(layers=[{**layer_value(), "Size": 8}]), "both 'size' and 'Size'"),
    ],
)
def test_wrong_manifests_are_refused_naming_the_descriptor(value: object, complaint: str) -> None:
    with pytest.raises(FormatError, match=f"(?s)manifest m.*{complaint}"):
        read_manifest(value)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe{\0}\0", "not UTF-8"),
        (b'\xef\xbb\xbf{"config":1}', "not JSON"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":-Infinity}', "not JSON"),
        (b'{"a":1,"b":{"c":1,"c":2}}', "'c' appears twice"),
        (b'{"a":' + b"9" * 5000 + b"}", "manifest m"),
        (b"[" * 100_000, "nested more than 64 deep"),
        (b'{"a":' * 2_000 + b"1" + b"}" * 2_000, "nested more than 64 deep"),
        (b'{"x":' + b"[" * 70 + b"]" * 70 + b"}", "nested more than 64 deep"),
        (b'{"config":{"digest":"\\ud800"}}', "manifest m"),
    ],
)
def test_bad_json_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(FormatError, match=complaint):
        parse_manifest(data, what="manifest m")


def test_the_offset_of_bad_json_counts_bytes() -> None:
    with pytest.raises(FormatError) as caught:
        parse_manifest('{"ä": x}'.encode(), what="m")
    assert caught.value.offset == 7


@pytest.mark.parametrize(
    ("parse", "limit"),
    [(parse_manifest, MAX_MANIFEST), (parse_index, MAX_MANIFEST), (parse_config, MAX_CONFIG)],
)
def test_documents_beyond_the_limit_are_refused(parse: Callable[..., object], limit: int) -> None:
    with pytest.raises(LimitExceeded, match=f"{limit}"):
        parse(b" " * (limit + 1), what="m")


def test_an_index_lists_platforms() -> None:
    value = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": OCI + "manifest.v1+json",
                "digest": A,
                "size": 1,
                "platform": {
                    "OS": "windows",
                    "architecture": "amd64",
                    "os.version": "10.0.20348.169",
                    "OS.Features": ["win32k"],
                },
                "annotations": {"size": "x", "Size": "y"},
            },
            {"digest": B, "size": 2, "platform": None},
        ],
    }
    first, second = parse_index(to_json(value), what="i").manifests
    assert first.platform == Platform(
        "windows", "amd64", os_version="10.0.20348.169", os_features=("win32k",)
    )
    assert first.annotations == {"size": "x", "Size": "y"}
    assert second.platform is None


@pytest.mark.parametrize("key", ["layers", "config", "Layers"])
def test_a_document_that_is_index_and_manifest_at_once_is_refused(key: str) -> None:
    value = {"schemaVersion": 2, "manifests": [], key: []}
    with pytest.raises(FormatError, match="at once"):
        parse_index(to_json(value), what="i")


def test_a_config_names_platform_and_layers() -> None:
    config = parse_config(config_json(LAYERS), what="c")
    assert config.platform == Platform("windows", "amd64", os_version="10.0.20348.169")
    assert list(config.diff_ids) == [digest_of(layer) for layer in LAYERS]
    assert config.digest == digest_of(config.raw)
    assert config.document["config"]["Cmd"] == ["cmd.exe"]


@pytest.mark.parametrize("key", ["rootfS", "ROOTFS", "rootf\N{LATIN SMALL LETTER LONG S}"])
def test_config_keys_match_in_any_letter_case_as_in_go(key: str) -> None:
    raw = config_json(LAYERS).replace(b'"rootfs"', json.dumps(key).encode())
    raw = raw.replace(b'"diff_ids"', b'"Diff_IDs"').replace(b'"os"', b'"oS"')
    config = parse_config(raw, what="c")
    assert len(config.diff_ids) == 2
    assert config.platform.os == "windows"


def test_letters_that_go_does_not_fold_are_other_keys() -> None:
    raw = to_json({"o\N{LATIN SMALL LETTER SHARP S}": "x", "os": "windows"})
    assert parse_config(raw, what="c").platform.os == "windows"


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("windows", "not a JSON object"),
        ({"os": 5}, "os"),
        ({"rootfs": []}, "rootfs is not a JSON object"),
        ({"rootfs": {"diff_ids": A}}, "diff_ids"),
        ({"rootfs": {"diff_ids": ["sha256:1"]}}, "not a sha256 digest"),
        ({"rootfs": {"diff_ids": [None]}}, "Expected a digest"),
        ({"rootfs": {"type": "layers+base", "diff_ids": []}}, "layers\\+base"),
        ({"rootfs": {}, "rootFS": {}}, "both 'rootfs' and 'rootFS'"),
    ],
)
def test_wrong_configs_are_refused(value: object, complaint: str) -> None:
    with pytest.raises(FormatError, match=f"config c.*{complaint}"):
        parse_config(to_json(value), what="config c")


def test_archive_items() -> None:
    value = [
        {"Config": "a.json", "RepoTags": None, "Layers": None},
        {
            "config": "b.json",
            "repotags": ["x:1"],
            "Layers": ["b/layer.tar"],
            "LayerSources": {A: {"mediaType": "m", "size": 1, "digest": B, "urls": ["u"]}},
            "Parent": "ignored",
        },
    ]
    first, second = parse_archive_items(to_json(value), what="manifest.json")
    assert (first.config, first.layers, first.repo_tags) == ("a.json", (), ())
    assert second.repo_tags == ("x:1",)
    assert second.layer_sources[A].urls == ("u",)


@pytest.mark.parametrize(
    "value",
    [
        {},
        [5],
        [{}],
        [{"Config": 5}],
        [{"Config": "a", "Layers": [5]}],
        [{"Config": "a", "LayerSources": []}],
        [{"Config": "a", "LayerSources": {"x": 5}}],
        [{"Config": "a", "LayerSources": {"x": {}}}],
    ],
)
def test_wrong_archive_items_are_refused(value: object) -> None:
    with pytest.raises(FormatError, match="manifest.json"):
        parse_archive_items(to_json(value), what="manifest.json")


def test_what_is_built_reads_back() -> None:
    platform = Platform("windows", "amd64", "v1", "10.0.20348.169", ("win32k",))
    descriptor = Descriptor(
        digest=Digest(A),
        size=5,
        media_type=OCI + "manifest.v1+json",
        urls=("https://example.com",),
        annotations={"b": "1", "a": "2"},
        platform=platform,
        artifact_type="x",
    )
    raw = build_index([descriptor])
    assert parse_index(raw, what="i").manifests == (descriptor,)
    layer = Descriptor(digest=Digest(B), size=6, media_type=OCI + "layer.v1.tar")
    manifest = parse_manifest(build_manifest(descriptor, [layer]), what="m")
    assert (manifest.config, manifest.layers) == (descriptor, (layer,))


def test_the_config_of_a_child_keeps_what_its_parent_says() -> None:
    raw = config_json(LAYERS).replace(b'"rootfs"', b'"rootfS"')
    parent = parse_config(raw, what="c")
    top = DiffID.of(b"top")
    built = build_child_config(
        parent, top, created="2024-01-01T00:00:00Z", created_by="commit", comment="why"
    )
    child = parse_config(built, what="child")
    assert child.platform == parent.platform
    assert child.diff_ids == (*parent.diff_ids, top)
    assert child.document["config"] == parent.document["config"]
    assert child.document["created"] == "2024-01-01T00:00:00Z"
    assert child.document["history"][-1] == {
        "created": "2024-01-01T00:00:00Z",
        "created_by": "commit",
        "comment": "why",
    }
    assert "rootfS" not in child.document


def test_the_history_of_a_child_goes_on_from_its_parents() -> None:
    value = {**json.loads(config_json(LAYERS)), "History": [{"created_by": "one"}]}
    parent = parse_config(to_json(value), what="c")
    built = build_child_config(parent, DiffID.of(b"x"), created="now", created_by="two")
    history = parse_config(built, what="child").document["history"]
    assert [entry["created_by"] for entry in history] == ["one", "two"]
