"""The programs of ntfs-3g and wimlib: finding them, running them, saying what they said.

They are optional and run without a shell. What they print only ever ends in error messages.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from windowsfilter.errors import HostError

ENVIRONMENT = {
    # mkntfs is an administrator's program, and users do not have those folders in their PATH.
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
}
_LAST_WORDS = 600
"""Characters of a program's messages that are worth repeating."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program and where it comes from."""

    name: str
    package: str
    """Of Debian and its descendants; other systems have similar names."""

    def find(self) -> str:
        """Its path. Raises HostError, saying what to install."""
        found = shutil.which(self.name) or shutil.which(self.name, path=ENVIRONMENT["PATH"])
        if found is None:
            raise HostError(
                errno.ENOENT,
                f"the program {self.name} is missing: install the package {self.package}",
            )
        return found


MKNTFS = Program("mkntfs", "ntfs-3g")
NTFS_3G = Program("ntfs-3g", "ntfs-3g")
WIMLIB = Program("wimlib-imagex", "wimtools")
BLKID = Program("blkid", "util-linux")


def run(program: Program, arguments: Sequence[str | Path], *, what: str) -> None:
    """Run a program to its end. Raises HostError, with its last words, if it fails."""
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(
                [program.find(), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=ENVIRONMENT,
                start_new_session=True,  # Ctrl-C is ours to handle: it ends the child, too
                check=False,
            )
        except OSError as error:
            raise _not_started(program, what, error) from error
        if done.returncode:
            raise HostError(
                errno.EIO, f"{what}: {program.name} failed: {last_words(said, done.returncode)}"
            )


def start(
    program: Program, arguments: Sequence[str | Path], said: IO[bytes], *, what: str
) -> Child:
    """Start a program that serves until it is told to end; its messages go to `said`."""
    try:
        return subprocess.Popen(
            [program.find(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=ENVIRONMENT,
            start_new_session=True,
        )
    except OSError as error:
        raise _not_started(program, what, error) from error


Child = subprocess.Popen[bytes]


def last_words(said: IO[bytes], code: int) -> str:
    """The end of what a program said, in one line; its exit code where it said nothing."""
    said.seek(max(0, said.seek(0, os.SEEK_END) - 4 * _LAST_WORDS))
    text = said.read().decode("utf-8", "replace")
    line = "; ".join(part for part in map(str.strip, text.splitlines()) if part)
    return line[-_LAST_WORDS:] or f"it ended with {code}"


def _not_started(program: Program, what: str, error: OSError) -> HostError:
    if isinstance(error, HostError):
        return HostError(error.errno, f"{what}: {error.strerror}")
    return HostError(error.errno, f"{what}: start {program.name}: {error.strerror}")
