"""Reading the folder that `skopeo copy … dir:` and `podman save --format docker-dir` write.

One image, without a name: `manifest.json` is its manifest or index, the manifests of an index are
`<hex>.manifest.json`, all other blobs `<hex>`. Told from a docker archive by manifest.json, which is a
list there. Everything else is read as in an OCI layout.
Source: github.com/containers/image, directory/directory_transport.go.
"""

from __future__ import annotations

from typing import BinaryIO

from windowsfilter.digests import Digest
from windowsfilter.images.bundles import Bundle
from windowsfilter.images.docker_archive import MANIFEST
from windowsfilter.images.documents import MAX_INDEX, Descriptor, parse_index, parse_manifest
from windowsfilter.images.json_values import decode, fold
from windowsfilter.images.oci_layout import read_layout
from windowsfilter.images.platforms import Platform
from windowsfilter.images.source_documents import SourceDocuments, blob_name
from windowsfilter.images.source_images import SourceImage

_BLOBS = "blobs/sha256/"


def is_folder_layout(documents: SourceDocuments) -> bool:
    """Is manifest.json an image's manifest rather than a docker archive's list?"""
    data = documents.read(MANIFEST, limit=MAX_INDEX, what=MANIFEST)
    return isinstance(decode(data, what=MANIFEST, limit=MAX_INDEX), dict)


def read_folder(
    documents: SourceDocuments, *, name: str, platform: Platform | None
) -> tuple[list[SourceImage], list[str]]:
    """The image and, in words, what was passed over; errors as `read_layout`."""
    data = documents.read(MANIFEST, limit=MAX_INDEX, what=MANIFEST)
    digest = Digest.of(data)
    value = decode(data, what=MANIFEST, limit=MAX_INDEX)
    if any(fold(key) == "manifests" for key in value):
        listed = parse_index(data, what=MANIFEST).manifests
    else:
        media_type = parse_manifest(data, what=MANIFEST).media_type
        listed = (Descriptor(digest=digest, size=len(data), media_type=media_type),)
    renamed = SourceDocuments(_Folder(documents.bundle, digest), verify=documents.verify)
    return read_layout(renamed, listed, name=name, platform=platform, split_unnamed=False)


class _Folder:
    """Such a folder under the names of an OCI layout."""

    def __init__(self, bundle: Bundle, manifest: Digest) -> None:
        self._bundle = bundle
        self._manifest = blob_name(manifest)

    def size(self, name: str) -> int | None:
        return self._bundle.size(self._name(name))

    def open(self, name: str) -> BinaryIO:
        return self._bundle.open(self._name(name))

    def close(self) -> None:
        self._bundle.close()

    def _name(self, name: str) -> str:
        if name == self._manifest:
            return MANIFEST
        leaf = name.removeprefix(_BLOBS)
        manifest = f"{leaf}.manifest.json"
        return leaf if self._bundle.size(manifest) is None else manifest
