"""The FUSE server fed with requests by hand: every answer, and every request that makes no sense."""

import errno
import os
import socket
import stat
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import chains, fuse_chains
from windowsfilter.engines.portable.fuse import protocol
from windowsfilter.engines.portable.fuse import server as fuse_server
from windowsfilter.engines.portable.fuse.nodes import Nodes, Presentation
from windowsfilter.engines.portable.fuse.protocol import InitFlag, Opcode
from windowsfilter.engines.portable.fuse.server import Server
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.engines.portable.view import View

ROOT = protocol.ROOT_ID
UNIQUE = 0x1122334455667788


class Client:
    """Plays the kernel."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def raw(self, request: bytes) -> bytes:
        return b"".join(bytes(part) for part in self.server.handle(memoryview(request)))

    def call(self, opcode: int, node: int = ROOT, body: bytes = b"") -> bytes | int:
        """The payload of the reply, or its errno."""
        head = protocol.IN_HEADER.pack(
            protocol.IN_HEADER.size + len(body), opcode, UNIQUE, node, 0, 0, 0, 0, 0
        )
        reply = self.raw(head + body)
        length, error, unique = protocol.OUT_HEADER.unpack_from(reply)
        assert (length, unique) == (len(reply), UNIQUE)
        assert error <= 0
        payload = reply[protocol.OUT_HEADER.size :]
        assert not (error and payload)
        return -error if error else payload

    def data(self, opcode: int, node: int = ROOT, body: bytes = b"") -> bytes:
        found = self.call(opcode, node, body)
        assert isinstance(found, bytes), os.strerror(found)
        return found

    def lookup(self, *path: bytes) -> int:
        node = ROOT
        for name in path:
            node = struct.unpack_from("=Q", self.data(Opcode.LOOKUP, node, name + b"\0"))[0]
        return node

    def names(self, node: int, size: int, opcode: Opcode = Opcode.READDIR) -> list[bytes]:
        """A directory's names, read in pieces of `size` bytes."""
        names: list[bytes] = []
        offset, skip = 0, 128 if opcode == Opcode.READDIRPLUS else 0
        while piece := self.data(opcode, node, protocol.READ_IN.pack(0, offset, size) + bytes(20)):
            assert len(piece) <= size
            at = 0
            while at < len(piece):
                _, offset, length, _ = protocol.DIRENT.unpack_from(piece, at + skip)
                at += skip + protocol.DIRENT.size
                names.append(piece[at : at + length])
                at += length + 7 & ~7
        return names


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Iterator[Tree]:
    blobs = chains.Blobs(tmp_path_factory.mktemp("store"))
    with blobs.chain(fuse_chains.BASE) as chain:
        yield Tree(chain)


@pytest.fixture(scope="module")
def client(tree) -> Iterator[Client]:
    with Nodes(tree, tree.layers) as nodes:
        yield Client(Server(nodes))


def init(flags: int = 0xFFFFFFFF, major: int = 7, minor: int = 45) -> bytes:
    return protocol.INIT_IN.pack(major, minor, 131072, flags).ljust(64, b"\0")


# -- sizes of the kernel's structures -------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        (protocol.IN_HEADER, 40),
        (protocol.OUT_HEADER, 16),
        (protocol.ENTRY, 40),
        (protocol.ATTRIBUTES, 88),
        (protocol.ATTRIBUTES_HEAD, 16),
        (protocol.DIRENT, 24),
        (protocol.XATTR_SIZE, 8),
        (protocol.INIT_OUT, 64),
        (protocol.STATFS, 80),
        (protocol.STATX_HEAD, 32),
        (protocol.STATX, 256),
    ],
)
def test_structures_have_the_sizes_of_the_kernels(layout, size):
    assert layout.size == size


# -- the beginning --------------------------------------------------------------------------------


