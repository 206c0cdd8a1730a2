"""Windows metadata through the library: what `stat` tells, and what damage does to it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import windows_entries
from tests.support.chains import tar
from tests.support.images import Layout
from windowsfilter import LayerPath, Store
from windowsfilter.errors import FormatError, UsageError
from windowsfilter.ntfs import sids
from windowsfilter.ntfs.reparse import LinkNames, ReparseTag
from windowsfilter.ntfs.security import SecurityDescriptor


def loaded(store: Store, folder: Path, layer: bytes, *, verify: bool = True) -> LayerPath:
    layout = Layout()
    layout.add(layout.image([layer]), ref="demo:1")
    return store.load(layout.write(folder), verify=verify).path("")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store", create=True) as made:
        yield made


@pytest.fixture
def root(store: Store, tmp_path: Path) -> LayerPath:
    return loaded(store, tmp_path / "oci", tar(windows_entries.entries()))


def test_descriptors_are_objects_text_and_bytes(root: LayerPath) -> None:
    stat = (root / "eas").stat()
    assert stat.security == SecurityDescriptor.from_sddl(windows_entries.SDDL)
    assert stat.sddl == stat.to_json()["sddl"] == windows_entries.SDDL
    assert stat.security_descriptor == windows_entries.DESCRIPTOR
    assert (stat.owner, stat.group) == (sids.ADMINISTRATORS, sids.SYSTEM)


def test_old_textual_descriptors_count_where_there_is_no_binary_one(root: LayerPath) -> None:
    assert (root / "old").stat().sddl == windows_entries.SDDL


def test_what_sddl_cannot_say_stays_in_bytes_with_a_reason(root: LayerPath) -> None:
    stat = (root / "odd").stat()
    assert stat.security_descriptor == windows_entries.ODD_DESCRIPTOR
    assert stat.owner == sids.SYSTEM
    document = stat.to_json()
    assert document["sddl"] is None
    assert "no letters" in document["sddl_missing"]
    assert base64.b64decode(document["security_descriptor"]) == windows_entries.ODD_DESCRIPTOR
    assert document["problems"] == []


def test_entries_without_a_descriptor_have_none(root: LayerPath) -> None:
    stat = (root / "app.exe").stat()
    assert (stat.security, stat.owner, stat.group, stat.sddl) == (None,) * 4


def test_extended_attributes_have_flags_and_whole_values(root: LayerPath) -> None:
    stat = (root / "eas").stat()
    assert stat.extended_attributes == windows_entries.EAS
    assert stat.to_json()["extended_attributes"][0] == {
        "name": "$KERNEL.PURGE.X",
        "flags": 0x80,
        "value": base64.b64encode(bytes(range(8))).decode(),
    }
    assert (root / "Windows").stat().extended_attributes == windows_entries.EAS[1:2]
    assert (root / "link").lstat().extended_attributes == windows_entries.EAS[:1]
    assert (root / "old").stat().extended_attributes == ()


def test_reparse_points_of_any_tag_are_told(root: LayerPath) -> None:
    assert (root / "app.exe").stat().reparse_point == windows_entries.PLACEHOLDER
    link = (root / "link").lstat().reparse_point
    assert link is not None
    assert LinkNames.parse(link) == LinkNames(substitute_name="eas", print_name="eas", flags=1)
    unshown = (root / "unshown").lstat()
    assert unshown.link_target == "C:\\Windows"
    document = unshown.to_json()["reparse_point"]
    assert document["tag"] == ReparseTag.MOUNT_POINT
    assert (document["substitute_name"], document["print_name"]) == ("\\??\\C:\\Windows", "")
    assert base64.b64decode(document["buffer"]) == windows_entries.UNSHOWN_LINK.build()
    assert (root / "eas").stat().reparse_point is None


@pytest.mark.parametrize("path", ["eas:stream", "WINDOWS:Stream:$DATA", "link:own", "link:stream"])
def test_streams_of_files_directories_and_links_are_read(root: LayerPath, path: str) -> None:
    assert (root / path).read_bytes() == windows_entries.STREAM


def test_streams_are_those_of_the_link_unless_it_has_none_of_the_name(root: LayerPath) -> None:
    assert [stream.name for stream in (root / "link").lstat().streams] == ["own"]
    assert str((root / "link:stream").stat().path).endswith("link:stream")
    assert not (root / "link:neither").exists()
    assert not (root / "old:stream").exists()
    with pytest.raises(UsageError):
        (root / "unshown:nothing").read_bytes()


DAMAGED = ["descriptor", "base64", "text", "eas", "reparse"]


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_metadata_is_refused_with_entry_and_offset(
    store: Store, tmp_path: Path, name: str
) -> None:
    [entry] = [
        one
        for one in windows_entries.damaged_entries()
        if one.member.name == f"Files/{name}".encode()
    ]
    with pytest.raises(FormatError, match=rf"Files/{name}'.*cannot be used.*at byte 0\)"):
        loaded(store, tmp_path / "oci", tar([entry]))
    assert store.images() == []


def test_damaged_metadata_can_be_looked_at_when_it_is_asked_for(
    store: Store, tmp_path: Path
) -> None:
    layer = tar(windows_entries.damaged_entries())
    root = loaded(store, tmp_path / "oci", layer, verify=False)
    for name in DAMAGED:
        stat = (root / name).stat()
        [problem] = stat.problems
        assert "cannot be used" in problem
        assert stat.to_json()["problems"] == [problem]
        assert len((root / name).read_bytes()) == 1
    assert (root / "descriptor").stat().security_descriptor == windows_entries.DESCRIPTOR[:40]
    for name in ("descriptor",):
        with pytest.raises(FormatError, match="descriptor"):
            _ = (root / name).stat().security
    with pytest.raises(FormatError, match="extended attributes of .*eas"):
        _ = (root / "eas").stat().extended_attributes
    with pytest.raises(FormatError, match="reparse point of .*reparse"):
        _ = (root / "reparse").stat().reparse_point
    assert (root / "fine").stat().problems == ()
    [image] = store.images()
    listed = {problem.name.decode().removeprefix("Files/") for problem in image.problems}
    assert listed == set(DAMAGED)


def test_an_index_is_rebuilt_as_it_was_taken(store: Store, tmp_path: Path) -> None:
    layer = tar(windows_entries.damaged_entries())
    root = loaded(store, tmp_path / "oci", layer, verify=False)
    before = [(path.name, path.lstat().to_json()) for path in root.iterdir()]
    store.close()
    [index] = (tmp_path / "store").glob("blobs/sha256/*/index")
    index.unlink()
    with Store(tmp_path / "store") as again:
        root = again.image("demo:1").path("")
        assert [(path.name, path.lstat().to_json()) for path in root.iterdir()] == before


def test_layers_come_out_as_they_came_in(store: Store, tmp_path: Path) -> None:
    layer = tar(windows_entries.entries())
    loaded(store, tmp_path / "oci", layer)
    [image] = store.images()
    with image.layers[0].diff() as stream:
        assert stream.read() == io.BytesIO(layer).read()
