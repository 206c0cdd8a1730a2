"""How the three modes understand an entry: names, times, links, metadata.

`Reference` is go-winio and Docker's loop over it, guesses and losses included; `Correct` takes
what can be understood and gives right values; `Strict` refuses what is merely tolerated.
"""

from __future__ import annotations

import posixpath
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from windowsfilter.errors import FormatError, LimitExceeded
from windowsfilter.ntfs.basic_info import BasicInfo
from windowsfilter.ntfs.eas import ExtendedAttribute
from windowsfilter.ntfs.filetime import UNIX_EPOCH
from windowsfilter.ntfs.names import check_component, fold, is_reserved_device, plain_stream
from windowsfilter.ntfs.reparse import ReparsePoint, link_point
from windowsfilter.ntfs.security import SecurityDescriptor
from windowsfilter.wire import whiteouts
from windowsfilter.wire.backuptar import records as wire
from windowsfilter.wire.backuptar.names import MAX_UNITS, as_reference, name_text, refusal
from windowsfilter.wire.backuptar.operations import Remove
from windowsfilter.wire.backuptar.times import go_filetime, nearest_filetime
from windowsfilter.wire.tar import (
    TYPE_CONTIGUOUS,
    TYPE_DIRECTORY,
    TYPE_FILE,
    TYPE_GNU_SPARSE,
    TYPE_HARD_LINK,
    TYPE_OLD_FILE,
    TYPE_SYMLINK,
    Limits,
    TarEntry,
)
from windowsfilter.wire.tar.numbers import parse_time

_DIRECTORY_ATTRIBUTE = 0x10
_DIRECTORY_ATTRIBUTES = {TYPE_DIRECTORY: _DIRECTORY_ATTRIBUTE, TYPE_FILE: 0}
_DATA_SUFFIX = b":$DATA"
_KINDS = frozenset((TYPE_FILE, TYPE_DIRECTORY, TYPE_HARD_LINK, TYPE_SYMLINK))
_ODD_FILES = {TYPE_CONTIGUOUS: "contiguous file", TYPE_GNU_SPARSE: "sparse file of old GNU tar"}
_DESCRIPTOR = struct.Struct("<BBHIIII")
# Times from 1970 to the year 2262: what needs no check to be a FILETIME.
_PLAIN_NS = 1 << 63
# The reference reads extended headers of 1 MiB at most.
_GO_LIMITS = Limits(max_pax=1 << 20)
_KEPT_DIGITS = 16
# Names that STRICT remembers, to find those that come twice.
_MAX_NAME_BYTES = 256 << 20

Report = Callable[[str], None]


class Dialect(Protocol):
    """What the reader asks about an entry. Errors are FormatError, without the entry's name."""

    as_reference: bool
    limits: Limits | None

    def whiteout(self, entry: TarEntry) -> Remove | None:
        """The removal that an entry with `.wh.` in its name stands for, None if for itself."""

    def name(self, entry: TarEntry) -> str | None:
        """The entry's name for Windows; None for one that is to be passed over."""

    def link_target(self, entry: TarEntry) -> str | None:
        """What a hard link names; None for everything else."""

    def link_info(self, entry: TarEntry) -> BasicInfo | None:
        """What the tar says of a hard link."""

    def stream_name(self, owner: TarEntry, entry: TarEntry) -> str | None:
        """`:NAME:$DATA`, if an entry with a colon is a stream of the entry before it."""

    def is_file(self, entry: TarEntry) -> bool:
        """Whether there is a main stream."""

    def info(self, entry: TarEntry) -> BasicInfo:
        """Times and attributes."""

    def descriptor(self, records: wire.Records) -> bytes | None:
        """The binary security descriptor."""

    def text_descriptor(self, records: wire.Records) -> bytes | None:
        """The security descriptor of the old textual record."""

    def eas(self, records: wire.Records) -> tuple[ExtendedAttribute, ...]:
        """The extended attributes."""

    def reparse(self, entry: TarEntry) -> ReparsePoint | None:
        """The reparse point."""