def test_init_takes_what_we_know_of_what_is_offered(client):
    reply = protocol.INIT_OUT.unpack(client.data(Opcode.INIT, 0, init()))
    assert reply[:2] == (7, 40)
    assert reply[3] == protocol.WANTED
    assert reply[8] == 256
    assert client.server.ready


def test_init_speaks_older_protocols_and_takes_no_more_than_is_offered(client):
    reply = protocol.INIT_OUT.unpack(client.data(Opcode.INIT, 0, init(InitFlag.ASYNC_READ, 7, 23)))
    assert reply[:2] == (7, 23)
    assert reply[3] == InitFlag.ASYNC_READ
    assert reply[8] == 0


def test_a_kernel_with_a_newer_major_version_is_told_ours_and_asks_again(tree):
    with Nodes(tree, tree.layers) as nodes:
        client = Client(Server(nodes))
        assert protocol.INIT_OUT.unpack(client.data(Opcode.INIT, 0, init(major=8)))[:2] == (7, 40)
        assert not client.server.ready


@pytest.mark.parametrize(("major", "minor"), [(6, 99), (7, 22)])
def test_a_kernel_that_is_too_old_is_refused(tree, major, minor):
    with Nodes(tree, tree.layers) as nodes:
        client = Client(Server(nodes))
        assert client.call(Opcode.INIT, 0, init(major=major, minor=minor)) == errno.EPROTO
        assert not client.server.ready


# -- answers --------------------------------------------------------------------------------------


def test_names_that_do_not_exist_may_be_remembered(client):
    node, _, valid = struct.unpack_from("=QQQ", client.data(Opcode.LOOKUP, ROOT, b"nothing\0"))
    assert (node, valid) == (0, fuse_server.VALID_S)


@pytest.mark.parametrize("name", [b"\xff\xfe", b"\xed\xa0\x80", b"a:b:c", b":", b"~" * 300, b"/"])
def test_names_that_nothing_can_have_do_not_exist(client, name):
    assert client.lookup(name) == 0


def test_dot_and_dot_dot_are_found_by_number(client):
    windows = client.lookup(b"Windows")
    deep = client.lookup(b"implied", b"deep")
    assert client.lookup(b".") == ROOT
    for node, name, found in (
        (windows, b".", windows),
        (windows, b"..", ROOT),
        (ROOT, b"..", ROOT),
        (deep, b"..", client.lookup(b"implied")),
    ):
        payload = client.data(Opcode.LOOKUP, node, name + b"\0")
        assert struct.unpack_from("=Q", payload)[0] == found


@pytest.mark.parametrize("opcode", [Opcode.READDIR, Opcode.READDIRPLUS])
def test_directories_come_whole_in_pieces_of_any_size(client, tree, opcode):
    slot = tree.lookup(b"Files/Windows")
    assert slot is not None
    names = [b".", b"..", *(tree.names[kid] for kid in tree.kids[slot].values())]
    node = client.lookup(b"Windows")
    for size in (160, 200, 4096):
        assert client.names(node, size, opcode) == names
    assert client.names(node, 100, Opcode.READDIRPLUS) == []  # no room for one: nothing, no error


def test_readdirplus_counts_no_lookup_for_dot_and_dot_dot(client):
    piece = client.data(Opcode.READDIRPLUS, ROOT, protocol.READ_IN.pack(0, 0, 400) + bytes(20))
    assert struct.unpack_from("=Q", piece, 0)[0] == 0
    third = client.data(Opcode.READDIRPLUS, ROOT, protocol.READ_IN.pack(0, 2, 400) + bytes(20))
    assert struct.unpack_from("=Q", third, 0)[0] == client.lookup(b"Windows")


def test_directory_caches_stay_small(tree, monkeypatch):
    monkeypatch.setattr("windowsfilter.engines.portable.fuse.nodes._LISTED_NAMES", 10)
    with Nodes(tree, tree.layers) as nodes:
        client = Client(Server(nodes))
        for _ in range(3):
            for name in (b"Windows", b"implied", b"."):
                assert b".." in client.names(client.lookup(name), 4096)
        assert len(nodes._listings) == 1


