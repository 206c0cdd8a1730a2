"""Reading an OCI image layout: which images it holds, and which platform of each is taken.

Entries of index.json under one name are one image for several platforms, wherever nested indexes
put them; one of them is taken. Attestations, other artifacts and manifests that the layout lists
without holding (Docker saves one platform of several like that) are passed over and reported.

Names: containerd's and Docker's annotation `io.containerd.image.name`, or OCI's `ref.name`. The
latter is a whole reference (podman, skopeo) or a mere tag (BuildKit, umoci); a tag is put behind the
repository that the former names, or else behind the layout's own name.
Sources: OCI image-spec, image-layout.md and annotations.md; containerd images/archive/importer.go.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from windowsfilter.digests import Digest
from windowsfilter.errors import FormatError, UsageError
from windowsfilter.images import media_types
from windowsfilter.images.documents import MAX_INDEX, Descriptor, parse_index
from windowsfilter.images.json_values import decode, fields
from windowsfilter.images.platforms import Platform, choose
from windowsfilter.images.references import normalise
from windowsfilter.images.source_documents import SourceDocuments, blob_name, check_size
from windowsfilter.images.source_images import SourceImage, SourceLayer, check_layer_count

MARKER = "oci-layout"
INDEX = "index.json"
CONTAINERD_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"

MAX_NESTING = 8  # indexes in indexes; two are seen in practice
_MAX_MARKER = 4096
_ATTESTATION = "vnd.docker.reference.type"
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_TAR_NAME = re.compile(r"(?:\.oci|\.docker)?\.(?:tar|tgz|tzst)(?:\.(?:gz|zst))?\Z", re.IGNORECASE)


@dataclass(slots=True)
class _Candidate:
    """One platform's manifest."""

    descriptor: Descriptor
    platform: Platform


@dataclass(slots=True)
class _Group:
    """One image: everything that index.json lists under one name."""

    what: str
    reference: str | None
    candidates: list[_Candidate] = field(default_factory=list)


def check_marker(documents: SourceDocuments) -> None:
    """FormatError unless oci-layout, where there is one, names a version that is known."""
    if documents.bundle.size(MARKER) is None:
        return
    data = documents.read(MARKER, limit=_MAX_MARKER, what=MARKER)
    value = decode(data, what=MARKER, limit=_MAX_MARKER)
    version = fields(value, {"imagelayoutversion": "version"}, MARKER).get("version")
    if not isinstance(version, str) or not version.startswith("1."):
        raise FormatError(f"{MARKER} has version {version!r:.100}, only 1 is known")


def read_index(documents: SourceDocuments) -> tuple[Descriptor, ...]:
    """The entries of a layout's index.json."""
    check_marker(documents)
    data = documents.read(INDEX, limit=MAX_INDEX, what=INDEX)
    return parse_index(data, what=INDEX).manifests


def read_layout(
    documents: SourceDocuments,
    listed: Sequence[Descriptor],
    *,
    name: str,
    platform: Platform | None,
    split_unnamed: bool,
) -> tuple[list[SourceImage], list[str]]:
    """The images that an index lists and, in words, what was passed over.

    `name` is the source's, for bare tags. `split_unnamed`: manifests without a name are one image
    each (docker archives), otherwise platforms of one image. Raises UsageError if `platform` (by
    default the newest Windows) fits none of the images.
    """
    reader = _Reader(documents, name)
    groups = reader.groups(listed, split_unnamed=split_unnamed)
    images: dict[Digest, SourceImage] = {}
    refusals: list[UsageError] = []
    for group in groups:
        if not group.candidates:
            continue
        try:
            chosen = choose(
                group.candidates, lambda candidate: candidate.platform, platform, what=group.what
            )
        except UsageError as error:
            refusals.append(error)
            continue
        image = reader.image(chosen, group)
        known = images.get(chosen.descriptor.digest)
        if known is not None:
            names = {*known.references, *image.references}
            image = dataclasses.replace(image, references=tuple(sorted(names)))
        images[chosen.descriptor.digest] = image
    if refusals and not images:
        raise refusals[0]
    reader.passed_over.extend(str(error) for error in refusals)
    return list(images.values()), reader.passed_over


def short_name(source: str) -> str:
    """The name of a layout's file or directory, as the repository of its bare tags."""
    leaf = re.split(r"[/\\]", source.rstrip("/\\"))[-1]
    return _TAR_NAME.sub("", leaf).lower()


