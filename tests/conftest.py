"""What every test may rely on: shared material, programs, the `root` marker, and honest skips.

A skip says what is missing. In CI, where everything that can be installed is installed, a skip
fails the run unless its reason begins with `CANNOT`: that is for what no package brings (a
kernel without a file system, another operating system). All skips are counted at the end.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Reasons that start like this are accepted in CI.
CANNOT = "this machine cannot"

REPOSITORY = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI", "").lower() == "true"
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

# Machines are shared and slow at times: how long an example takes says nothing.
settings.register_profile("test", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", settings.get_profile("test"), max_examples=5_000)
settings.load_profile("soak" if os.environ.get("WINDOWSFILTER_SOAK") else "test")


# Tests begin as in a plain terminal, whatever the one that started them is like.
os.environ["TERM"] = "xterm-256color"
for _name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "WINDOWSFILTER_ROOT"):
    os.environ.pop(_name, None)
# `nohup` and background jobs of shells ignore these, and so would every child.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _shared_folder() -> Path:
    chosen = os.environ.get("WINDOWSFILTER_SHARED")
    return Path(chosen) if chosen else REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the checkout (WINDOWSFILTER_SHARED overrides)."""
    folder = _shared_folder()
    if not folder.is_dir():
        pytest.skip("no folder of reference material (set WINDOWSFILTER_SHARED)")
    return folder


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """`program("skopeo")` is its path; the test is skipped where it is not installed."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return find


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and not IS_ROOT:
        pytest.skip("needs root")


@pytest.fixture(scope="session", autouse=True)
def _no_mounts_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests take their mounts down; one left below the temporary folder fails the run."""
    yield
    base = str(tmp_path_factory.getbasetemp())
    if not sys.platform.startswith("linux"):
        return
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    left = [place for place in mounts if place.startswith(base)]
    assert not left, f"tests left mounts behind: {left}"


def _skip_reason(longrepr: object) -> str:
    text = str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")


def _fail_avoidable_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip that CI could have avoided into a failure."""
    if not IN_CI or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = _skip_reason(report.longrepr)
    if not reason.startswith(CANNOT):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where it could run: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_avoidable_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_avoidable_skip(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    terminalreporter.write_line(f"skips: {len(skipped)}")
    for reason, count in Counter(_skip_reason(report.longrepr) for report in skipped).most_common():
        terminalreporter.write_line(f"  {count:4} {reason}")
