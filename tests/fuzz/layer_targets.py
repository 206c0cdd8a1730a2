"""Layer tars, as bytes and built from parts, and backup streams on their way into one."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.fuzz.target import Target, check_place
from tests.fuzz.wire_targets import RECORD_WORDS, Dribble, backup_streams, layer_record_lines
from tests.support.tar_blocks import END, header, padded, pax
from windowsfilter.errors import FormatError
from windowsfilter.ntfs.basic_info import BasicInfo
from windowsfilter.ntfs.reparse import LinkNames, ReparsePoint, link_point
from windowsfilter.wire.backupstream import (
    BackupStreamError,
    BackupStreamReader,
    StreamHeader,
    StreamId,
)
from windowsfilter.wire.backuptar import (
    Add,
    LayerTarWriter,
    Link,
    Mode,
    Remove,
    TarFields,
    read_layer,
)

INFO = BasicInfo(132_000_000_000_000_000, 1, 116_444_736_000_000_001, 0, 0x20)
DIRECTORY_INFO = INFO._replace(attributes=0x10)
BLOCK = 512
MAX_CONTENT = 1 << 20
WORDS = (
    *RECORD_WORDS,
    *(b"GNU.sparse.size", b"GNU.sparse.numblocks", b"GNU.sparse.map", b"GNU.sparse.name", b"path"),
    *(b"GNU.sparse.major=1\nGNU.sparse.minor=0", b"GNU.sparse.realsize", b"linkpath", b"mtime"),
    *(
        b"LIBARCHIVE.creationtime",
        b"\n\n0Files/",
        b".wh.",
        b":$DATA",
        b"body=",
        b"=4611686018427387904",
    ),
)


def quiet(what: str) -> None:
    """Nobody listens to reports here."""


@dataclass(frozen=True, slots=True)
class Added:
    """An `Add` with its stream, which can be compared."""

    name: str
    size: int
    info: BasicInfo
    stream: bytes
    fields: TarFields = field(compare=False)
    """Of what it says some is lost where it contradicts the rest, such as a file's link target."""


Seen = Added | Link | Remove


@dataclass(slots=True)
class Reading:
    """What a tar came to: operations as plain values, and the error that ended it."""

    operations: list[Seen] = field(default_factory=list)
    error: FormatError | None = None


def read(data: bytes, mode: Mode, *, most: int = 0) -> Reading | None:
    """Everything in a tar, `most` bytes of it at a time, if that is not 0; None if it is endless."""
    found = Reading()
    source = Dribble(data, most) if most else io.BytesIO(data)
    try:
        for operation in read_layer(source, mode, report=quiet):
            if isinstance(operation, Add):
                stream, fields = operation.read_stream(MAX_CONTENT + 1), operation.fields
                if len(stream) > MAX_CONTENT:
                    return None  # the zeros of a hole
                added = Added(operation.name, operation.size, operation.info, stream, fields)
                found.operations.append(added)
            else:
                found.operations.append(operation)
    except FormatError as error:
        check_place(error, len(data))
        found.error = error
    return found


def write(operations: list[Seen], mode: Mode) -> bytes:
    """The tar of what `read` gave."""
    target = io.BytesIO()
    writer = LayerTarWriter(target, mode, report=quiet)
    for seen in operations:
        match seen:
            case Added():
                stream = io.BytesIO(seen.stream)
                writer.add(seen.name, seen.size, seen.info, stream, fields=seen.fields)
            case Link():
                writer.link(seen.name, seen.target, seen.info)
            case Remove():
                writer.remove(seen.name, opaque=seen.opaque)
    writer.close()
    return target.getvalue()


