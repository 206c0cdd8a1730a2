"""Coverage-led fuzzing of every entry point that takes bytes, for a fixed number of runs.

`make soak` does more of them, `make fuzz` goes on for as long as it is told.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fuzz.running import COULD_HAVE_ATHERIS, HAS_ATHERIS, fuzz
from tests.fuzz.targets import TARGETS

TIMES = 20 if os.environ.get("WINDOWSFILTER_SOAK") == "1" else 1
WHY_NOT = "atheris is not installed"
if not COULD_HAVE_ATHERIS:
    WHY_NOT = "this machine cannot run atheris: it has no wheel for this Python or processor"


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_stood(name: str) -> None:
    seeds = list(TARGETS[name].seeds())
    assert seeds
    for seed in seeds:
        assert len(seed) <= TARGETS[name].max_size
        TARGETS[name].run(seed)


@pytest.mark.skipif(not HAS_ATHERIS, reason=WHY_NOT)
@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_stood(name: str, tmp_path: Path) -> None:
    finding = fuzz(name, tmp_path / name, f"-runs={TARGETS[name].runs * TIMES}", "-seed=1")
    assert finding is None, str(finding)


@pytest.mark.skipif(not HAS_ATHERIS, reason=WHY_NOT)
def test_a_finding_is_told_with_its_input(tmp_path: Path) -> None:
    finding = fuzz("alarm", tmp_path / "alarm", "-runs=100000", "-seed=1")
    assert finding is not None
    assert finding.data[:1] == b"!"
    assert "for a test of the fuzzer itself" in finding.report