def test_reads_end_where_the_file_ends(client):
    node = client.lookup(b"Windows", b"a.txt")
    content = b"hello" * 1000
    for offset, size in ((0, 5000), (0, 1 << 31), (4990, 100), (5000, 10), (1 << 63, 10), (17, 0)):
        body = protocol.READ_IN.pack(0, offset, size) + bytes(20)
        assert client.data(Opcode.READ, node, body) == content[offset : offset + size]
    assert client.data(Opcode.READ, client.lookup(b"empty"), protocol.READ_IN.pack(0, 0, 9)) == b""


def test_reads_are_never_longer_than_the_kernel_takes(client):
    body = protocol.READ_IN.pack(0, 0, 1 << 31)
    found = client.data(Opcode.READ, client.lookup(b"big.bin"), body)
    assert found == fuse_chains.BIG[: fuse_server.MAX_READ]


def test_extended_attributes_fit_the_buffer_or_say_their_size(client):
    node = client.lookup(b"Windows", b"a.txt")
    name = b"trusted.windows.sd\0"
    for room, found in (
        (0, struct.pack("=II", 32, 0)),
        (32, chains.OWNER_SYSTEM),
        (1000, chains.OWNER_SYSTEM),
        (31, errno.ERANGE),
    ):
        assert client.call(Opcode.GETXATTR, node, struct.pack("=II", room, 0) + name) == found
    listed = client.data(Opcode.LISTXATTR, node, struct.pack("=II", 1000, 0))
    size = struct.pack("=II", len(listed), 0)
    assert client.data(Opcode.LISTXATTR, node, struct.pack("=II", 0, 0)) == size
    assert client.call(Opcode.LISTXATTR, node, struct.pack("=II", 5, 0)) == errno.ERANGE


def test_users_without_privileges_see_attributes_that_they_may_read(tree):
    how = Presentation(xattr_prefix=b"user.", owner=(1234, 56), private=True)
    with Nodes(tree, tree.layers, how) as nodes:
        client = Client(Server(nodes))
        node = client.lookup(b"Windows", b"a.txt")
        found = client.data(Opcode.LISTXATTR, node, struct.pack("=II", 1000, 0)).split(b"\0")
        assert b"user.windows.entry" in found
        for name, answer in ((b"user.windows.attr", b"\x21\0\0\0"), (b"user.other", errno.ENODATA)):
            body = struct.pack("=II", 100, 0) + name + b"\0"
            assert client.call(Opcode.GETXATTR, node, body) == answer
        for number, mode in ((node, 0o100644), (ROOT, 0o40700)):
            shown = protocol.ATTRIBUTES.unpack_from(client.data(Opcode.GETATTR, number), 16)
            assert (shown[9], shown[11], shown[12]) == (mode, 1234, 56)


def test_descriptors_that_no_file_system_could_copy_up_are_left_out_for_overlayfs(tmp_path):
    sd = chains.OWNER_SYSTEM + bytes(5000)
    entry = chains.file("Files/x", b"", sd=sd)
    with chains.Blobs(tmp_path).chain([entry]) as chain:
        for overlay_lower in (False, True):
            how = Presentation(overlay_lower=overlay_lower)
            with Nodes(Tree(chain), chain, how) as nodes:
                node = nodes.find(ROOT, b"x")
                assert node is not None
                assert (b"trusted.windows.sd" in nodes.xattrs(node)) is not overlay_lower
                assert nodes.xattr(node, b"trusted.windows.sd") == (None if overlay_lower else sd)


def test_statx_gives_the_time_of_birth(client):
    found = client.data(Opcode.STATX, client.lookup(b"Windows", b"a.txt"), bytes(24))
    seconds, fraction = struct.unpack_from("=qI", found, 32 + 64 + 16)
    assert (seconds, fraction) == (1_400_000_000, 765_432_100)
    implied = client.data(Opcode.STATX, client.lookup(b"implied"), bytes(24))
    assert struct.unpack_from("=qI", implied, 32 + 64 + 16) == (0, 0)


