"""What holds for every file of the repository."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_LINES = 600

# Where packages come from, and where things lie, is a matter of the machine alone.
FOREIGN = re.compile(
    rb"deb\.debian\.org|pypi\.org|files\.pythonhosted\.org|registry\.npmjs\.org"
    rb'|(?:^|[ "=])/(?:work|farm)/|\.\./\.library',
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """Files that git knows; skipped where this is no checkout."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("this machine cannot: the sources are no git checkout")
    listed = subprocess.run(
        ["git", "-C", str(REPOSITORY), "ls-files", "-z"], capture_output=True, check=True
    )
    paths = [REPOSITORY / name.decode() for name in listed.stdout.split(b"\0") if name]
    return [path for path in paths if path.is_file()]


def test_no_module_is_longer_than_a_reader_can_hold(tracked: list[Path]) -> None:
    lengths = {
        str(path.relative_to(REPOSITORY)): len(path.read_text().splitlines())
        for path in tracked
        if path.suffix == ".py"
    }
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def test_no_file_names_a_package_registry_or_a_folder_of_one_machine(tracked: list[Path]) -> None:
    found = {
        str(path.relative_to(REPOSITORY)): match[0]
        for path in tracked
        if path != Path(__file__).resolve()
        if (match := FOREIGN.search(path.read_bytes()))
    }
    assert found == {}


def test_every_package_has_an_init_with_its_subject() -> None:
    for folder in (REPOSITORY / "src" / "windowsfilter").rglob("*"):
        if folder.is_dir() and any(folder.glob("*.py")):
            assert (folder / "__init__.py").read_text().startswith(('"""', 'r"""')), folder
