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


SETTABLE = (
    FileAttribute.READONLY
    | FileAttribute.HIDDEN
    | FileAttribute.SYSTEM
    | FileAttribute.ARCHIVE
    | FileAttribute.TEMPORARY
    | FileAttribute.OFFLINE
    | FileAttribute.NOT_CONTENT_INDEXED
)
"""What SetFileAttributes takes; NORMAL, which it takes too, says that there is no other."""

_REASONS = {
    FileAttribute.DIRECTORY: "D says that it is a directory",
    FileAttribute.NORMAL: "NORMAL says that there is no other attribute; it is set when that is so",
    FileAttribute.REPARSE_POINT: "L says that it has a reparse point",
    FileAttribute.SPARSE_FILE: "sparse is how NTFS stores its data",
    FileAttribute.COMPRESSED: "C is how NTFS stores its data",
    FileAttribute.ENCRYPTED: "E is how NTFS stores its data",
    FileAttribute.INTEGRITY_STREAM: "V is how ReFS stores its data",
    FileAttribute.NO_SCRUB_DATA: "X is how ReFS stores its data",
}

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


def from_letter(letter: str) -> FileAttribute | None:
    """The attribute that `attrib` prints as this letter, in either case; None if there is none."""
    return next((flag for flag, own in _LETTERS if own == letter.upper()), None)


def why_not_settable(attributes: int) -> str | None:
    """Why attributes cannot be set like `attrib` does, in words; None if they can."""
    for flag in FileAttribute:
        if attributes & flag & ~SETTABLE:
            reason = _REASONS.get(flag, f"{describe(flag)[0]} describes a state")
            return f"{reason}, which cannot be set"
    rest = attributes & ~int(SETTABLE)
    return f"{rest:#x} has no name" if rest else None


def letters(attributes: int) -> str:
    """The attributes that have a letter, in a fixed order: `DASHRLCETOIXVPUB`."""
    return "".join(letter for flag, letter in _LETTERS if attributes & flag)