class Reference:
    """The reference's own understanding. `report` is never told anything: it says nothing."""

    as_reference = True
    limits: Limits | None = _GO_LIMITS

    def __init__(self, report: Report) -> None:
        del report

    def whiteout(self, entry: TarEntry) -> Remove | None:
        base = posixpath.basename(entry.name.rstrip(b"/"))
        if not base.startswith(whiteouts.PREFIX):
            return None
        # The directory of `d/.wh.x/` is `d/.wh.x` to the reference.
        folder = posixpath.dirname(entry.name)
        path = posixpath.normpath(posixpath.join(folder, base[len(whiteouts.PREFIX) :]))
        # Two slashes in front mean something to POSIX, not to the reference.
        return Remove(_windows(path[1:] if path.startswith(b"//") else path))

    def name(self, entry: TarEntry) -> str | None:
        return _windows(entry.name)

    def link_target(self, entry: TarEntry) -> str | None:
        return _windows(entry.linkname) if entry.typeflag == TYPE_HARD_LINK else None

    def link_info(self, entry: TarEntry) -> BasicInfo | None:
        try:
            return self.info(entry)
        except FormatError:
            return None  # it looks at nothing but the names

    def stream_name(self, owner: TarEntry, entry: TarEntry) -> str | None:
        if not self.is_file(entry) or not entry.name.startswith(owner.name + b":"):
            return None
        return as_reference(entry.name[len(owner.name) :] + _DATA_SUFFIX)

    def is_file(self, entry: TarEntry) -> bool:
        return entry.kind == TYPE_FILE and entry.typeflag in (TYPE_FILE, TYPE_OLD_FILE)

    def info(self, entry: TarEntry) -> BasicInfo:
        write = go_filetime(entry.mtime_ns)
        text = entry.records.get(wire.CREATION_TIME)
        return BasicInfo(
            write if text is None else go_filetime(_creation(text, entry)),
            go_filetime(entry.atime_ns),
            write,
            go_filetime(entry.ctime_ns),
            _attributes(entry),
        )

    def descriptor(self, records: wire.Records) -> bytes | None:
        return wire.decode_base64(wire.RAW_DESCRIPTOR, records[wire.RAW_DESCRIPTOR])

    def text_descriptor(self, records: wire.Records) -> bytes | None:
        data = wire.text_descriptor_of(records)
        return None if data is None else _owner_first(SecurityDescriptor.parse(data))

    def eas(self, records: wire.Records) -> tuple[ExtendedAttribute, ...]:
        return wire.standard_eas_of(records)

    def reparse(self, entry: TarEntry) -> ReparsePoint | None:
        if entry.typeflag != TYPE_SYMLINK:
            return None
        target = as_reference(entry.linkname).replace("/", "\\")
        return link_point(target, mount_point=wire.MOUNT_POINT in entry.records)


