"""Small layers for tests: tars made with the package's writer, imported into blobs."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from windowsfilter.engines.portable.blobs import BlobStore, LayerBlob
from windowsfilter.engines.portable.import_terms import Expected
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.wire.tar import Member, TarWriter

NS = 10**9
A_TIME_NS = 1_476_000_000 * NS + 123_456_700
A_CREATION = b"1400000000.7654321"
OWNER_SYSTEM = bytes.fromhex("010004801400000000000000000000000000000001010000000000051200000000")[
    :32
]


@dataclass(frozen=True, slots=True)
class Entry:
    """One tar member and its body."""

    member: Member
    body: bytes = b""


def _member(
    name: str | bytes,
    typeflag: bytes,
    *,
    size: int = 0,
    link: str | bytes = b"",
    mode: int = 0,
    attributes: int | None = None,
    sd: bytes | None = None,
    records: dict[bytes, bytes] | None = None,
    uid: int = 0,
    gid: int = 0,
    mtime_ns: int = A_TIME_NS,
) -> Member:
    found = dict(records or {})
    if attributes is not None:
        found[b"MSWINDOWS.fileattr"] = b"%d" % attributes
        found[b"LIBARCHIVE.creationtime"] = A_CREATION
    if sd is not None:
        found[b"MSWINDOWS.rawsd"] = base64.b64encode(sd)
    return Member(
        name=name.encode() if isinstance(name, str) else name,
        typeflag=typeflag[0],
        size=size,
        mode=mode,
        uid=uid,
        gid=gid,
        linkname=link.encode() if isinstance(link, str) else link,
        mtime_ns=mtime_ns,
        records=found,
    )


def file(name: str | bytes, body: bytes = b"", **more) -> Entry:
    more.setdefault("attributes", 0x20)
    return Entry(_member(name, b"0", size=len(body), **more), body)


def folder(name: str | bytes, **more) -> Entry:
    more.setdefault("attributes", 0x10)
    return Entry(_member(name, b"5", **more))


def symlink(name: str | bytes, target: str | bytes, **more) -> Entry:
    more.setdefault("attributes", 0x400)
    return Entry(_member(name, b"2", link=target, **more))


def junction(name: str | bytes, target: str | bytes) -> Entry:
    records = {b"MSWINDOWS.mountpoint": b"1"}
    return Entry(_member(name, b"2", link=target, attributes=0x410, records=records))


def hard_link(name: str | bytes, target: str | bytes) -> Entry:
    return Entry(_member(name, b"1", link=target))


def whiteout(name: str) -> Entry:
    above, slash, leaf = name.rpartition("/")
    return Entry(_member(f"{above}{slash}.wh.{leaf}", b"0", mtime_ns=0))


def opaque(name: str) -> Entry:
    return Entry(_member(f"{name}/.wh..wh..opq", b"0", mtime_ns=0))


def tar(entries: Iterable[Entry]) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out)
    for entry in entries:
        writer.add(entry.member, entry.body)
    writer.close()
    return out.getvalue()


@dataclass
class Blobs:
    """A blob store in a test's folder."""

    root: Path
    store: BlobStore = field(init=False)

    def __post_init__(self) -> None:
        (self.root / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        (self.root / "tmp").mkdir(exist_ok=True)
        self.store = BlobStore(self.root, lambda: self.root / "tmp")

    def add(self, data: bytes | Sequence[Entry]) -> LayerBlob:
        raw = data if isinstance(data, bytes) else tar(data)
        return self.store.open(self.store.add(io.BytesIO(raw)).diff_id)

    def add_anything(self, data: Sequence[Entry]) -> LayerBlob:
        """The same without a look at Windows metadata, as with `load --no-verify`."""
        expected = Expected(usable_metadata=False)
        return self.store.open(self.store.add(io.BytesIO(tar(data)), expected=expected).diff_id)

    @contextmanager
    def chain(self, *layers: bytes | Sequence[Entry]) -> Iterator[list[LayerBlob]]:
        with ExitStack() as stack:
            yield [stack.enter_context(self.add(layer)) for layer in layers]

    @contextmanager
    def tree(self, *layers: bytes | Sequence[Entry]) -> Iterator[Tree]:
        with self.chain(*layers) as chain:
            yield Tree(chain)
