"""Sparse files in tars: the old GNU type `S` and GNU's PAX versions 0.0, 0.1 and 1.0.

All of them give a list of (offset in the file, length): the pieces that hold data. They lie
one after another in the tar; what is between them is zeros. Source: GNU tar's manual,
"Storing Sparse Files"; what is refused follows Go's archive/tar (reader.go).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from windowsfilter.errors import FormatError, LimitExceeded
from windowsfilter.wire.tar.numbers import parse_decimal, parse_field

Piece = tuple[int, int]

# Old GNU: 24-byte pairs of numeric fields, in the header and in blocks behind it.
_HEADER_PIECES: Final = (386, 4)
_HEADER_EXTENDED: Final = 482
_HEADER_REAL_SIZE: Final = slice(483, 495)
_BLOCK_PIECES: Final = (0, 21)
_BLOCK_EXTENDED: Final = 504

_MAJOR, _MINOR = b"GNU.sparse.major", b"GNU.sparse.minor"
_SIZE, _REAL_SIZE = b"GNU.sparse.size", b"GNU.sparse.realsize"
_NAME, _MAP = b"GNU.sparse.name", b"GNU.sparse.map"
_COUNT, _OFFSET, _LENGTH = b"GNU.sparse.numblocks", b"GNU.sparse.offset", b"GNU.sparse.numbytes"
_MAX_DIGITS = 20


def old_header(block: bytes, at: int) -> tuple[list[Piece], int, bool]:
    """Pieces in a header of type `S`, logical size, and whether a block of more follows."""
    size = parse_field(block[_HEADER_REAL_SIZE], "size of a sparse file", at + 483)
    return _old_pieces(block, *_HEADER_PIECES, at), size, block[_HEADER_EXTENDED] != 0


def old_block(block: bytes, at: int) -> tuple[list[Piece], bool]:
    """Pieces in a block behind such a header, and whether another one follows."""
    return _old_pieces(block, *_BLOCK_PIECES, at), block[_BLOCK_EXTENDED] != 0


def _old_pieces(block: bytes, start: int, count: int, at: int) -> list[Piece]:
    pieces = []
    for place in range(start, start + 24 * count, 24):
        if not block[place]:  # where GNU tar and bsdtar stop, too
            break
        offset = parse_field(block[place : place + 12], "offset of a sparse piece", at + place)
        length = parse_field(
            block[place + 12 : place + 24], "length of a sparse piece", at + place + 12
        )
        pieces.append((offset, length))
    return pieces


def version(records: Mapping[bytes, bytes], at: int, *, as_reference: bool = False) -> int | None:
    """0 or 1 for an entry in one of the PAX formats, None for one that is not sparse.

    To the reference, one of an unknown version is the bytes that are stored.
    """
    major, minor = records.get(_MAJOR), records.get(_MINOR)
    if as_reference:
        if (major, minor) == (b"1", b"0"):
            return 1
        if major == b"0" and minor in (b"0", b"1"):
            return 0
        has_map = bool(records.get(_MAP)) or _OFFSET in records
        return 0 if not major and not minor and has_map else None
    if major is None and minor is None:
        # Versions 0.0 and 0.1 did not say so.
        return 0 if _MAP in records or _COUNT in records or _SIZE in records else None
    if major == b"0" and minor in (b"0", b"1"):
        return 0
    if major == b"1" and minor == b"0":
        return 1
    # Taking the data as it is would give another file, in silence.
    raise FormatError(f"sparse format of unknown version {major!r}.{minor!r}", offset=at)


def name_and_size(records: Mapping[bytes, bytes], at: int) -> tuple[bytes | None, int | None]:
    """The real name (the header's is made up) and the logical size, where they are given."""
    size = records.get(_SIZE) or records.get(_REAL_SIZE)
    return (
        records.get(_NAME) or None,
        parse_decimal(size, "size of a sparse file", at) if size else None,
    )


def records_pieces(ordered: Sequence[tuple[bytes, bytes]], at: int, max_pieces: int) -> list[Piece]:
    """Pieces of versions 0.0 (a pair of records for each) and 0.1 (a list in one record)."""
    count = 0
    numbers: list[bytes] = []
    listed: bytes | None = None
    for key, value in ordered:
        if key == _COUNT:
            count = parse_decimal(value, "number of sparse pieces", at)
        elif key == _MAP:
            listed = value
        elif key in (_OFFSET, _LENGTH):
            if (key == _LENGTH) != len(numbers) % 2:
                raise FormatError("offsets and lengths of sparse pieces out of step", offset=at)
            numbers.append(value)
    if count > max_pieces:
        raise LimitExceeded(f"sparse file of {count} pieces, the limit is {max_pieces}", offset=at)
    if not numbers and listed:
        if listed.count(b",") >= 2 * max_pieces:
            raise LimitExceeded(f"sparse file of more than {max_pieces} pieces", offset=at)
        numbers = listed.split(b",")
    if len(numbers) != 2 * count:
        raise FormatError(
            f"sparse file of {count} pieces with {len(numbers)} numbers for them", offset=at
        )
    found = [parse_decimal(number, "sparse piece", at) for number in numbers]
    return list(zip(found[::2], found[1::2], strict=True))


class DataMap:
    """The map that version 1.0 puts in front of the data: decimal lines in whole blocks."""

    __slots__ = ("_at", "_max_pieces", "_numbers", "_text", "_wanted", "length")

    def __init__(self, at: int, max_pieces: int) -> None:
        self._at = at
        self._max_pieces = max_pieces
        self._numbers: list[int] = []
        self._wanted = 1
        self._text = b""
        self.length = 0
        """Bytes of the map so far."""

    def feed(self, block: bytes) -> list[Piece] | None:
        """Take one block; the pieces once the map is complete, None before."""
        at = self._at + self.length
        self.length += len(block)
        *lines, self._text = (self._text + block).split(b"\n")
        for line in lines:
            number = parse_decimal(line, "number in a sparse map", at)
            if not self._numbers:
                if number > self._max_pieces:
                    raise LimitExceeded(
                        f"sparse file of {number} pieces, the limit is {self._max_pieces}",
                        offset=at,
                    )
                self._wanted = 1 + 2 * number
            self._numbers.append(number)
            if len(self._numbers) == self._wanted:
                found = self._numbers[1:]
                return list(zip(found[::2], found[1::2], strict=True))
        if len(self._text) > _MAX_DIGITS:
            raise FormatError("sparse map with a line that is not a number", offset=at)
        return None


def checked(
    pieces: Sequence[Piece], size: int, stored_size: int | None, at: int
) -> tuple[tuple[int, int], ...]:
    """Pieces that hold data, in order, inside the file and of exactly the stored bytes.

    `stored_size` None leaves the last to be found out when they are read, as the reference does.
    """
    position = total = 0
    for offset, length in pieces:
        if offset < position or length < 0 or offset + length > size:
            raise FormatError(
                f"sparse piece of {length} bytes at {offset} overlaps or leaves the file of {size}",
                offset=at,
            )
        position = offset + length
        total += length
    if stored_size is not None and total != stored_size:
        raise FormatError(
            f"sparse file whose pieces hold {total} bytes is stored in {stored_size}", offset=at
        )
    return tuple(piece for piece in pieces if piece[1])
