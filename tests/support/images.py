"""Small images for tests: OCI layouts and docker archives made byte by byte, also wrong ones.

Made with the standard library, so that the package's own writers are not what vouches for its
readers.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from windowsfilter.digests import Digest
from windowsfilter.images.exports import ExportImage, ExportLayer, StoredBlob
from windowsfilter.images.source_images import SourceImage
from windowsfilter.wire.compression import decompress, detect

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
WINDOWS = {"os": "windows", "architecture": "amd64", "os.version": "10.0.20348.169"}


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def to_json(value: object) -> bytes:
    return json.dumps(value).encode()


def layer_tar(files: Mapping[str, bytes]) -> bytes:
    """A layer as tools other than Windows make it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


BASE = layer_tar({"Files/Windows/notepad.exe": b"MZ" * 3000, "Hives/System_Delta": b"regf"})
CHILD = layer_tar({"Files/app/run.cmd": b"echo hello\r\n", "Files/.wh.old": b""})
LAYERS = (BASE, CHILD)


def config_json(layers: Iterable[bytes], platform: Mapping[str, Any] = WINDOWS) -> bytes:
    return to_json(
        {
            **platform,
            "created": "2021-05-07T10:00:00Z",
            "config": {"Cmd": ["cmd.exe"], "Labels": {"Size": "big", "size": "small"}},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        }
    )


def gz(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


@dataclass
class Layout:
    """An OCI layout being put together; what is in the fields is what gets written."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(
        default_factory=lambda: {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    )

    def blob(self, data: bytes, media_type: str, **more: object) -> dict[str, Any]:
        """Store a blob; returns its descriptor."""
        digest = digest_of(data)
        self.blobs[digest[7:]] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data), **more}

    def image(
        self,
        layers: Iterable[bytes] = LAYERS,
        platform: Mapping[str, Any] = WINDOWS,
        *,
        listed: bool = True,
        **more: Any,
    ) -> dict[str, Any]:
        """Store an image with gzip layers; returns the manifest's descriptor."""
        layers = list(layers)
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI + "manifest.v1+json",
            "config": self.blob(config_json(layers, platform), OCI + "config.v1+json"),
            "layers": [self.blob(gz(layer), OCI + "layer.v1.tar+gzip") for layer in layers],
        }
        if listed:
            more["platform"] = dict(platform)
        return self.blob(to_json(manifest), OCI + "manifest.v1+json", **more)

    def index(self, manifests: list[dict[str, Any]], **more: object) -> dict[str, Any]:
        """Store a nested index; returns its descriptor."""
        value = {"schemaVersion": 2, "manifests": manifests}
        return self.blob(to_json(value), OCI + "index.v1+json", **more)

    def add(self, descriptor: dict[str, Any], **annotations: str) -> dict[str, Any]:
        """List a descriptor in index.json; `ref` and `name` are its names."""
        names = {
            "ref": "org.opencontainers.image.ref.name",
            "name": "io.containerd.image.name",
        }
        noted = {names.get(key, key): value for key, value in annotations.items()}
        listed = {**descriptor, "annotations": {**descriptor.get("annotations", {}), **noted}}
        self.entries.append(listed)
        return listed

    def members(self) -> dict[str, bytes]:
        """All files by name."""
        index = to_json({"schemaVersion": 2, "manifests": self.entries})
        return {
            **{f"blobs/sha256/{digits}": data for digits, data in self.blobs.items()},
            "index.json": index,
            **self.files,
        }

    def write(self, path: Path) -> Path:
        """As a directory."""
        for name, data in self.members().items():
            file = path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        return path

    def tar(self, path: Path) -> Path:
        """As a tar."""
        path.write_bytes(archive(self.members()))
        return path


def archive(members: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    """A tar of these; a TarInfo stands for itself (links)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def link(name: str, target: str, *, hard: bool = False) -> tarfile.TarInfo:
    """A link as a member."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.LNKTYPE if hard else tarfile.SYMTYPE
    info.linkname = target
    return info


def docker_members(
    layers: Iterable[bytes] = LAYERS,
    tags: Iterable[str] | None = ("win:1",),
    platform: Mapping[str, Any] = WINDOWS,
) -> dict[str, bytes | tarfile.TarInfo]:
    """The members of an archive as Docker 1.10 to 24 writes it."""
    layers = list(layers)
    config = config_json(layers, platform)
    name = digest_of(config)[7:] + ".json"
    paths = [f"{digest_of(b'id' + layer)[7:]}/layer.tar" for layer in layers]
    item = {"Config": name, "RepoTags": None if tags is None else list(tags), "Layers": paths}
    return {
        **dict(zip(paths, layers, strict=True)),
        name: config,
        "manifest.json": to_json([item]),
        "repositories": b"{}",
    }


def contents(image: SourceImage) -> list[bytes]:
    """The unpacked layers of an image."""
    unpacked: list[bytes] = []
    for layer in image.layers:
        with layer.open() as stream:
            unpacked.append(b"".join(decompress(iter(lambda: stream.read(65536), b""))))
    return unpacked


def export_of(image: SourceImage, *, keep: bool = False) -> ExportImage:
    """The image as a store would hand it over; `keep`: with the layers as they were stored."""
    layers: list[ExportLayer] = []
    for layer, plain in zip(image.layers, contents(image), strict=True):
        with layer.open() as stream:
            packed = stream.read()
        stored = StoredBlob(
            digest=Digest.of(packed),
            size=len(packed),
            compression=detect(packed[:10]),
            open=lambda data=packed: io.BytesIO(data),  # type: ignore[misc]
        )
        layers.append(
            ExportLayer(
                diff_id=layer.diff_id,
                size=len(plain),
                open=lambda data=plain: io.BytesIO(data),  # type: ignore[misc]
                stored=stored if keep else None,
            )
        )
    return ExportImage(
        references=image.references,
        config=image.config.raw,
        layers=tuple(layers),
        manifest=None if image.manifest is None else image.manifest.raw,
    )
