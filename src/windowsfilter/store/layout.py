"""Where things lie in a store's root, and the root itself: making it, checking it, migrating it.

Folders and the version rule: docs/formats/store.md section 1. What is inside blobs and chain images
is the engine's affair.
"""

from __future__ import annotations

import logging
import os
import stat
import time
import uuid as uuids
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from windowsfilter.digests import Digest
from windowsfilter.errors import FormatError, HostError, StoreDamaged, UsageError
from windowsfilter.layers import durable, records
from windowsfilter.layers.ids import check_id
from windowsfilter.store.locks import Locks

FORMAT = 1

_FOLDERS = ("blobs", "layers", "images", "chains", "holds", "tmp")
# What an interrupted first open may have made, and what mkfs puts into a fresh file system.
_HARMLESS = {*_FOLDERS, "lock", "locks", "reserve", "lost+found"}

# format -> what turns a store of that format into one of the next. Runs under the exclusive
# `store` lock; must be repeatable, since a crash repeats it.
_MIGRATIONS: Mapping[int, Callable[[Path], None]] = {}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one store."""

    root: Path
    uuid: str

    @property
    def catalog(self) -> Path:
        return self.root / "catalog.db"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs" / "sha256"

    @property
    def layers(self) -> Path:
        return self.root / "layers"

    @property
    def images(self) -> Path:
        return self.root / "images" / "sha256"

    @property
    def chains(self) -> Path:
        return self.root / "chains"

    @property
    def holds(self) -> Path:
        return self.root / "holds"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    def blob(self, diff_id: Digest) -> Path:
        return self.blobs / diff_id.hex

    def layer(self, layer_id: str) -> Path:
        """Raises UsageError for text that cannot be an id."""
        return self.layers / check_id(layer_id)

    def image(self, image_id: Digest) -> Path:
        return self.images / image_id.hex

    def chain(self, key: str) -> Path:
        return self.chains / check_id(key, "chain key")


def open_layout(root: Path, *, create: bool = True) -> tuple[Layout, Locks]:
    """The store at `root`, made if need be, of the current format.

    Raises UsageError if there is no store (`create` false), if the folder holds something else,
    or if a newer program made it; HostError if it belongs to somebody else; StoreDamaged if
    `store.json` cannot be read.
    """
    root = Path(os.path.abspath(root))
    with durable.host_errors(f"open store {root}"):
        if not root.is_dir():
            if not create or os.path.lexists(root):
                raise UsageError(f"open store {root}: there is no such folder")
            root.mkdir(mode=durable.FOLDER_MODE, parents=True, exist_ok=True)
        _check_access(root)
        described = _read_description(root)
        if described is None:
            _check_free(root, create=create)
        locks = Locks(root)
        if described is None or described[0] < FORMAT:
            with locks.held("store"):
                described = _prepare(root)
        return Layout(root, described[1]), locks


def _check_access(root: Path) -> None:
    """The root is ours alone: what lies in it gets mounted and trusted."""
    if os.name == "nt":
        return
    info = root.stat()
    if info.st_uid != os.geteuid():
        raise HostError(
            f"open store {root}: it belongs to uid {info.st_uid}, and we are uid {os.geteuid()}"
        )
    if stat.S_IMODE(info.st_mode) != durable.FOLDER_MODE:
        if stat.S_IMODE(info.st_mode) & 0o077:
            _log.warning("store %s was open to others; closing it", root)
        root.chmod(durable.FOLDER_MODE)


def _read_description(root: Path) -> tuple[int, str] | None:
    """Format and uuid from `store.json`, None if there is none."""
    path = root / "store.json"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        # Its own key `format` counts, not a record version: a newer format may mean anything.
        fields = records.Fields.parse_unversioned(data, str(path))
        number = fields.integer("format", minimum=1)
        if number > FORMAT:
            raise UsageError(
                f"open store {root}: format {number} was made by a newer windowsfilter; "
                f"this one knows formats up to {FORMAT}"
            )
        uuid = str(uuids.UUID(fields.text("uuid")))
    except (FormatError, ValueError) as error:
        raise StoreDamaged(f"open store {root}: {error}") from error
    return number, uuid


def _check_free(root: Path, *, create: bool) -> None:
    """A folder that is neither empty nor a half-made store must not become one."""
    strangers = sorted(set(os.listdir(root)) - _HARMLESS)
    if strangers:
        raise UsageError(
            f"open store {root}: it holds other things ({', '.join(strangers[:3])}) and no store"
        )
    if not create:
        raise UsageError(f"open store {root}: there is no store")


def _prepare(root: Path) -> tuple[int, str]:
    """Make or migrate the store; under the exclusive `store` lock, so look again first."""
    described = _read_description(root)
    if described is None:
        for name in _FOLDERS:
            (root / name).mkdir(mode=durable.FOLDER_MODE, exist_ok=True)
        for name in ("blobs", "images"):
            (root / name / "sha256").mkdir(mode=durable.FOLDER_MODE, exist_ok=True)
            durable.sync_folder(root / name)
        described = FORMAT, str(uuids.uuid4())
        _write_description(root, *described)
        durable.sync_folder(root.parent)
    while described[0] < FORMAT:
        number, uuid = described
        _log.info("migrating store %s from format %d", root, number)
        _MIGRATIONS[number](root)
        described = number + 1, uuid
        _write_description(root, *described)
    return described


def _write_description(root: Path, number: int, uuid: str) -> None:
    fields = {"format": number, "uuid": uuid, "created": time.time_ns()}
    durable.replace(root / "store.json", records.dump(fields), staging=root / "tmp")
