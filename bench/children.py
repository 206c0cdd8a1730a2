"""What is measured in a process of its own: `python -m bench.children WHAT ARGUMENTS`.

Each prints one JSON document.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import queue
import resource
import sys
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from windowsfilter.wire.backuptar import Add, read_layer
from windowsfilter.wire.tar import Member, TarReader, TarWriter, read_entries

inflater: ModuleType
try:
    from isal import isal_zlib as inflater
except ImportError:  # no wheel for this machine
    inflater = zlib

_READ = 1 << 18
_PIECE = 1 << 20


def _inflated(path: Path, seen: Callable[[bytes], None] | None = None) -> Iterator[bytes]:
    unpacker = inflater.decompressobj(31)
    with path.open("rb", buffering=0) as stream:
        while raw := stream.read(_READ):
            if seen:
                seen(raw)
            while raw:
                if piece := unpacker.decompress(raw, _PIECE):
                    yield piece
                raw = unpacker.unconsumed_tail


def reader(blob: str) -> dict[str, float]:
    """Entries per processor second of the tar reader alone, on one gzip-packed layer."""
    parser = TarReader()
    entries = records = 0
    spent = 0.0
    for piece in _inflated(Path(blob)):
        start = time.thread_time()
        found = parser.feed(piece)
        spent += time.thread_time() - start
        entries += len(found)
        records += sum(len(entry.records) for entry in found)
    parser.close()
    return {"entries": entries, "records": records, "cpu_s": spent}


def operations(tar: str, bodies: str) -> dict[str, float]:
    """Operations of an unpacked layer tar. `bodies`: `read`, `skip`, or `peer` for tarfile alone."""
    entries = size = 0
    start = time.process_time()
    with Path(tar).open("rb", buffering=0) as stream:
        if bodies == "peer":
            with tarfile.open(fileobj=stream, mode="r|", bufsize=_PIECE) as archive:
                entries = sum(1 for _ in archive)
        else:
            for operation in read_layer(stream):
                entries += 1
                if bodies == "read" and isinstance(operation, Add):
                    while piece := operation.read_stream(_PIECE):
                        size += len(piece)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return {"entries": entries, "bytes": size, "cpu_s": time.process_time() - start, "peak": peak}


def headers(blob: str, copies: str, target: str) -> dict[str, int]:
    """Writes a layer's entries without their data, several times over, as one tar."""
    entries = 0
    with Path(target).open("xb") as out:
        writer = TarWriter(out)
        for _ in range(int(copies)):
            with gzip.open(blob) as stream:
                for entry, _ in read_entries(stream):
                    entries += 1
                    member = Member(
                        name=entry.name,
                        typeflag=entry.typeflag,
                        mode=entry.mode,
                        linkname=entry.linkname,
                        mtime_ns=entry.mtime_ns,
                        atime_ns=entry.atime_ns,
                        ctime_ns=entry.ctime_ns,
                        records=entry.records,
                    )
                    writer.add(member)
        writer.close()
    return {"entries": entries}


def loop(target: str, *blobs: str) -> dict[str, float]:
    """Inflate, digest both sides, write and fsync: one after another, in one thread."""
    start = time.perf_counter()
    for number, blob in enumerate(blobs):
        stored, plain = hashlib.sha256(), hashlib.sha256()
        with Path(f"{target}.{number}").open("xb", buffering=0) as out:
            for piece in _inflated(Path(blob), stored.update):
                plain.update(piece)
                out.write(piece)
            os.fsync(out.fileno())
    return {"seconds": time.perf_counter() - start}


def threads(target: str, *blobs: str) -> dict[str, float]:
    """The same with a thread for each of the four, as fast as it goes without parsing."""
    start = time.perf_counter()
    for number, blob in enumerate(blobs):
        stored, plain = hashlib.sha256(), hashlib.sha256()
        with Path(f"{target}.{number}").open("xb", buffering=0) as out:
            consumers = [_Consumer(stored.update), _Consumer(plain.update), _Consumer(out.write)]
            for piece in _inflated(Path(blob), consumers[0].put):
                consumers[1].put(piece)
                consumers[2].put(piece)
            for consumer in consumers:
                consumer.finish()
            os.fsync(out.fileno())
    return {"seconds": time.perf_counter() - start}


class _Consumer:
    def __init__(self, use: Callable[[bytes], object]) -> None:
        self._use = use
        self._queue: queue.Queue[bytes | None] = queue.Queue(8)
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        self.put = self._queue.put

    def _work(self) -> None:
        while (piece := self._queue.get()) is not None:
            self._use(piece)

    def finish(self) -> None:
        self._queue.put(None)
        self._thread.join()


def read_tree(folder: str) -> dict[str, object]:
    """Read every file below a folder once, in the order the folders give them."""
    start = time.perf_counter()
    digests = []
    size = 0
    below = [folder]
    while below:
        for entry in os.scandir(below.pop()):
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                digest = hashlib.sha256()
                with open(entry.path, "rb", buffering=0) as stream:
                    while piece := stream.read(_PIECE):
                        digest.update(piece)
                        size += len(piece)
                digests.append(os.fsencode(entry.path[len(folder) :]) + digest.digest())
    seconds = time.perf_counter() - start
    together = hashlib.sha256(b"".join(sorted(digests))).hexdigest()
    return {"seconds": seconds, "files": len(digests), "bytes": size, "digest": together}


def later_mounts(root: str, image: str, count: str) -> dict[str, list[float]]:
    """Mount and unmount again and again inside one process; seconds of each mount."""
    from windowsfilter import Store

    seconds = []
    with Store(root) as store:
        for _ in range(int(count) + 1):
            found = store.image(image)
            start = time.perf_counter()
            with found.mounted() as place:
                seconds.append(time.perf_counter() - start)
                os.listdir(place)
    return {"seconds": seconds[1:], "first": seconds[:1]}


_WHAT: dict[str, Callable[..., object]] = {
    "reader": reader,
    "headers": headers,
    "operations": operations,
    "loop": loop,
    "threads": threads,
    "read-tree": read_tree,
    "later-mounts": later_mounts,
}

if __name__ == "__main__":
    json.dump(_WHAT[sys.argv[1]](*sys.argv[2:]), sys.stdout)