def test_what_is_not_implemented_says_so_because_the_kernel_then_stops_asking(client):
    opcodes = (Opcode.OPEN, Opcode.OPENDIR, Opcode.ACCESS, 16, 46, 4096, 0, 0xFFFFFFFF)
    assert {client.call(opcode) for opcode in opcodes} == {errno.ENOSYS}


def test_requests_without_an_answer_get_none(client):
    for opcode in (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT):
        for size in (40, 48, 7):
            request = protocol.IN_HEADER.pack(size, opcode, 1, 1, 0, 0, 0, 0, 0)
            assert client.raw(request.ljust(48, b"\0")) == b""


def test_names_are_read_before_what_newer_kernels_add_behind_them(client):
    body = b"Windows\0" + bytes(16)  # extensions of 8-byte units stand last
    request = protocol.IN_HEADER.pack(40 + len(body), Opcode.LOOKUP, 1, ROOT, 0, 0, 0, 2, 0) + body
    assert struct.unpack_from("=Q", client.raw(request), 16)[0] == client.lookup(b"Windows")


# -- nonsense -------------------------------------------------------------------------------------


def test_wrong_kinds_of_nodes_are_refused(client):
    file, link = client.lookup(b"mode"), client.lookup(b"away")
    read = protocol.READ_IN.pack(0, 0, 4096) + bytes(20)
    assert client.call(Opcode.LOOKUP, file, b"x\0") == errno.ENOTDIR
    assert client.call(Opcode.LOOKUP, link, b".\0") == errno.ENOTDIR
    assert client.call(Opcode.READDIR, file, read) == errno.ENOTDIR
    assert client.call(Opcode.READDIRPLUS, link, read) == errno.ENOTDIR
    assert client.call(Opcode.READ, ROOT, read) == errno.EISDIR
    assert client.call(Opcode.READ, link, read) == errno.EINVAL
    assert client.call(Opcode.READLINK, file) == errno.EINVAL
    assert client.call(Opcode.READLINK, ROOT) == errno.EINVAL


@pytest.mark.parametrize(
    "node", [0, 10_000, 1 << 62, (1 << 62) + (7 << 32), 1 << 63, (1 << 64) - 1]
)
def test_numbers_that_were_never_given_out_are_stale(client, node):
    read = protocol.READ_IN.pack(0, 0, 4096) + bytes(20)
    xattr = struct.pack("=II", 100, 0)
    for opcode, body in (
        (Opcode.LOOKUP, b"x\0"),
        (Opcode.LOOKUP, b".\0"),
        (Opcode.GETATTR, bytes(16)),
        (Opcode.STATX, bytes(24)),
        (Opcode.READLINK, b""),
        (Opcode.READ, read),
        (Opcode.READDIR, read),
        (Opcode.READDIRPLUS, read),
        (Opcode.GETXATTR, xattr + b"trusted.windows.attr\0"),
        (Opcode.LISTXATTR, xattr),
    ):
        assert client.call(opcode, node, body) in (errno.ESTALE, errno.ENOTDIR, errno.EINVAL)


@pytest.mark.parametrize("opcode", list(Opcode))
def test_bodies_that_are_cut_short_are_refused(client, opcode):
    if opcode in (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT):
        return
    needs = {Opcode.INIT: 16, Opcode.READ: 20, Opcode.READDIR: 20, Opcode.READDIRPLUS: 20}
    needs |= {Opcode.LOOKUP: 1, Opcode.GETXATTR: 9, Opcode.LISTXATTR: 8}
    for size in range(needs.get(opcode, 0)):
        assert client.call(opcode, ROOT, b"\x01" * size) == errno.EINVAL


def test_names_without_an_end_or_without_anything_are_refused(client):
    for body in (b"", b"\0", b"name", b"\0name\0"):
        assert client.call(Opcode.LOOKUP, ROOT, body) == errno.EINVAL


