"""The guides' sessions, run."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.command import Command, on_path, write_layout

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"
BLOCK = re.compile(
    r"(?:^<!-- needs: (\w+) -->\n)?^```(console|pycon)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Session:
    """One command of a guide and what it says it prints."""

    line: str
    expected: str
    needs: str | None

    def matches(self, printed: str) -> bool:
        # `…` is anything, of several lines too.
        pattern = ".*".join(re.escape(part) for part in self.expected.split("…"))
        return re.fullmatch(pattern, printed, re.DOTALL) is not None


def blocks(guide: str, language: str) -> Iterator[tuple[str | None, str]]:
    for needs, found, text in BLOCK.findall((GUIDES / guide).read_text(encoding="utf-8")):
        if found == language:
            yield needs or None, text


def sessions(guide: str) -> Iterator[Session]:
    for needs, text in blocks(guide, "console"):
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            line, _, expected = part.partition("\n")
            yield Session(line, expected, needs)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with `demo.tar` and `mnt`."""
    layout = write_layout(tmp_path / "oci")
    with tarfile.open(tmp_path / "demo.tar", "w") as archive:
        archive.add(layout, arcname=".")
    (tmp_path / "mnt").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def can(need: str | None, root: Path) -> bool:
    if need == "mount":
        chosen = Command(root).json("info")["mount"]["chosen"]
        return bool(chosen != "api" and os.geteuid() == 0)
    if need == "export":
        programs = ("mkntfs", "ntfs-3g", "wimlib-imagex")
        return os.geteuid() == 0 and all(map(shutil.which, programs))
    return True


def test_the_sessions_of_the_command_line_guide_are_real(folder: Path) -> None:
    root = folder / "store"
    environment = {
        **os.environ,
        "WINDOWSFILTER_ROOT": str(root),
        "PATH": on_path(folder / "bin"),
    }
    ran = 0
    for session in sessions("command-line.md"):
        if not can(session.needs, root):
            continue
        # The guide's /mnt is not ours to use.
        line = session.line.replace("/mnt", str(folder / "mnt"))
        done = subprocess.run(
            ["bash", "-c", line],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if session.needs == "namespace" and done.returncode == 4:
            continue  # no user namespaces, or no FUSE in them
        printed = done.stdout.decode().replace("\r", "").replace(str(folder / "mnt"), "/mnt")
        assert session.matches(printed), f"$ {session.line}\n{printed}"
        ran += 1
    assert ran > 20


def test_the_sessions_of_the_library_guide_are_real(folder: Path) -> None:
    text = "\n".join(
        block for need, block in blocks("library.md", "pycon") if can(need, folder / "store")
    )
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
    test = doctest.DocTestParser().get_doctest(text, {}, "library.md", "library.md", 0)
    printed: list[str] = []
    result = runner.run(test, out=printed.append)
    assert result.attempted > 30
    assert not result.failed, "".join(printed)
