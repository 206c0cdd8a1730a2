"""The figures: collected, judged against what they must be, printed and kept as JSON."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(slots=True, kw_only=True)
class Line:
    """One line of the table: a figure, beside what and how far it may go."""

    row: str
    work: str
    ours: str
    peer: str = ""
    figure: str = ""
    target: str = ""
    met: bool | None = None
    """None: there is nothing to judge, or it could not be measured."""
    runs: dict[str, Any] = field(default_factory=dict)
    """Every single measurement, for whoever doubts the median."""


class Report:
    """Lines as they come, and the machine they were measured on."""

    def __init__(self, runs: int) -> None:
        self.lines: list[Line] = []
        self.notes: list[str] = []
        self.environment = _environment() | {"runs": runs}

    def add(self, line: Line) -> None:
        self.lines.append(line)

    def note(self, text: str) -> None:
        """Something that could not be done, and why; said once."""
        if text not in self.notes:
            self.notes.append(text)

    @property
    def missed(self) -> list[Line]:
        return [line for line in self.lines if line.met is False]

    def print(self, console: Console) -> None:
        table = Table(show_lines=False)
        for title in ("work", "ours", "beside", "figure", "must be", ""):
            table.add_column(title, overflow="fold")
        for line in self.lines:
            mark = {True: "yes", False: "[bold red]no[/]", None: ""}[line.met]
            table.add_row(line.work, line.ours, line.peer, line.figure, line.target, mark)
        console.print(table)
        for note in self.notes:
            console.print(f"not measured: {note}", markup=False)
        environment = self.environment
        console.print(
            f"{environment['cpu']}, {environment['cores']} cores, {environment['memory_gb']} GB,"
            f" Linux {environment['kernel']}, Python {environment['python']},"
            f" load {environment['load_before']:.1f} before;"
            f" medians of {environment['runs']}",
            markup=False,
        )

    def write(self, path: Path) -> None:
        document = {
            "environment": self.environment,
            "lines": [asdict(line) for line in self.lines],
            "not_measured": self.notes,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n")


def _environment() -> dict[str, Any]:
    cpu = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
        "peers": {name: _version(name) for name in ("umoci", "bsdtar")},
    }


def _version(program: str) -> str | None:
    """What a peer says of itself; None if it is not installed."""
    if shutil.which(program) is None:
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return (said.stdout or said.stderr).strip().partition("\n")[0]


def seconds(value: float) -> str:
    """A duration with three digits that mean something."""
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def megabytes(value: float) -> str:
    return f"{value / 1e6:.0f} MB"
