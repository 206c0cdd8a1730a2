"""Messages of the FUSE kernel protocol, as far as a read-only file system speaks it.

A request is a header (`IN_HEADER`), a body that depends on the opcode, and names that end in NUL; a
reply is a header (`OUT_HEADER`) and a payload. Everything is in the byte order of the machine.
Source: include/uapi/linux/fuse.h, protocol 7.45; the sizes of replies are those since 7.23.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag

MAJOR = 7
MINOR = 40
"""What we speak; the kernel adapts."""
MIN_MINOR = 23
"""Linux 3.15. Before it some replies were shorter."""
ROOT_ID = 1

IN_HEADER = struct.Struct("=IIQQIIIHH")
"""Length, opcode, unique, node, uid, gid, pid, length of extensions, padding."""
OUT_HEADER = struct.Struct("=IiQ")
"""Length, minus errno, unique."""
ENTRY = struct.Struct("=QQQQII")
"""Node, generation, seconds the name is valid, seconds the attributes are, nanoseconds of both."""
ATTRIBUTES = struct.Struct("=QQQqqqIIIIIIIIII")
"""ino size blocks; atime mtime ctime; their nanoseconds; mode nlink uid gid rdev blksize flags."""
ATTRIBUTES_HEAD = struct.Struct("=QII")
"""Seconds and nanoseconds that the attributes behind it are valid."""
DIRENT = struct.Struct("=QQII")
"""ino, offset of the next entry, length of the name, type."""
READ_IN = struct.Struct("=QQI")
"""File handle, offset, size; more follows."""
XATTR_IN = struct.Struct("=II")
"""Size of the caller's buffer (0 asks for the length), padding."""
XATTR_SIZE = struct.Struct("=II")
INIT_IN = struct.Struct("=IIII")
"""Major, minor, largest read-ahead, flags; more follows since 7.36."""
INIT_OUT = struct.Struct("=IIIIHHIIHHII24x")
"""major minor max_readahead flags; max_background congestion_threshold; max_write time_gran;
max_pages map_alignment; flags2 max_stack_depth (unused here)."""
STATFS = struct.Struct("=QQQQQIIII24x")
"""blocks bfree bavail files ffree bsize namelen frsize, padding."""
STATX_HEAD = struct.Struct("=QII16x")
"""Seconds and nanoseconds that the attributes behind it are valid, flags."""
STATX = struct.Struct("=IIQIIIH2xQQQQqI4xqI4xqI4xqI4x16x112x")
"""mask blksize attributes nlink uid gid mode; ino size blocks attributes_mask; access, birth, change
and write time, each seconds and nanoseconds; no device numbers."""

MIN_READ_BUFFER = 8192
"""The kernel refuses to hand requests to a smaller buffer."""
STATX_BASIC_AND_BIRTH = 0xFFF


class Opcode(IntEnum):
    """Requests that get more than the answer "not implemented"."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    READLINK = 5
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    GETXATTR = 22
    LISTXATTR = 23
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    ACCESS = 34
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    READDIRPLUS = 44
    STATX = 52


class InitFlag(IntFlag):
    """What the kernel offers and we take."""

    ASYNC_READ = 1 << 0
    EXPORT_SUPPORT = 1 << 4  # LOOKUP of "." and "..": overlayfs and NFS keep handles of files
    DO_READDIRPLUS = 1 << 13
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24


WANTED = InitFlag(sum(InitFlag))

DT_DIR, DT_REG, DT_LNK = 4, 8, 10
