from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windowsfilter.digests import ChainID, DiffID, Digest
from windowsfilter.errors import FormatError
from windowsfilter.layers.chains import ChainRecord
from windowsfilter.layers.manifest import (
    LayerManifest,
    LayerState,
    Owner,
    Snapshot,
    SnapshotKind,
)
from windowsfilter.layers.records import MAX_INTEGER
from windowsfilter.store.holds import Hold, HoldKind
from windowsfilter.store.images import CompressedLayer, ImageRecord

DIFF = DiffID.of(b"diff")
CHAIN = ChainID.of(b"chain")

FULL = LayerManifest(
    id="f" * 64,
    parent="e" * 64,
    state=LayerState.SEALED,
    owner=Owner.SNAPSHOTS,
    diff_id=DIFF,
    chain_id=CHAIN,
    size=10240,
    entries=3,
    image=Digest.of(b"config"),
    limit=1 << 40,
    created=1_700_000_000_000_000_000,
    aliases=("WindowsServerCore_10.0",),
    pins=("k1",),
    labels={"who": "ödipus"},
    snapshots=(
        Snapshot(key="default/1/x y", kind=SnapshotKind.VIEW, parent="p", created=1, updated=2),
    ),
    extra={"later": {"x": [1, None]}},
)

KEYS = st.text("abcdefghij", min_size=1, max_size=8)
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
INTEGERS = st.integers(0, MAX_INTEGER)
DIGESTS = st.binary(max_size=8).map(Digest.of)


@st.composite
def manifests(draw: st.DrawFn) -> LayerManifest:
    state = draw(st.sampled_from(LayerState))
    layer_id = draw(IDS)
    return LayerManifest(
        id=layer_id,
        parent=draw(st.none() | IDS.filter(lambda text: text != layer_id)),
        state=state,
        owner=draw(st.sampled_from(Owner)),
        diff_id=DIFF if state is LayerState.SEALED else None,
        chain_id=draw(st.none() | st.just(CHAIN)),
        size=draw(st.none() | INTEGERS),
        entries=draw(st.none() | INTEGERS),
        name=draw(st.none() | IDS) if state is LayerState.SCRATCH else None,
        image=draw(st.none() | DIGESTS),
        limit=draw(st.none() | INTEGERS),
        created=draw(INTEGERS),
        aliases=tuple(draw(st.lists(IDS, max_size=3))),
        pins=tuple(draw(st.lists(IDS, max_size=3))),
        labels=draw(st.dictionaries(TEXT, TEXT, max_size=3)),
        extra=draw(st.dictionaries(KEYS.map("x-{}".format), st.none() | TEXT | INTEGERS)),
    )


@given(manifests())
def test_layer_manifests_survive_a_round_trip(manifest: LayerManifest) -> None:
    assert LayerManifest.parse(manifest.build()) == manifest


def test_every_key_survives_and_so_do_keys_we_do_not_know() -> None:
    again = LayerManifest.parse(FULL.build())
    assert again == FULL
    assert again.build() == FULL.build()


def test_a_manifest_looks_as_documented() -> None:
    manifest = LayerManifest(id="a", state=LayerState.OPEN, created=7)
    assert manifest.build().decode() == (
        '{\n "aliases": [],\n "chain_id": null,\n "created": 7,\n "diff_id": null,\n'
        ' "entries": null,\n "id": "a",\n "image": null,\n "labels": {},\n "limit": null,\n'
        ' "name": null,\n "owner": "user",\n "parent": null,\n "pins": [],\n "size": null,\n'
        ' "snapshots": [],\n "state": "open",\n "version": 1\n}\n'
    )


@given(
    st.builds(
        ImageRecord,
        id=DIGESTS,
        created=INTEGERS,
        layers=st.just(("a", "b")),
        references=st.dictionaries(TEXT, INTEGERS, max_size=3),
        platform=st.dictionaries(TEXT, TEXT | st.lists(TEXT), max_size=3),
        manifest_digest=st.none() | DIGESTS,
        manifest_media_type=st.none() | TEXT,
        compressed=st.just(())
        | st.just((None, CompressedLayer(digest=DIFF, size=3, media_type="x/y"))),
        extra=st.dictionaries(KEYS.map("x-{}".format), TEXT),
    )
)
def test_image_records_survive_a_round_trip(record: ImageRecord) -> None:
    assert ImageRecord.parse(record.build()) == record


@given(st.builds(ChainRecord, key=IDS, chain_id=st.just(CHAIN), lowers=st.lists(IDS).map(tuple)))
def test_chain_records_survive_a_round_trip(record: ChainRecord) -> None:
    assert ChainRecord.parse(record.build()) == record


def test_holds_survive_a_round_trip() -> None:
    hold = Hold(
        id="x", kind=HoldKind.LAYER, object="a", purpose="mount", path="/ä", process=None,
        boot="b", created=1,
    )  # fmt: skip
    assert Hold.parse(hold.build(), "hold") == hold


@given(st.binary(max_size=200))
def test_any_bytes_give_a_manifest_or_our_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        LayerManifest.parse(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    key=st.sampled_from(sorted(json.loads(FULL.build()))),
    value=JSON,
)
def test_any_value_of_any_key_is_accepted_or_refused_by_our_error(key: str, value: object) -> None:
    members = {**json.loads(FULL.build()), key: value}
    with suppress(FormatError):
        LayerManifest.parse(json.dumps(members).encode())


REFUSED: Mapping[str, tuple[bytes, str]] = {
    "no JSON": (b"{", "Expecting"),
    "not an object": (b"[]", "not a JSON object"),
    "not UTF-8": (b'{"id": "\xff"}', "utf-8"),
    "a key twice": (b'{"version": 1, "version": 1}', "twice"),
    "no version": (b"{}", "'version' is not an integer"),
    "a newer version": (b'{"version": 2}', "newer windowsfilter"),
    "version true": (b'{"version": true}', "not an integer"),
    "NaN": (b'{"version": NaN}', "no JSON"),
    "a lone surrogate": (b'{"version": 1, "id": "\\ud800"}', "surrogates"),
    "a deep nest": (b"[" * 100_000, "recursion"),
    "an integer that SQLite cannot hold": (
        FULL.build().replace(b"10240", b"9223372036854775808"),
        "'size' is 9223372036854775808, out of range",
    ),
    "an unknown state": (FULL.build().replace(b'"sealed"', b'"closed"'), "closed"),
    "an unknown owner": (FULL.build().replace(b'"snapshots",', b'"me",'), "me"),
    "sealed without content": (
        FULL.build().replace(f'"{DIFF}"'.encode(), b"null"),
        "sealed with diff_id None",
    ),
    "another digest": (FULL.build().replace(b"sha256:", b"sha512:"), "sha512"),
    "an id that leaves the folder": (FULL.build().replace(b"e" * 64, b"../x"), "is no id"),
    "its own parent": (FULL.build().replace(b"e" * 64, b"f" * 64), "its own parent"),
    "a name on a layer": (FULL.build().replace(b'"name": null', b'"name": "n"'), "only scratches"),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_out_of_order_is_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        LayerManifest.parse(data, "layers/x")
    assert "layer" in str(caught.value)


def test_records_that_are_too_large_are_not_even_parsed() -> None:
    with pytest.raises(FormatError, match="too many"):
        LayerManifest.parse(b" " * (16 << 20) + b"{}")
