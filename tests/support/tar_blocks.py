"""Tar blocks made by hand, well-formed or not: the writer under test has no part in them."""

from __future__ import annotations

ZERO = bytes(512)
END = 2 * ZERO
USTAR = b"ustar\x0000"
GNU = b"ustar  \0"


def header(
    name: bytes = b"f",
    *,
    kind: bytes = b"0",
    size: int | bytes = 0,
    mtime: int | bytes = 0,
    mode: bytes = b"0000644\0",
    uid: bytes = b"0000000\0",
    gid: bytes = b"0000000\0",
    link: bytes = b"",
    magic: bytes = USTAR,
    tail: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """One header block. `tail` is what stands from byte 345 on; numbers may be raw fields."""
    block = bytearray(512)
    block[0:100] = name.ljust(100, b"\0")
    block[100:124] = mode + uid + gid
    block[124:136] = size if isinstance(size, bytes) else b"%011o\0" % size
    block[136:148] = mtime if isinstance(mtime, bytes) else b"%011o\0" % mtime
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[157:257] = link.ljust(100, b"\0")
    block[257:265] = magic
    block[345 : 345 + len(tail)] = tail
    block[148:156] = b"%06o\0 " % sum(block) if checksum is None else checksum
    assert len(block) == 512
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while len(b"%d" % length) + len(key) + len(value) + 3 != length:
        length = len(b"%d" % length) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (length, key, value)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    """An extended header with its body."""
    return raw_pax(b"".join(record(*each) for each in records), kind=kind)


def raw_pax(body: bytes, *, kind: bytes = b"x") -> bytes:
    return header(b"PaxHeaders.0/f", kind=kind, size=len(body)) + padded(body)


def file(name: bytes = b"f", data: bytes = b"", **fields: object) -> bytes:
    """A header and its data."""
    return header(name, size=len(data), **fields) + padded(data)  # type: ignore[arg-type]


def long_name(name: bytes, kind: bytes = b"L") -> bytes:
    body = name + b"\0"
    return header(b"././@LongLink", kind=kind, size=len(body), magic=GNU) + padded(body)


def base256(number: int, width: int = 12) -> bytes:
    """A numeric field in two's complement, marked by its highest bit."""
    raw = bytearray(number.to_bytes(width, "big", signed=True))
    raw[0] |= 0x80
    return bytes(raw)
