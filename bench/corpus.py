"""A two-layer Windows image that is the same on every machine, as OCI layouts.

The base has the shape of a Windows installation: directories, files of log-normal sizes with
content that gzip packs about 2.6 : 1, security descriptors out of a small set, alternate streams,
hard links, junctions and symlinks, names in mixed case. The child changes files (half of them
in upper case), deletes (in swapped case) and adds. The tars depend on the seed and nothing else;
their compressed bytes also on the version of zlib.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import random
import shutil
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from windowsfilter.wire import whiteouts
from windowsfilter.wire.tar import (
    TYPE_DIRECTORY,
    TYPE_FILE,
    TYPE_HARD_LINK,
    TYPE_SYMLINK,
    Member,
    TarWriter,
    build_header,
)

_POOL_SIZE: Final = 32 << 20
_PAGE_WORDS: Final = 3000
_VOCABULARY: Final = 200
_SIGMA: Final = 1.65  # of the log-normal sizes: some are tens of megabytes
_OVERHEAD: Final = 2300  # bytes of an entry beside its data
_CHILD_BYTES: Final = 4450  # an entry of the child, in the mean
_FILE_SHARE: Final = 0.7  # of the entries have data
_LARGEST: Final = 48 << 20
_DESCRIPTORS: Final = 240
_NS: Final = 10**9
_BORN: Final = 1_650_000_000
_PAGE: Final = 1 << 20
_FORMAT: Final = 2  # of the corpus; another one is made anew

_WORDS: Final = tuple(
    "api ms win core file system service network shell driver store user kernel crypto update "  # noqa: SIM905
    "media print event log policy remote session power device storage audio video font color "
    "registry component package manifest catalog language resource setup boot security".split()
)
_ENDINGS: Final = (".dll", ".dll", ".dll", ".exe", ".mui", ".sys", ".cat", ".manifest", ".xml", "")
_FOLDERS: Final = (
    "Files/Windows/System32",
    "Files/Windows/SysWOW64",
    "Files/Windows/Microsoft.NET/Framework64",
    "Files/Program Files/Common Files",
    "Files/Program Files",
    "Files/ProgramData/Microsoft",
    "Files/Users/Public",
)

_HIVES: Final = ("DefaultUser", "Sam", "Security", "Software", "System")
_LINKS: Final = (
    ("Files/Documents and Settings", "C:\\Users"),
    ("Files/ProgramData/Application Data", "C:\\ProgramData"),
    ("Files/Users/AllUsers", "C:\\ProgramData"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a corpus is to be like."""

    entries: int = 150_000
    """Tar entries of both layers together."""
    bytes: int = 1_260_000_000
    """Of both uncompressed tars together, to within a percent."""
    child_entries: int = 4_800
    seed: int = 20348

    @property
    def name(self) -> str:
        return f"e{self.entries}-b{self.bytes}-c{self.child_entries}-s{self.seed}-f{_FORMAT}"

    def scaled(self, entries: int) -> Shape:
        """The same shape with another number of entries."""
        share = entries / self.entries
        return Shape(
            entries=entries,
            bytes=int(self.bytes * share),
            child_entries=max(50, int(self.child_entries * min(share, 1))),
            seed=self.seed,
        )


