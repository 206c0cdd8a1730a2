"""What an image says, read without a mount: the writer against the reader and the tree."""

import stat
import struct
import subprocess
from typing import Any

import pytest

from tests.support import chains
from windowsfilter.engines.portable.erofs import layout
from windowsfilter.engines.portable.erofs import xattrs as erofs_xattrs
from windowsfilter.engines.portable.erofs.reader import ErofsImage, Extent
from windowsfilter.engines.portable.erofs.writer import Data, ImageInfo, write_image
from windowsfilter.engines.portable.erofs.xattrs import Profile
from windowsfilter.engines.portable.shown import ShownTree
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.errors import FormatError, LimitExceeded

UUID = bytes(range(16))


@pytest.fixture
def blobs(tmp_path):
    return chains.Blobs(tmp_path)


def build(tree: Tree, path, profile=Profile.FULL) -> ImageInfo:
    with path.open("wb") as out:
        return write_image(ShownTree(tree), out, uuid=UUID, profile=profile)


def at(image: ErofsImage, path: bytes) -> int:
    nid = image.find(path)
    assert nid is not None
    return nid


BASE = [
    chains.folder("Files", sd=chains.OWNER_SYSTEM),
    chains.folder("Files/Windows"),
    chains.file("Files/Windows/a.txt", b"hello", sd=chains.OWNER_SYSTEM, attributes=0x21),
    chains.file("Files/empty"),
    chains.file("Files/mode", b"x", mode=0o4750, uid=7, gid=8),
    chains.hard_link("Files/b.txt", "Files/WINDOWS/A.TXT"),
    chains.junction("Files/j", r"C:\windows"),
    chains.symlink("Files/away", r"D:\x"),
    chains.file("Files/Windows/a.txt:stream", b"not shown"),
    chains.file("Hives/Sam_Delta", b"hive"),
]


def test_inodes_have_what_the_entries_say(blobs, tmp_path):
    with blobs.tree(BASE) as tree:
        info = build(tree, tmp_path / "image")
    assert info.devices == (Data(0, 0),)
    with ErofsImage(tmp_path / "image") as image:
        assert image.super.inodes == info.inodes == 10  # root and an implied Hives with them
        a = image.inode(at(image, b"Files/Windows/a.txt"))
        assert (a.mode, a.size, a.links) == (stat.S_IFREG | 0o644, 5, 2)
        assert a.mtime_ns == chains.A_TIME_NS
        assert at(image, b"Files/b.txt") == a.nid
        windows = image.inode(at(image, b"Files/Windows"))
        assert (windows.mode, windows.links) == (stat.S_IFDIR | 0o755, 2)
        assert image.inode(image.root).links == 4
        mode = image.inode(at(image, b"Files/mode"))
        assert (mode.mode, mode.uid, mode.gid) == (stat.S_IFREG | 0o750, 7, 8)
        assert image.extents(at(image, b"Files/empty")) == []
        assert image.readlink(at(image, b"Files/j")) == b"Windows"
        assert image.readlink(at(image, b"Files/away")) == rb"D:\x"
        assert image.find(b"Files/windows") is None
        assert image.find(b"Files/Windows/a.txt:stream") is None
        names = [path for path, _ in image.walk()]
    assert b"Hives/Sam_Delta" in names
    assert not any(b":" in name for name in names)


def test_attributes_lead_back_to_the_entry(blobs, tmp_path):
    with blobs.tree(BASE) as tree:
        build(tree, tmp_path / "image")
        slot = tree.lookup(b"files/windows/A.txt")
        assert slot is not None
        with ErofsImage(tmp_path / "image") as image:
            assert image.xattrs(at(image, b"Files/b.txt")) == {
                b"trusted.windows.sd": chains.OWNER_SYSTEM,
                b"trusted.windows.attr": struct.pack("<I", 0x21),
                b"trusted.windows.crtime": struct.pack("<q", 130444736007654321),
                b"trusted.windows.entry": struct.pack("<II", *(tree.ref(slot) or ())),
            }
            assert image.xattrs(image.root) == {}


def test_the_entry_profile_has_nothing_else(blobs, tmp_path):
    with blobs.tree(BASE) as tree:
        build(tree, tmp_path / "image", Profile.ENTRY)
        with ErofsImage(tmp_path / "image") as image:
            found = image.xattrs(at(image, b"Files/Windows/a.txt"))
    assert list(found) == [b"trusted.windows.entry"]