def layer_tar(data: bytes) -> None:
    """A tar in all modes; sums of headers are made right, so that damage gets past them."""
    tar = summed(data)
    found = {}
    for mode in Mode:
        whole, pieces = read(tar, mode), read(tar, mode, most=700)
        if whole is None or pieces is None:
            return
        assert pieces.operations == whole.operations
        assert str(pieces.error) == str(whole.error)
        found[mode] = whole
    strict, correct = found[Mode.STRICT], found[Mode.CORRECT]
    if strict.error is None:
        assert correct.error is None
        assert correct.operations == strict.operations
    if correct.error is None:
        rewritten(correct, strict)


def rewritten(correct: Reading, strict: Reading) -> None:
    """What was read can be written, and then means the same."""
    if any(isinstance(seen, Added) and seen.size > MAX_CONTENT for seen in correct.operations):
        return  # a tar would have all zeros of its holes
    try:
        written = write(correct.operations, Mode.CORRECT)
    except FormatError:
        # What is tolerated but cannot be written, such as a stream that comes twice.
        assert strict.error is not None
        return
    back = read(written, Mode.CORRECT)
    assert back is not None
    assert back.error is None
    assert back.operations == correct.operations
    assert write(back.operations, Mode.CORRECT) == written


def summed(data: bytes) -> bytes:
    result = bytearray(data)
    for start in range(0, len(data) - BLOCK + 1, BLOCK):
        if data[start + 257 : start + 262] == b"ustar":
            result[start + 148 : start + 156] = b" " * 8
            result[start + 148 : start + 156] = b"%06o\0 " % sum(result[start : start + BLOCK])
    return bytes(result)


def built(data: bytes) -> bytes:
    """A tar that is well made, of entries that need not be: see `entry_parts`."""
    blocks = []
    for part in data.split(b"\n\n")[:8]:
        head, *lines = part.split(b"\n")
        name, _, linkname = head[1:].partition(b">")
        records = []
        body = b""
        for line in lines:
            key, _, value = line.partition(b"=")
            if key == b"body":
                body = value
            elif key:
                records.append((key, value))
        if records:
            blocks.append(pax(*records))
        kind = head[:1] or b"0"
        blocks.append(header(name[:100], kind=kind, link=linkname[:100], size=len(body)))
        blocks.append(padded(body))
    return b"".join(blocks) + END


def layer_entries(data: bytes) -> None:
    layer_tar(built(data))


def entry_parts() -> Iterator[bytes]:
    """Type and name, `>` and a link's target; then records, one a line; entries apart by two."""
    yield b"5Files\n\n0Files/a\nbody=hello\n\n0Files/a:s:$DATA\nbody=more\n\n1Files/b>Files/a"
    yield b"0Files/.wh.gone\n\n0Files/.wh..wh..opq\n\n2Files/l>..\\x\nMSWINDOWS.fileattr=1040"
    for line in layer_record_lines():
        linkname, _, records = line.partition(b"\n")
        yield (b"2Files/x>" + linkname if linkname else b"0Files/x") + b"\n" + records
    yield b"0Files/t\nLIBARCHIVE.creationtime=-11644473600.1\nmtime=1e9\natime=99999999999"
    yield b"0Files/s\nMSWINDOWS.fileattr=544\nbody=" + bytes(100)
    yield (
        b"0Files/h\nGNU.sparse.size=200000\nGNU.sparse.numblocks=1\nGNU.sparse.map=70000,5\n"
        b"MSWINDOWS.fileattr=544\nbody=hello"
    )


def layer_tars() -> Iterator[bytes]:
    for part in entry_parts():
        yield built(part)


@dataclass(slots=True)
class Content:
    """What the streams of a file mean, apart from their order and layout."""

    main: bytes | None = None
    alternates: dict[str, bytes] = field(default_factory=dict)
    metadata: dict[int, bytes] = field(default_factory=dict)


METADATA = (StreamId.SECURITY_DATA, StreamId.EA_DATA, StreamId.REPARSE_DATA)


