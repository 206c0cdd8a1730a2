"""The command `windowsfilter`: one module for each family of commands.

A command parses, calls the library, and prints; it decides nothing. Importing this package costs
nothing, so that the helper processes that live here start quickly.
"""

from __future__ import annotations


def main() -> int:
    """The entry point: runs the command of this process and returns its exit code."""
    try:
        from windowsfilter.cli import program
    except KeyboardInterrupt:  # pressed before there is anything to interrupt
        return 130
    return program.main()
