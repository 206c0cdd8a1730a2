"""Runs one target under atheris: python -m tests.fuzz.harness TARGET FOLDER... -runs=N ...

The arguments after the target are those of libFuzzer. It ends its process itself, so tests start it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pkgutil import walk_packages

import atheris

with atheris.instrument_imports(include=["windowsfilter"]):
    from tests.fuzz.targets import target

    # Those that are imported late, inside functions, too: code that is imported later is not seen.
    for package in ("windowsfilter.ntfs", "windowsfilter.wire"):
        for module in walk_packages(import_module(package).__path__, f"{package}."):
            import_module(module.name)


def main() -> None:
    name, *arguments = sys.argv[1:]
    atheris.Setup([sys.argv[0], *arguments], target(name).run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
