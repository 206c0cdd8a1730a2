"""Starts the fuzzer for one target in a process of its own, and tells what it found."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.targets import target

REPOSITORY = Path(__file__).parents[2]
HAS_ATHERIS = find_spec("atheris") is not None
# As in pyproject.toml: nothing could be installed elsewhere.
COULD_HAVE_ATHERIS = (
    sys.platform == "linux" and platform.machine() == "x86_64" and sys.version_info < (3, 15)
)
PYTHON_SAYS = "Uncaught Python exception"
SECONDS_FOR_ONE = 10
MEGABYTES = 2048


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that a target could not stand, and what it said."""

    target: str
    data: bytes
    report: str

    def __str__(self) -> str:
        return f"{self.target} cannot stand {self.data!r}:\n{self.report}"


def fuzz(name: str, corpus: Path, *limits: str) -> Finding | None:
    """Run one target from what is in `corpus`, which may be new, and what was kept there.

    `limits` are libFuzzer's arguments, such as `-runs=20000 -seed=1`. Raises RuntimeError when the
    fuzzer itself fails.
    """
    chosen = target(name)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(chosen.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    if chosen.words:
        words = corpus.with_name(f"{corpus.name}.words")
        words.write_text("".join(map(_dictionary_line, chosen.words)))
        limits = (f"-dict={words}", *limits)
    prefix = corpus.with_name(f"{corpus.name}.finding-")
    known = set(prefix.parent.glob(f"{prefix.name}*"))
    # Measuring coverage is the fuzzer's own business, and twice as slow beside it.
    environment = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    arguments = [
        f"-max_len={chosen.max_size}",
        f"-timeout={SECONDS_FOR_ONE}",
        f"-rss_limit_mb={MEGABYTES}",
        f"-artifact_prefix={prefix}",
        "-print_final_stats=1",
        *limits,
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.harness", name, str(corpus), *arguments],
        cwd=REPOSITORY,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
    )
    # What Python says comes first, then pages of the fuzzer's own.
    report = re.sub(r"^INFO: Instrumenting .*\n", "", done.stdout + done.stderr, flags=re.MULTILINE)
    report = report[max(report.find(PYTHON_SAYS), 0) :][:3000] + "\n...\n" + report[-2000:]
    for found in sorted(prefix.parent.glob(f"{prefix.name}*")):
        if found not in known:
            return Finding(name, found.read_bytes(), report)
    if done.returncode != 0 or "stat::number_of_executed_units" not in report:
        raise RuntimeError(f"the fuzzer failed for {name}, code {done.returncode}:\n{report}")
    return None


def _dictionary_line(word: bytes) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n'
