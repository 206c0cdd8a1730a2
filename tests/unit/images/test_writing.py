"""Images written: what comes out is what went in, whole or not at all, the same every time."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

import pytest

from tests.support.images import (
    BASE,
    CHILD,
    DOCKER,
    LAYERS,
    OCI,
    WINDOWS,
    Layout,
    archive,
    config_json,
    contents,
    digest_of,
    docker_members,
    export_of,
    gz,
    layer_tar,
    to_json,
)
from windowsfilter.digests import DiffID, Digest
from windowsfilter.errors import (
    AlreadyExists,
    FormatError,
    HostError,
    StoreDamaged,
    UsageError,
)
from windowsfilter.images import output_files
from windowsfilter.images.exports import ExportImage, ExportLayer, StoredBlob
from windowsfilter.images.sources import open_source
from windowsfilter.images.writing import WrittenImage, write_docker_archive, write_oci_layout
from windowsfilter.wire.compression import Compression, detect

Write = Callable[..., list[WrittenImage]]
OLDER = {**WINDOWS, "os.version": "10.0.17763.6414", "os.features": ["win32k"]}


def plain_layer(data: bytes) -> ExportLayer:
    return ExportLayer(diff_id=DiffID.of(data), size=len(data), open=lambda: io.BytesIO(data))


def image(
    layers: tuple[bytes, ...] = LAYERS,
    references: tuple[str, ...] = ("win:1",),
    platform: dict[str, Any] = WINDOWS,
) -> ExportImage:
    return ExportImage(
        references=references,
        config=config_json(layers, platform),
        layers=tuple(plain_layer(layer) for layer in layers),
    )


def to_directory(target: Path, images: list[ExportImage], **options: Any) -> list[WrittenImage]:
    return write_oci_layout(target, images, directory=True, **options)


@pytest.fixture(params=[write_oci_layout, to_directory, write_docker_archive])
def write(request: pytest.FixtureRequest) -> Write:
    """Each of the forms in which images are written."""
    return request.param


def everything(path: Path) -> list[tuple[str, bytes]]:
    """All files below a path, or the bytes of the file."""
    if path.is_file():
        return [("", path.read_bytes())]
    files = [file for file in path.rglob("*") if file.is_file()]
    return sorted((str(file.relative_to(path)), file.read_bytes()) for file in files)


@pytest.mark.parametrize("packing", [None, *Compression])
def test_what_is_written_reads_back(
    write: Write, packing: Compression | None, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    (written,) = write(target, [image()], compression=packing)
    with open_source(target) as source:
        (found,) = source.images
        assert found.references == ("win:1",)
        assert found.config.raw == config_json(LAYERS)
        assert found.manifest is not None
        assert found.manifest.digest == written.descriptor.digest
        assert contents(found) == list(LAYERS)
        for layer in found.layers:
            expected = packing or Compression.GZIP
            with layer.open() as stream:
                stored = stream.read()
            assert detect(stored[:10]) is expected
            assert layer.digest == digest_of(stored)
            suffix = "" if expected is Compression.NONE else f"+{expected.value}"
            assert layer.media_type == OCI + "layer.v1.tar" + suffix
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_the_same_images_give_the_same_bytes(write: Write, tmp_path: Path) -> None:
    layers = tuple(layer_tar({"Files/x": bytes([n]) * 200_000}) for n in range(8))
    images = [image(layers), image((BASE,), ("other:1",))]
    write(tmp_path / "one", images)
    write(tmp_path / "two", images)
    assert everything(tmp_path / "one") == everything(tmp_path / "two")


def test_the_index_names_platform_and_references(write: Write, tmp_path: Path) -> None:
    written = write(tmp_path / "out", [image((BASE,), ("example.com/a/b:1", "win:2"), OLDER)])
    files = dict(everything(tmp_path / "out"))
    if "" in files:
        with tarfile.open(tmp_path / "out") as tar:
            index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
            assert json.load(tar.extractfile("oci-layout")) == {  # type: ignore[arg-type]
                "imageLayoutVersion": "1.0.0"
            }
    else:
        index = json.loads(files["index.json"])
    manifest = {
        "mediaType": OCI + "manifest.v1+json",
        "digest": written[0].descriptor.digest,
        "size": written[0].descriptor.size,
        "platform": {
            "architecture": "amd64",
            "os": "windows",
            "os.version": "10.0.17763.6414",
            "os.features": ["win32k"],
        },
    }
    names = [("example.com/a/b:1", "1"), ("docker.io/library/win:2", "2")]
    assert index["manifests"] == [
        {
            **manifest,
            "annotations": {
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": tag,
            },
        }
        for name, tag in names
    ]


def test_images_that_share_a_tag_are_told_apart_by_whole_names(
    write: Write, tmp_path: Path
) -> None:
    write(tmp_path / "out", [image((BASE,), ("a:1",)), image((CHILD,), ("b:1", "b:2"))])
    with open_source(tmp_path / "out") as source:
        assert [found.references for found in source.images] == [("a:1",), ("b:1", "b:2")]
        assert [contents(found) for found in source.images] == [[BASE], [CHILD]]


def test_images_without_names_stay_without(write: Write, tmp_path: Path) -> None:
    write(tmp_path / "out", [image((BASE,), ()), image((CHILD,), ())])
    with open_source(tmp_path / "out") as source:
        assert [found.references for found in source.images] == [(), ()]


@pytest.mark.parametrize("name", [f"win@{digest_of(b'x')}", f"win:1@{digest_of(b'x')}"])
def test_a_digest_in_a_reference_is_no_tag(tmp_path: Path, name: str) -> None:
    write_docker_archive(tmp_path / "out", [image((BASE,), (name,))])
    with tarfile.open(tmp_path / "out") as tar:
        items = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert items[0]["RepoTags"] == []
    with open_source(tmp_path / "out") as source:
        assert source.images[0].references == (name,)


def test_old_dockers_find_everything_by_manifest_json(tmp_path: Path) -> None:
    write_docker_archive(tmp_path / "out", [image()], compression=Compression.NONE)
    with tarfile.open(tmp_path / "out") as tar:
        (item,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert item["RepoTags"] == ["win:1"]
        assert tar.extractfile(item["Config"]).read() == config_json(LAYERS)  # type: ignore[union-attr]
        for name, layer in zip(item["Layers"], LAYERS, strict=True):
            assert tar.extractfile(name).read() == layer  # type: ignore[union-attr]
        assert all(member.mtime == 0 and member.uid == 0 for member in tar)


def test_a_layer_that_images_share_is_written_once(write: Write, tmp_path: Path) -> None:
    opened: list[str] = []

    def layer(data: bytes) -> ExportLayer:
        def open_it() -> BinaryIO:
            opened.append(digest_of(data))
            return io.BytesIO(data)

        return dataclasses.replace(plain_layer(data), open=open_it)

    first = dataclasses.replace(image((BASE, BASE)), layers=(layer(BASE), layer(BASE)))
    second = dataclasses.replace(image((BASE, CHILD), ("b:1",)), layers=(layer(BASE), layer(CHILD)))
    write(tmp_path / "out", [first, second])
    assert sorted(opened) == sorted([digest_of(BASE), digest_of(CHILD)])
    with open_source(tmp_path / "out") as source:
        assert [contents(found) for found in source.images] == [[BASE, BASE], [BASE, CHILD]]


@pytest.mark.parametrize("docker", [False, True])
def test_a_manifest_survives_with_its_stored_blobs(
    write: Write, docker: bool, tmp_path: Path
) -> None:
    layout = Layout()
    descriptor = layout.image()
    if docker:
        manifest = json.loads(layout.blobs.pop(descriptor["digest"][7:]))
        manifest["mediaType"] = DOCKER + "distribution.manifest.v2+json"
        manifest["config"]["mediaType"] = DOCKER + "container.image.v1+json"
        for layer in manifest["layers"]:
            layer["mediaType"] = DOCKER + "image.rootfs.diff.tar.gzip"
        descriptor = layout.blob(to_json(manifest), manifest["mediaType"])
    layout.add(descriptor, ref="win:1")
    for options, survives in (
        ({}, True),
        ({"compression": Compression.GZIP}, True),
        ({"compression": Compression.ZSTD}, False),
        ({"compression": Compression.NONE}, False),
    ):
        with open_source(layout.write(tmp_path / "in")) as source:
            (written,) = write(
                tmp_path / "out", [export_of(source.images[0], keep=True)], **options
            )
            assert (written.descriptor.digest == descriptor["digest"]) is survives
        with open_source(tmp_path / "out") as source:
            (found,) = source.images
            assert contents(found) == list(LAYERS)
            assert found.manifest is not None
            assert found.manifest.digest == written.descriptor.digest
        remove(tmp_path / "out")


def test_a_plain_original_survives_where_plain_is_asked_for(tmp_path: Path) -> None:
    layout = Layout()
    manifest = {
        "schemaVersion": 2,
        "config": layout.blob(config_json([BASE]), OCI + "config.v1+json"),
        "layers": [layout.blob(BASE, OCI + "layer.v1.tar")],
    }
    descriptor = layout.blob(to_json(manifest), OCI + "manifest.v1+json")
    layout.add(descriptor, ref="win:1")
    with open_source(layout.write(tmp_path / "in")) as source:
        export = export_of(source.images[0])
    (written,) = write_oci_layout(tmp_path / "a", [export], compression=Compression.NONE)
    assert written.descriptor.digest == descriptor["digest"]
    (written,) = write_oci_layout(tmp_path / "b", [export])
    assert written.descriptor.digest != descriptor["digest"]


def test_an_archive_without_manifest_gets_one(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(archive(docker_members()))
    with open_source(tmp_path / "in") as source:
        write_oci_layout(tmp_path / "out", [export_of(source.images[0], keep=True)])
    with open_source(tmp_path / "out") as source:
        assert contents(source.images[0]) == list(LAYERS)
        assert source.images[0].manifest is not None


def test_stored_blobs_with_urls_are_told_to_docker(tmp_path: Path) -> None:
    packed = gz(BASE)
    stored = StoredBlob(
        digest=Digest.of(packed),
        size=len(packed),
        compression=Compression.GZIP,
        open=lambda: io.BytesIO(packed),
        urls=("https://example.com/base",),
    )
    layer = dataclasses.replace(plain_layer(BASE), stored=stored)
    write_docker_archive(tmp_path / "out", [dataclasses.replace(image((BASE,)), layers=(layer,))])
    with tarfile.open(tmp_path / "out") as tar:
        (item,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert item["LayerSources"][digest_of(BASE)]["urls"] == ["https://example.com/base"]


def remove(path: Path) -> None:
    for file in sorted(path.rglob("*"), reverse=True) if path.is_dir() else []:
        file.rmdir() if file.is_dir() else file.unlink()
    path.rmdir() if path.is_dir() else path.unlink()


# -- failures ---------------------------------------------------------------------------------


class Failing(io.BytesIO):
    """Fails half way."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise OSError(errno.EIO, "Input/output error")
        return super().read(min(1000, len(self.getvalue())))