def test_large_descriptors_stay_in_the_index(blobs, tmp_path):
    entries = [chains.file("Files/f", b"x", sd=chains.OWNER_SYSTEM + bytes(3000))]
    with blobs.tree(entries) as tree:
        build(tree, tmp_path / "image")
        with ErofsImage(tmp_path / "image") as image:
            found = image.xattrs(at(image, b"Files/f"))
    assert b"trusted.windows.sd" not in found
    assert b"trusted.windows.entry" in found


def test_two_builds_are_equal(blobs, tmp_path):
    with blobs.tree(BASE, [chains.file("Files/c", b"1")]) as tree:
        build(tree, tmp_path / "one")
    with blobs.tree(BASE, [chains.file("Files/c", b"1")]) as tree:
        build(tree, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_only_files_in_use_become_devices(blobs, tmp_path):
    middle = [chains.file("Files/c", b"middle")]
    top = [chains.file("files/C", b"top"), chains.whiteout("Files/windows")]
    with blobs.tree(BASE, middle, top) as tree:
        info = build(tree, tmp_path / "image")
        slot = tree.lookup(b"Files/c")
        assert info.devices == (Data(0, 0), Data(2, 0))
        with ErofsImage(tmp_path / "image") as image:
            tags = [layer.index.diff_id.hex.encode() for layer in tree.layers]
            assert [device.tag for device in image.devices] == [tags[0], tags[2]]
            record = tree.record(slot or 0)
            assert record is not None
            assert image.extents(at(image, b"Files/c")) == [Extent(2, record.data_offset, 3)]


def test_directories_of_every_size_are_found_name_by_name(blobs, tmp_path):
    entries, names = [], {}
    for count in (0, 1, 20, 33, 34, 35, 40, 100, 1000):
        entries.append(chains.folder(f"Files/d{count}"))
        names[count] = [f"{number * 7919 % 1000:0{3 + number % 90}}" for number in range(count)]
        entries += [chains.file(f"Files/d{count}/{name}") for name in names[count]]
    with blobs.tree(entries) as tree:
        build(tree, tmp_path / "image")
    with ErofsImage(tmp_path / "image") as image:
        for count, expected in names.items():
            nid = at(image, b"Files/d%d" % count)
            found = [entry.name.decode() for entry in image.listdir(nid)]
            assert found == sorted(set(expected))
            assert all(image.lookup(nid, name.encode()) for name in expected)
            assert image.lookup(nid, b"missing") is None
            assert image.lookup(nid, b"zzz") is None


@pytest.mark.parametrize("length", [2, 300, 431, 432, 433, 448, 449, 511, 512, 513, 2000, 4095])
def test_link_targets_of_every_length_are_kept(blobs, tmp_path, length):
    target = "\\" * length
    with blobs.tree([chains.file("Files/pad", b"x"), chains.symlink("Files/l", target)]) as tree:
        build(tree, tmp_path / "image")
    with ErofsImage(tmp_path / "image") as image:
        assert image.readlink(at(image, b"Files/l")) == target.encode()


def test_names_beyond_255_bytes_have_an_alias(blobs, tmp_path):
    name = "\u4e2d" * 255
    with blobs.tree([chains.file(f"Files/{name}", b"long")]) as tree:
        build(tree, tmp_path / "image")
        with ErofsImage(tmp_path / "image") as image:
            (entry,) = image.listdir(at(image, b"Files"))
        assert len(entry.name) <= 255
        assert ShownTree(tree).find(b"Files/" + entry.name) == tree.lookup(f"Files/{name}".encode())


def test_dangling_hard_links_are_not_in_the_image(blobs, tmp_path):
    with blobs.tree([chains.file("Files/a"), chains.hard_link("Files/b", "Files/none")]) as tree:
        build(tree, tmp_path / "image")
    with ErofsImage(tmp_path / "image") as image:
        assert [entry.name for entry in image.listdir(at(image, b"Files"))] == [b"a"]


def test_an_empty_chain_is_an_empty_directory(blobs, tmp_path):
    with blobs.tree([]) as tree:
        info = build(tree, tmp_path / "image")
    assert info.inodes == 1 and info.devices == ()
    with ErofsImage(tmp_path / "image") as image:
        assert image.listdir(image.root) == []


class _Sizes:
    """A tree of one file whose record says whatever a test wants."""

    def __init__(self, tree: Tree, size: int, offset: int) -> None:
        self._tree = ShownTree(tree)
        record: Any = tree.record(1)
        self._record = record._replace(size=size, data_offset=offset)
        self.layers: Any = [self]
        self.index: Any = self
        self.diff_id = tree.layers[0].index.diff_id
        self.count = 8 * 4  # so many that records are asked for one by one

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tree, name)

    def record(self, _number: int) -> Any:
        return self._record