def content(data: bytes) -> Content | None:
    """What a backup stream means; None if it is damaged, or has too many zeros to hold."""
    found = Content()
    reader = BackupStreamReader(io.BytesIO(data))
    place: str | None = None
    try:
        while header := reader.next_header():
            body = reader.read()
            if header.id == StreamId.SPARSE_BLOCK and place is not None:
                if header.offset > MAX_CONTENT:
                    return None
                before = found.main or b"" if place == "" else found.alternates[place]
                body = before.ljust(header.offset, b"\0") + body
            elif header.id in METADATA:
                found.metadata[header.id] = body
                place = None
                continue
            elif header.id == StreamId.DATA:
                place = ""
            elif header.id == StreamId.ALTERNATE_DATA:
                place = _plain(header.name)
            else:
                place = None
                continue
            if place == "":
                found.main = body
            else:
                found.alternates[place] = body
    except BackupStreamError:
        return None
    return found


def _plain(name: str) -> str:
    return name[:-6] if name.upper().endswith(":$DATA") else name


def stream_to_tar(data: bytes) -> None:
    """The first byte says what file it is; what follows is its backup stream."""
    choice, stream = data[:1], data[1:]
    info = DIRECTORY_INFO if choice == b"d" else INFO
    means = content(stream)
    size = len(means.main) if means and means.main else 0
    for mode in Mode:
        target = io.BytesIO()
        writer = LayerTarWriter(target, mode, report=quiet)
        try:
            writer.add("Files\\x", size, info, io.BytesIO(stream))
        except FormatError as error:
            # Where the tar's own size is at odds, the reference's way, the place is in the tar.
            if error.offset is not None and mode is not Mode.GO:
                check_place(error, len(stream))
            continue
        writer.close()
        if mode is Mode.GO:
            read(target.getvalue(), mode)
            continue
        assert means is not None
        back = read(target.getvalue(), Mode.CORRECT)
        assert back is not None
        assert back.error is None
        (added,) = back.operations
        assert isinstance(added, Added)
        assert (added.name, added.size, added.info) == ("Files\\x", size, info)
        again = content(added.stream)
        assert again is not None
        assert (again.main or b"") == (means.main or b"")
        assert again.alternates == means.alternates
        # An empty descriptor or list is none, and lists of attributes are laid out anew.
        kept = {key: value for key, value in means.metadata.items() if value}
        again.metadata.pop(StreamId.EA_DATA, None)
        kept.pop(StreamId.EA_DATA, None)
        assert _link(again.metadata) == _link(kept)
        assert again.metadata == kept


def _link(metadata: dict[int, bytes]) -> LinkNames | None:
    """What a link's reparse buffer says, taken out: the order of its names is not kept."""
    buffer = metadata.get(StreamId.REPARSE_DATA)
    if buffer is None:
        return None
    point = ReparsePoint.parse(buffer)
    if not point.is_link:
        return None
    del metadata[StreamId.REPARSE_DATA]
    return LinkNames.parse(point)


def streams_for_tar() -> Iterator[bytes]:
    for stream in backup_streams():
        yield b"f" + stream
    links = [link_point("C:\\x").build(), link_point("..\\y", mount_point=True).build()]
    for choice, kind, data in (
        (b"f", StreamId.SECURITY_DATA, bytes.fromhex("0100048000000000000000000000000000000000")),
        (b"f", StreamId.REPARSE_DATA, links[0]),
        (b"d", StreamId.REPARSE_DATA, links[1]),
        (b"f", StreamId.EA_DATA, bytes.fromhex("0000000000010000410042") + b"\0"),
    ):
        yield choice + StreamHeader(id=kind, size=len(data)).build() + data


LAYER_TARGETS = {
    "layer-tar": Target(run=layer_tar, seeds=layer_tars, max_size=16 << 10, runs=1500),
    "layer-entries": Target(run=layer_entries, seeds=entry_parts, words=WORDS, runs=3000),
    "stream-to-tar": Target(run=stream_to_tar, seeds=streams_for_tar, runs=5000),
}
