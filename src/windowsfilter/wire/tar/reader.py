"""A push parser for tar streams: bytes in, in chunks of any size; entries out.

It looks at headers only; bodies are stepped over without being copied, so it can run beside
threads that hash and write the same chunks. What it reads: ustar with prefix, PAX extended
and global headers, GNU long names and links, base 256, all sparse formats, streams without
end blocks or without the last padding. What it does not read: volumes of a multi-volume tar.

Sources: POSIX pax; GNU tar's manual; Go's archive/tar, which is what reads layers on
Windows, for everything these leave open (`docs/formats/tar.md`). Where Go guesses or drops
in silence, this reader refuses; on request it does as Go does (`as_reference`).
"""

from __future__ import annotations

import struct
from typing import Final

from windowsfilter.errors import FormatError, LimitExceeded
from windowsfilter.wire.tar import historic, sparse
from windowsfilter.wire.tar.checksum import adler32, byte_sum
from windowsfilter.wire.tar.entry import (
    BLOCK,
    MAX_OFFSET,
    TYPE_DIRECTORY,
    TYPE_FIFO,
    TYPE_GLOBAL_PAX,
    TYPE_GNU_LONG_LINK,
    TYPE_GNU_LONG_NAME,
    TYPE_GNU_SPARSE,
    TYPE_HARD_LINK,
    TYPE_OLD_FILE,
    TYPE_PAX,
    ZERO_BLOCK,
    Limits,
    TarEntry,
    shown,
)
from windowsfilter.wire.tar.numbers import (
    NS,
    parse_decimal,
    parse_field,
    parse_signed,
    parse_time,
)
from windowsfilter.wire.tar.pax import SPARSE_PREFIX, RecordParser, parse_ordered

# name, mode + uid + gid, size digits, size end, mtime digits, mtime end, checksum, type flag,
# linkname, magic + version, (uname, gname, device numbers), prefix, (padding)
_HEADER: Final = struct.Struct("100s24s11sB11sB8sB100s8s80x155s12x")
_NUL: Final = b"\0"
_USTAR: Final = b"ustar\x0000"
_CHECKSUM: Final = slice(148, 156)
_LAST_DIGIT_TYPE = ord("9")

# What the next unit of the stream is.
_AT_HEADER, _AT_PAX, _AT_META, _AT_OLD_SPARSE, _AT_SPARSE_MAP, _AFTER_ZERO, _ENDED = range(7)
_META: Final = frozenset((TYPE_GLOBAL_PAX, TYPE_GNU_LONG_NAME, TYPE_GNU_LONG_LINK))
# These describe one file; as a default for all of a tar they can only be an attack.
_NEVER_GLOBAL: Final = frozenset((b"path", b"linkpath", b"size"))
# They are merged into every entry, so a few bytes of input would cost much time.
_MAX_GLOBALS: Final = 64
_MAX_GLOBAL_BYTES: Final = 64 << 10

_MAX_UINT32 = (1 << 32) - 1
_KNOWN_SUMS = 16384  # distinct checksum and owner texts to remember
_KNOWN_OWNERS = 4096


