"""Runs one target under atheris: python -m tests.fuzz.harness TARGET FOLDER... -runs=N ...

The arguments after the target are those of libFuzzer. It ends its process itself, so tests start it.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["windowsfilter"]):
    from tests.fuzz.targets import target


def main() -> None:
    name, *arguments = sys.argv[1:]
    atheris.Setup([sys.argv[0], *arguments], target(name).run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
