"""Layers for tests of FUSE mounts, and what a mount of them must show."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

from tests.support import chains
from windowsfilter.engines.portable.blobs import LayerBlob
from windowsfilter.engines.portable.index import Kind
from windowsfilter.engines.portable.shown import ShownTree
from windowsfilter.engines.portable.tree import Tree
from windowsfilter.ntfs.filetime import to_unix_ns

LONG = "\u4e2d" * 255
BIG = random.Random(3).randbytes(3 << 20)

BASE = [
    chains.folder("Files", sd=chains.OWNER_SYSTEM),
    chains.folder("Files/Windows"),
    chains.file("Files/Windows/a.txt", b"hello" * 1000, sd=chains.OWNER_SYSTEM, attributes=0x21),
    chains.file("Files/Windows/a.txt:Zone.Identifier", b"[ZoneTransfer]"),
    chains.file("Files/Windows/gone", b"1"),
    chains.file("Files/big.bin", BIG),
    chains.file("Files/empty"),
    chains.file("Files/mode", b"x", mode=0o640, uid=7, gid=8),
    chains.file("Files/\u00c4rger \u03a3.txt", b"umlaut"),
    chains.file("Files/plain", b"no attributes", attributes=None),
    chains.hard_link("Files/b.txt", "Files/WINDOWS/A.TXT"),
    chains.junction("Files/j", r"C:\windows"),
    chains.symlink("Files/away", r"D:\x"),
    chains.symlink("Files/Windows/up", r"..\mode"),
    chains.hard_link("Files/dangling", "Files/nowhere"),
    chains.file("Files/" + LONG, b"long"),
    chains.file("Files/implied/deep/f", b"1"),
    chains.file("Hives/Sam_Delta", b"hive"),
]
CHILD = [
    chains.whiteout("Files/WINDOWS/Gone"),
    chains.file("files/windows/A.TXT", b"changed"),
    chains.hard_link("Files/new link", "Files/Mode"),
    chains.file("UtilityVM/Files/x", b"vm"),
]

Facts = dict[str, tuple[object, ...]]


def expected(tree: Tree, root: int, *, owner: tuple[int, int] | None = None) -> Facts:
    """Path -> (mode, size, access, write and change time in ns, uid, gid, content or target)."""
    shown = ShownTree(tree)
    found: Facts = {}
    pending = [("", root)]
    while pending:
        above, slot = pending.pop()
        for name, kid in zip(*shown.kids(slot), strict=True):
            path = os.path.join(above, os.fsdecode(name))
            kid = tree.inode(kid)
            record, times, ids = tree.record(kid), (0, 0, 0), (0, 0)
            mode, size, data = 0o755, 0, b""
            if record is not None:
                access, write, change = record.access, record.write, record.change
                times = (to_unix_ns(access), to_unix_ns(write), to_unix_ns(change))
                ids = (record.uid, record.gid)
            if tree.is_directory(kid):
                pending.append((path, kid))
                mode = stat.S_IFDIR | (0o700 if slot == tree.ROOT else 0o755)
            elif record is not None and tree.kinds[kid] == Kind.FILE:
                mode, size = stat.S_IFREG | (record.mode & 0o777 or 0o644), record.size
                layer = tree.layers[(tree.ref(kid) or (0, 0))[0]]
                assert isinstance(layer, LayerBlob)
                data = layer.read(record, record.size, 0)
            else:
                mode, data = stat.S_IFLNK | 0o777, shown.readlink(kid)
                size = len(data)
            found[path] = (mode, size, *times, *(owner or ids), data)
    return found


def seen(root: Path | str) -> Facts:
    """The same, of a mount, by system calls."""
    found: Facts = {}
    pending = [""]
    while pending:
        above = pending.pop()
        with os.scandir(os.path.join(root, above)) as entries:
            for entry in entries:
                path = os.path.join(above, entry.name)
                info = entry.stat(follow_symlinks=False)
                assert entry.inode() == info.st_ino
                data = b""
                if stat.S_ISDIR(info.st_mode):
                    assert entry.is_dir(follow_symlinks=False)
                    pending.append(path)
                elif stat.S_ISLNK(info.st_mode):
                    data = os.readlink(os.fsencode(entry.path))
                else:
                    data = Path(entry.path).read_bytes()
                times = (info.st_atime_ns, info.st_mtime_ns, info.st_ctime_ns)
                size = 0 if stat.S_ISDIR(info.st_mode) else info.st_size
                found[path] = (info.st_mode, size, *times, info.st_uid, info.st_gid, data)
    return found
