"""An OCI image layout with gzip layers, written as the layers stream in.

Source: OCI image-spec (image-layout.md, manifest.md, config.md).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from demo.layertree import LayerTree, Written
from windowsfilter.digests import DiffID, Digest
from windowsfilter.wire.compression import Compression, compressor

OS_VERSION = "10.0.20348.2113"
_MEDIA = "application/vnd.oci.image."


@dataclass(slots=True)
class BuiltLayer:
    """A layer in the layout: what it is and what was written into it."""

    diff_id: DiffID
    digest: Digest
    tar_size: int
    stored_size: int
    entries: list[Written] = field(repr=False)


class _GzipSink:
    """A file object for the tar: hashes it, compresses it, hashes and writes the result."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._pack = compressor(Compression.GZIP, 1)
        self.tar_sha, self.stored_sha = hashlib.sha256(), hashlib.sha256()
        self.tar_size = self.stored_size = 0

    def write(self, data: bytes) -> int:
        self.tar_sha.update(data)
        self.tar_size += len(data)
        self._store(self._pack.feed(data))
        return len(data)

    def finish(self) -> None:
        self._store(self._pack.finish())

    def _store(self, packed: bytes) -> None:
        self.stored_sha.update(packed)
        self.stored_size += len(packed)
        self._out.write(packed)


class ImageWriter:
    """Writes an OCI layout folder: `add_layer` base first, then `finish`."""

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs" / "sha256"
        self._blobs.mkdir(parents=True)
        self._folder = folder
        self.layers: list[BuiltLayer] = []

    def add_layer(self, tree: LayerTree) -> BuiltLayer:
        """Stream one layer into the layout."""
        unfinished = self._folder / "layer"
        with unfinished.open("wb") as out:
            sink = _GzipSink(out)
            entries = list(tree.write(cast("BinaryIO", sink)))
            sink.finish()
        digest = Digest.from_hex(sink.stored_sha.hexdigest())
        unfinished.rename(self._blobs / digest.hex)
        layer = BuiltLayer(
            DiffID.from_hex(sink.tar_sha.hexdigest()),
            digest,
            sink.tar_size,
            sink.stored_size,
            entries,
        )
        self.layers.append(layer)
        return layer

    def finish(self, reference: str) -> Digest:
        """Write configuration, manifest and index. Returns the configuration's digest."""
        config = self._put(
            {
                "architecture": "amd64",
                "os": "windows",
                "os.version": OS_VERSION,
                "created": "2024-11-24T00:00:00Z",
                "config": {"Cmd": ["C:\\Windows\\System32\\cmd.exe"], "WorkingDir": "C:\\"},
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
                "history": [
                    {"created": "2024-11-24T00:00:00Z", "created_by": f"demonstration layer {n}"}
                    for n in range(len(self.layers))
                ],
            },
            "config.v1+json",
        )
        manifest = self._put(
            {
                "schemaVersion": 2,
                "mediaType": f"{_MEDIA}manifest.v1+json",
                "config": config,
                "layers": [
                    {
                        "mediaType": f"{_MEDIA}layer.v1.tar+gzip",
                        "digest": layer.digest,
                        "size": layer.stored_size,
                    }
                    for layer in self.layers
                ],
            },
            "manifest.v1+json",
        )
        manifest["platform"] = {"architecture": "amd64", "os": "windows", "os.version": OS_VERSION}
        manifest["annotations"] = {"org.opencontainers.image.ref.name": reference}
        index = {"schemaVersion": 2, "manifests": [manifest]}
        (self._folder / "index.json").write_text(json.dumps(index))
        (self._folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        return Digest(str(config["digest"]))

    def _put(self, document: dict[str, object], kind: str) -> dict[str, object]:
        """Store a JSON document as a blob; returns its descriptor."""
        data = json.dumps(document).encode()
        digest = Digest.of(data)
        (self._blobs / digest.hex).write_bytes(data)
        return {"mediaType": _MEDIA + kind, "digest": digest, "size": len(data)}
