r"""Targets of symbolic links made on Linux, as Windows would have them.

The way back of `links`: relative targets keep their form with backslashes, `/x` becomes `C:\x`, what
is Windows' text already stays as it is.
"""

from __future__ import annotations

import re

from windowsfilter.engines.portable.scratch.upper import ScratchRefused

# Substitute name, with `\\??\\` in front, and print name share a reparse buffer of 16 KiB with 20
# bytes of header (MS-FSCC 2.1.2.4).
MAX_TARGET_BYTES = (16_384 - 20 - 8) // 2
"""Of UTF-16."""

_WINDOWS = re.compile(rb"\\|[A-Za-z]:(?:[/\\]|\Z)")
_SYSTEM_DRIVE = b"C:"


def windows_target(target: bytes, path: bytes) -> bytes:
    """The Windows text of a Linux target. `path` is the link's, for ScratchRefused."""
    try:
        size = len(target.decode("utf-8", "surrogatepass").encode("utf-16-le", "surrogatepass"))
    except UnicodeDecodeError:
        raise ScratchRefused(path, "leads to a target that is not UTF-8") from None
    if size > MAX_TARGET_BYTES:
        raise ScratchRefused(path, "leads to a target longer than Windows can hold")
    text = target.replace(b"/", b"\\")
    if not _WINDOWS.search(target) and target.startswith(b"/"):
        return _SYSTEM_DRIVE + b"\\" + text.lstrip(b"\\")
    return text