def test_lengths_that_lie_are_refused(client):
    for length in (0, 39, 41, 4096, 0xFFFFFFFF):
        request = protocol.IN_HEADER.pack(length, Opcode.GETATTR, 5, ROOT, 0, 0, 0, 0, 0)
        assert protocol.OUT_HEADER.unpack(client.raw(request)) == (16, -errno.EINVAL, 5)
    request = protocol.IN_HEADER.pack(40, Opcode.GETATTR, 5, ROOT, 0, 0, 0, 1, 0)
    assert protocol.OUT_HEADER.unpack(client.raw(request)) == (16, -errno.EINVAL, 5)


def test_requests_too_short_for_a_header_are_dropped(client):
    for size in range(40):
        assert client.raw(b"\xff" * size) == b""


REQUESTS = st.builds(
    lambda opcode, node, body, length: (
        protocol.IN_HEADER.pack(40 + len(body) + length, opcode, 9, node, 0, 0, 0, 0, 0) + body
    ),
    st.one_of(st.sampled_from(list(Opcode)), st.integers(0, 80)),
    st.one_of(st.integers(0, 40), st.integers(0, (1 << 64) - 1)),
    st.one_of(
        st.binary(max_size=80),
        st.binary(max_size=20).map(lambda name: name + b"\0"),
        st.builds(
            protocol.READ_IN.pack,
            st.integers(0, 9),
            st.one_of(st.integers(0, 6000), st.integers(0, (1 << 64) - 1)),
            st.integers(0, 0xFFFFFFFF),
        ),
    ),
    st.sampled_from([0, 0, 0, 0, 1, 4000]),
)


@settings(max_examples=1500)
@given(request=REQUESTS)
def test_any_request_gets_a_whole_answer_or_none(client, request):
    reply = client.raw(request)
    if reply:
        length, error, unique = protocol.OUT_HEADER.unpack_from(reply)
        assert length == len(reply)
        assert unique == 9
        assert -200 < error <= 0
        assert error != -errno.EIO  # would be a mistake of ours


@settings(max_examples=300)
@given(request=st.binary(max_size=200))
def test_any_bytes_get_a_whole_answer_or_none(client, request):
    reply = client.raw(request)
    assert not reply or protocol.OUT_HEADER.unpack_from(reply)[0] == len(reply)


# -- failures of our own --------------------------------------------------------------------------


def test_damage_is_an_input_output_error_and_is_logged(tree, caplog, monkeypatch):
    with Nodes(tree, tree.layers) as nodes:
        client = Client(Server(nodes))
        node = client.lookup(b"mode")

        def fails(_: int) -> bytes:
            raise OSError(errno.EIO, "a disk that died")

        monkeypatch.setattr(nodes, "attributes", fails)
        assert client.call(Opcode.GETATTR, node) == errno.EIO
        assert "a disk that died" in caplog.text

        def is_wrong(_: int) -> bytes:
            raise KeyError("a mistake of ours")

        monkeypatch.setattr(nodes, "attributes", is_wrong)
        assert client.call(Opcode.GETATTR, node) == errno.EIO
        assert "a mistake of ours" in caplog.text


# -- the loop -------------------------------------------------------------------------------------