FULL: Final = Shape()


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFacts:
    """One layer of a corpus that was built."""

    digest: str
    diff_id: str
    size: int
    packed_size: int
    entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Where a corpus lies. `base` holds the first layer, `app` both; blobs are shared links."""

    base: Path
    app: Path
    layers: tuple[LayerFacts, ...]

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.layers)

    @property
    def entries(self) -> int:
        return sum(layer.entries for layer in self.layers)

    def blob(self, number: int) -> Path:
        """The compressed tar of a layer."""
        return self.app / "blobs" / "sha256" / self.layers[number].digest.removeprefix("sha256:")


def ensure(folder: Path, shape: Shape) -> Corpus:
    """The corpus below `folder`, made if it is not there yet; half-made ones are replaced."""
    place = folder / shape.name
    facts = place / "corpus.json"
    if not facts.exists():
        shutil.rmtree(place, ignore_errors=True)
        _build(place, shape)
    found = json.loads(facts.read_text())
    layers = tuple(LayerFacts(**layer) for layer in found["layers"])
    return Corpus(base=place / "base", app=place / "app", layers=layers)


def write_large(path: Path, files: int, size: int) -> None:
    """Write a layer tar of a few large files."""
    data = random.Random(1).randbytes(size)
    with path.open("xb") as stream:
        writer = TarWriter(stream)
        for number in range(files):
            writer.add(Member(name=b"Files/%d" % number, size=size), data)
        writer.close()


def ensure_empty(folder: Path, count: int) -> Path:
    """An OCI layout with one layer of `count` empty files and the shortest headers there are."""
    place = folder / f"empty-{count}-f{_FORMAT}"
    if not (place / "index.json").exists():
        shutil.rmtree(place, ignore_errors=True)
        blobs = place / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        layer = _LayerFile(blobs / "layer", level=1)
        for part in _empty_entries(count):
            layer.write(part)
        layer.write(bytes(1024))
        _write_layout(place, [layer.finish(count)])
    return place


def _empty_entries(count: int) -> Iterator[bytes]:
    """Headers of empty files, 4,096 to a folder, made by changing digits in a template."""
    block = bytearray(build_header(Member(name=b"Files/000000/000")))
    rest = sum(block) - sum(block[6:12]) - sum(block[13:16]) - sum(block[148:156]) + 256
    yield build_header(Member(name=b"Files", typeflag=TYPE_DIRECTORY))
    made = 1
    for number in itertools.count():
        folder = b"%06x" % number
        yield build_header(Member(name=b"Files/" + folder, typeflag=TYPE_DIRECTORY))
        made += 1
        parts = []
        block[6:12] = folder
        for leaf in range(min(4096, count - made)):
            digits = b"%03x" % leaf
            block[13:16] = digits
            block[148:154] = b"%06o" % (rest + sum(folder) + sum(digits))
            parts.append(bytes(block))
        made += len(parts)
        yield b"".join(parts)
        if made >= count:
            return


def _build(place: Path, shape: Shape) -> None:
    blobs = place / "app" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    chance = random.Random(shape.seed)
    content = Content(chance, min(_POOL_SIZE, max(2 * _PAGE, shape.bytes)))
    base = _LayerFile(blobs / "base")
    entries = shape.entries - shape.child_entries
    maker = _LayerMaker(base, content, chance)
    files = maker.base(entries, shape.bytes - shape.child_entries * _CHILD_BYTES)
    facts = [base.finish(maker.entries)]
    child = _LayerFile(blobs / "child")
    maker = _LayerMaker(child, content, chance)
    maker.child(shape.child_entries, files)
    facts.append(child.finish(maker.entries))
    _write_layout(place / "app", facts)
    shared = place / "base" / "blobs" / "sha256"
    shared.mkdir(parents=True)
    name = facts[0].digest.removeprefix("sha256:")
    (shared / name).hardlink_to(blobs / name)
    _write_layout(place / "base", facts[:1])
    # Last: its presence says that all of it is there.
    (place / "corpus.json").write_text(json.dumps({"layers": [asdict(fact) for fact in facts]}))


class Content:
    """Bytes for files: pages of words from small vocabularies, of noise, and of zeros."""

    def __init__(self, chance: random.Random, pool_size: int) -> None:
        words = [chance.randbytes(chance.choice((2, 3, 4, 4, 5, 6, 8, 12))) for _ in range(20_000)]
        weights = list(itertools.accumulate(1 / (rank + 4) for rank in range(_VOCABULARY)))
        pages: list[bytes] = []
        size = 0
        while size < pool_size:
            which = chance.random()
            if which < 0.19:
                page = chance.randbytes(4096)
            elif which < 0.23:
                page = bytes(2048)
            else:
                some = chance.sample(words, _VOCABULARY)
                page = b"".join(chance.choices(some, cum_weights=weights, k=_PAGE_WORDS))
            pages.append(page)
            size += len(page)
        self._pool = b"".join(pages)
        self._chance = chance
        self._serial = 0

    def pieces(self, size: int) -> Iterator[bytes]:
        """`size` bytes that no other file has."""
        self._serial += 1
        stamp = b"MZ%014d" % self._serial
        yield stamp[:size]
        left = size - len(stamp)
        while left > 0:
            count = min(left, _PAGE)
            start = self._chance.randrange(len(self._pool) - count)
            yield self._pool[start : start + count]
            left -= count


class _LayerFile:
    """A file that digests what is written to it, before and after compression."""

    def __init__(self, path: Path, *, level: int = 6) -> None:
        self._path = path
        self._stream = path.open("wb")
        self._plain = hashlib.sha256()
        self._stored = hashlib.sha256()
        self._packer = zlib.compressobj(level, zlib.DEFLATED, 31)
        self._size = self._packed_size = 0

    def write(self, data: bytes) -> None:
        self._plain.update(data)
        self._size += len(data)
        self._store(self._packer.compress(data))

    def finish(self, entries: int) -> LayerFacts:
        """Close the file and give it the name of its digest."""
        self._store(self._packer.flush())
        self._stream.close()
        self._path.rename(self._path.with_name(self._stored.hexdigest()))
        return LayerFacts(
            digest=f"sha256:{self._stored.hexdigest()}",
            diff_id=f"sha256:{self._plain.hexdigest()}",
            size=self._size,
            packed_size=self._packed_size,
            entries=entries,
        )

    def _store(self, data: bytes) -> None:
        self._stored.update(data)
        self._packed_size += len(data)
        self._stream.write(data)


@dataclass(frozen=True, slots=True)
class _Planned:
    name: str
    kind: str = "file"
    target: str = ""


class _LayerMaker:
    """Writes the entries of one layer in the dialect of the reference exporter."""

    def __init__(self, stream: _LayerFile, content: Content, chance: random.Random) -> None:
        self._writer = TarWriter(stream)
        self._content = content
        self._chance = chance
        self._descriptors = [_descriptor(number) for number in range(_DESCRIPTORS)]
        self._folders: set[str] = set()
        self._words: list[str] = []
        self.entries = 0

    def base(self, entries: int, size: int) -> list[str]:
        """A whole installation; returns the names of its files."""
        plan = self._plan(entries)
        for item in sorted(plan, key=_walk_order):
            self._parents(item.name)
            left = size - self._writer.offset
            match item.kind:
                case "file":
                    length = self._size(entries - self.entries, left)
                    self._file(item.name, length, self._chance.choice((32, 32, 32, 33, 38)))
                case "stream":
                    self._file(item.name, self._size(entries - self.entries, left), 32)
                    self._stream_of(item.name)
                case "link":
                    self._link(item.name, TYPE_HARD_LINK, item.target, 32, 0o644)
                case "symlink":
                    self._link(item.name, TYPE_SYMLINK, item.target, 0x2416, 0o160000)
        self._writer.close()
        files = (item.name for item in plan if item.kind in ("file", "stream"))
        return [name for name in files if name.startswith("Files/")]

    def _plan(self, entries: int) -> list[_Planned]:
        """All that the layer will have, folders aside, so that it has exactly so many entries."""
        plan = [_Planned(f"Hives/{kind}_Delta") for kind in _HIVES]
        plan += [_Planned(name, "symlink", target) for name, target in _LINKS]
        folders = {folder for item in plan for folder in _folders(item.name)}
        count = len(plan) + len(folders)
        files = 0
        while count < entries:
            last = count >= entries - 20  # these go where no new folder is needed
            name = f"Files/{files}.dll" if last else self._new_name(files)
            files += 1
            added = [_Planned(name, "stream" if files % 200 == 0 and not last else "file")]
            if files % 6 == 0 and not last:
                leaf = name.rpartition("/")[2]
                link = f"Files/Windows/WinSxS/links/{files // 2000:04x}/{files}-{leaf}"
                added.append(_Planned(link, "link", name))
            before = len(folders)
            folders.update(folder for item in added for folder in _folders(item.name))
            plan += added
            count += len(added) + (added[0].kind == "stream") + len(folders) - before
        return plan

    def child(self, entries: int, files: list[str]) -> None:
        """An update: changes, half of them in upper case, deletions and new files."""
        plan: list[_Planned] = []
        folders = {"FILES"}
        for number, name in enumerate(self._chance.sample(files, min(len(files), entries))):
            if len(plan) + len(folders) > entries * 3 // 4:
                break
            folder, _, leaf = name.rpartition("/")
            if number % 2:
                plan.append(_Planned(f"{folder}/{_whiteout(leaf)}", "whiteout"))
            else:
                plan.append(_Planned(f"Files/{name[6:].upper()}" if number % 4 else name))
            folders.update(folder.upper() for folder in _folders(name))
        missing = entries - len(plan) - len(folders)
        plan += [_Planned(f"Files/new file {number}.dll") for number in range(missing)]
        for item in sorted(plan, key=_walk_order):
            self._parents(item.name)
            if item.kind == "whiteout":
                self._put(Member(name=item.name.encode(), pax=False))
            else:
                self._file(item.name, 9000 if "new file" in item.name else 3000, 32)
        self._writer.close()

    def _size(self, entries_left: int, bytes_left: int) -> int:
        """A log-normal size, steered so that the bytes run out with the entries."""
        each = max(0.0, bytes_left / entries_left - _OVERHEAD) / _FILE_SHARE
        drawn = self._chance.lognormvariate(-_SIGMA * _SIGMA / 2, _SIGMA)  # of mean 1
        return min(_LARGEST, int(each * drawn))

    def _new_name(self, number: int) -> str:
        chance = self._chance
        if number % 3 == 0:
            # Components of a few files each with long names, as in WinSxS.
            if number % 9 == 0:
                self._words = chance.sample(_WORDS, 2)
            folder = (
                f"Files/Windows/WinSxS/amd64_microsoft-windows-{self._words[0]}-{self._words[1]}"
                f"_31bf3856ad364e35_10.0.20348.{number // 9}_none_{number // 9:016x}"
            )
        else:
            group = number // 40
            first, second = _WORDS[group % len(_WORDS)], _WORDS[group * 7 % len(_WORDS)]
            folder = f"{_FOLDERS[group % len(_FOLDERS)]}/{first.title()}.{second}/{group}"
        words = chance.sample(_WORDS, 2)
        leaf = f"{words[0]}-{words[1]}-l1-{number}{chance.choice(_ENDINGS)}"
        match number % 5:
            case 0:
                leaf = leaf.upper()
            case 1:
                leaf = leaf.title()
        if number % 500 == 7:
            leaf = f"日本語-{'あ' * (number % 60)}-{leaf}"
        return f"{folder}/{leaf}"

    def _link(self, name: str, kind: int, target: str, attributes: int, mode: int) -> None:
        junction = {b"MSWINDOWS.mountpoint": b"1"} if kind == TYPE_SYMLINK and " " in name else {}
        self._put(
            Member(
                name=name.encode(),
                typeflag=kind,
                linkname=target.encode(),
                mode=mode,
                **self._metadata(attributes, junction),  # type: ignore[arg-type]
            )
        )

    def _file(self, name: str, size: int, attributes: int) -> None:
        member = Member(
            name=name.encode(),
            typeflag=TYPE_FILE,
            size=size,
            mode=0o100000,
            **self._metadata(attributes),  # type: ignore[arg-type]
        )
        self._put(member, self._content.pieces(size))

    def _stream_of(self, name: str) -> None:
        data = b"[ZoneTransfer]\r\nZoneId=3\r\n"
        self._put(Member(name=f"{name}:Zone.Identifier".encode(), size=len(data)), [data])

    def _parents(self, name: str) -> None:
        for folder in _folders(name):
            if folder.upper() not in self._folders:
                self._folders.add(folder.upper())
                member = Member(
                    name=folder.encode(),
                    typeflag=TYPE_DIRECTORY,
                    mode=0o40000,
                    **self._metadata(16),  # type: ignore[arg-type]
                )
                self._put(member)

    def _metadata(
        self, attributes: int, more: dict[bytes, bytes] | None = None
    ) -> dict[str, object]:
        chance = self._chance
        born = _BORN * _NS + chance.randrange(10**15) * 100
        records = {
            b"LIBARCHIVE.creationtime": b"%d.%07d" % (born // _NS, born % _NS // 100),
            b"MSWINDOWS.fileattr": b"%d" % attributes,
            b"MSWINDOWS.rawsd": chance.choice(self._descriptors),
            **(more or {}),
        }
        return {
            "mtime_ns": born + chance.randrange(10**9) * 100,
            "atime_ns": born + chance.randrange(10**9) * 100,
            "ctime_ns": born + chance.randrange(10**10) * 100,
            "records": records,
        }

    def _put(self, member: Member, body: Iterator[bytes] | list[bytes] | None = None) -> None:
        self._writer.add(member, body or [])
        self.entries += 1


def _folders(name: str) -> list[str]:
    """The folders above a name, the outermost first."""
    parts = name.split("/")[:-1]
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _walk_order(item: _Planned) -> list[str]:
    """Depth first, names in order within a folder: how layers are exported."""
    return item.name.upper().split("/")


def _whiteout(leaf: str) -> str:
    """The whiteout of a name, in swapped case."""
    return whiteouts.build(leaf.swapcase().encode()).decode()


def _descriptor(number: int) -> bytes:
    """A self-relative security descriptor in base64: owner, group, and a DACL of 3 to 8 ACEs."""
    chance = random.Random(number)

    def sid(*parts: int) -> bytes:
        return struct.pack("<BB6s", 1, len(parts), b"\0\0\0\0\0\5") + struct.pack(
            f"<{len(parts)}I", *parts
        )

    installer = sid(80, 956008885, 3418522649, 1831038044, 1853292631, 2271478464)
    known = (installer, sid(18), sid(32, 544), sid(32, 545))
    entries = b""
    count = chance.randint(3, 8)
    for _ in range(count):
        who = chance.choice(known)
        mask = chance.choice((0x1F01FF, 0x1200A9, 0x1301BF)) ^ (number << 1 & 0xFF)
        entries += struct.pack("<BBHI", 0, chance.choice((0, 3, 16)), 8 + len(who), mask) + who
    acl = struct.pack("<BBHHH", 2, 0, 8 + len(entries), count, 0) + entries
    owner = 20 + len(acl)
    head = struct.pack("<BBHIIII", 1, 0, 0x8004, owner, owner + len(installer), 0, 20)
    return base64.b64encode(head + acl + installer + installer)


def _write_layout(place: Path, layers: list[LayerFacts]) -> None:
    """index.json, manifest and configuration around blobs that are there already."""
    kind = "application/vnd.oci.image.layer.v1.tar+gzip"
    config = {
        "created": "2026-11-24T00:00:00Z",
        "architecture": "amd64",
        "os": "windows",
        "os.version": "10.0.20348.2700",
        "config": {"Cmd": ["c:\\windows\\system32\\cmd.exe"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": "2026-11-24T00:00:00Z", "created_by": "bench"} for _ in layers],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _put_json(place, config, "application/vnd.oci.image.config.v1+json"),
        "layers": [
            {"mediaType": kind, "digest": layer.digest, "size": layer.packed_size}
            for layer in layers
        ],
    }
    entry = _put_json(place, manifest, "application/vnd.oci.image.manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "bench"}
    entry["platform"] = {
        "architecture": "amd64",
        "os": "windows",
        "os.version": "10.0.20348.2700",
    }
    (place / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    index = {"schemaVersion": 2, "manifests": [entry]}
    (place / "index.json").write_text(json.dumps(index))


def _put_json(place: Path, value: object, kind: str) -> dict[str, object]:
    data = json.dumps(value).encode()
    digest = hashlib.sha256(data).hexdigest()
    (place / "blobs" / "sha256" / digest).write_bytes(data)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}