class Correct:
    """Right values; what Windows would take for something else is refused."""

    as_reference = False
    limits: Limits | None = None

    def __init__(self, report: Report) -> None:
        self._report = report
        self._folders: dict[bytes, str] = {b"": ""}
        """Folders that are known to be harmless, as Windows writes them."""

    def whiteout(self, entry: TarEntry) -> Remove | None:
        path = _path(entry)
        above, _, leaf = path.rpartition(b"/")
        gone = whiteouts.parse(leaf)
        if gone is None:
            return None
        _refuse(path)
        if gone.opaque:
            return Remove(_text(above), opaque=True)
        return Remove(_text(above + b"/" + gone.name if above else gone.name))

    def name(self, entry: TarEntry) -> str | None:
        path, kind = _path(entry), entry.kind
        if not path and kind == TYPE_DIRECTORY:
            self._report("an entry for the layer's own folder, './', was passed over")
            return None
        if kind not in _KINDS:
            what = _DEVICES.get(kind, f"an entry of unknown type {kind:#x}")
            raise FormatError(f"{what}, which Windows layers cannot hold")
        return self._checked(path)

    def _checked(self, path: bytes) -> str:
        """The path for Windows, if it leads to nowhere else."""
        above, _, leaf = path.rpartition(b"/")
        folder = self._folders.get(above)
        # One pass of C code tells nearly every leaf from the odd ones.
        plain = leaf.translate(None, _ODD) == leaf and leaf not in _ODD_LEAVES
        if plain and folder is not None and path[:1] != b"/" and len(path) <= MAX_UNITS:
            return folder + name_text(leaf)
        if b":" in leaf and b"\\" not in leaf:
            raise FormatError("a stream that does not follow its file")
        _refuse(path)
        if b":" in path:  # behind a backslash
            raise FormatError("a stream that does not follow its file")
        text = _text(path)
        if len(self._folders) >= _MAX_FOLDERS:
            self._folders.clear()
        self._folders[above] = _text(above) + "\\" if above else ""
        return text

    def link_target(self, entry: TarEntry) -> str | None:
        if entry.typeflag != TYPE_HARD_LINK:
            return None
        target = entry.linkname.rstrip(b"/\\")
        try:
            return self._checked(target)
        except FormatError as error:
            raise FormatError(f"hard link to {target[:200]!r}: {error}") from None

    def link_info(self, entry: TarEntry) -> BasicInfo | None:
        return self.info(entry)

    def stream_name(self, owner: TarEntry, entry: TarEntry) -> str | None:
        path, before = _path(entry), _path(owner) + b":"
        if fold(path[: len(before)]) != fold(before):
            path, before = entry.name, owner.name + b":"  # of `d/` it may be `d/:name`
            if not path.startswith(before):
                return None
        name = plain_stream(path[len(before) :])
        if not name or b":" in name or b"/" in name or b"\\" in name or b"\0" in name:
            raise FormatError(f"stream of the name {name[:200]!r}")
        return name_text(b":" + name + _DATA_SUFFIX)

    def is_file(self, entry: TarEntry) -> bool:
        return entry.kind == TYPE_FILE

    def info(self, entry: TarEntry) -> BasicInfo:
        write, access, change = entry.mtime_ns, entry.atime_ns, entry.ctime_ns
        text = entry.records.get(wire.CREATION_TIME)
        creation = write if text is None else _creation(text, entry)
        if access is None:
            access = write
        if change is None:
            change = write
        earliest = min(creation, access, write, change)
        if earliest < 0 or max(creation, access, write, change) >= _PLAIN_NS:
            found = [nearest_filetime(ns) for ns in (creation, access, write, change)]
            if any(changed for _, changed in found):
                self._changed_times(entry)
            (creation, _), (access, _), (write, _), (change, _) = found
            return BasicInfo(creation, access, write, change, self._attributes(entry))
        return BasicInfo(
            creation // 100 + UNIX_EPOCH,
            access // 100 + UNIX_EPOCH,
            write // 100 + UNIX_EPOCH,
            change // 100 + UNIX_EPOCH,
            self._attributes(entry),
        )

    def _attributes(self, entry: TarEntry) -> int:
        """The attributes, which must not tell a directory of what the tar says is none.

        A link of either kind may lead to a directory or to a file, so there they decide.
        """
        found = _attributes(entry)
        expected = _DIRECTORY_ATTRIBUTES.get(entry.kind)
        if expected is None or found & _DIRECTORY_ATTRIBUTE == expected:
            return found
        self._changed_attributes(entry)
        return found ^ _DIRECTORY_ATTRIBUTE

    def descriptor(self, records: wire.Records) -> bytes | None:
        return wire.descriptor_of(records)

    def text_descriptor(self, records: wire.Records) -> bytes | None:
        return wire.text_descriptor_of(records)

    def eas(self, records: wire.Records) -> tuple[ExtendedAttribute, ...]:
        return wire.eas_of(records)

    def reparse(self, entry: TarEntry) -> ReparsePoint | None:
        is_link = entry.typeflag == TYPE_SYMLINK
        return wire.reparse_of(entry.records, entry.linkname, is_link=is_link)

    def _changed_times(self, entry: TarEntry) -> None:
        shown = entry.name[:300].decode("utf-8", "backslashreplace")
        self._report(f"layer entry {shown!r}: a time without a FILETIME became the nearest one")

    def _changed_attributes(self, entry: TarEntry) -> None:
        shown = entry.name[:300].decode("utf-8", "backslashreplace")
        self._report(f"layer entry {shown!r}: the attribute of directories became as its type says")