def with_layers(*layers: ExportLayer, of: tuple[bytes, ...] = LAYERS) -> ExportImage:
    return dataclasses.replace(image(of), layers=layers)


@pytest.mark.parametrize(
    ("packing", "damage"),
    [
        (Compression.NONE, "longer"),
        (Compression.NONE, "shorter"),
        (Compression.GZIP, "longer"),
        (Compression.GZIP, "shorter"),
        (Compression.GZIP, "other"),
    ],
)
def test_a_layer_that_has_changed_fails_the_export(
    write: Write, packing: Compression, damage: str, tmp_path: Path
) -> None:
    data = {"other": CHILD[:-1] + b"x", "longer": CHILD + b"x", "shorter": CHILD[:-1]}[damage]
    broken = dataclasses.replace(plain_layer(CHILD), open=lambda: io.BytesIO(data))
    with pytest.raises(StoreDamaged, match=digest_of(CHILD)) as caught:
        write(tmp_path / "out", [with_layers(plain_layer(BASE), broken)], compression=packing)
    assert caught.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []


def test_a_stored_blob_that_has_changed_fails_the_export(write: Write, tmp_path: Path) -> None:
    packed = gz(CHILD)
    stored = StoredBlob(
        digest=Digest.of(packed),
        size=len(packed),
        compression=Compression.GZIP,
        open=lambda: io.BytesIO(packed[:-1]),
    )
    broken = dataclasses.replace(plain_layer(CHILD), stored=stored)
    with pytest.raises(StoreDamaged, match=digest_of(packed)):
        write(tmp_path / "out", [with_layers(plain_layer(BASE), broken)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("packing", [Compression.NONE, Compression.GZIP])
def test_a_layer_that_cannot_be_read_leaves_nothing(
    write: Write, packing: Compression, tmp_path: Path
) -> None:
    broken = dataclasses.replace(plain_layer(CHILD), open=lambda: Failing(CHILD))
    with pytest.raises(HostError, match="Input/output error") as caught:
        write(tmp_path / "out", [with_layers(plain_layer(BASE), broken)], compression=packing)
    assert caught.value.errno == errno.EIO
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"precious")
    broken = dataclasses.replace(plain_layer(CHILD), open=lambda: Failing(CHILD))
    for write in (write_oci_layout, write_docker_archive):
        with pytest.raises(HostError):
            write(target, [with_layers(plain_layer(BASE), broken)])
        assert target.read_bytes() == b"precious"
    write_oci_layout(target, [image()])
    assert target.read_bytes() != b"precious"
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupt_stops_packing_and_leaves_nothing(write: Write, tmp_path: Path) -> None:
    class Interrupting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise KeyboardInterrupt

    layers = [plain_layer(layer_tar({"x": bytes([n])})) for n in range(20)]
    broken = dataclasses.replace(layers[3], open=Interrupting)
    layers[3] = broken
    config = to_json({"rootfs": {"diff_ids": [layer.diff_id for layer in layers]}})
    export = ExportImage(references=(), config=config, layers=tuple(layers))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", [export])
    assert list(tmp_path.iterdir()) == []


def test_targets_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "file").touch()
    with pytest.raises(AlreadyExists, match="exists already"):
        to_directory(tmp_path / "full", [image()])
    with pytest.raises(AlreadyExists):
        to_directory(tmp_path / "file", [image()])
    with pytest.raises(UsageError, match="is a directory"):
        write_oci_layout(tmp_path / "full", [image()])
    with pytest.raises(UsageError, match="no directory"):
        write_oci_layout(tmp_path / "none" / "x", [image()])
    with pytest.raises(UsageError, match="no directory"):
        to_directory(tmp_path / "none" / "x", [image()])
    with pytest.raises(UsageError, match="cannot be written to a stream"):
        write_oci_layout(io.BytesIO(), [image()], directory=True)
    with pytest.raises(UsageError, match="no image"):
        write_oci_layout(tmp_path / "out", [])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "full"]


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    to_directory(tmp_path / "out", [image()])
    with open_source(tmp_path / "out") as source:
        assert contents(source.images[0]) == list(LAYERS)


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real/out")
    write_oci_layout(tmp_path / "link", [image()])
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "out").is_file()


