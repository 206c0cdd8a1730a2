"""Image references, platforms and documents: round trips, and any input gives a value or our error."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.images import WINDOWS, archive, config_json, docker_members, to_json
from windowsfilter.digests import DiffID, Digest
from windowsfilter.errors import FormatError, UsageError, WindowsFilterError
from windowsfilter.images import documents
from windowsfilter.images.bundles import clean
from windowsfilter.images.documents import Descriptor
from windowsfilter.images.platforms import Platform, choose
from windowsfilter.images.references import Reference
from windowsfilter.images.sources import open_source

digests = st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}")
components = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}", fullmatch=True)
domains = st.sampled_from(["docker.io", "mcr.microsoft.com", "localhost", "host:5000", "[::1]:80"])
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=12,
)


@st.composite
def references(draw: st.DrawFn) -> Reference:
    path = "/".join(draw(st.lists(components, min_size=1, max_size=3)))
    domain = draw(domains)
    if domain == "docker.io" and "/" not in path:
        path = f"library/{path}"
    tag = draw(st.none() | tags)
    digest = draw(digests.map(Digest) if tag is None else st.none() | digests.map(Digest))
    return Reference(domain, path, tag, digest)


@given(references())
def test_references_survive_both_forms(reference: Reference) -> None:
    assert Reference.parse(reference.canonical) == reference
    if not re.fullmatch(r"[0-9a-f]{64}", str(reference)):
        assert Reference.parse(str(reference)) == reference


@given(st.text(max_size=60) | st.text("aA0./:@-_[]\\ \n", max_size=40))
def test_any_text_is_a_reference_or_a_usage_error(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except UsageError:
        return
    # One form for each image: what is stored is found again.
    assert str(Reference.parse(str(reference))) == str(reference)
    assert Reference.parse(reference.canonical) == reference


versions = st.lists(st.integers(0, 99999), min_size=1, max_size=4).map(
    lambda numbers: ".".join(map(str, numbers))
)


@given(
    st.sampled_from(["windows", "linux"]),
    st.sampled_from(["amd64", "arm64", ""]),
    versions | st.just(""),
)
def test_platforms_survive_their_text(system: str, architecture: str, version: str) -> None:
    platform = Platform(system, architecture or "amd64", os_version=version)
    assert Platform.parse(str(platform)) == platform
    assert platform.covers(platform)
    assert Platform.parse(system).covers(platform)


@given(st.text(max_size=40) | st.text("windowslinux/amd64,osver=.()0123", max_size=40))
def test_any_text_is_a_platform_or_a_usage_error(text: str) -> None:
    try:
        platform = Platform.parse(text)
    except UsageError:
        return
    assert platform.covers(platform) or platform.architecture not in {"amd64", "arm64"}


@given(st.lists(versions, min_size=1, max_size=8), st.randoms())
def test_the_newest_is_chosen_whatever_the_order(listed: list[str], random: Any) -> None:
    candidates = [Platform("windows", "amd64", os_version=version) for version in listed]
    random.shuffle(candidates)
    chosen = choose(candidates, lambda platform: platform, None, what="x")
    numbers = max([int(part) for part in version.split(".")] for version in listed)
    assert list(chosen.version_key) == numbers


@st.composite
def descriptors(draw: st.DrawFn) -> Descriptor:
    return Descriptor(
        digest=Digest(draw(digests)),
        size=draw(st.integers(0, (1 << 63) - 1)),
        media_type=draw(st.text(max_size=30)),
        urls=tuple(draw(st.lists(st.text(max_size=10), max_size=2))),
        annotations=draw(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)),
        platform=draw(st.none() | st.builds(Platform, st.text(max_size=8), st.text(max_size=8))),
    )


@given(st.lists(descriptors(), max_size=4))
def test_indexes_survive_being_written(listed: list[Descriptor]) -> None:
    raw = documents.build_index(listed)
    assert list(documents.parse_index(raw, what="i").manifests) == listed


@given(descriptors(), st.lists(descriptors(), max_size=3))
def test_manifests_survive_being_written(config: Descriptor, layers: list[Descriptor]) -> None:
    manifest = documents.parse_manifest(documents.build_manifest(config, layers), what="m")
    assert (manifest.config, list(manifest.layers)) == (config, layers)


@given(json_values)
def test_a_childs_config_keeps_everything_else(extra: Any) -> None:
    value = {**json.loads(config_json([b"x"])), "extra": extra}
    parent = documents.parse_config(to_json(value), what="c")
    raw = documents.build_child_config(parent, DiffID.of(b"y"), created="t", created_by="b")
    child = documents.parse_config(raw, what="child")
    assert child.diff_ids == (*parent.diff_ids, DiffID.of(b"y"))
    assert child.document["extra"] == extra
    assert child.platform == parent.platform


PARSERS = [
    documents.parse_index,
    documents.parse_manifest,
    documents.parse_config,
    documents.parse_archive_items,
]
KEYS = ["config", "layers", "manifests", "rootfs", "diff_ids", "size", "digest", "Layers", "os"]
KEYS += ["Config", "RepoTags", "LayerSources", "platform", "schemaVersion", "mediaType", "urls"]
shaped = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | digests | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("parse", PARSERS)
@given(data=st.binary(max_size=60) | shaped.map(to_json))
def test_any_bytes_are_a_document_or_our_error(parse: Any, data: bytes) -> None:
    try:
        parse(data, what="x")
    except FormatError:
        pass


@given(st.text(max_size=30) | st.text("ab/.\\:\0", max_size=20))
def test_cleaned_names_stay_inside(name: str) -> None:
    try:
        cleaned = clean(name)
    except FormatError:
        return
    assert not cleaned.startswith("/")
    assert not {"", ".", ".."} & set(cleaned.split("/"))
    assert clean(cleaned) == cleaned


ARCHIVE = archive(docker_members([b"layer"], platform=WINDOWS))


@settings(max_examples=200)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(ARCHIVE) - 1), st.integers(0, 255)), max_size=4),
    size=st.integers(0, len(ARCHIVE)) | st.just(len(ARCHIVE)),
)
def test_a_damaged_archive_opens_or_gives_our_error(
    changes: list[tuple[int, int]], size: int
) -> None:
    data = bytearray(ARCHIVE)
    for place, value in changes:
        data[place] = value
    try:
        with open_source(io.BytesIO(bytes(data[:size]))) as source:
            for image in source.images:
                for layer in image.layers:
                    layer.open().read()
    except WindowsFilterError:
        pass
