"""Changes: which paths a layer or a scratch adds, modifies or deletes against what is below it.

Here are the words, and the changes of a sealed layer, read from its index. Those of a scratch come
from its upper directory (`scratch.changes`), by the same rules (docs/formats/scratch.md section 7).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from windowsfilter.engines.portable.blobs import LayerBlob
from windowsfilter.engines.portable.index import Index, Kind, Record
from windowsfilter.engines.portable.tree import ROOT, Tree
from windowsfilter.errors import FormatError
from windowsfilter.ntfs.names import fold
from windowsfilter.wire import whiteouts
from windowsfilter.wire.tar import pax

# Every layer has these two, so that one without a change in them says nothing.
SCAFFOLD = (b"FILES", b"HIVES")

_PIECE_BYTES = 1 << 20
_MAX_RECORDS = 1 << 20  # the reader bounded them when they came in
_TIMES = frozenset((b"mtime", b"atime", b"ctime", b"LIBARCHIVE.creationtime"))
_STRUCTURE = frozenset((b"path", b"linkpath", b"size"))


class ChangeKind(StrEnum):
    """What happened to a path."""

    ADD = "add"
    MODIFY = "modify"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """One path that is not as it is below. Of a deleted directory only the directory is listed."""

    kind: ChangeKind
    path: bytes
    """As in the tar: `Files/Windows/x.dll`, `/` separators."""


def layer_changes(below: Tree, layer: LayerBlob) -> Iterator[Change]:
    """What a sealed layer changes against `below`, the tree of the layers under it.

    In the order of the layer's tar; a name that comes twice is listed twice. A directory that is
    only named on the way to something else is left out, as are whiteouts of nothing.
    """
    index = layer.index
    listed = b""  # what the streams that follow belong to, if it is listed already
    for number, record, name, _ in index.entries():
        kind = Kind(record.kind)
        if kind is Kind.WHITEOUT:
            yield from _whiteout(below, name)
        elif kind is Kind.OPAQUE:
            yield from _opaque(below, name)
        elif kind is Kind.STREAM:
            above, slash, leaf = name.rpartition(b"/")
            owner, _, stream = leaf.partition(b":")
            owner = above + slash + owner
            if fold(owner) != listed and not _same_stream(below, layer, record, owner, stream):
                listed = fold(owner)
                yield _change(below, owner)
        elif kind is not Kind.DIRECTORY or _says_more(below, index, number, record, name):
            listed = fold(name)
            yield _change(below, name)
        else:
            listed = b""


def _change(below: Tree, name: bytes) -> Change:
    found = below.lookup(name)
    return Change(ChangeKind.ADD if found is None else ChangeKind.MODIFY, name)


def _whiteout(below: Tree, name: bytes) -> Iterator[Change]:
    above, slash, leaf = name.rpartition(b"/")
    gone = below.lookup(above + slash + leaf[len(whiteouts.PREFIX) :])
    if gone is not None and gone != ROOT:
        yield Change(ChangeKind.DELETE, below.path(gone))


def _opaque(below: Tree, name: bytes) -> Iterator[Change]:
    directory = below.lookup(name.rpartition(b"/")[0])
    if directory is not None:
        for kid in below.kids.get(directory, {}).values():
            yield Change(ChangeKind.DELETE, below.path(kid))


def _says_more(below: Tree, index: Index, number: int, record: Record, name: bytes) -> bool:
    """Whether a directory's entry differs from the one below in more than its times."""
    slot = below.lookup(name)
    if slot is None:
        return bool(len(below.layers) == 0 or fold(name) not in SCAFFOLD)
    if not below.is_directory(slot):
        return True
    if below.names[slot] != name.rpartition(b"/")[2]:
        return True
    before = below.record(slot)
    ref = below.ref(slot)
    if before is None or ref is None:
        return False  # nothing was known of it
    older = below.layers[ref[0]].index
    if (before.mode, before.uid, before.gid, before.attributes) != (
        record.mode,
        record.uid,
        record.gid,
        record.attributes,
    ):
        return True
    if older.value(before.sd) != index.value(record.sd):
        return True
    return _records(older, ref[1]) != _records(index, number)


def _same_stream(
    below: Tree, layer: LayerBlob, record: Record, owner: bytes, stream: bytes
) -> bool:
    """Whether the chain below has this very stream: directories are repeated with theirs."""
    slot = below.lookup(owner)
    ref = None if slot is None else below.stream(slot, stream)
    if ref is None:
        return False
    older = below.layers[ref[0]]
    assert isinstance(older, LayerBlob)
    before = older.index.record(ref[1])
    if before.size != record.size:
        return False
    return all(
        layer.read(record, _PIECE_BYTES, at) == older.read(before, _PIECE_BYTES, at)
        for at in range(0, record.size, _PIECE_BYTES)
    )


def _records(index: Index, number: int) -> dict[bytes, bytes]:
    """PAX records that say something of their own: no times, nothing that fields of the record say."""
    try:
        ordered = pax.parse_ordered(index.pax(number), 0, _MAX_RECORDS)
    except FormatError:
        return {}
    known = _TIMES | _STRUCTURE | {b"MSWINDOWS.rawsd", b"MSWINDOWS.fileattr"}
    return {key: value for key, value in ordered if key not in known}
