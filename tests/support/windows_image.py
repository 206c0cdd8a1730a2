"""An image with everything that Windows keeps of a file, and one with names that are trouble.

`entries` of the layers are the truth that exports are compared with, entry by entry.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator

from demo import descriptors
from tests.support.chains import Entry, file, folder, hard_link, junction, symlink, tar, whiteout
from tests.support.ntfs_volumes import Entry as Found
from windowsfilter.ntfs.eas import ExtendedAttribute
from windowsfilter.ntfs.reparse import LinkNames, ReparsePoint, ReparseTag
from windowsfilter.store.image import Image
from windowsfilter.store.paths import LayerPath
from windowsfilter.store.stats import EntryType
from windowsfilter.wire.backuptar import records

EAS = (ExtendedAttribute(b"FOO", b"bar", 0x80), ExtendedAttribute(b"$LXUID", bytes(4)))
WOF = ReparsePoint(ReparseTag.WOF, struct.pack("<4I", 1, 2, 1, 0))
FOREIGN = ReparsePoint(0x00001234, bytes(range(16)) + b"data")
VOLUME = LinkNames(
    substitute_name="\\??\\Volume{12345678-1234-1234-1234-123456789abc}\\", print_name=""
).build(ReparseTag.MOUNT_POINT)
SPARSE = bytes(1 << 20) + b"middle" * 1000 + bytes(1 << 20)
_STREAM = {"attributes": None}


def _point(name: str, point: ReparsePoint, **more: object) -> Entry:
    """A file or link with a reparse point that the standard records cannot say."""
    target, found = records.reparse_records(point)
    if target is None:
        return file(name, b"under it", attributes=0x420, records=found, **more)
    return symlink(name, target, attributes=0x410, records=found, **more)


def distinct_descriptor(number: int) -> bytes:
    """One of many descriptors, all different."""
    sid = struct.pack("<BB6s3I", 1, 3, b"\0\0\0\0\0\5", 21, 7, number)
    return struct.pack("<BBHIIII", 1, 0, 0x8000, 20, 20, 0, 0) + sid


BASE = tar(
    [
        folder("Files", sd=descriptors.SYSTEM_FOLDER, attributes=0x16),
        file("Files:of the root", b"root", **_STREAM),
        folder("Files/Windows", sd=descriptors.SYSTEM_FOLDER, records=records.eas_records(EAS)),
        file("Files/Windows:of a folder", b"stream" * 20_000, **_STREAM),
        file("Files/Windows/cmd.exe", b"MZ" * 5000, sd=descriptors.SYSTEM_FILE, attributes=0x27),
        file("Files/Windows/cmd.exe:Zone.Identifier", b"[ZoneTransfer]", **_STREAM),
        file("Files/Windows/cmd.exe:empty", b"", **_STREAM),
        hard_link("Files/Windows/command.exe", "Files/Windows/cmd.exe"),
        file("Files/Windows/eas", b"x", records=records.eas_records(EAS)),
        file("Files/Windows/normal", b"tiny", attributes=0x80),
        file("Files/Windows/all", b"x", attributes=0x3127),
        file("Files/Windows/sparse", SPARSE, attributes=0x220),
        folder("Files/Windows/packed", attributes=0x2810),
        file("Files/Windows/packed/plain", b"plain" * 1000, sd=descriptors.PROGRAM_FILE),
        folder("Files/Windows/inherits"),
        file("Files/Windows/inherits/too", b""),
        symlink("Files/to file", "Windows\\cmd.exe", sd=descriptors.USER_FILE),
        file("Files/to file:of a link", b"hidden", **_STREAM),
        hard_link("Files/to file again", "Files/to file"),
        symlink("Files/to folder", "C:\\Windows", attributes=0x410),
        file("Files/to folder:of a link", b"hidden, too", **_STREAM),
        symlink("Files/nowhere", "..\\..\\..\\etc\\passwd"),
        symlink("Files/share", "\\\\server\\share\\x"),
        junction("Files/Documents and Settings", "C:\\Users"),
        _point("Files/volume", VOLUME),
        _point("Files/wof", WOF, sd=descriptors.PROGRAM_FILE),
        file("Files/wof:WofCompressedData", b"packed" * 100, **_STREAM),
        _point("Files/foreign", FOREIGN),
        file("Files/old", b"gone"),
        folder("Hives"),
        file("Hives/System_Delta", b"regf", sd=descriptors.SYSTEM_FILE),
        folder("UtilityVM"),
        folder("UtilityVM/Files"),
        file("UtilityVM/Files/shared", b"of both", sd=descriptors.SYSTEM_FILE),
        hard_link("Files/Windows/shared", "UtilityVM/Files/shared"),
        hard_link("Files/Windows/shared twice", "UtilityVM/Files/shared"),
    ]
)
UPDATE = tar(
    [
        folder("Files"),
        whiteout("Files/OLD"),
        file("Files/WINDOWS/CMD.EXE", b"MZ2" * 400_000, sd=descriptors.PROGRAM_FILE),
        folder("Files/app/implied/deep"),
        file("Files/app/implied/deep/run.cmd", b"echo hi\r\n", sd=descriptors.USER_FILE),
    ]
)

LONG = "\u6771" * 255
TROUBLE = [
    b"trailing dot.",
    b"trailing space ",
    b"...",
    b"NUL",
    b"con.txt",
    b"$MFT of no root",
    b"lone \xed\xa0\x80 surrogate",
    b"\xed\xb0\x80",
    b"a\x01b\x1f",
    b'star*?<>|"',
    b"-rf",
    b"\xe2\x80\xae\xf0\x9f\x92\xa9",
    b"e\xcc\x81",
    b"\xef\xbf\xbf\xef\xbf\xbe",
    b"~0",
    LONG.encode(),
]
_DEEP = "/".join(f"{level:02}" + "d" * 248 for level in range(30))
HOSTILE = tar(
    [
        folder("Files"),
        *(file(b"Files/" + name, name) for name in TROUBLE),
        file(f"Files/{LONG}:{LONG}", b"long stream", **_STREAM),
        folder("Files/sub"),
        *(folder(b"Files/sub/" + name) for name in TROUBLE),
        file("Files/sub/$MFT", b"only the root's is taken"),
        symlink("Files/sub/escape", "..\\..\\..\\..\\etc"),
        symlink("Files/sub/absolute", "/etc/passwd"),
        folder(f"Files/{_DEEP}"),
        file(f"Files/{_DEEP}/at the bottom", b"deep", sd=distinct_descriptor(1)),
        file(f"Files/{_DEEP}/at the bottom:stream", b"deep stream", **_STREAM),
        *(
            file(f"Files/sub/sd{number:04}", b"", sd=distinct_descriptor(number))
            for number in range(200)
        ),
    ]
)

# What can be set on a file, as far as images can have it set.
_SETTABLE = 0x3127


def expected(image: Image, view: str) -> Iterator[tuple[bytes, LayerPath]]:
    """(path on the volume, path in the image) of everything that an export shows."""
    for directory, directories, others in image.path(view=view).walk():
        yield _bytes("/".join(directory.parts)), directory
        for name in others:
            path = directory / name
            yield _bytes("/".join(path.parts)), path
        assert all(isinstance(name, str) for name in directories)


def assert_same(
    image: Image, found: dict[bytes, Found], *, view: str = "volume", wim: bool = False
) -> None:
    """Everything of every entry is what the layers say. A WIM has no change times and EAs."""
    wanted = dict(expected(image, view))
    assert set(found) == set(wanted)
    groups: dict[int, int] = {}
    for entry in found.values():
        groups[entry.record] = groups.get(entry.record, 0) + 1
    for name, path in wanted.items():
        _assert_entry(path, found[name], wim=wim)
        if path.lstat().hard_links == 1:
            assert groups[found[name].record] == 1, name


def _assert_entry(path: LayerPath, entry: Found, *, wim: bool) -> None:
    stat = path.lstat()
    said = {_bytes(key): _bytes(value) for key, value in stat.pax.items()}
    times = (stat.creation_time, stat.last_access_time, stat.last_write_time, stat.change_time)
    assert entry.times[: 3 if wim else 4] == times[: 3 if wim else 4], path
    if stat.security_descriptor is not None:
        assert entry.descriptor == stat.security_descriptor, path
    is_link = stat.type in (EntryType.SYMLINK, EntryType.JUNCTION)
    point = records.reparse_of(said, _bytes(stat.link_target or ""), is_link=is_link)
    assert entry.reparse == (point.build() if point else b""), path
    eas = b"" if wim else _stored(records.eas_of(said))
    assert entry.eas == eas, path
    if stat.attributes and (stat.layer or path.name):
        bits = _SETTABLE | 0x610 | (0x800 if entry.is_directory else 0)
        assert entry.attributes & bits == stat.attributes & bits, path
    if stat.type is EntryType.FILE:
        assert entry.data == path.read_bytes(), path
        if stat.attributes & 0x200:
            assert entry.blocks * 512 < len(entry.data) // 2, path
    assert set(entry.streams) == {_bytes(stream.name) for stream in stat.streams}, path
    for stream in stat.streams:
        content = (path.parent / f"{path.name}:{stream.name}").read_bytes()
        assert entry.streams[_bytes(stream.name)] == content, (path, stream)


def _stored(eas: tuple[ExtendedAttribute, ...]) -> bytes:
    """As NTFS has EAs: by hand, each with the distance to the end of its own entry."""
    out = b""
    for ea in eas:
        entry = struct.pack("<BBH", ea.flags, len(ea.name), len(ea.value)) + ea.name + b"\0"
        entry += ea.value
        entry += bytes(-len(entry) % 4)
        out += struct.pack("<I", len(entry) + 4) + entry
    return out


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def base64_of(data: bytes) -> bytes:
    return base64.b64encode(data)
