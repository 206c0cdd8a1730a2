"""Reading a source's documents: checked against their descriptors, within one budget.

Sizes and digests are compared unless the caller asked not to verify. The budget bounds memory
whatever number of documents a hostile source lists.
"""

from __future__ import annotations

from windowsfilter.digests import Digest
from windowsfilter.errors import DigestMismatch, FormatError, LimitExceeded
from windowsfilter.images import media_types
from windowsfilter.images.bundles import Bundle, read_whole
from windowsfilter.images.documents import (
    MAX_CONFIG,
    MAX_INDEX,
    MAX_MANIFEST,
    Config,
    Descriptor,
    Index,
    Manifest,
    parse_config,
    parse_index,
    parse_manifest,
)

MAX_TOTAL = 32 << 20  # bytes of all documents of one source; 500 real images have 12 MiB


class SourceDocuments:
    """The documents of one bundle, each read once."""

    def __init__(self, bundle: Bundle, *, verify: bool) -> None:
        self.bundle = bundle
        self.verify = verify
        self._left = MAX_TOTAL
        self._manifests: dict[Digest, Manifest] = {}
        self._configs: dict[Digest, Config] = {}

    def read(self, name: str, *, limit: int, what: str) -> bytes:
        """A document by its file name, unchecked."""
        if self.bundle.size(name) is None:
            raise FormatError(f"{what} is missing")
        data = read_whole(self.bundle, name, limit=limit, what=what)
        self._left -= len(data)
        if self._left < 0:
            raise LimitExceeded(f"{what}: the documents are longer than {MAX_TOTAL} bytes in all")
        return data

    def blob(self, descriptor: Descriptor, *, limit: int, what: str) -> bytes:
        """A document by its descriptor, size and digest checked."""
        data = self.read(blob_name(descriptor.digest), limit=limit, what=what)
        if self.verify:
            check_size(descriptor, len(data), what)
            check_digest(descriptor.digest, data, what)
        return data

    def index(self, descriptor: Descriptor) -> Index:
        what = f"index {descriptor.digest}"
        return parse_index(self.blob(descriptor, limit=MAX_INDEX, what=what), what=what)

    def manifest(self, descriptor: Descriptor) -> Manifest:
        """The manifest, whose own media type must be the descriptor's."""
        found = self._manifests.get(descriptor.digest)
        if found is None:
            what = f"manifest {descriptor.digest}"
            data = self.blob(descriptor, limit=MAX_MANIFEST, what=what)
            found = self._manifests[descriptor.digest] = parse_manifest(data, what=what)
        claimed = descriptor.media_type
        if claimed in media_types.MANIFESTS and claimed != found.media_type:
            raise FormatError(
                f"manifest {descriptor.digest} calls itself {found.media_type},"
                f" its index says {claimed}"
            )
        return found

    def config(self, manifest: Manifest) -> Config:
        found = self._configs.get(manifest.config.digest)
        if found is None:
            what = f"config {manifest.config.digest}"
            data = self.blob(manifest.config, limit=MAX_CONFIG, what=what)
            found = self._configs[manifest.config.digest] = parse_config(data, what=what)
        return found


def blob_name(digest: Digest) -> str:
    """Where an OCI layout keeps a blob."""
    return f"blobs/sha256/{digest.hex}"


def check_size(descriptor: Descriptor, size: int, what: str) -> None:
    """FormatError unless `size` is the descriptor's."""
    if size != descriptor.size:
        raise FormatError(f"{what} is {size} bytes long, its descriptor says {descriptor.size}")


def check_digest(digest: Digest, data: bytes, what: str) -> None:
    """DigestMismatch unless `data` has this digest."""
    found = Digest.of(data)
    if found != digest:
        raise DigestMismatch(f"{what} does not have that digest, its content has {found}")
