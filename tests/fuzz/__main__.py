"""Fuzzes for a while: python -m tests.fuzz [--minutes N] [TARGET...]

Inputs that reach new code are kept in .cache/fuzz for the next time.
"""

from __future__ import annotations

import argparse
import sys

from tests.fuzz.running import HAS_ATHERIS, REPOSITORY, fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="for all targets together")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    chosen = parser.parse_args()
    unknown = [name for name in chosen.targets if name not in TARGETS]
    if unknown:
        parser.error(f"no target {unknown[0]}")
    if not HAS_ATHERIS:
        parser.error("atheris is not installed")
    names = chosen.targets or list(TARGETS)
    seconds = max(1, int(chosen.minutes * 60 / len(names)))
    findings = 0
    for name in names:
        print(f"{name}: {seconds} s", flush=True)
        corpus = REPOSITORY / ".cache" / "fuzz" / name
        finding = fuzz(name, corpus, f"-max_total_time={seconds}")
        if finding:
            findings += 1
            print(finding, flush=True)
    print(f"{findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
