"""Data of scratch files: read without trusting that it holds still, compared with the chain's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from windowsfilter.engines.portable.blobs import LayerBlob
from windowsfilter.engines.portable.index import Record
from windowsfilter.engines.portable.scratch.below import Below
from windowsfilter.engines.portable.scratch.merge import Merged, StreamMark
from windowsfilter.engines.portable.scratch.upper import UpperDirectory, UpperEntry, changed
from windowsfilter.ntfs.names import fold

PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Stream:
    """One alternate data stream that a file has in the scratch: from the upper or the chain."""

    name: bytes
    size: int
    mark: StreamMark | None
    ref: tuple[int, int] | None
    """(layer, record), where `mark` is None."""


class Contents:
    """Reads the data of a scratch. `root` is its upper directory, open for as long as this."""

    def __init__(self, below: Below, root: UpperDirectory) -> None:
        self._below = below
        self._root = root

    def same_data(self, place: UpperDirectory, entry: UpperEntry, slot: int) -> bool:
        """Whether a file of the upper has the data of the tree's file `slot`, byte for byte."""
        ref = self._below.tree.ref(slot)
        record = self._below.tree.record(slot)
        if ref is None or record is None or record.size != entry.stat.st_size:
            return False
        return self._equal(place, entry, self._layer(ref[0]), record)

    def streams(self, merged: Merged) -> tuple[list[Stream], bool]:
        """The streams a name has now, and whether they differ from its origin's.

        In the order of the origin's, new ones behind them by name.
        """
        streams: dict[bytes, Stream] = {}
        if merged.origin is not None:
            for name, ref in self._below.tree.streams(merged.origin).items():
                size = self._layer(ref[0]).index.record(ref[1]).size
                streams[fold(name)] = Stream(name, size, None, ref)
        differ = False
        for mark in sorted(merged.streams, key=lambda mark: (mark.entry is not None, mark.name)):
            old = streams.get(fold(mark.name))
            if mark.entry is None:
                differ |= streams.pop(fold(mark.name), None) is not None
            elif old is None or not self._same_stream(mark, old):
                differ = True
                name = mark.name if old is None else old.name
                streams[fold(name)] = Stream(name, mark.entry.stat.st_size, mark, None)
        return list(streams.values()), differ

    def read_upper(self, place: UpperDirectory, entry: UpperEntry) -> Iterator[bytes]:
        """The data of an upper's file, exactly as long as `entry` says.

        Raises HostError naming the file if it changes on the way.
        """
        path = place.child(entry.name)
        descriptor = place.open_file(entry)
        try:
            _check_same(path, entry, descriptor)
            left = entry.stat.st_size
            while left:
                piece = os.read(descriptor, min(left, PIECE_BYTES))
                if not piece:
                    raise changed(path)
                left -= len(piece)
                yield piece
            _check_same(path, entry, descriptor)
        finally:
            os.close(descriptor)

    def read_base(self, ref: tuple[int, int]) -> Iterator[bytes]:
        """The data of an entry of the chain."""
        layer = self._layer(ref[0])
        record = layer.index.record(ref[1])
        at = 0
        while piece := layer.read(record, PIECE_BYTES, at):
            yield piece
            at += len(piece)

    def read_stream(self, stream: Stream) -> Iterator[bytes]:
        """The data of one of `streams`."""
        if stream.ref is not None:
            yield from self.read_base(stream.ref)
        else:
            assert stream.mark is not None and stream.mark.entry is not None
            with self._root.reopen(stream.mark.directory) as place:
                yield from self.read_upper(place, stream.mark.entry)

    def _same_stream(self, mark: StreamMark, old: Stream) -> bool:
        if old.ref is None or mark.entry is None or old.size != mark.entry.stat.st_size:
            return False
        layer = self._layer(old.ref[0])
        record = layer.index.record(old.ref[1])
        with self._root.reopen(mark.directory) as place:
            return self._equal(place, mark.entry, layer, record)

    def _equal(
        self, place: UpperDirectory, entry: UpperEntry, layer: LayerBlob, record: Record
    ) -> bool:
        at = 0
        for piece in self.read_upper(place, entry):
            if not _matches(layer, record, at, piece):
                return False
            at += len(piece)
        return True

    def _layer(self, number: int) -> LayerBlob:
        layer = self._below.tree.layers[number]
        assert isinstance(layer, LayerBlob)
        return layer


def _matches(layer: LayerBlob, record: Record, at: int, piece: bytes) -> bool:
    """Whether `piece` is what the entry has from `at` on."""
    done = 0
    while done < len(piece):
        data = layer.read(record, len(piece) - done, at + done)
        if not data or data != piece[done : done + len(data)]:
            return False
        done += len(data)
    return True


def _check_same(path: bytes, entry: UpperEntry, descriptor: int) -> None:
    """Raise if the open file is not, or not any more, what was listed."""
    now, then = os.fstat(descriptor), entry.stat
    if (now.st_size, now.st_mtime_ns, now.st_ctime_ns) != (
        then.st_size,
        then.st_mtime_ns,
        then.st_ctime_ns,
    ):
        raise changed(path)