def test_a_stream_is_written_and_stays_open(tmp_path: Path) -> None:
    class OneWay(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, offset: int, whence: int = 0, /) -> int:
            raise OSError(errno.ESPIPE, "Illegal seek")

    stream = OneWay()
    write_docker_archive(stream, [image()])
    write_docker_archive(tmp_path / "out", [image()])
    assert stream.getvalue() == (tmp_path / "out").read_bytes()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this machine cannot fill up")
def test_a_device_is_written_to_directly_and_its_errors_are_the_machines(tmp_path: Path) -> None:
    write_oci_layout("/dev/null", [image()])
    assert not Path("/dev/null").is_file()
    with pytest.raises(HostError, match="No space left on device") as caught:
        write_oci_layout("/dev/full", [image()])
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("packing", [Compression.NONE, Compression.GZIP])
def test_a_full_disk_leaves_nothing(write: Write, packing: Compression, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="this machine cannot limit files")
    noise = layer_tar({"Files/noise": random.Random(0).randbytes(3 << 20)})
    path = tmp_path / "noise"
    path.write_bytes(noise)
    layer = dataclasses.replace(plain_layer(noise), open=lambda: path.open("rb"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Writes beyond the limit fail as on a full disk, only with another error.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(HostError, match="File too large") as caught:
            write(tmp_path / "out", [with_layers(layer, of=(noise,))], compression=packing)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_disk_that_only_the_flush_tells_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(HostError, match="Input/output error"):
        write_oci_layout(tmp_path / "out", [image()])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("refusal", [errno.EOPNOTSUPP, errno.ENOSPC])
def test_space_that_cannot_be_allocated_ahead_matters_only_if_there_is_none(
    refusal: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_files, "_ALLOCATE_BYTES", 1)

    def refused(descriptor: int, offset: int, size: int) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "posix_fallocate", refused, raising=False)
    path = tmp_path / "layer"
    path.write_bytes(BASE)
    layer = dataclasses.replace(plain_layer(BASE), open=lambda: path.open("rb"))
    exported = [with_layers(layer, of=(BASE,))]
    if refusal == errno.ENOSPC:
        with pytest.raises(HostError):
            write_oci_layout(tmp_path / "out", exported, compression=Compression.NONE)
    else:
        write_oci_layout(tmp_path / "out", exported, compression=Compression.NONE)
        assert BASE in (tmp_path / "out").read_bytes()


class OnlyRead:
    """A stream of the plainest kind: it cannot read into a buffer."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def opened(path: Path, *, into_buffer: bool) -> BinaryIO:
    return path.open("rb") if into_buffer else cast("BinaryIO", OnlyRead(path))


@pytest.mark.parametrize("into_buffer", [True, False])
def test_a_layer_file_that_has_shrunk_or_grown_fails_the_export(
    into_buffer: bool, tmp_path: Path
) -> None:
    path = tmp_path / "layer"
    layer = dataclasses.replace(
        plain_layer(BASE), open=lambda: opened(path, into_buffer=into_buffer)
    )
    for change, complaint in ((-1, "1 of its"), (1, "has more than")):
        path.write_bytes((BASE + b"x")[: len(BASE) + change])
        with pytest.raises(StoreDamaged, match=f"{digest_of(BASE)} is damaged: .*{complaint}"):
            write_oci_layout(
                tmp_path / "out", [with_layers(layer, of=(BASE,))], compression=Compression.NONE
            )
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, (1 << 20) + 1, 80 << 20])
@pytest.mark.parametrize("into_buffer", [True, False])
def test_copies_of_any_size_are_exact(size: int, into_buffer: bool, tmp_path: Path) -> None:
    data = random.Random(size).randbytes(min(size, 100_000))
    data += bytes(size - len(data))
    path = tmp_path / "layer"
    path.write_bytes(data)
    layer = dataclasses.replace(
        plain_layer(data), open=lambda: opened(path, into_buffer=into_buffer)
    )
    told: list[int] = []
    write_docker_archive(
        tmp_path / "out",
        [with_layers(layer, of=(data,))],
        compression=Compression.NONE,
        progress=told.append,
    )
    assert sum(told) == size
    with tarfile.open(tmp_path / "out") as tar:
        member = tar.extractfile("blobs/sha256/" + digest_of(data)[7:])
        assert member is not None
        assert member.read() == data
    assert (tmp_path / "out").stat().st_size % 512 == 0


def test_a_config_with_another_number_of_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="has 1 layers"):
        write_oci_layout(tmp_path / "out", [with_layers(plain_layer(BASE))])
    assert list(tmp_path.iterdir()) == []


def test_an_image_loaded_unverified_is_written_as_it_came(tmp_path: Path) -> None:
    wrong = dataclasses.replace(image((BASE,)), layers=(plain_layer(CHILD),))
    write_oci_layout(tmp_path / "out", [wrong])
    with open_source(tmp_path / "out") as source:
        (layer,) = source.images[0].layers
        assert layer.diff_id == digest_of(BASE)
        assert contents(source.images[0]) == [CHILD]


def test_progress_counts_each_layer_once(write: Write, tmp_path: Path) -> None:
    for number, packing in enumerate((Compression.NONE, Compression.GZIP)):
        told: list[int] = []
        write(tmp_path / str(number), [image()], compression=packing, progress=told.append)
        assert sum(told) == sum(map(len, LAYERS))


def test_what_is_written_is_for_its_owner_alone(write: Write, tmp_path: Path) -> None:
    if os.name == "nt":
        pytest.skip("this machine cannot: Windows has no modes")
    write(tmp_path / "out", [image()])
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0


def test_many_layers_leave_few_temporary_files(tmp_path: Path) -> None:
    layers = tuple(layer_tar({"Files/x": b"%d" % number}) for number in range(300))
    seen: list[int] = []

    def count(_: int) -> None:
        seen.append(sum(1 for _ in tmp_path.rglob("layer*")))

    write_oci_layout(tmp_path / "out", [image(layers)], progress=count)
    assert max(seen) <= 2 * (os.cpu_count() or 1) + 2
    with open_source(tmp_path / "out") as source:
        hashes = [hashlib.sha256(data).hexdigest() for data in contents(source.images[0])]
    assert hashes == [hashlib.sha256(data).hexdigest() for data in layers]
