"""What `open_source` makes of paths and streams of all kinds, images or not."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.support.images import (
    BASE,
    LAYERS,
    OCI,
    Layout,
    archive,
    config_json,
    contents,
    digest_of,
    docker_members,
    gz,
    to_json,
)
from windowsfilter.errors import FormatError, HostError, LimitExceeded, UsageError
from windowsfilter.images.sources import open_source
from windowsfilter.wire import compression
from windowsfilter.wire.compression import Compression, compressor


def packed(data: bytes, how: Compression) -> bytes:
    packer = compressor(how)
    return packer.feed(data) + packer.finish()


class Pipe(io.RawIOBase):
    """A stream that gives out little at a time and cannot seek."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        piece = self._rest[: min(len(buffer), 5000)]
        self._rest = self._rest[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize("how", list(Compression))
def test_archives_packed_as_a_whole(tmp_path: Path, how: Compression) -> None:
    path = tmp_path / "image.tar.packed"
    path.write_bytes(packed(archive(docker_members()), how))
    with open_source(path, spool_dir=tmp_path) as source:
        assert contents(source.images[0]) == list(LAYERS)
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("how", list(Compression))
def test_streams_that_cannot_seek(tmp_path: Path, how: Compression) -> None:
    stream = Pipe(packed(archive(docker_members()), how))
    with open_source(stream, spool_dir=tmp_path) as source:  # type: ignore[arg-type]
        assert contents(source.images[0]) == list(LAYERS)
    assert list(tmp_path.iterdir()) == []
    assert not stream.closed


def test_names_with_a_dot_in_front_as_tar_writes_them(tmp_path: Path) -> None:
    members = {f"./{name}": data for name, data in docker_members().items()}
    (tmp_path / "dotted.tar").write_bytes(archive(members))
    with open_source(tmp_path / "dotted.tar") as source:
        assert contents(source.images[0]) == list(LAYERS)


def test_a_full_disk_while_spooling_is_the_machines_fault(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="this machine cannot limit files")
    stream = Pipe(archive({**docker_members(), "more": bytes(1 << 20)}))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(HostError, match="write temporary file: File too large"):
            open_source(stream, spool_dir=tmp_path)  # type: ignore[arg-type]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_streams_that_seek_stay_open_and_start_where_they_are(tmp_path: Path) -> None:
    stream = io.BytesIO(b"before" + archive(docker_members()))
    stream.seek(6)
    with open_source(stream, spool_dir=tmp_path / "unused") as source:
        assert contents(source.images[0]) == list(LAYERS)
    assert not stream.closed


def test_a_bare_tag_from_a_stream_is_a_name(tmp_path: Path) -> None:
    layout = Layout()
    layout.add(layout.image(), ref="win")
    with layout.tar(tmp_path / "x.tar").open("rb") as stream, open_source(stream) as source:
        assert source.images[0].references == ("win:latest",)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this machine cannot make FIFOs")
def test_a_fifo_is_read_as_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    data = archive(docker_members())
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    with open_source(path, spool_dir=tmp_path) as source:
        assert contents(source.images[0]) == list(LAYERS)
    writer.join()


def test_layers_may_be_read_in_any_order_and_at_once(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(archive(docker_members()))
    with open_source(path) as source:
        first, second = source.images[0].layers
        with second.open() as two, first.open() as one:
            assert two.read(100) == LAYERS[1][:100]
            assert one.read() == LAYERS[0]
            assert two.read() == LAYERS[1][100:]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "neither an OCI layout nor a docker archive"),
        (b"hello", "not a tar archive"),
        (b"x" * 5000, "not a tar archive"),
        (BASE, "neither an OCI layout nor a docker archive"),
        (archive(docker_members())[:2000], "not a tar archive, or a damaged one"),
        (gz(b"hello"), "not a tar archive"),
        (gz(archive(docker_members()))[:-5], "gzip stream is truncated"),
        (gz(archive(docker_members())) + b"more", "unknown data follows"),
        (gz(gz(archive(docker_members()))), "not a tar archive"),
        (b"\xfd7zXZ\0" + bytes(100), "packed with xz"),
        (b"PK\x03\x04" + bytes(1000), "not a tar archive"),
        (archive({"manifest.json": b"{"}), "not JSON"),
        (archive({"manifest.json": b'"x"'}), "not a JSON array"),
        (archive({"index.json": b"[]"}), "not a JSON object"),
    ],
    ids=[
        "empty file",
        "text",
        "longer text",
        "a layer",
        "truncated tar",
        "packed text",
        "truncated gzip",
        "gzip with a tail",
        "packed twice",
        "xz",
        "zip",
        "broken manifest.json",
        "manifest.json of another kind",
        "index.json of another kind",
    ],
)
def test_what_is_no_image_is_refused_by_name(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "thing"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=f"read image {path}: .*{complaint}") as caught:
        open_source(path, spool_dir=tmp_path)
    assert caught.value.exit_code == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["thing"]