class Kernel:
    """A pair of sockets that keep requests apart, as /dev/fuse does."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def send(self, opcode: int, body: bytes = b"", unique: int = 1) -> None:
        head = protocol.IN_HEADER.pack(40 + len(body), opcode, unique, ROOT, 0, 0, 0, 0, 0)
        self.ours.send(head + body)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    found = Kernel()
    with found.ours, found.theirs:
        yield found


def test_the_loop_answers_until_it_is_told_to_end_and_reports_once(tree, kernel):
    kernel.send(Opcode.FORGET)
    kernel.send(Opcode.INIT, init(), unique=2)
    kernel.send(Opcode.INIT, init(), unique=3)
    kernel.send(Opcode.STATFS, unique=4)
    kernel.send(Opcode.DESTROY, unique=5)
    kernel.send(Opcode.STATFS, unique=6)
    reported = []
    with Nodes(tree, tree.layers) as nodes:
        fuse_server.serve(kernel.theirs.fileno(), nodes, ready=lambda: reported.append(1))
    assert reported == [1]
    answered = [protocol.OUT_HEADER.unpack_from(kernel.ours.recv(4096))[2] for _ in range(4)]
    assert answered == [2, 3, 4, 5]


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EINTR, errno.EAGAIN])
def test_requests_that_are_taken_back_are_no_reason_to_stop(tree, kernel, monkeypatch, number):
    real, failures = os.readv, iter([number, number])

    def readv(descriptor, buffers):
        failure = next(failures, None)
        if failure is not None:
            raise OSError(failure, "taken back")
        return real(descriptor, buffers)

    monkeypatch.setattr(os, "readv", readv)
    kernel.send(Opcode.DESTROY, unique=7)
    with Nodes(tree, tree.layers) as nodes:
        fuse_server.serve(kernel.theirs.fileno(), nodes)
    assert protocol.OUT_HEADER.unpack_from(kernel.ours.recv(4096))[2] == 7


def test_an_unmounted_device_ends_the_loop(tree, kernel, monkeypatch):
    def gone(*_: object) -> int:
        raise OSError(errno.ENODEV, "unmounted")

    kernel.send(Opcode.STATFS)
    with Nodes(tree, tree.layers) as nodes:
        with monkeypatch.context() as patch:
            patch.setattr(os, "writev", gone)  # between a request and its answer
            fuse_server.serve(kernel.theirs.fileno(), nodes)
        monkeypatch.setattr(os, "readv", gone)
        fuse_server.serve(kernel.theirs.fileno(), nodes)


def test_answers_that_nobody_waits_for_are_no_reason_to_stop(tree, kernel, monkeypatch, caplog):
    real, failures = os.writev, iter([errno.ENOENT, errno.EINVAL])

    def writev(descriptor, buffers):
        failure = next(failures, None)
        if failure is not None:
            raise OSError(failure, "not wanted")
        return real(descriptor, buffers)

    monkeypatch.setattr(os, "writev", writev)
    for unique in (1, 2):
        kernel.send(Opcode.STATFS, unique=unique)
    kernel.send(Opcode.DESTROY, unique=3)
    with Nodes(tree, tree.layers) as nodes:
        fuse_server.serve(kernel.theirs.fileno(), nodes)
    assert protocol.OUT_HEADER.unpack_from(kernel.ours.recv(4096))[2] == 3
    assert len(caplog.records) == 1  # only the answer that the kernel found wrong


def test_a_device_that_fails_otherwise_is_an_error(tree, kernel):
    with Nodes(tree, tree.layers) as nodes, pytest.raises(OSError, match="Bad file descriptor"):
        descriptor = os.dup(kernel.theirs.fileno())
        os.close(descriptor)
        fuse_server.serve(descriptor, nodes)


def test_nodes_of_all_kinds_have_their_type_in_both_views(tree):
    for view, path in ((View.VOLUME, b"mode"), (View.LAYER, b"Files/mode")):
        with Nodes(tree, tree.layers, Presentation(view=view, streams=True)) as nodes:
            client = Client(Server(nodes))
            file = client.lookup(*path.split(b"/"))
            above = path.split(b"/")[:-1]
            assert nodes.type(file) == protocol.DT_REG
            assert nodes.type(client.lookup(*above, b"away")) == protocol.DT_LNK
            stream = client.lookup(*above, b"Windows", b"a.txt:zone.identifier:$DATA")
            assert nodes.type(stream) == protocol.DT_REG
            shown = protocol.ATTRIBUTES.unpack_from(client.data(Opcode.GETATTR, stream), 16)
            assert stat.S_ISREG(shown[9]) and shown[1] == 14
