"""The command in tests: inside this process, which is quick, or as a process of its own."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.chains import (
    OWNER_SYSTEM,
    file,
    folder,
    hard_link,
    junction,
    symlink,
    tar,
    whiteout,
)
from tests.support.images import Layout
from windowsfilter.cli.program import run


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode("utf-8", "surrogatepass")

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Stream(io.TextIOWrapper):
    """A standard stream that keeps what is written, and may call itself a terminal."""

    def __init__(self, terminal: bool = False) -> None:
        self.kept = io.BytesIO()
        self._terminal = terminal
        super().__init__(self.kept, encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return self._terminal


@dataclass(frozen=True)
class Command:
    """The command on one store."""

    root: Path

    def __call__(self, *arguments: str | Path, terminal: bool = False) -> Done:
        """Run it in this process, whatever becomes of it."""
        out, err = Stream(terminal), Stream()
        with redirect_stdout(out), redirect_stderr(err):
            code = run(["--root", str(self.root), *map(str, arguments)])
        out.flush()
        return Done(code, out.kept.getvalue(), err.kept.getvalue().decode())

    def ok(self, *arguments: str | Path, terminal: bool = False) -> Done:
        """Run what must succeed."""
        done = self(*arguments, terminal=terminal)
        assert done.code == 0, done.err
        return done

    def json(self, *arguments: str | Path) -> Any:
        """What it prints with `--json`."""
        return self.ok("--json", *arguments).json

    def process(self, *arguments: str | Path, **how: Any) -> subprocess.Popen[bytes]:
        """Start it as a process of its own."""
        how.setdefault("stdin", subprocess.DEVNULL)
        how.setdefault("stdout", subprocess.PIPE)
        how.setdefault("stderr", subprocess.PIPE)
        environment = {**os.environ, "WINDOWSFILTER_ROOT": str(self.root)}
        return subprocess.Popen(
            [sys.executable, "-m", "windowsfilter", *map(str, arguments)],
            env=environment | how.pop("env", {}),
            **how,
        )


def on_path(folder: Path) -> str:
    """A PATH on which `windowsfilter` is this Python's, whether or not it is installed."""
    folder.mkdir(exist_ok=True)
    program = folder / "windowsfilter"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m windowsfilter "$@"\n')
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


ZONE = b"[ZoneTransfer]\r\nZoneId=3\r\n"
CMD = b"MZ" * 5000

BASE = tar(
    [
        folder("Files"),
        folder("Files/Windows"),
        folder("Files/Windows/System32"),
        file("Files/Windows/System32/cmd.exe", CMD, sd=OWNER_SYSTEM, attributes=0x21),
        file("Files/Windows/System32/cmd.exe:Zone.Identifier", ZONE),
        file("Files/Windows/win.ini", b"[fonts]\r\n"),
        hard_link("Files/Windows/linked.ini", "Files/Windows/win.ini"),
        junction("Files/Documents and Settings", "C:\\Users"),
        folder("Files/Users"),
        file("Files/Users/old.txt", b"x"),
        symlink("Files/readme", "Windows\\win.ini"),
        folder("Hives"),
        file("Hives/System_Delta", b"regf"),
    ]
)
CHILD = tar(
    [
        folder("Files"),
        folder("Files/app"),
        file("Files/app/run.cmd", b"echo hi\r\n"),
        whiteout("Files/users/OLD.txt"),
        file("Files/windows/WIN.INI", b"[new]\r\n"),
        folder("Hives"),
    ]
)
# Names that disturb: a direction override, an escape sequence, a lone surrogate, a line break.
ODD_NAMES = [b"\xe2\x80\xaeexe.txt", b"bell\xc2\x9b31m", b"\xed\xa0\x80lone", "zoë 東京".encode()]
ODD = tar([folder("Files"), *(file(b"Files/" + name, b"odd") for name in ODD_NAMES)])


def write_layout(path: Path, *layers: bytes, tag: str = "demo:1") -> Path:
    """An OCI layout of one image."""
    layout = Layout()
    layout.add(layout.image(layers or (BASE, CHILD)), ref=tag)
    return layout.write(path)
