"""A read-only FUSE server that speaks the kernel's protocol itself: no libfuse, no bindings.

The tree never changes, so the kernel is told to keep everything: names and attributes for a day,
file pages and directories without ever opening anything (OPEN is "not implemented"). What is left
to answer is each first look. `Server.handle` turns one request into one reply and touches no
descriptor of the mount, `serve` runs it for a mount's life.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
from collections.abc import Callable, Sequence

from windowsfilter.engines.portable.fuse import protocol
from windowsfilter.engines.portable.fuse.nodes import NodeError, Nodes
from windowsfilter.engines.portable.fuse.protocol import InitFlag, Opcode
from windowsfilter.errors import WindowsFilterError

log = logging.getLogger(__name__)

Payload = bytes | memoryview
Reply = Sequence[Payload]
"""Pieces to be written at once; none: no reply."""

VALID_S = 86_400
MAX_PAGES = 256
MAX_READ = MAX_PAGES * 4096
REQUEST_BYTES = 64 << 10
"""More than any request of a kernel that may not write."""
MAX_WRITE = 4096  # the least there is

_IN = protocol.IN_HEADER
_OUT = protocol.OUT_HEADER
_HEAD = _IN.size
_NO_ENTRY = protocol.ENTRY.pack(0, 0, 0, 0, 0, 0) + bytes(protocol.ATTRIBUTES.size)
_NEGATIVE = protocol.ENTRY.pack(0, 0, VALID_S, VALID_S, 0, 0) + bytes(protocol.ATTRIBUTES.size)
_ATTRIBUTES_HEAD = protocol.ATTRIBUTES_HEAD.pack(VALID_S, 0, 0)
_STATX_HEAD = protocol.STATX_HEAD.pack(VALID_S, 0, 0)
_PLUS = protocol.ENTRY.size + protocol.ATTRIBUTES.size
_PADDING = tuple(bytes(-size & 7) for size in range(8))
_SECTOR = 512


class Server:
    """Answers requests about one tree. Not safe for use by several threads at once."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self.ready = False
        """Whether the kernel has been told what we can do."""
        self.ended = False
        """Whether the kernel said that this is the end."""
        self._buffer = memoryview(bytearray(MAX_READ))
        self._silent = {Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT}
        self._calls: dict[int, Callable[[int, memoryview], Payload]] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.GETATTR: self._getattr,
            Opcode.STATX: self._statx,
            Opcode.READLINK: self._readlink,
            Opcode.READ: self._read,
            Opcode.READDIR: self._readdir,
            Opcode.READDIRPLUS: self._readdirplus,
            Opcode.GETXATTR: self._getxattr,
            Opcode.LISTXATTR: self._listxattr,
            Opcode.STATFS: self._statfs,
            Opcode.INIT: self._init,
            Opcode.RELEASE: self._nothing,
            Opcode.RELEASEDIR: self._nothing,
            Opcode.DESTROY: self._destroy,
        }

    def handle(self, request: memoryview) -> Reply:
        """The reply to one request. Valid until the next call: data lies in a reused buffer.

        Never raises: a request that makes no sense or that fails is answered with an errno, one
        too short to be answered is dropped.
        """
        if len(request) < _HEAD:
            return ()
        length, opcode, unique, node, _, _, _, extensions, _ = _IN.unpack_from(request)
        if opcode in self._silent:
            return ()
        call = self._calls.get(opcode)
        if call is None:
            return (_refusal(unique, errno.ENOSYS),)
        if length != len(request) or extensions * 8 > length - _HEAD:
            return (_refusal(unique, errno.EINVAL),)
        try:
            payload = call(node, request[_HEAD : length - extensions * 8])
        except NodeError as error:
            return (_refusal(unique, error.number),)
        except (OSError, WindowsFilterError) as error:
            log.error("FUSE request %d on node %d: %s", opcode, node, error)
            return (_refusal(unique, errno.EIO),)
        except Exception:
            log.exception("FUSE request %d on node %d", opcode, node)
            return (_refusal(unique, errno.EIO),)
        return _OUT.pack(_OUT.size + len(payload), 0, unique), payload

    # -- names --------------------------------------------------------------------------------

    def _lookup(self, node: int, body: memoryview) -> Payload:
        found = self._nodes.find(node, _name(body))
        return _NEGATIVE if found is None else self._entry(found)

    def _entry(self, node: int) -> bytes:
        head = protocol.ENTRY.pack(node, 0, VALID_S, VALID_S, 0, 0)
        return head + self._nodes.attributes(node)

    def _readdir(self, node: int, body: memoryview) -> Payload:
        return self._list(node, body, plus=False)

    def _readdirplus(self, node: int, body: memoryview) -> Payload:
        return self._list(node, body, plus=True)

    def _list(self, node: int, body: memoryview, *, plus: bool) -> Payload:
        _, offset, room = _unpack(protocol.READ_IN, body)
        names, nodes = self._nodes.listing(node)
        type_of, pack = self._nodes.type, protocol.DIRENT.pack
        fixed = protocol.DIRENT.size + (_PLUS if plus else 0)
        parts: list[bytes] = []
        for place in range(offset, len(names)):
            name, kid = names[place], nodes[place]
            size = len(name)
            room -= fixed + (size + 7 & ~7)
            if room < 0:
                break
            if plus:
                # The kernel knows "." and "..", it wants no second opinion.
                parts.append(self._entry(kid) if place > 1 else _NO_ENTRY)
            parts.append(pack(kid, place + 1, size, type_of(kid)))
            parts.append(name)
            parts.append(_PADDING[size & 7])
        return b"".join(parts)

    # -- content ------------------------------------------------------------------------------

    def _getattr(self, node: int, _: memoryview) -> Payload:
        return _ATTRIBUTES_HEAD + self._nodes.attributes(node)

    def _statx(self, node: int, _: memoryview) -> Payload:
        return _STATX_HEAD + self._nodes.statx(node)

    def _readlink(self, node: int, _: memoryview) -> Payload:
        return self._nodes.readlink(node)

    def _read(self, node: int, body: memoryview) -> Payload:
        _, offset, wanted = _unpack(protocol.READ_IN, body)
        descriptor, start, size = self._nodes.data(node)
        wanted = min(wanted, size - offset, MAX_READ)
        if wanted <= 0:
            return b""
        target = self._buffer[:wanted]
        got = os.preadv(descriptor, [target], start + offset)
        while got < wanted:  # a signal, or a blob shorter than it was: zeros would be a lie
            more = os.preadv(descriptor, [target[got:]], start + offset + got)
            if not more:
                log.error("node %d: its data ends after %d bytes", node, offset + got)
                raise NodeError(errno.EIO)
            got += more
        return target

    def _getxattr(self, node: int, body: memoryview) -> Payload:
        room, _ = _unpack(protocol.XATTR_IN, body)
        value = self._nodes.xattr(node, _name(body[protocol.XATTR_IN.size :]))
        if value is None:
            raise NodeError(errno.ENODATA)
        return _fit(value, room)

    def _listxattr(self, node: int, body: memoryview) -> Payload:
        room, _ = _unpack(protocol.XATTR_IN, body)
        return _fit(b"".join(name + b"\0" for name in self._nodes.xattrs(node)), room)

    def _statfs(self, _: int, __: memoryview) -> Payload:
        blocks = -(-self._nodes.data_bytes // _SECTOR)
        files = len(self._nodes.tree)
        return protocol.STATFS.pack(blocks, 0, 0, files, 0, _SECTOR, 255, _SECTOR, 0)

    # -- the mount itself ---------------------------------------------------------------------

    def _init(self, _: int, body: memoryview) -> Payload:
        major, minor, readahead, offered = _unpack(protocol.INIT_IN, body)
        if major < protocol.MAJOR or (major == protocol.MAJOR and minor < protocol.MIN_MINOR):
            log.error("the kernel speaks FUSE %d.%d, which is too old", major, minor)
            raise NodeError(errno.EPROTO)
        if major == protocol.MAJOR:  # a newer kernel asks again once it knows our version
            self.ready = True
        flags = InitFlag(offered & protocol.WANTED)
        return protocol.INIT_OUT.pack(
            protocol.MAJOR,
            min(minor, protocol.MINOR) if major == protocol.MAJOR else protocol.MINOR,
            min(readahead, MAX_READ),
            flags,
            64,
            48,
            MAX_WRITE,
            100,  # FILETIME counts 100 ns
            MAX_PAGES if InitFlag.MAX_PAGES in flags else 0,
            0,
            0,
            0,
        )

    def _destroy(self, _: int, __: memoryview) -> Payload:
        self.ended = True
        return b""

    def _nothing(self, _: int, __: memoryview) -> Payload:
        return b""


def serve(descriptor: int, nodes: Nodes, *, ready: Callable[[], None] = lambda: None) -> None:
    """Answer the requests of a mount until it is unmounted; `ready` is called once, at its start.

    `descriptor` is /dev/fuse after the mount; it stays the caller's, as `nodes` do. Whoever serves
    must not use the mount: a page fault on it would hold the interpreter that should answer it.
    """
    server = Server(nodes)
    request = memoryview(bytearray(REQUEST_BYTES))
    told = False
    while not server.ended:
        try:
            size = os.readv(descriptor, [request])
        except OSError as error:
            if error.errno == errno.ENODEV:  # unmounted
                return
            if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                continue  # the request was taken back before we got it
            raise
        reply = server.handle(request[:size])
        if reply and not _send(descriptor, reply):
            return
        if server.ready and not told:
            told = True
            ready()


def _send(descriptor: int, reply: Reply) -> bool:
    """Write a reply; False if there is nobody left to read it."""
    try:
        os.writev(descriptor, reply)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return False
        if error.errno != errno.ENOENT:  # ENOENT: the request was interrupted, nobody waits
            log.error("the kernel refused a reply of %d bytes: %s", sum(map(len, reply)), error)
    return True


def _refusal(unique: int, number: int) -> bytes:
    return _OUT.pack(_OUT.size, -number, unique)


def _unpack(layout: struct.Struct, body: memoryview) -> tuple[int, ...]:
    if len(body) < layout.size:
        raise NodeError(errno.EINVAL)
    return layout.unpack_from(body)


def _name(body: memoryview) -> bytes:
    """The name at the start of a body: it ends in NUL."""
    name, end, _ = bytes(body).partition(b"\0")
    if not end or not name:
        raise NodeError(errno.EINVAL)
    return name


def _fit(value: bytes, room: int) -> bytes:
    """An attribute's value for a buffer of `room` bytes, or its length if that is 0."""
    if not room:
        return protocol.XATTR_SIZE.pack(len(value), 0)
    if len(value) > room:
        raise NodeError(errno.ERANGE)
    return value
