r"""PAX extended headers: `"%d key=value\n"` records, one after another.

`parse_ordered` keeps every record in its order, duplicates included; `RecordParser` gives
the ones in force. Both accept and refuse the same bytes. Source: POSIX pax, "pax Extended
Header"; what is refused follows Go's archive/tar (strconv.go, parsePAXRecord).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from windowsfilter.errors import FormatError, LimitExceeded

# Names and text; their values go into fields that NUL ends, so it must not occur.
_TEXT_KEYS: Final = frozenset((b"path", b"linkpath", b"uname", b"gname"))
# Keys that need more than a place in the dictionary. The reader asks for these only when
# one of them has been seen, because nearly no entry has one.
_RARE_KEYS: Final = frozenset((b"linkpath", b"size", b"uid", b"gid"))
SPARSE_PREFIX: Final = b"GNU.sparse."
_MIN_RECORD = 5  # "5 k=\n"
_MAX_LENGTH_DIGITS = 10

# Bounds for the quick way: its list of lines must stay small whatever the bytes are.
_QUICK_BODY = 128 << 10
_KNOWN_HEADS = 4096


class RecordParser:
    """Parses bodies of extended headers, remembering how records of this tar begin.

    All records of a tar share few beginnings (`30 mtime`), so the checks of length and key
    are done once for each and looked up afterwards: that is 40 % of the reader's time.
    """

    __slots__ = ("_heads", "_max_records", "rare")

    def __init__(self, max_records: int) -> None:
        self._max_records = max_records
        self._heads: dict[bytes, tuple[int, bytes, bool]] = {}
        self.rare = False
        """Whether the body parsed last has a key of `_RARE_KEYS` or `GNU.sparse.`."""

    def parse(self, body: bytes, at: int) -> dict[bytes, bytes]:
        """Records by key, the last of a key wins. `at` is the body's offset, for errors."""
        records: dict[bytes, bytes] = {}
        rare = False
        if len(body) <= _QUICK_BODY:
            heads = self._heads
            # A record is a line unless its value holds a line feed; then, and for whatever
            # else is not as expected, the lengths disagree and the exact way decides.
            lines = body.split(b"\n")
            if not lines.pop() and len(lines) <= self._max_records:
                for line in lines:
                    head, _, value = line.partition(b"=")
                    known = heads.get(head) or self._learn(head)
                    if known is None or known[0] != len(line):
                        break
                    records[known[1]] = value
                    if known[2]:
                        rare = True
                else:
                    if b"\0" not in body:  # a few keys must not have one: the exact way knows
                        self.rare = rare
                        return records
        ordered = parse_ordered(body, at, self._max_records)
        records = dict(ordered)
        self.rare = any(_is_rare(key) for key in records)
        return records

    def _learn(self, head: bytes) -> tuple[int, bytes, bool] | None:
        """Length of the line, key and rareness to remember; None leaves it to the exact way."""
        digits, _, key = head.partition(b" ")
        if not key or b"\0" in key or not digits.isdigit() or len(digits) > _MAX_LENGTH_DIGITS:
            return None
        length = int(digits) - 1  # without the line feed
        if length <= len(head):  # so that a line of this length is known to have its "="
            return None
        if len(self._heads) >= _KNOWN_HEADS:
            self._heads.clear()
        known = self._heads[head] = (length, key, _is_rare(key))
        return known


def _is_rare(key: bytes) -> bool:
    """Whether the key changes more of an entry than its times and its path."""
    return key in _RARE_KEYS or key.startswith(SPARSE_PREFIX)


def parse_ordered(body: bytes, at: int, max_records: int) -> list[tuple[bytes, bytes]]:
    """Every record in the order of the bytes. `at` is the body's offset, for errors."""
    records: list[tuple[bytes, bytes]] = []
    start = 0
    while start < len(body):
        if len(records) >= max_records:
            raise LimitExceeded(
                f"extended header of more than {max_records} records", offset=at + start
            )
        space = body.find(b" ", start, start + _MAX_LENGTH_DIGITS + 1)
        digits = body[start:space] if space >= 0 else b""
        if not digits.isdigit():
            raise FormatError("PAX record without a length", offset=at + start)
        end = start + int(digits)
        if end > len(body) or end < start + _MIN_RECORD or end < space + 2:
            raise FormatError(
                f"PAX record with a length of {int(digits)}, {len(body) - start} bytes are left",
                offset=at + start,
            )
        if body[end - 1] != 0x0A:
            raise FormatError("PAX record without a line feed at its end", offset=at + end - 1)
        equals = body.find(b"=", space, end - 1)
        if equals < 0:
            raise FormatError("PAX record without '='", offset=at + start)
        key = body[space + 1 : equals]
        if not key or b"\0" in key:
            raise FormatError("PAX record with an empty key or NUL in it", offset=at + start)
        value = body[equals + 1 : end - 1]
        if key in _TEXT_KEYS and b"\0" in value:
            raise FormatError(f"PAX record {key.decode()} with NUL in its value", offset=at + start)
        records.append((key, value))
        start = end
    return records


def build_record(key: bytes, value: bytes) -> bytes:
    """One record; its length counts its own digits."""
    rest = len(key) + len(value) + 3  # space, "=", line feed
    length = rest + len(b"%d" % rest)
    if length != rest + len(b"%d" % length):  # the digits themselves made one digit more
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def build(records: Mapping[bytes, bytes]) -> bytes:
    """The body of an extended header, sorted by key bytes as the reference sorts.

    Raises FormatError for a key that cannot be written: empty, or with `=` or NUL in it.
    """
    body = bytearray()
    for key in sorted(records):
        value = records[key]
        if not key or b"=" in key or b"\0" in key or (key in _TEXT_KEYS and b"\0" in value):
            raise FormatError(f"PAX record {key!r} cannot be written")
        body += build_record(key, value)
    return bytes(body)
