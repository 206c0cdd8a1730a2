r"""Targets of symbolic links made on Linux, as Windows would have them.

The way back of `links`: relative targets keep their form with backslashes, `/x` becomes `C:\x`, what
is Windows' text already stays as it is.
"""

from __future__ import annotations

import re

from windowsfilter.engines.portable.scratch_upper import ScratchRefused

MAX_TARGET_UNITS = 16_000  # both names of a symlink share a reparse buffer of 16 KiB (MS-FSCC)

_WINDOWS = re.compile(rb"\\|[A-Za-z]:(?:[/\\]|\Z)")
_SYSTEM_DRIVE = b"C:"


def windows_target(target: bytes, path: bytes) -> bytes:
    """The Windows text of a Linux target. `path` is the link's, for ScratchRefused."""
    try:
        units = len(target.decode("utf-8", "surrogatepass").encode("utf-16-le", "surrogatepass"))
    except UnicodeDecodeError:
        raise ScratchRefused(path, "leads to a target that is not UTF-8") from None
    if units > MAX_TARGET_UNITS:
        raise ScratchRefused(path, "leads to a target longer than Windows can hold")
    text = target.replace(b"/", b"\\")
    if not _WINDOWS.search(target) and target.startswith(b"/"):
        return _SYSTEM_DRIVE + b"\\" + text.lstrip(b"\\")
    return text
