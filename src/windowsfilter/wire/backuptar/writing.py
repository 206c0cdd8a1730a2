r"""Operations as a layer tar, with the bytes of the reference exporter.

Source: go-winio's backuptar (WriteTarFileFromBackupStream); hcsshim's ociwclayer/export.go for hard
links and whiteouts. Where we differ: docs/formats/backuptar.md.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO, Self

from windowsfilter.errors import FormatError, LimitExceeded, UsageError
from windowsfilter.ntfs.basic_info import BasicInfo
from windowsfilter.ntfs.names import check_component, is_reserved_device
from windowsfilter.wire import whiteouts
from windowsfilter.wire.backuptar import correct_export, reference_export
from windowsfilter.wire.backuptar.entries import (
    Writable,
    basic_member,
    can_seek,
    with_fields,
)
from windowsfilter.wire.backuptar.names import name_bytes, refusal
from windowsfilter.wire.backuptar.operations import Mode, TarFields
from windowsfilter.wire.backuptar.times import CORRECT_CLOCK, GO_CLOCK
from windowsfilter.wire.sources import Readable, reader_of
from windowsfilter.wire.tar import TYPE_HARD_LINK, Member, TarWriter

_log = logging.getLogger(__name__)
_LINK_MODE = 0o644  # what the reference gives every hard link
_SPOOL_BYTES = 64 << 20
_PIECE_BYTES = 1 << 20


class LayerTarWriter:
    """Writes a layer tar to a file object, which stays open.

    A stream that cannot seek, and may have what belongs into the header behind its data, has to be
    kept until it is known. `spool` makes the file for that; without it there is memory for 64 MiB.
    `report` is told, in words, what a tar cannot hold; by default that is logged. After an error the
    tar is of no use, and says so to whoever goes on.
    """

    def __init__(
        self,
        fileobj: Writable,
        mode: Mode = Mode.CORRECT,
        *,
        spool: Callable[[], BinaryIO] | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self._mode = Mode(mode)
        self._tar = TarWriter(fileobj)
        self._spool = spool or _Memory
        self._report = report or _log.warning
        self._clock = GO_CLOCK if self._mode is Mode.GO else CORRECT_CLOCK
        self._failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()

    def add(
        self,
        name: str,
        size: int,
        info: BasicInfo,
        stream: Readable,
        *,
        fields: TarFields | None = None,
    ) -> None:
        """Write a file, directory or reparse point from its Win32 backup stream.

        `size` is that of the main stream. `fields` is what the tar it came from said beyond Windows.
        Raises FormatError, naming the entry, for streams that are damaged or that no tar can hold.
        """
        with self._entry(name) as path:
            member = basic_member(path, size, info, self._clock, fields)
            if self._mode is Mode.GO:
                reference_export.export(self._tar, member, stream, size, fields)
                return
            self._check(path)
            if not getattr(stream, "metadata_first", False) and not can_seek(stream):
                with self._spool() as kept:
                    _copy(stream, kept)
                    kept.seek(0)
                    correct_export.export(self._tar, member, kept, fields, self._told(name))
                return
            correct_export.export(self._tar, member, stream, fields, self._told(name))

    def link(
        self,
        name: str,
        target: str,
        info: BasicInfo | None = None,
        *,
        fields: TarFields | None = None,
    ) -> None:
        """Write one more name of a file that this layer or a parent has; `fields` as for `add`."""
        with self._entry(name) as path:
            linkname = name_bytes(target.replace("\\", "/"))
            if self._mode is not Mode.GO:
                self._check(path)
                reason = refusal(linkname)
                if reason is not None:
                    raise FormatError(f"hard link to {target!r}: {reason}")
            if info is None:
                member = Member(name=path, pax=False)
            else:
                member = basic_member(path, 0, info, self._clock, fields)
            member = replace(
                member, typeflag=TYPE_HARD_LINK, size=0, mode=_LINK_MODE, linkname=linkname
            )
            self._tar.add(with_fields(member, fields))

    def remove(self, name: str, *, opaque: bool = False) -> None:
        """Write that a name of the parents is gone; `opaque`, that all they have in it is.

        The layer's own folder, whose name is empty, can only be opaque.
        """
        with self._entry(name) as path:
            if self._mode is not Mode.GO and not (opaque and not path):
                self._check(path, gone=True)
            above, slash, leaf = path.rpartition(b"/")
            if opaque:
                whiteout = path + b"/" + whiteouts.OPAQUE if path else whiteouts.OPAQUE
            else:
                whiteout = above + slash + whiteouts.build(leaf)
            self._tar.add(Member(name=whiteout, pax=False))

    def close(self) -> None:
        """Write the end of the tar."""
        self._usable()
        self._tar.close()

    # -- steps --------------------------------------------------------------------------------

    @contextmanager
    def _entry(self, name: str) -> Iterator[bytes]:
        """The path of an entry in the tar; errors inside name the entry."""
        self._usable()
        self._failed = True
        try:
            path = name_bytes(name.replace("\\", "/"))
            yield path if self._mode is Mode.GO else path.rstrip(b"/")
        except FormatError as error:
            shown = name[:300].encode("utf-8", "backslashreplace").decode()
            named = type(error)(f"layer entry '{shown}': {error}")
            named.offset = error.offset
            raise named from None
        self._failed = False

    def _usable(self) -> None:
        if self._failed:
            raise UsageError("write layer tar: an entry before this one failed")

    def _check(self, path: bytes, *, gone: bool = False) -> None:
        reason = refusal(path)
        if reason is not None:
            raise FormatError(reason)
        leaf = path.rpartition(b"/")[2]
        if not gone and leaf.startswith(whiteouts.PREFIX):
            raise FormatError("a name that would be a whiteout")
        if self._mode is Mode.STRICT:
            reason = check_component(leaf)
            if reason is not None:
                raise FormatError(f"a name that Windows cannot hold: it {reason}")
            if is_reserved_device(leaf):
                raise FormatError("the name of a device")

    def _told(self, name: str) -> Callable[[str], None]:
        def tell(what: str) -> None:
            if self._mode is Mode.STRICT:
                raise FormatError(what)
            self._report(f"layer entry '{name}': {what}")

        return tell


class _Memory(io.BytesIO):
    """A spool that refuses to grow without end."""

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        if self.tell() + len(data) > _SPOOL_BYTES:
            raise LimitExceeded(
                f"a stream of over {_SPOOL_BYTES} bytes that cannot seek: LayerTarWriter needs a spool"
            )
        return super().write(data)


def _copy(stream: Readable, kept: BinaryIO) -> None:
    read = reader_of(stream)
    while piece := read(_PIECE_BYTES):
        kept.write(piece)
