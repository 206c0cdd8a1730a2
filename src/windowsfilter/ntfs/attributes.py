"""Win32 file attributes: their names, words and letters.

Source: FILE_ATTRIBUTE_* of winnt.h (Windows SDK 10.0.26100); letters as `attrib` prints them, and
`dir` and Explorer where `attrib` has none.
"""

from __future__ import annotations

from enum import IntFlag


class FileAttribute(IntFlag):
    """FILE_ATTRIBUTE_*; bits that Windows does not name are carried unchanged."""

    READONLY = 0x1
    HIDDEN = 0x2
    SYSTEM = 0x4
    VOLUME_LABEL = 0x8
    DIRECTORY = 0x10
    ARCHIVE = 0x20
    DEVICE = 0x40
    NORMAL = 0x80
    TEMPORARY = 0x100
    SPARSE_FILE = 0x200
    REPARSE_POINT = 0x400
    COMPRESSED = 0x800
    OFFLINE = 0x1000
    NOT_CONTENT_INDEXED = 0x2000
    ENCRYPTED = 0x4000
    INTEGRITY_STREAM = 0x8000
    VIRTUAL = 0x10000
    NO_SCRUB_DATA = 0x20000
    RECALL_ON_OPEN = 0x40000  # FILE_ATTRIBUTE_EA is the same bit, never both
    PINNED = 0x80000
    UNPINNED = 0x100000
    RECALL_ON_DATA_ACCESS = 0x400000
    STRICTLY_SEQUENTIAL = 0x20000000


_WORDS = {
    FileAttribute.READONLY: "read-only",
    FileAttribute.VOLUME_LABEL: "volume label",
    FileAttribute.SPARSE_FILE: "sparse",
    FileAttribute.REPARSE_POINT: "reparse point",
    FileAttribute.NOT_CONTENT_INDEXED: "not content indexed",
    FileAttribute.INTEGRITY_STREAM: "integrity stream",
    FileAttribute.NO_SCRUB_DATA: "no scrub data",
    FileAttribute.RECALL_ON_OPEN: "recall on open",
    FileAttribute.RECALL_ON_DATA_ACCESS: "recall on data access",
    FileAttribute.STRICTLY_SEQUENTIAL: "strictly sequential",
}

_LETTERS = (
    (FileAttribute.DIRECTORY, "D"),
    (FileAttribute.ARCHIVE, "A"),
    (FileAttribute.SYSTEM, "S"),
    (FileAttribute.HIDDEN, "H"),
    (FileAttribute.READONLY, "R"),
    (FileAttribute.REPARSE_POINT, "L"),
    (FileAttribute.COMPRESSED, "C"),
    (FileAttribute.ENCRYPTED, "E"),
    (FileAttribute.TEMPORARY, "T"),
    (FileAttribute.OFFLINE, "O"),
    (FileAttribute.NOT_CONTENT_INDEXED, "I"),
    (FileAttribute.NO_SCRUB_DATA, "X"),
    (FileAttribute.INTEGRITY_STREAM, "V"),
    (FileAttribute.PINNED, "P"),
    (FileAttribute.UNPINNED, "U"),
    (FileAttribute.STRICTLY_SEQUENTIAL, "B"),
)


def describe(attributes: int) -> list[str]:
    """The attributes in words, lowest bit first; bits without a name together as `0x…`, last."""
    words = []
    rest = attributes
    for flag in FileAttribute:
        if attributes & flag:
            words.append(_WORDS.get(flag) or str(flag.name).lower().replace("_", " "))
            rest &= ~int(flag)  # of an IntFlag, ~ keeps only named bits
    if rest:
        words.append(f"{rest:#x}")
    return words


def letters(attributes: int) -> str:
    """The attributes that have a letter, in a fixed order: `DASHRLCETOIXVPUB`."""
    return "".join(letter for flag, letter in _LETTERS if attributes & flag)