class Strict(Correct):
    """`Correct` without its patience. Remembers all names, to refuse those that come twice."""

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self._seen: set[bytes] = set()
        self._directories: set[bytes] = {b""}
        self._name_bytes = 0

    def whiteout(self, entry: TarEntry) -> Remove | None:
        gone = super().whiteout(entry)
        if gone is not None:
            self._check(entry, _path(entry))
        return gone

    def name(self, entry: TarEntry) -> str | None:
        name = super().name(entry)
        path = _path(entry)
        if name is None:
            raise FormatError("an entry for the layer's own folder")
        if entry.typeflag in _ODD_FILES:
            raise FormatError(f"a {_ODD_FILES[entry.typeflag]}")
        if entry.typeflag == TYPE_FILE and entry.name.endswith(b"/"):
            raise FormatError("a file whose name ends with a slash")
        self._check(entry, path)
        return name

    def stream_name(self, owner: TarEntry, entry: TarEntry) -> str | None:
        name = super().stream_name(owner, entry)
        if name is not None:
            if whiteouts.PREFIX in entry.name.rpartition(b"/")[2]:
                raise FormatError("a stream of a whiteout")
            self._remember(_path(entry))
        return name

    def _check(self, entry: TarEntry, path: bytes) -> None:
        above, _, leaf = path.rpartition(b"/")
        if b"\\" in entry.name:
            raise FormatError("a name with a backslash")
        if entry.name != path and entry.name.rstrip(b"/") != path:
            raise FormatError("a name that begins with './'")
        reason = check_component(leaf)
        if reason is not None:
            raise FormatError(f"a name that Windows cannot hold: it {reason}")
        if is_reserved_device(leaf):
            raise FormatError("the name of a device")
        if fold(above) not in self._directories:
            raise FormatError("an entry before its directory")
        for key in entry.records:
            if key.startswith(wire.PREFIX) and not wire.is_standard(key):
                raise FormatError(f"an unknown record {key[:80].decode('utf-8', 'replace')!r}")
        self._remember(path)
        if entry.kind == TYPE_DIRECTORY:
            self._directories.add(fold(path))

    def _remember(self, path: bytes) -> None:
        key = fold(path)
        if key in self._seen:
            raise FormatError("a name that the layer has already")
        self._name_bytes += len(key)
        if self._name_bytes > _MAX_NAME_BYTES:
            raise LimitExceeded(f"names of more than {_MAX_NAME_BYTES} bytes in all")
        self._seen.add(key)

    def _changed_times(self, entry: TarEntry) -> None:
        raise FormatError("a time that has no FILETIME", offset=entry.header_offset)

    def _changed_attributes(self, entry: TarEntry) -> None:
        raise FormatError("attributes that contradict its type", offset=entry.header_offset)


_ODD = b"\\\0:"
_ODD_LEAVES = frozenset((b"", b".", b".."))
_MAX_FOLDERS = 4096
_DEVICES = {ord("3"): "a character device", ord("4"): "a block device", ord("6"): "a FIFO"}


def _path(entry: TarEntry) -> bytes:
    """The name without what means nothing; the layer's own folder is no name at all."""
    name = entry.name
    if name[-1:] in b"/\\" or name[:2] == b"./":
        return entry.path.rstrip(b"/\\")
    return b"" if name == b"." else name


def _refuse(path: bytes) -> None:
    reason = refusal(path)
    if reason is not None:
        raise FormatError(reason)


def _text(path: bytes) -> str:
    return name_text(path).replace("/", "\\")


def _windows(name: bytes) -> str:
    """A name as the reference gives it to Windows, whatever it is."""
    try:
        return _text(name)
    except FormatError:
        return as_reference(name).replace("/", "\\")


def _owner_first(descriptor: SecurityDescriptor) -> bytes:
    """A descriptor laid out as the reference's results have it: owner, group, DACL, SACL."""
    parts = [
        part.build() if part is not None else b""
        for part in (descriptor.owner, descriptor.group, descriptor.dacl, descriptor.sacl)
    ]
    offsets, at = [], _DESCRIPTOR.size
    for part in parts:
        offsets.append(at if part else 0)
        at += len(part)
    owner, group, dacl, sacl = offsets
    header = _DESCRIPTOR.pack(
        1, descriptor.rm_control, descriptor.control, owner, group, sacl, dacl
    )
    return header + b"".join(parts)


def _attributes(entry: TarEntry) -> int:
    text = entry.records.get(wire.FILE_ATTRIBUTES)
    if text is None:
        return _DIRECTORY_ATTRIBUTE if entry.kind == TYPE_DIRECTORY else 0
    # Leading zeros may be many, and must not stay in memory.
    return _number(text) if len(text) <= _KEPT_DIGITS else _number.__wrapped__(text)


@lru_cache(maxsize=256)
def _number(text: bytes) -> int:
    """The attributes of a record: a layer has few different ones."""
    found = wire.attributes_of({wire.FILE_ATTRIBUTES: text})
    assert found is not None
    return found


def _creation(text: bytes, entry: TarEntry) -> int:
    return parse_time(text, wire.CREATION_TIME.decode(), entry.header_offset)
