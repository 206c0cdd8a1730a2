"""Tars of the store to a file or to standard output."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import BinaryIO

from windowsfilter.errors import HostError

_PIECE = 1 << 20


def copied_to(target: str | BinaryIO, source: BinaryIO) -> None:
    """Copy everything; of a file that was not written to its end nothing is left."""
    if not isinstance(target, str):
        shutil.copyfileobj(source, target, _PIECE)
        return
    path = Path(target)
    try:
        file = path.open("wb")
    except OSError as error:
        raise HostError(f"write {path}: {error.strerror}") from error
    try:
        with file:
            shutil.copyfileobj(source, file, _PIECE)
    except BaseException as error:
        if path.is_file():  # not /dev/null and the like
            path.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, HostError):
            raise HostError(f"write {path}: {error.strerror}") from error
        raise