class TarReader:
    """Feed it a tar, chunk by chunk; get entries as soon as their headers are complete.

    Not to be used again after an exception. Offsets count from the first byte fed.
    `as_reference` reads like Go's archive/tar also where that guesses: a global header is an
    entry of type `g`, the end may come behind or inside an extended header, numbers of owners
    may be any, and a sparse file of unknown version is the bytes that are stored.
    """

    def __init__(self, limits: Limits | None = None, *, as_reference: bool = False) -> None:
        self._limits = limits or Limits()
        self._as_reference = as_reference
        self._error: FormatError | None = None
        self._fed = 0  # bytes taken so far
        self._state = _AT_HEADER
        self._next = 0  # offset of the next unit: a header, an extended header's body, ...
        self._need = BLOCK  # bytes of that unit
        self._pending = bytearray()  # what earlier chunks held of it
        self._entries = 0
        self._last: TarEntry | None = None
        # Headers that belong to the entry to come.
        self._start = -1
        self._pax: bytes | None = None
        self._pax_at = 0
        self._meta_kind = 0
        self._meta_name = b""
        self._long_name = b""
        self._long_link = b""
        # An entry of which sparse blocks are still to come.
        self._sparse_entry: TarEntry | None = None
        self._pieces: list[sparse.Piece] = []
        self._map: sparse.DataMap | None = None
        self._globals: dict[bytes, bytes] = {}
        self._records = RecordParser(self._limits.max_records)
        self._sums: dict[bytes, int] = {}
        self._owners: dict[bytes, tuple[int, int, int]] = {}

    @property
    def offset(self) -> int:
        """Bytes taken so far."""
        return self._fed

    @property
    def ended(self) -> bool:
        """Whether both end blocks have been seen; bytes behind them are ignored."""
        return self._state == _ENDED

    @property
    def has_defaults(self) -> bool:
        """Whether global records are in force, so that `records` has more than `pax_raw`."""
        return bool(self._globals)

    @property
    def trailing_bytes(self) -> int:
        """Bytes behind the two end blocks: padding, or whatever it may be."""
        return self._fed - self._next if self._state == _ENDED else 0

    def feed(self, chunk: bytes | bytearray | memoryview) -> list[TarEntry]:
        """Take the next bytes of the stream; the entries whose headers they complete.

        Raises FormatError with the offset, and the name of the entry where it is known; if
        entries come before the fault, they are returned, and the next call raises.
        """
        if self._error is not None:
            raise self._error
        entries: list[TarEntry] = []
        try:
            self._feed(chunk, entries)
        except FormatError as error:
            if not entries:
                raise
            self._error = error
        return entries

    def _feed(self, chunk: bytes | bytearray | memoryview, entries: list[TarEntry]) -> None:
        """`feed`, appending to `entries`."""
        # This is the hot loop, and long on purpose: it runs twice for each entry, in one
        # thread beside those that hash, and every call and every attribute costs 1 % of
        # 80,000 entries/s. What is rare has been moved out to methods.
        data = chunk if isinstance(chunk, bytes) else memoryview(chunk).cast("B")
        if self._state == _ENDED:
            self._fed += len(data)
            return
        plain = data if isinstance(data, bytes) else None
        base = self._fed
        length = len(data)
        place = self._next - base  # of the next unit; negative if it began in an earlier chunk
        need, state, start, pax = self._need, self._state, self._start, self._pax
        pax_at = self._pax_at
        sums, owners, records_of = self._sums, self._owners, self._records
        parse_records = records_of.parse
        max_pax, max_name = self._limits.max_pax, self._limits.max_name
        unpack, new_entry, as_reference = _HEADER.unpack, TarEntry, self._as_reference
        append = entries.append

        while (stop := place + need) <= length:
            if place < 0:
                unit = self._completed(data[:stop])
            elif plain is not None:
                unit = plain[place:stop]
            else:
                unit = bytes(data[place:stop])
            at = base + place

            if state == _AT_PAX:
                pax, pax_at = unit, at
                place, need, state = stop + (-need & 511), BLOCK, _AT_HEADER
                continue
            if state != _AT_HEADER:
                self._state = state
                entry, place = self._rare_unit(unit, at)
                place -= base
                need, state = self._need, self._state
                if entry is not None:
                    append(entry)
                    start, pax = -1, None
                if state == _ENDED:
                    break
                continue

            (
                name, owner, size_digits, size_end, mtime_digits, mtime_end,
                checksum, kind, link, magic, prefix,
            ) = unpack(unit)  # fmt: skip
            # `byte_sum`, and the comparison with the text, in one look-up.
            if adler32(unit) & 0xFFFF != sums.get(checksum) or not unit.isascii():
                if unit == ZERO_BLOCK:
                    if start >= 0:
                        raise FormatError("extended header without an entry", offset=start)
                    place, state = stop, _AFTER_ZERO
                    continue
                self._check_sum(unit, at)
            try:
                # `& 0xDF`: a field ends with NUL or a space. Digits only: int() would take
                # signs and underscores too. 8 and 9 make it raise.
                if size_end & 0xDF or not size_digits.isdigit():
                    raise ValueError
                size = int(size_digits, 8)
            except ValueError:
                size = self._odd_size(unit, kind, at)

            if kind == TYPE_PAX:
                if pax is not None and self._as_reference:
                    parse_records(pax, pax_at)  # which does not count, but must be right
                if size > max_pax:
                    raise LimitExceeded(
                        f"extended header of {size} bytes, the limit is {max_pax}", offset=at
                    )
                if start < 0:
                    start = at
                place, need, state = stop, size, _AT_PAX
                after = stop + size + (-size & 511)
                if plain is not None and after <= length:  # nearly always: no turn of its own
                    pax, pax_at = plain[stop : stop + size], base + stop
                    place, need, state = after, BLOCK, _AT_HEADER
                continue
            if kind > _LAST_DIGIT_TYPE and kind in _META:
                if pax is not None and self._as_reference and kind == TYPE_GLOBAL_PAX:
                    parse_records(pax, pax_at)
                self._begin_meta(kind, size, at, name, prefix)
                if start < 0 and kind != TYPE_GLOBAL_PAX:
                    start = at
                place, need, state = stop, size, _AT_META
                continue

            try:
                try:
                    if mtime_end & 0xDF or not mtime_digits.isdigit():
                        raise ValueError
                    mtime = int(mtime_digits, 8) * NS
                except ValueError:
                    mtime = parse_field(unit[136:148], "mtime", at + 136) * NS
                mode, uid, gid = owners.get(owner) or self._owner(owner, at)
                odd = magic != _USTAR or self._long_name or self._long_link or as_reference
                if pax is not None:
                    records = parse_records(pax, pax_at)
                    odd = odd or records_of.rare
                else:
                    records = {}
                if self._globals:
                    records = {**self._globals, **records}
                    odd = True
                atime = ctime = None
                if path := records.get(b"path"):
                    name = path
                else:
                    name = name.partition(b"\0")[0]
                    if prefix[0] and magic[:6] == b"ustar\0":
                        name = prefix.partition(b"\0")[0] + b"/" + name
                if records:
                    # An empty value means: as the header says.
                    if value := records.get(b"mtime"):
                        mtime = parse_time(value, "mtime", pax_at)
                    if value := records.get(b"atime"):
                        atime = parse_time(value, "atime", pax_at)
                    if value := records.get(b"ctime"):
                        ctime = parse_time(value, "ctime", pax_at)
            except FormatError as error:
                raise _in_entry(name, error) from None
            if TYPE_HARD_LINK <= kind <= TYPE_FIFO:
                size = 0
            entry = new_entry(
                name,
                link.partition(b"\0")[0] if link[0] else b"",
                kind, mode, uid, gid, size, size, mtime, atime, ctime,
                records, pax or b"", start if start >= 0 else at, base + stop,
            )  # fmt: skip
            if odd or kind == TYPE_GNU_SPARSE or len(name) > max_name:
                state = self._refine(entry, unit, pax_at)
                if state != _AT_HEADER:
                    place, need = stop, BLOCK  # its sparse map comes first
                    continue
                size = entry.stored_size
            append(entry)
            place = stop + size + (-size & 511)
            start, pax = -1, None

        if place < length and state != _ENDED:
            self._pending += data[max(place, 0) :]
        self._fed = base + length
        self._next = base + place
        self._need, self._state, self._start, self._pax = need, state, start, pax
        self._pax_at = pax_at
        if entries:
            self._count(entries)

    def close(self) -> None:
        """Say that the stream is over. Missing end blocks and padding are fine.

        Raises FormatError if it ended inside a header or a body.
        """
        if self._error is not None:
            raise self._error
        if self._state == _ENDED:
            return
        last = self._last
        if last is not None and last.data_offset + last.stored_size > self._fed:
            missing = last.data_offset + last.stored_size - self._fed
            raise FormatError(
                f"tar entry '{shown(last.name)}': truncated,"
                f" {missing} of {last.stored_size} bytes are missing",
                offset=self._fed,
            )
        if self._as_reference and self._state == _AT_HEADER and self._pax is not None:
            self._records.parse(self._pax, self._pax_at)
        behind_extended = self._start >= 0 and not self._as_reference
        if behind_extended or self._state not in (_AT_HEADER, _AFTER_ZERO):
            raise FormatError("truncated inside the headers of an entry", offset=self._fed)
        if self._pending and (self._as_reference or any(self._pending)):
            raise FormatError("truncated inside a header", offset=self._fed)

    def _completed(self, rest: bytes | memoryview) -> bytes:
        """The unit whose beginning was kept from earlier chunks."""
        self._pending += rest
        unit = bytes(self._pending)
        self._pending.clear()
        return unit

    def _count(self, entries: list[TarEntry]) -> None:
        self._last = entries[-1]
        self._entries += len(entries)
        excess = self._entries - self._limits.max_entries
        if excess > 0:
            raise LimitExceeded(
                f"more than {self._limits.max_entries} entries",
                offset=entries[-excess].header_offset,
            )

    def _check_sum(self, block: bytes, at: int) -> None:
        """Check a header's sum exactly, and remember what adler32 gives for its text."""
        field = block[_CHECKSUM]
        rest = byte_sum(block) - sum(field) + 8 * ord(" ")  # counted as if the field were spaces
        stored = -1
        if not field[0] & 0x80:
            try:
                stored = parse_field(field, "checksum", at)
            except FormatError:
                pass
        if stored != rest:
            # Some early programs summed signed characters.
            negative = sum(byte > 127 for byte in block) - sum(byte > 127 for byte in field)
            if stored != rest - 256 * negative:
                raise FormatError("not a tar header: its checksum is wrong", offset=at)
        if len(self._sums) >= _KNOWN_SUMS:
            self._sums.clear()
        self._sums[field] = stored - 8 * ord(" ") + sum(field) + 1

    def _odd_size(self, block: bytes, kind: int, at: int) -> int:
        """A size field in one of the historic spellings, or in base 256."""
        try:
            size = parse_field(block[124:136], "size", at + 124)
            return self._bounded_size(size, kind, at)
        except FormatError as error:
            raise _in_entry(block[:100], error) from None

    def _bounded_size(self, size: int, kind: int, at: int) -> int:
        """The size, if the member's end is an offset that exists."""
        if self._as_reference:
            if _is_header_only(kind):
                return 0
            fits = size >= 0
        else:
            fits = 0 <= size <= MAX_OFFSET - at - 4 * BLOCK
        if not fits:
            raise FormatError(f"size of {size} bytes", offset=at)
        return size

    def _owner(self, owner: bytes, at: int) -> tuple[int, int, int]:
        """Mode, uid and gid of a header, remembered: a layer has a handful of them."""
        values = []
        for what, start in (("mode", 0), ("uid", 8), ("gid", 16)):
            place = at + 100 + start
            value = parse_field(owner[start : start + 8], what, place)
            if not 0 <= value <= _MAX_UINT32 and not self._as_reference:
                raise FormatError(f"{what} {value} is negative or beyond 32 bits", offset=place)
            values.append(value)
        if len(self._owners) >= _KNOWN_OWNERS:
            self._owners.clear()
        found = self._owners[owner] = (values[0], values[1], values[2])
        return found

    # --- units other than headers and extended headers ---

    def _begin_meta(self, kind: int, size: int, at: int, name: bytes, prefix: bytes) -> None:
        """Note what the body that follows is, and refuse one that is too long to hold."""
        limit = self._limits.max_pax if kind == TYPE_GLOBAL_PAX else self._limits.max_name + 1
        if size > limit:
            what = "global extended header" if kind == TYPE_GLOBAL_PAX else "long name"
            raise LimitExceeded(f"{what} of {size} bytes, the limit is {limit}", offset=at)
        self._meta_kind = kind
        above = prefix.partition(_NUL)[0]
        self._meta_name = above + b"/" * bool(above) + name.partition(_NUL)[0]

    def _rare_unit(self, unit: bytes, at: int) -> tuple[TarEntry | None, int]:
        """Take a unit that is no header and no PAX body; set what comes next.

        Returns the entry it completes, if any, and the offset of the next unit.
        """
        end = at + len(unit)
        if self._state == _AFTER_ZERO:
            if unit != ZERO_BLOCK:
                raise FormatError("data behind a single end block", offset=at)
            self._state = _ENDED
            return None, end
        if self._state == _AT_META:
            self._need, self._state = BLOCK, _AT_HEADER
            after = end + (-len(unit) & 511)
            if self._as_reference and self._meta_kind == TYPE_GLOBAL_PAX:
                records = self._records.parse(unit, at)
                self._long_name = self._long_link = b""
                return historic.global_entry(self._meta_name, records, unit, at), after
            self._take_meta(unit, at)
            return None, after
        entry = self._sparse_entry
        assert entry is not None
        try:
            complete = self._take_sparse_block(entry, unit, at)
        except FormatError as error:
            raise _in_entry(entry.name, error) from None
        if not complete:
            return None, end
        self._need, self._state, self._sparse_entry = BLOCK, _AT_HEADER, None
        stored = entry.stored_size
        return entry, end + stored + (-stored & 511)

    def _take_meta(self, body: bytes, at: int) -> None:
        if self._meta_kind == TYPE_GLOBAL_PAX:
            records = self._records.parse(body, at)
            for key in records:
                if key in _NEVER_GLOBAL or key.startswith(SPARSE_PREFIX):
                    raise FormatError(
                        f"global extended header with a record {shown(key)!r},"
                        " which can only belong to one entry",
                        offset=at,
                    )
            merged = {**self._globals, **records}
            # An empty value takes a default back.
            self._globals = {key: value for key, value in merged.items() if value}
            held = sum(len(key) + len(value) for key, value in self._globals.items())
            if held > _MAX_GLOBAL_BYTES or len(self._globals) > _MAX_GLOBALS:
                raise LimitExceeded(
                    f"global extended headers of more than {_MAX_GLOBALS} records"
                    f" or {_MAX_GLOBAL_BYTES} bytes",
                    offset=at,
                )
            return
        text = body.partition(b"\0")[0]
        if self._meta_kind == TYPE_GNU_LONG_NAME:
            self._long_name = text
        else:
            self._long_link = text

    def _take_sparse_block(self, entry: TarEntry, block: bytes, at: int) -> bool:
        """One block of a sparse map; True when the map, and with it the entry, is complete."""
        if self._map is None:
            pieces, more = sparse.old_block(block, at)
            self._pieces += pieces
            self._bound_pieces(len(self._pieces), at)
            if more:
                return False
        else:
            found = self._map.feed(block)
            if self._map.length > min(entry.stored_size, self._limits.max_pax):
                raise FormatError("sparse map longer than its member, or too long", offset=at)
            if found is None:
                return False
            self._pieces = found
            entry.stored_size -= self._map.length
            self._map = None
        entry.data_offset = at + BLOCK
        self._settle_sparse(entry, at)
        return True

    # --- entries with something unusual ---

    def _refine(self, entry: TarEntry, block: bytes, pax_at: int) -> int:
        """Apply to an entry what most have not: long names, GNU fields, rare records, maps.

        Returns what the next unit is: a header, or a block of this entry's sparse map.
        """
        at = entry.data_offset - BLOCK
        try:
            if block[257:265] == historic.GNU:
                historic.apply_gnu(entry, block, at, as_reference=self._as_reference)
            elif self._as_reference:
                historic.apply_star(entry, block, at)
                historic.check_devices(block, at)
            self._apply_rare(entry, pax_at if entry.pax_raw else at)
            state = self._begin_sparse(entry, block, at)
            if len(entry.name) > self._limits.max_name or (
                len(entry.linkname) > self._limits.max_name
            ):
                raise LimitExceeded(
                    f"name or link target of more than {self._limits.max_name} bytes", offset=at
                )
        except FormatError as error:
            raise _in_entry(entry.name, error) from None
        return state

    def _apply_rare(self, entry: TarEntry, at: int) -> None:
        records = entry.records
        if value := records.get(b"linkpath"):
            entry.linkname = value
        if self._long_name:
            entry.name, self._long_name = self._long_name, b""
        if self._long_link:
            entry.linkname, self._long_link = self._long_link, b""
        if self._as_reference and entry.typeflag == TYPE_OLD_FILE:
            entry.typeflag = entry.kind
            if entry.typeflag == TYPE_DIRECTORY:
                entry.size = entry.stored_size = 0
        if value := records.get(b"uid"):
            entry.uid = self._owner_number(value, "uid", at)
        if value := records.get(b"gid"):
            entry.gid = self._owner_number(value, "gid", at)
        if value := records.get(b"size"):
            if self._as_reference:
                size = parse_signed(value, "size", at)
            elif _is_header_only(entry.typeflag):
                return
            else:
                size = parse_decimal(value, "size", at)
            entry.size = entry.stored_size = self._bounded_size(size, entry.typeflag, at)

    def _owner_number(self, text: bytes, what: str, at: int) -> int:
        if self._as_reference:
            return parse_signed(text, what, at)
        value = parse_decimal(text, what, at)
        if value > _MAX_UINT32:
            raise FormatError(f"{what} {value} is beyond 32 bits", offset=at)
        return value

    def _begin_sparse(self, entry: TarEntry, block: bytes, at: int) -> int:
        """Find out whether, and how, the entry is sparse; finish it if no map follows."""
        if entry.typeflag == TYPE_GNU_SPARSE:
            if block[257:265] != historic.GNU:
                raise FormatError("sparse file in a header that is not GNU's", offset=at)
            self._pieces, entry.size, more = sparse.old_header(block, at)
            if more:
                self._sparse_entry, self._map = entry, None
                return _AT_OLD_SPARSE
            self._settle_sparse(entry, at)
            return _AT_HEADER
        version = sparse.version(entry.records, at, as_reference=self._as_reference)
        if version is None:
            return _AT_HEADER
        if _is_header_only(entry.typeflag):
            raise FormatError("sparse map of something that is not a file", offset=at)
        name, size = sparse.name_and_size(entry.records, at)
        entry.name = name or entry.name
        entry.size = entry.size if size is None else size
        if version == 1:
            self._sparse_entry = entry
            self._map = sparse.DataMap(at + BLOCK, self._limits.max_sparse_pieces)
            return _AT_SPARSE_MAP
        # Version 0.0 repeats its keys, so the dictionary does not have them all.
        ordered = parse_ordered(entry.pax_raw, at, self._limits.max_records)
        self._pieces = sparse.records_pieces(ordered, at, self._limits.max_sparse_pieces)
        self._settle_sparse(entry, at)
        return _AT_HEADER

    def _settle_sparse(self, entry: TarEntry, at: int) -> None:
        self._bounded_size(entry.size, TYPE_GNU_SPARSE, at)
        stored = None if self._as_reference else entry.stored_size
        entry.sparse = sparse.checked(self._pieces, entry.size, stored, at)
        self._pieces = []

    def _bound_pieces(self, count: int, at: int) -> None:
        if count > self._limits.max_sparse_pieces:
            raise LimitExceeded(
                f"sparse file of more than {self._limits.max_sparse_pieces} pieces", offset=at
            )


def _is_header_only(kind: int) -> bool:
    """Whether a size in the header means nothing: links, devices, directories, FIFOs."""
    return TYPE_HARD_LINK <= kind <= TYPE_FIFO


def _in_entry(name: bytes, error: FormatError) -> FormatError:
    """The same error, naming the entry it is about; `name` may be a header field."""
    named = type(error)(f"tar entry '{shown(name.partition(_NUL)[0])}': {error}")
    named.offset = error.offset
    return named
