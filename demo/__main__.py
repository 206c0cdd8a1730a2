"""`python -m demo`: run the demonstration in this checkout and clean up after it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from demo.report import Reporter
from demo.story import Story
from demo.workspace import workspace
from windowsfilter.errors import WindowsFilterError

_CACHE = Path(__file__).resolve().parent.parent / ".cache" / "demo"


@click.command()
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    default=_CACHE,
    help="Folder for fetched wheels (about 145 MiB) and for working (about 1.5 GiB).",
)
@click.option("--mount-engine", metavar="NAME", help="Mount with this engine only.")
def main(cache: Path, mount_engine: str | None) -> None:
    """Build a Windows image of real programs and run the whole story on it."""
    # An end by SIGTERM cleans up as one by Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report = Reporter()
    options = ("--mount-engine", mount_engine) if mount_engine else ()
    try:
        with workspace(cache.resolve()) as folder:
            Story(folder, cache.resolve(), report, *options).tell()
    except WindowsFilterError as error:
        report.line(f"\nFAILED: {error}")
        sys.exit(error.exit_code)
    report.finish()


if __name__ == "__main__":
    main()
