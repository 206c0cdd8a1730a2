"""From tar entries to index records, refusing what no Windows layer can mean.

Runs beside the threads that inflate, hash and write, so the path of a plain entry is short. What is
hostile is refused here, before anything is committed: names that leave the tree or that Windows
would read as something else, names that collide, files used as directories, links that go in
circles. Rules: docs/formats/index.md; tar dialect: OCI image-spec layer.md and go-winio backuptar.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from windowsfilter.digests import DiffID
from windowsfilter.engines.portable.index import IndexWriter, Kind, Record, RecordFlag
from windowsfilter.errors import FormatError, LimitExceeded
from windowsfilter.ntfs import filetime
from windowsfilter.ntfs.names import fold, utf16_units
from windowsfilter.wire import whiteouts
from windowsfilter.wire.backuptar.records import (
    CREATION_TIME,
    EA_PREFIX,
    FILE_ATTRIBUTES,
    MOUNT_POINT,
    RAW_DESCRIPTOR,
    RAW_EAS,
    RAW_REPARSE,
    TEXT_DESCRIPTOR,
    attributes_of,
    decode_base64,
    descriptor_of,
    eas_of,
    reparse_of,
)
from windowsfilter.wire.tar import TarEntry

BLOCK = 512
SPILL_ALIGN = 4096
# The longest path Windows has, in UTF-16 units; each takes one to three bytes of UTF-8.
MAX_NAME_UNITS = 32_767
# Names are remembered until the layer ends, with every directory above them: one entry thousands
# of directories deep would cost hundreds of megabytes, and a small packed layer can hold many.
# Real names take some 100 bytes each; the first 64 MiB are free.
MAX_NAME_MEMORY_PER_ENTRY = 128
FREE_NAME_MEMORY = 64 << 20
# Some 150 bytes of memory each. Windows layers have no sparse files at all.
MAX_SPILL_PIECES = 1 << 20
# An expanded sparse file costs no disk for its holes, but EROFS images count the 512-byte blocks of
# a file they point into with 32 bits.
MAX_SPILL_BYTES = 2 << 40
# Distinct descriptors remembered to be stored once; past this they are stored again.
MAX_KNOWN_VALUE_BYTES = 32 << 20

_HOSTILE = re.compile(rb"[\\\0]|^/|//|(?:^|/)\.\.?(?:/|$)|:[^/]*/|^[A-Za-z]:")
_U32 = 0xFFFFFFFF

# Plain ints: an IntEnum's operators are method calls.
_FILE, _DIRECTORY = int(Kind.FILE), int(Kind.DIRECTORY)
_SYMLINK, _JUNCTION = int(Kind.SYMLINK), int(Kind.JUNCTION)
_HARD_LINK, _STREAM = int(Kind.HARD_LINK), int(Kind.STREAM)
_HAS_ATTRIBUTES, _HAS_CREATION = int(RecordFlag.ATTRIBUTES), int(RecordFlag.CREATION)
_HAS_ACCESS, _HAS_CHANGE = int(RecordFlag.ACCESS), int(RecordFlag.CHANGE)
_SPARSE, _DAMAGED = int(RecordFlag.SPARSE), int(RecordFlag.DAMAGED)
_HAS_EAS, _HAS_REPARSE = int(RecordFlag.EAS), int(RecordFlag.REPARSE)
_KINDS = {
    0: _FILE,
    ord("0"): _FILE,
    ord("7"): _FILE,
    ord("S"): _FILE,
    ord("1"): _HARD_LINK,
    ord("2"): _SYMLINK,
    ord("5"): _DIRECTORY,
}
_REFUSED = {ord("3"): "character device", ord("4"): "block device", ord("6"): "FIFO"}
_ODD = b"\\\0:"
_ODD_LEAVES = frozenset((b"", b".", b".."))
_KNOWN_NUMBERS = 4096
# Times from 1970 to 2262: what needs no check to be a FILETIME.
_PLAIN_NS = 1 << 63
# Seconds of so many digits are before the year 2287.
_PLAIN_DIGITS = 10


@dataclass(frozen=True, slots=True)
class SpillPiece:
    """`size` bytes at `source` in the blob that belong at `target` in the spill."""

    source: int
    target: int
    size: int


class Indexer:
    """Feeds an IndexWriter with the entries of one layer and remembers what must be spilled."""

    def __init__(self, file: BinaryIO, *, max_entries: int, usable_metadata: bool = True) -> None:
        """`usable_metadata`: refuse what is no security descriptor, no EA list, no reparse point."""
        self._writer = IndexWriter(file)
        self._usable_metadata = usable_metadata
        self._max_entries = max_entries
        self._name_bytes_left = max(FREE_NAME_MEMORY, max_entries * MAX_NAME_MEMORY_PER_ENTRY)
        self._seen: dict[bytes, bytes | bool] = {b"": True}
        """Folded path -> a directory's spelling, True if only implied, False if no directory."""
        self._parents: set[bytes] = {b""}
        """Spelled parent paths that were checked and are directories."""
        self._links: dict[bytes, bytes] = {}
        """Folded path of each hard link -> folded path of its target."""
        self._values: dict[bytes, tuple[int, int]] = {}
        """Binary record of a descriptor -> number of its value, flags of an entry that has it."""
        self._texts: dict[bytes, tuple[int, int]] = {}
        """The same of textual records."""
        self._numbers: dict[bytes, int] = {}
        self._value_bytes = 0
        self.spill: list[SpillPiece] = []
        self.spill_size = 0
        self.data_bytes = 0
        """Main streams of files, as Docker counts a layer's size: no links, no streams."""

    @property
    def count(self) -> int:
        return self._writer.count

    def add(self, entry: TarEntry) -> None:
        """Check one entry and append its record. Raises FormatError naming it.

        Runs 150,000 times a layer while other threads want the interpreter, hence the inlined
        common cases: plain names, times after 1970, metadata seen before.
        """
        if self._writer.count >= self._max_entries:
            raise LimitExceeded(
                f"more than {self._max_entries} entries (--max-entries raises the limit)",
                offset=entry.header_offset,
            )
        name = entry.name
        if name[-1:] == b"/" or name[:2] == b"./" or name == b".":
            name = b"" if name == b"." else entry.path
        kind = self._kind(entry, name)
        size, data_offset, device, flags = entry.size, entry.data_offset, 0, 0
        if kind != _FILE and kind != _STREAM:
            size = 0
        else:
            if kind == _FILE:
                self.data_bytes += size
            if entry.sparse is not None:
                device, flags, data_offset = 1, _SPARSE, self._spill_sparse(entry)
        attributes, sd = 0x10 if kind == _DIRECTORY else 0, 0
        records = entry.records
        if records:
            text = records.get(FILE_ATTRIBUTES)
            if text is not None:
                attributes = self._numbers.get(text, -1)
                if attributes < 0:
                    attributes = self._attributes(text, entry)
                flags |= _HAS_ATTRIBUTES
            text = records.get(RAW_DESCRIPTOR)
            if text is not None:
                sd, more = self._values.get(text) or self._descriptor(text, self._values, entry)
                flags |= more
            elif TEXT_DESCRIPTOR in records:
                sd, more = self._descriptor(records[TEXT_DESCRIPTOR], self._texts, entry)
                flags |= more
            if EA_PREFIX in entry.pax_raw or RAW_EAS in records or RAW_REPARSE in records:
                flags |= self._rare(entry, kind)
        write = entry.mtime_ns
        if 0 <= write < _PLAIN_NS:
            write = write // 100 + filetime.UNIX_EPOCH
        else:
            write = _filetime(write)
        creation = access = change = write
        if records:
            if entry.atime_ns is not None:
                access, flags = _filetime(entry.atime_ns), flags | _HAS_ACCESS
            if entry.ctime_ns is not None:
                change, flags = _filetime(entry.ctime_ns), flags | _HAS_CHANGE
            text = records.get(CREATION_TIME)
            if text is not None:
                creation, flags = self._creation(text, entry), flags | _HAS_CREATION
        uid, gid = entry.uid, entry.gid
        self._writer.add(
            (
                kind,
                flags,
                entry.typeflag,
                device,
                entry.mode & _U32,
                min(_U32, uid),
                min(_U32, gid),
                attributes,
                sd,
                size,
                data_offset,
                entry.header_offset,
                creation,
                access,
                write,
                change,
            ),
            name,
            entry.linkname,
            entry.pax_raw,
        )

    def finish(self, *, diff_id: DiffID, blob_size: int) -> None:
        """End of the tar: last checks, then the index's own end."""
        self._refuse_cycles()
        if self._writer.count:
            last = self._writer.last()
            # EROFS maps whole blocks. Only the very last body may lack its padding.
            if last.size and not last.device and _padded(last) > blob_size:
                target = self._reserve(last.size)
                self.spill.append(SpillPiece(last.data_offset, target, last.size))
                self._writer.amend_last(last._replace(device=1, data_offset=target))
        self._writer.finish(diff_id=diff_id, blob_size=blob_size)

    # -- names --------------------------------------------------------------------------------

    def _kind(self, entry: TarEntry, name: bytes) -> int:
        """What the entry is; its name and its place among the others are checked on the way."""
        if len(name) > MAX_NAME_UNITS or len(entry.linkname) > MAX_NAME_UNITS:
            self._check_length(entry, name)
        parent, _, leaf = name.rpartition(b"/")
        if not parent and entry.name[:1] == b"/":
            self._check_name(entry, entry.name)
        if parent not in self._parents:
            self._check_parent(entry, name, parent)
        # One pass of C code tells nearly every leaf from the odd ones.
        if leaf.translate(None, _ODD) != leaf or leaf in _ODD_LEAVES or not leaf.isascii():
            self._check_name(entry, name)
        if leaf[:4] == whiteouts.PREFIX:
            return self._whiteout(entry, leaf)
        kind = _KINDS.get(entry.typeflag)
        if kind is None:
            what = _REFUSED.get(entry.typeflag, f"entry of unknown type {entry.typeflag:#x}")
            raise _refusal(entry, f"a {what}, which Windows layers cannot hold")
        if kind == _FILE:
            if entry.typeflag == 0 and entry.name.endswith(b"/"):
                kind = _DIRECTORY
            elif b":" in leaf:
                kind = _STREAM
        elif b":" in leaf:
            raise _refusal(entry, "a stream that is not a plain file")
        elif kind == _SYMLINK and MOUNT_POINT in entry.records:
            kind = _JUNCTION
        self._place(entry, name, kind)
        return kind

    def _place(self, entry: TarEntry, name: bytes, kind: int) -> None:
        """Refuse a name that collides with an earlier one of this layer."""
        key = name.upper() if name.isascii() else fold(name)
        self._remember(entry, len(key))
        before = self._seen.get(key)
        if before is not None:
            if (before is not False) != (kind == _DIRECTORY):
                raise _refusal(entry, "both a file and a directory in this layer")
            # A directory may come again under its own spelling; some builders do that.
            if before is not True and before != name:
                raise _refusal(entry, "in the layer twice, in names that differ at most in case")
        if kind == _DIRECTORY:
            self._seen[key] = name
            self._parents.add(name)
            return
        self._seen[key] = False
        if kind == _HARD_LINK:
            target = entry.linkname.rstrip(b"/")
            if _HOSTILE.search(target) or not target or not _is_unicode(target):
                raise _refusal(entry, f"a hard link out of the tree, to {target[:200]!r}")
            self._remember(entry, len(target))
            self._links[key] = fold(target)

    def _check_parent(self, entry: TarEntry, name: bytes, parent: bytes) -> None:
        """Check a directory path once, and that no file of this layer stands in its way."""
        if _HOSTILE.search(parent + b"/") or not _is_unicode(parent):
            self._check_name(entry, name)
        above = parent
        while above not in self._parents:
            self._remember(entry, 2 * len(above))
            key = fold(above)
            if self._seen.setdefault(key, True) is False:
                raise _refusal(entry, f"below {above[:200]!r}, which is a file in this layer")
            self._parents.add(above)
            above = above.rpartition(b"/")[0]

    def _remember(self, entry: TarEntry, size: int) -> None:
        """Account for `size` more bytes of names in memory."""
        self._name_bytes_left -= size
        if self._name_bytes_left < 0:
            shown = entry.name[:300].decode("utf-8", "backslashreplace")
            raise LimitExceeded(
                f"entry {shown!r}: the names in this layer are too long in all"
                " (--max-entries raises the limit)",
                offset=entry.header_offset,
            )

    def _check_length(self, entry: TarEntry, name: bytes) -> None:
        for path in (name, entry.linkname):
            if len(path) > MAX_NAME_UNITS * 3 or utf16_units(path) > MAX_NAME_UNITS:
                raise _refusal(entry, "a name longer than a Windows path can be")

    def _check_name(self, entry: TarEntry, name: bytes) -> None:
        """Say precisely what is wrong with a name, if anything is."""
        if name.startswith(b"/"):
            raise _refusal(entry, "an absolute name")
        if b"\\" in name:
            raise _refusal(entry, "a name with a backslash, which Windows reads as a separator")
        if b"\0" in name:
            raise _refusal(entry, "a name with a NUL byte")
        components = name.split(b"/")
        if b".." in components:
            raise _refusal(entry, "a name with '..'")
        if b"." in components or (b"" in components and name):
            raise _refusal(entry, "a name with an empty or '.' component")
        if re.match(rb"[A-Za-z]:", name):
            raise _refusal(entry, "a name with a drive letter")
        if any(b":" in component for component in components[:-1]):
            raise _refusal(entry, "a name below a stream")
        if components[-1].startswith(b":"):
            raise _refusal(entry, "a stream of a file without a name")
        if not _is_unicode(name):
            raise _refusal(entry, "a name that is not UTF-8")

    def _whiteout(self, entry: TarEntry, leaf: bytes) -> int:
        if leaf == whiteouts.OPAQUE:
            return int(Kind.OPAQUE)
        if leaf == whiteouts.PREFIX:
            raise _refusal(entry, "a whiteout of nothing")
        if leaf[len(whiteouts.PREFIX) :] in (b".", b".."):
            raise _refusal(entry, "a whiteout of its own directory")
        if b":" in leaf:
            raise _refusal(entry, "a whiteout of a stream, which goes with its file only")
        return int(Kind.WHITEOUT)

    def _refuse_cycles(self) -> None:
        """Hard links that only ever point at each other have no file behind them."""
        settled: set[bytes] = set()
        for start in self._links:
            trail: set[bytes] = set()
            at = start
            while at in self._links and at not in settled:
                if at in trail:
                    shown = at.decode("utf-8", "replace")
                    raise FormatError(f"hard links in a circle at {shown!r}")
                trail.add(at)
                at = self._links[at]
            settled |= trail

    # -- metadata -----------------------------------------------------------------------------

    def _creation(self, text: bytes, entry: TarEntry) -> int:
        # Layers have this for nearly every entry, and nearly always in this form.
        whole, _, fraction = text.partition(b".")
        if whole.isdigit() and len(whole) <= _PLAIN_DIGITS and len(fraction) <= 7:
            if not fraction:
                return int(whole) * 10_000_000 + filetime.UNIX_EPOCH
            if fraction.isdigit():
                ticks = int(whole + fraction.ljust(7, b"0"))
                return ticks + filetime.UNIX_EPOCH
        try:
            return _filetime(filetime.parse_pax_time(text))
        except FormatError as error:
            raise _refusal(entry, f"of a creation time that is none: {error}") from error

    def _attributes(self, text: bytes, entry: TarEntry) -> int:
        try:
            number = attributes_of(entry.records) or 0
        except FormatError as error:
            raise _refusal(entry, f"of attributes that are none: {error}") from error
        if len(self._numbers) < _KNOWN_NUMBERS:
            self._numbers[text] = number
        return number

    def _descriptor(
        self, text: bytes, seen: dict[bytes, tuple[int, int]], entry: TarEntry
    ) -> tuple[int, int]:
        """Number and flags of a descriptor, checked and stored once however often it comes.

        `text` is the record that counts, `seen` what is known of others of its kind.
        """
        known = seen.get(text)
        if known is not None:
            return known
        data, flags = b"", 0
        try:
            data = descriptor_of(entry.records) or b""
        except FormatError as error:
            flags = self._unusable(entry, "a security descriptor", error)
            with suppress(FormatError):  # damaged or not, its bytes can be looked at
                data = decode_base64(RAW_DESCRIPTOR, entry.records.get(RAW_DESCRIPTOR, b""))
        found = self._writer.value(data) if data else 0, flags
        if self._value_bytes + len(text) <= MAX_KNOWN_VALUE_BYTES:
            self._value_bytes += len(text)
            seen[text] = found
        return found

    def _rare(self, entry: TarEntry, kind: int) -> int:
        """Flags of an entry that has EAs or brings its whole reparse point, checked."""
        records, flags = entry.records, 0
        try:
            if eas_of(records):
                flags |= _HAS_EAS
        except FormatError as error:
            flags |= self._unusable(entry, "extended attributes", error)
        try:
            is_link = kind in (_SYMLINK, _JUNCTION)
            if reparse_of(records, entry.linkname, is_link=is_link) and RAW_REPARSE in records:
                flags |= _HAS_REPARSE
        except FormatError as error:
            flags |= self._unusable(entry, "a reparse point", error)
        return flags

    def _unusable(self, entry: TarEntry, what: str, error: FormatError) -> int:
        """The flag for metadata that cannot be used, unless that is refused."""
        if self._usable_metadata:
            raise _refusal(entry, f"of {what} that cannot be used: {error}") from error
        return _DAMAGED

    # -- data that cannot be mapped where it lies ---------------------------------------------

    def _spill_sparse(self, entry: TarEntry) -> int:
        target = self._reserve(entry.size)
        if self.spill_size > MAX_SPILL_BYTES:
            raise _refusal(entry, f"sparse, and with others over {MAX_SPILL_BYTES} bytes")
        source = entry.data_offset
        if len(self.spill) + len(entry.sparse or ()) > MAX_SPILL_PIECES:
            raise _refusal(entry, f"sparse, and with others of over {MAX_SPILL_PIECES} pieces")
        for offset, size in entry.sparse or ():
            self.spill.append(SpillPiece(source, target + offset, size))
            source += size
        return target

    def _reserve(self, size: int) -> int:
        target = self.spill_size
        self.spill_size += -(-size // SPILL_ALIGN) * SPILL_ALIGN
        return target


def _filetime(ns: int) -> int:
    """FILETIME of a time; what Windows cannot express becomes the nearest that it can.

    Docker 1.12 stamped whiteouts with the year 1. The exact text stays in the PAX records.
    """
    if 0 <= ns < _PLAIN_NS:
        return ns // 100 + filetime.UNIX_EPOCH
    try:
        return filetime.from_unix_ns(ns)
    except FormatError:
        return 0 if ns < 0 else filetime.MAX


def _refusal(entry: TarEntry, what: str) -> FormatError:
    shown = entry.name[:300].decode("utf-8", "backslashreplace")
    return FormatError(f"entry {shown!r} is {what}", offset=entry.header_offset)


def _padded(record: Record) -> int:
    return record.data_offset + -(-record.size // BLOCK) * BLOCK


def _is_unicode(name: bytes) -> bool:
    """Whether a name is UTF-8; lone surrogates pass, because NTFS allows any 16-bit units."""
    if name.isascii():
        return True
    try:
        name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True