def sizes(tree: Tree, size: int, offset: int) -> Any:
    return _Sizes(tree, size, offset)


@pytest.mark.parametrize(
    ("size", "extents"),
    [
        (1, [(1, 512, 1)]),
        (512, [(1, 512, 512)]),
        (1 << 40, [(1, 512, 1 << 40)]),
        ((1 << 40) + 1, [(1, 512, 1 << 40), (1, (1 << 40) + 512, 1)]),
    ],
)
def test_chunks_cover_files_of_any_size(blobs, tmp_path, size, extents):
    with blobs.tree([chains.file("f", b"x")]) as tree, (tmp_path / "image").open("wb") as out:
        write_image(sizes(tree, size, 512), out, uuid=UUID)
    with ErofsImage(tmp_path / "image") as image:
        assert image.extents(at(image, b"f")) == extents


def test_data_beyond_what_a_device_can_have_is_refused(blobs, tmp_path):
    with blobs.tree([chains.file("f", b"x")]) as tree, (tmp_path / "image").open("wb") as out:
        with pytest.raises(LimitExceeded, match="2 TiB"):
            write_image(sizes(tree, 1 << 41, 512), out, uuid=UUID)
        with pytest.raises(FormatError, match="aligned"):
            write_image(sizes(tree, 1, 513), out, uuid=UUID)


def test_every_shortened_image_is_refused_where_it_is_read(blobs, tmp_path):
    with blobs.tree(BASE) as tree:
        build(tree, tmp_path / "image")
    data = (tmp_path / "image").read_bytes()
    for size in range(0, len(data), 61):
        (tmp_path / "short").write_bytes(data[:size])
        try:
            with ErofsImage(tmp_path / "short") as image:
                for _, entry in image.walk():
                    image.xattrs(entry.nid)
        except FormatError:
            continue
        assert not data[size:].strip(b"\0")


def test_the_super_block_goes_both_ways():
    block = layout.SuperBlock(
        root_nid=0,
        inodes=10,
        blocks=16,
        meta_block=4,
        xattr_block=3,
        uuid=UUID,
        devices=2,
        device_table=1152,
    )
    assert layout.SuperBlock.parse(block.build()) == block
    for place, wrong in ((0, 1), (12, 12), (80, 0x10)):
        data = bytearray(block.build())
        data[place] = wrong
        with pytest.raises(FormatError):
            layout.SuperBlock.parse(bytes(data))
    with pytest.raises(FormatError):
        layout.SuperBlock.parse(block.build()[:-1])


def test_devices_go_both_ways():
    device = layout.Device(tag=b"ab", blocks=3, unified=4)
    assert layout.Device.parse(device.build()) == device
    with pytest.raises(FormatError):
        layout.Device.parse(device.build()[1:])


def test_fsck_finds_nothing_wrong(blobs, tmp_path, program):
    fsck = program("fsck.erofs")
    with blobs.tree(BASE) as tree:
        build(tree, tmp_path / "image")
    done = subprocess.run([fsck, tmp_path / "image"], check=False, capture_output=True, text=True)
    if "blksize 512" in done.stderr:
        pytest.skip("this machine cannot: its fsck.erofs takes blocks of 4096 bytes only")
    assert done.returncode == 0, done.stderr


def test_values_beyond_the_shared_area_stand_in_their_inodes(blobs, tmp_path, monkeypatch):
    entries = [
        chains.file(f"Files/{number}", b"1", sd=chains.OWNER_SYSTEM + bytes([number % 7]))
        for number in range(50)
    ]
    with blobs.tree(entries) as tree:
        build(tree, tmp_path / "shared")
        monkeypatch.setattr(erofs_xattrs, "_MAX_SHARED", 2)
        monkeypatch.setattr(erofs_xattrs, "_MAX_HEADS", 3)
        build(tree, tmp_path / "inline")
    with ErofsImage(tmp_path / "shared") as shared, ErofsImage(tmp_path / "inline") as inline:
        for number in range(50):
            path = b"Files/%d" % number
            assert shared.xattrs(at(shared, path)) == inline.xattrs(at(inline, path))
            assert inline.extents(at(inline, path)) == shared.extents(at(shared, path))
