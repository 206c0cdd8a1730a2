"""Media types of image documents and layers, OCI's and Docker's.

They say what a producer meant; how a layer is packed is decided by its bytes
(`wire.compression`), because producers get the suffix wrong.
Source: OCI image-spec, media-types.md; distribution, manifest schema 2 ("Media Types").
"""

from __future__ import annotations

from typing import Final

from windowsfilter.wire.compression import Compression

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_FOREIGN_LAYER: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar"

DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_FOREIGN_LAYER: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar"

INDEXES: Final = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFESTS: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIGS: Final = frozenset({OCI_CONFIG, DOCKER_CONFIG})

_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"
_LAYERS = (OCI_LAYER, OCI_FOREIGN_LAYER, DOCKER_LAYER, DOCKER_FOREIGN_LAYER)
_OCI_SUFFIXES = {Compression.NONE: "", Compression.GZIP: "+gzip", Compression.ZSTD: "+zstd"}
_DOCKER_SUFFIXES = {Compression.NONE: "", Compression.GZIP: ".gzip", Compression.ZSTD: ".zstd"}
_PACKINGS = {
    "": Compression.NONE,
    "gzip": Compression.GZIP,
    "zstd": Compression.ZSTD,
    "zstd:chunked": Compression.ZSTD,
}


def is_schema_1(media_type: str) -> bool:
    """Docker's manifests before 2016, which name no config."""
    return media_type.startswith(_SCHEMA_1)


def is_layer(media_type: str) -> bool:
    """Is this a file system layer, foreign or not?"""
    return layer_packing(media_type) is not None


def is_foreign(media_type: str) -> bool:
    """Foreign (nondistributable) layers are fetched from their urls, not pushed or saved."""
    return media_type.startswith((OCI_FOREIGN_LAYER, DOCKER_FOREIGN_LAYER))


def layer_packing(media_type: str) -> Compression | None:
    """The packing that a layer's media type claims; None if it is no layer's."""
    for stem in _LAYERS:
        if media_type.startswith(stem):
            return _PACKINGS.get(media_type[len(stem) :].lstrip("+."))
    return None


def layer_type(compression: Compression, *, docker: bool = False) -> str:
    """The media type of an ordinary layer packed like this."""
    if docker:
        return DOCKER_LAYER + _DOCKER_SUFFIXES[compression]
    return OCI_LAYER + _OCI_SUFFIXES[compression]
