"""Runs the installed `windowsfilter` command, as anybody would, and reads its JSON."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from demo.report import CheckFailed


class Command:
    """The command on one store; `options` are global ones."""

    def __init__(self, root: Path, *options: str) -> None:
        self.root = root
        self._options = options
        self._program = Path(sysconfig.get_path("scripts"), "windowsfilter")

    def __call__(self, *arguments: str | Path) -> bytes:
        """Run it; returns standard output. Raises CheckFailed when it does not exit with 0."""
        done = self._run(arguments)
        if done.returncode:
            raise CheckFailed(
                f"windowsfilter {' '.join(map(str, arguments))}"
                f" ended with {done.returncode}:\n{done.stderr.decode(errors='replace').strip()}"
            )
        return done.stdout

    def json(self, *arguments: str | Path) -> Any:
        """Run it with `--json` and decode what it prints."""
        return json.loads(self("--json", *arguments))

    def refused(self, *arguments: str | Path) -> tuple[int, str]:
        """Run what must fail: the exit code and the message. CheckFailed when it succeeds."""
        done = self._run(arguments)
        if not done.returncode:
            raise CheckFailed(f"windowsfilter {' '.join(map(str, arguments))} should have failed")
        return done.returncode, done.stderr.decode(errors="replace").strip()

    def _run(self, arguments: tuple[str | Path, ...]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self._program, "--root", self.root, *self._options, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