def test_the_offset_of_damage_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "thing"
    path.write_bytes(gz(archive(docker_members()))[:-5])
    with pytest.raises(FormatError) as caught:
        open_source(path)
    assert caught.value.offset == path.stat().st_size


def test_an_empty_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no index.json and no manifest.json"):
        open_source(tmp_path)


def test_nothing_at_the_path_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is nothing of that name"):
        open_source(tmp_path / "nothing")
    with pytest.raises(UsageError):
        open_source("name\0with NUL")


def test_what_cannot_be_read_is_the_machines_fault(tmp_path: Path) -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            raise OSError(5, "Input/output error")

    broken: BinaryIO = Broken()  # type: ignore[assignment]
    with pytest.raises(HostError, match="read image from a stream: Input/output error") as caught:
        open_source(broken, spool_dir=tmp_path)
    assert caught.value.errno == 5
    assert caught.value.exit_code == 4


def test_a_bomb_is_stopped_by_the_ratio_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "RATIO_GRACE", 1 << 20)
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gz(archive({"zeros": bytes(20 << 20)})))
    with pytest.raises(LimitExceeded, match="100 times"):
        open_source(path, spool_dir=tmp_path, max_ratio=100)


def folder_of(layout: Layout, main: dict[str, str], path: Path) -> Path:
    """The layout as skopeo's dir: has it, with `main` as its manifest.json."""
    path.mkdir()
    for digits, data in layout.blobs.items():
        manifest = b'"layers"' in data
        name = f"{digits}.manifest.json" if manifest else digits
        if digits == main["digest"][7:]:
            name = "manifest.json"
        (path / name).write_bytes(data)
    (path / "version").write_text("Directory Transport Version: 1.1\n")
    return path


def test_folders_of_skopeo(tmp_path: Path) -> None:
    layout = Layout()
    with open_source(folder_of(layout, layout.image(), tmp_path / "one")) as source:
        assert source.kind == "image folder"
        (image,) = source.images
        assert image.references == ()
        assert image.manifest is not None
        assert contents(image) == list(LAYERS)


def test_folders_of_skopeo_with_several_platforms(tmp_path: Path) -> None:
    layout = Layout()
    linux = layout.image([BASE], {"os": "linux", "architecture": "amd64"})
    index = layout.index([linux, layout.image()])
    with open_source(folder_of(layout, index, tmp_path / "all")) as source:
        assert [image.platform.os for image in source.images] == ["windows"]


def test_one_layer_twice_in_an_image(tmp_path: Path) -> None:
    layout = Layout()
    layers = [layout.blob(gz(BASE), OCI + "layer.v1.tar+gzip")] * 2
    manifest = {
        "schemaVersion": 2,
        "config": layout.blob(config_json([BASE, BASE]), OCI + "config.v1+json"),
        "layers": layers,
    }
    layout.add(layout.blob(to_json(manifest), OCI + "manifest.v1+json"))
    with open_source(layout.write(tmp_path / "x")) as source:
        assert [layer.diff_id for layer in source.images[0].layers] == [digest_of(BASE)] * 2
