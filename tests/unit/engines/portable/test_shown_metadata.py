"""Windows metadata as attributes of mounts: the same in images and in the FUSE server, never too much."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import windows_entries
from tests.support.chains import Blobs, file, folder
from windowsfilter.engines.portable import shown_metadata
from windowsfilter.engines.portable.blobs import LayerBlob
from windowsfilter.engines.portable.erofs.reader import ErofsImage
from windowsfilter.engines.portable.erofs.writer import write_image
from windowsfilter.engines.portable.erofs.xattrs import Profile
from windowsfilter.engines.portable.fuse.nodes import Nodes, Presentation
from windowsfilter.engines.portable.fuse.protocol import ROOT_ID
from windowsfilter.engines.portable.shown import ShownTree
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.ntfs.eas import ExtendedAttribute
from windowsfilter.ntfs.reparse import ReparsePoint
from windowsfilter.wire.backuptar import records

PATHS = ["eas", "link", "Windows", "app.exe", "unshown", "old", "odd"]


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[list[LayerBlob]]:
    with Blobs(tmp_path).chain(windows_entries.entries()) as layers:
        yield layers


def in_image(
    chain: list[LayerBlob], path: Path, profile: Profile = Profile.FULL
) -> dict[str, dict[bytes, bytes]]:
    with path.open("xb") as out:
        write_image(ShownTree(Tree(chain)), out, uuid=b"u" * 16, profile=profile)
    found = {}
    with ErofsImage(path) as image:
        for name in PATHS:
            nid = image.find(b"Files/" + name.encode())
            assert nid is not None
            found[name] = image.xattrs(nid)
    return found


def in_fuse(chain: list[LayerBlob], **how) -> dict[str, dict[bytes, bytes | None]]:
    with Nodes(Tree(chain), chain, Presentation(**how)) as nodes:
        found = {}
        for name in PATHS:
            node = nodes.find(ROOT_ID, name.encode())
            assert node is not None
            found[name] = {key: nodes.xattr(node, key) for key in nodes.xattrs(node)}
        return found


def test_images_and_fuse_show_the_same(chain: list[LayerBlob], tmp_path: Path) -> None:
    expected = in_image(chain, tmp_path / "image")
    assert in_fuse(chain, overlay_lower=True) == expected
    as_user = in_fuse(chain, xattr_prefix=b"user.")
    assert as_user == {
        path: {b"user." + key.removeprefix(b"trusted."): value for key, value in found.items()}
        for path, found in expected.items()
    }


def test_eas_are_named_in_hex_and_reparse_points_are_raw(
    chain: list[LayerBlob], tmp_path: Path
) -> None:
    found = in_image(chain, tmp_path / "image")
    assert found["eas"][b"trusted.windows.ea.244b45524e454c2e50555247452e58"] == bytes(range(8))
    assert found["eas"][b"trusted.windows.ea.4c582e54455854"] == b"text"
    assert found["eas"][b"trusted.windows.eas"] == struct.pack("<I", 3)  # one is too large
    assert sum(b".ea." in key for key in found["eas"]) == 2
    assert found["link"][b"trusted.windows.eas"] == struct.pack("<I", 1)
    assert found["app.exe"][b"trusted.windows.reparse"] == windows_entries.PLACEHOLDER.build()
    assert found["unshown"][b"trusted.windows.reparse"] == windows_entries.UNSHOWN_LINK.build()
    assert found["old"][b"trusted.windows.sd"] == windows_entries.DESCRIPTOR
    assert b"trusted.windows.eas" not in found["old"]


def test_the_entry_profile_shows_none_of_it(chain: list[LayerBlob], tmp_path: Path) -> None:
    found = in_image(chain, tmp_path / "image", Profile.ENTRY)
    assert {key for each in found.values() for key in each} == {b"trusted.windows.entry"}


def test_damaged_metadata_is_left_out(tmp_path: Path) -> None:
    entries = [
        folder("Files"),
        file("Files/x", records={records.RAW_EAS: b"%%%", records.EA_PREFIX + b"A": b"YQ=="}),
        file("Files/y", records={records.RAW_REPARSE: base64.b64encode(b"x")}),
    ]
    blobs = Blobs(tmp_path)
    with blobs.add_anything(entries) as layer, Nodes(Tree([layer]), [layer]) as nodes:
        for name in (b"x", b"y"):
            node = nodes.find(ROOT_ID, name)
            assert node is not None
            assert b"trusted.windows.entry" in nodes.xattrs(node)
            assert not any(b".ea" in key or b"reparse" in key for key in nodes.xattrs(node))


EAS = st.lists(
    st.builds(
        ExtendedAttribute,
        st.binary(min_size=1, max_size=255),
        st.binary(max_size=600),
        st.integers(0, 255),
    ),
    max_size=30,
)
POINTS = st.none() | st.builds(ReparsePoint, st.just(0x8000001B), st.binary(max_size=3000))


@given(eas=EAS, point=POINTS, descriptor=st.integers(0, 5000))
def test_a_copy_up_never_needs_more_than_2_kib(
    eas: list[ExtendedAttribute], point: ReparsePoint | None, descriptor: int
) -> None:
    shown = shown_metadata.shown(eas, point, descriptor=descriptor)
    names = [name for name, _ in shown]
    assert len(names) == len(set(names))
    assert all(len(b"trusted." + name) <= 255 for name in names)
    size = sum(16 + -(-len(name) // 4) * 4 + -(-len(value) // 4) * 4 for name, value in shown)
    size += 16 + 12 + descriptor if descriptor <= shown_metadata.MAX_DESCRIPTOR else 0
    assert size <= shown_metadata.MAX_INODE_BYTES
    values = {ea.name: ea.value for ea in reversed(eas)}
    for name, value in shown:
        if name.startswith(shown_metadata.EA_PREFIX):
            ea = shown_metadata.ea_of_attribute(name)
            assert ea is not None
            assert values[ea] == value
    assert (names[:1] == [shown_metadata.EA_COUNT]) is bool(eas)


@pytest.mark.parametrize("suffix", [b"", b"4", b"4G", b"4A", b"41 ", b"41\n", b"0x41"])
def test_only_lower_case_hex_names_an_ea(suffix: bytes) -> None:
    assert shown_metadata.ea_of_attribute(b"windows.ea." + suffix) is None
    assert shown_metadata.ea_of_attribute(b"windows.ea.4142") == b"AB"