class _Reader:
    """One layout being read."""

    def __init__(self, documents: SourceDocuments, name: str) -> None:
        self._documents = documents
        self._name = name
        self.passed_over: list[str] = []

    def groups(self, listed: Sequence[Descriptor], *, split_unnamed: bool) -> list[_Group]:
        """The images listed, each with its platforms."""
        if not split_unnamed:
            split_unnamed = not _is_one_image(listed)
        groups: dict[str, _Group] = {}
        for descriptor in listed:
            reference = self._reference(descriptor)
            if reference is not None:
                key = what = reference
            elif split_unnamed:
                key, what = descriptor.digest, f"image {descriptor.digest}"
            else:
                key, what = "", "the image"
            group = groups.setdefault(key, _Group(what, reference))
            self._collect(group, descriptor)
        return list(groups.values())

    def image(self, candidate: _Candidate, group: _Group) -> SourceImage:
        """The image of a candidate, its layers found."""
        documents = self._documents
        manifest = documents.manifest(candidate.descriptor)
        config = documents.config(manifest)
        what = f"manifest {candidate.descriptor.digest}"
        check_layer_count(len(manifest.layers), config, what)
        layers: list[SourceLayer] = []
        for number, descriptor in enumerate(manifest.layers):
            layer = f"layer {number} ({descriptor.digest})"
            blob = blob_name(descriptor.digest)
            size = documents.bundle.size(blob)
            if size is not None and documents.verify:
                check_size(descriptor, size, f"{what}, {layer}")
            layers.append(
                SourceLayer(
                    diff_id=config.diff_ids[number],
                    digest=descriptor.digest,
                    size=descriptor.size,
                    media_type=descriptor.media_type,
                    urls=descriptor.urls,
                    name=f"{layer} of {group.what}",
                    opener=None if size is None else partial(documents.bundle.open, blob),
                )
            )
        references = () if group.reference is None else (group.reference,)
        return SourceImage(
            references=references, config=config, manifest=manifest, layers=tuple(layers)
        )

    def _collect(self, group: _Group, descriptor: Descriptor) -> None:
        """Add what `descriptor` stands for to the group, through nested indexes."""
        seen = {candidate.descriptor.digest for candidate in group.candidates}
        for leaf in self._leaves(descriptor, seen, 0):
            candidate = self._candidate(leaf)
            if candidate is not None:
                group.candidates.append(candidate)

    def _leaves(
        self, descriptor: Descriptor, seen: set[Digest], depth: int
    ) -> Iterator[Descriptor]:
        """Manifests below a descriptor, each once."""
        if descriptor.digest in seen:
            return
        seen.add(descriptor.digest)
        if descriptor.media_type not in media_types.INDEXES:
            yield descriptor
            return
        if depth == MAX_NESTING:
            raise FormatError(f"index {descriptor.digest} is nested more than {MAX_NESTING} deep")
        if self._documents.bundle.size(blob_name(descriptor.digest)) is None:
            self.passed_over.append(f"index {descriptor.digest} is missing")
            return
        for inner in self._documents.index(descriptor).manifests:
            yield from self._leaves(inner, seen, depth + 1)

    def _candidate(self, descriptor: Descriptor) -> _Candidate | None:
        """A manifest that could be taken; None, and a note, if it cannot."""
        digest, listed = descriptor.digest, descriptor.platform
        if media_types.is_schema_1(descriptor.media_type):
            raise FormatError(f"manifest {digest} is of Docker schema 1, which is not supported")
        if _ATTESTATION in descriptor.annotations or (listed is not None and not listed.is_known):
            self.passed_over.append(f"manifest {digest} is an attestation")
            return None
        if descriptor.media_type not in {*media_types.MANIFESTS, ""}:
            self.passed_over.append(f"{digest} is {descriptor.media_type[:200]}, not an image")
            return None
        where = "" if listed is None else f" for {listed}"
        if self._documents.bundle.size(blob_name(digest)) is None:
            self.passed_over.append(f"manifest {digest}{where} is missing")
            return None
        manifest = self._documents.manifest(descriptor)
        foreign = manifest.foreign_type
        if foreign is not None:
            self.passed_over.append(f"manifest {digest} is not an image: it has {foreign[:200]}")
            return None
        if listed is not None and (listed.os != "windows" or listed.os_version):
            return _Candidate(descriptor, listed)
        # The version is what images are chosen by: where the index leaves it out, the config
        # has it.
        if self._documents.bundle.size(blob_name(manifest.config.digest)) is None:
            self.passed_over.append(f"config {manifest.config.digest}{where} is missing")
            return None
        return _Candidate(descriptor, self._documents.config(manifest).platform)

    def _reference(self, descriptor: Descriptor) -> str | None:
        """The name of an entry of index.json in familiar form, None if it has no usable one."""
        name = descriptor.annotations.get(CONTAINERD_NAME, "")
        tag = descriptor.annotations.get(REF_NAME, "")
        if _TAG.fullmatch(tag):
            # umoci tags an entry by copying it with another ref.name, the rest unchanged.
            repository = _without_tag(name) or short_name(self._name)
            name = f"{repository}:{tag}" if repository else tag
        name = name or tag
        if not name:
            return None
        try:
            return normalise(name)
        except UsageError as error:
            self.passed_over.append(f"name of {descriptor.digest}: {error}")
            return None


def _without_tag(name: str) -> str:
    """A whole reference up to its tag or digest; a colon before a slash is a registry's port."""
    rest = name.partition("@")[0]
    repository, _, tag = rest.rpartition(":")
    return rest if "/" in tag or not repository else repository


def _is_one_image(listed: Sequence[Descriptor]) -> bool:
    """Are the unnamed entries of an index.json platforms of one image?"""
    platforms = [
        descriptor.platform
        for descriptor in listed
        if not descriptor.annotations.keys() & {CONTAINERD_NAME, REF_NAME}
    ]
    return None not in platforms and len(set(platforms)) == len(platforms)
