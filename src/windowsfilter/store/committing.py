"""Commit: a scratch becomes a layer, and an image with one layer more.

The layer's tar goes through a pipe from the exporter into an ordinary import, so it is never in
memory nor twice on disk, and the layer is checked by the same code as one from outside.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any, BinaryIO

from windowsfilter.digests import ChainID, DiffID, chain_id
from windowsfilter.engines.portable.blobs import BlobManifest
from windowsfilter.engines.portable.import_terms import Expected
from windowsfilter.errors import UsageError
from windowsfilter.images import documents, references
from windowsfilter.layers.manifest import LayerManifest
from windowsfilter.store.core import Core
from windowsfilter.store.holds import ANY, HoldKind
from windowsfilter.store.images import ImageRecord
from windowsfilter.store.loading import add_sealed_layer


def commit(
    core: Core,
    scratch: LayerManifest,
    export: Callable[[BinaryIO], object],
    tag: str | None,
    *,
    locked: Callable[[], AbstractContextManager[None]],
    created_by: str,
) -> ImageRecord:
    """Import what `export` writes as a layer over the scratch's parent, and make its image.

    `locked` keeps others from changing the scratch; it is entered for the export only, because
    locks of images and tags come before those of layers.
    """
    tags = [references.normalise(tag)] if tag else []
    if scratch.image is None or scratch.parent is None:
        raise UsageError(f"commit scratch {scratch.name}: it was not made from an image")
    chain = [layer.id for layer in reversed(core.catalog.chain(scratch.parent))]
    # The blob's name is not known before it exists: hold all there are, as long as that.
    held = [(HoldKind.BLOB, ANY), *((HoldKind.LAYER, layer) for layer in chain)]
    stored: list[str] = []
    blobs: list[DiffID] = []
    try:
        with core.holds.held(held, f"commit of {scratch.name}"):
            with locked(), exported(export) as stream:
                # What the scratch set was checked by the export, the rest is as the chain has it.
                blob = core.blobs.add(stream, expected=Expected(usable_metadata=False))
            blobs.append(blob.diff_id)
            made = _chain_id(core, chain, blob)
            record, config = _image(core, scratch, [*chain, made.hex], blob, created_by)
            objects = [(HoldKind.LAYER, made.hex), (HoldKind.IMAGE, record.id.hex)]
            with core.holds.held(objects, f"commit of {scratch.name}"):
                stored.append(add_sealed_layer(core, blob, made, chain[-1]))
                core.images.add(record, config=config)
                core.images.tag(record.id, tags)
                return core.catalog.image(record.id)
    except BaseException:
        core.garbage.collect(stored, blobs=blobs)  # as after a load that fails
        raise


def _image(
    core: Core, scratch: LayerManifest, layers: list[str], blob: BlobManifest, created_by: str
) -> tuple[ImageRecord, bytes]:
    """The new image's record and config: the parent's with one layer more."""
    assert scratch.image is not None
    parent = documents.parse_config(
        core.images.config(scratch.image), what=f"config {scratch.image}"
    )
    now = time.time_ns()
    raw = documents.build_child_config(
        parent,
        blob.diff_id,
        created=datetime.fromtimestamp(now // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        created_by=created_by,
    )
    config = documents.parse_config(raw, what="the new config")
    record = ImageRecord(
        id=config.digest,
        created=now,
        layers=tuple(layers),
        platform=documents.build_platform(config.platform),
    )
    return record, raw


def _chain_id(core: Core, chain: list[str], blob: BlobManifest) -> ChainID:
    diff_ids = [core.catalog.layer(layer).diff_id for layer in chain]
    return chain_id([*(diff_id for diff_id in diff_ids if diff_id), blob.diff_id])


@contextmanager
def exported(export: Callable[[BinaryIO], object]) -> Iterator[BinaryIO]:
    """A stream of what `export` writes in a thread of its own.

    Reading past its end raises the exporter's error: half an export never looks like a whole one.
    Leaving the body early stops the exporter.
    """
    source, target = os.pipe()
    failure: list[BaseException] = []

    def work() -> None:
        with os.fdopen(target, "wb", buffering=1 << 16) as out:
            try:
                export(out)
            except BaseException as error:  # noqa: BLE001 - top of a thread
                failure.append(error)

    thread = threading.Thread(target=_quietly, args=(work,), name="export", daemon=True)
    with os.fdopen(source, "rb", buffering=0) as pipe:
        thread.start()
        try:
            yield io.BufferedReader(_Checked(pipe, thread, failure), 1 << 18)
        finally:
            pipe.close()  # an exporter that still writes gets EPIPE
            thread.join()


def _quietly(work: Callable[[], None]) -> None:
    """Nobody listens any more when the pipe is broken; the reader's own error counts."""
    try:
        work()
    except BrokenPipeError:
        pass


class _Checked(io.RawIOBase):
    """The reading end of the pipe, whose end is only an end if the exporter succeeded."""

    def __init__(
        self, pipe: io.FileIO, thread: threading.Thread, failure: list[BaseException]
    ) -> None:
        self._pipe = pipe
        self._thread = thread
        self._failure = failure

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._pipe.readinto(buffer)
        if not size:
            self._thread.join()
            if self._failure:
                raise self._failure[0]
        return size or 0
