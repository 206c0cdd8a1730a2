"""Backup streams and layer tars for tests: what the reference answered, and sources of all kinds."""

from __future__ import annotations

import io
import json
import lzma
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from windowsfilter.errors import FormatError
from windowsfilter.wire.backupstream import StreamHeader, StreamId
from windowsfilter.wire.backuptar import Add, BasicInfo, LayerTarWriter, Mode, Operation, read_layer

_P = ParamSpec("_P")
_T = TypeVar("_T")
_VECTORS = Path(__file__).parents[1] / "vectors" / "backuptar"
INFO = BasicInfo(
    131244736001234567, 131244736001234568, 131244736001234569, 131244736001234570, 0x20
)
FOLDER_INFO = INFO._replace(attributes=0x10)


def load(name: str) -> dict[str, dict[str, Any]]:
    """The cases of a file of `tests/vectors/backuptar`, by their ids."""
    cases = json.loads(lzma.decompress((_VECTORS / f"reference-{name}.json.xz").read_bytes()))
    return {case["id"]: case for case in cases}


class Pipe:
    """A source that can only be read, and gives less than it is asked for."""

    def __init__(self, data: bytes, most: int = 1 << 30) -> None:
        self._file = io.BytesIO(data)
        self._most = most

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._most))


def attempt(call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | FormatError:
    """What a call returns, or the error with which it refuses its input."""
    try:
        return call(*args, **kwargs)
    except FormatError as error:
        return error


def stream(identity: int, data: bytes = b"", name: str = "", attributes: int = 0) -> bytes:
    """One stream, header and data."""
    header = StreamHeader(id=identity, size=len(data), name=name, attributes=attributes)
    return header.build() + data


def block(offset: int, data: bytes = b"") -> bytes:
    """One block of a sparse stream."""
    header = StreamHeader(id=StreamId.SPARSE_BLOCK, size=len(data), offset=offset)
    return header.build() + data


def operations(
    tar: bytes, mode: Mode = Mode.CORRECT
) -> tuple[list[tuple[Operation, bytes]], FormatError | None]:
    """Every operation with its stream, and what the iteration ended with."""
    found: list[tuple[Operation, bytes]] = []
    try:
        for operation in read_layer(io.BytesIO(tar), mode, report=lambda _: None):
            data = operation.read_stream() if isinstance(operation, Add) else b""
            found.append((operation, data))
    except FormatError as error:
        return found, error
    return found, None


def written(
    *files: tuple[str, int, BasicInfo, bytes], mode: Mode = Mode.CORRECT, reports: Any = None
) -> bytes:
    """The layer tar of files: (name, size, info, stream)."""
    out = io.BytesIO()
    writer = LayerTarWriter(out, mode, report=(lambda _: None) if reports is None else reports)
    for name, size, info, data in files:
        writer.add(name, size, info, io.BytesIO(data))
    writer.close()
    return out.getvalue()


def rewritten(tar: bytes, mode: Mode = Mode.CORRECT) -> bytes:
    """A layer tar through operations into a layer tar."""
    out = io.BytesIO()
    writer = LayerTarWriter(out, mode, report=lambda _: None)
    copy(read_layer(io.BytesIO(tar), mode, report=lambda _: None), writer)
    writer.close()
    return out.getvalue()


def copy(source: Iterable[Operation], writer: LayerTarWriter) -> None:
    """Every operation written again."""
    from windowsfilter.wire.backuptar import Link

    for operation in source:
        if isinstance(operation, Add):
            writer.add(
                operation.name, operation.size, operation.info, operation, fields=operation.fields
            )
        elif isinstance(operation, Link):
            writer.link(operation.name, operation.target, operation.info, fields=operation.fields)
        else:
            writer.remove(operation.name, opaque=operation.opaque)
