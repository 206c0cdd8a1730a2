"""`python -m bench`: measure, print the table, write JSON."""

from __future__ import annotations

import argparse
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from bench import corpus
from bench.measure import BenchError
from bench.report import Report
from bench.rows import ROWS, room_for
from bench.session import NotHereError, Session

_HERE = Path(__file__).parent


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure windowsfilter beside other tools on a corpus made for the purpose. "
        "Wants a quiet machine, and root for everything that mounts.",
    )
    parser.add_argument(
        "--row",
        action="append",
        choices=ROWS,
        help="only this row; may be given again (default: all of them)",
    )
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    parser.add_argument(
        "--work",
        type=Path,
        default=_HERE / ".cache",
        help="folder for the corpus (kept) and everything else (removed); its file system is"
        " the one that is measured (default: %(default)s)",
    )
    parser.add_argument("--runs", type=int, default=5, help="of each figure (default: 5)")
    parser.add_argument(
        "--entries",
        type=int,
        default=corpus.FULL.entries,
        help="entries of the corpus, its bytes go along (default: %(default)s)",
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=_HERE / "results" / "latest.json",
        help="where the figures go (default: %(default)s)",
    )
    parser.add_argument(
        "--command",
        help="the windowsfilter to measure (default: the one beside this Python)",
    )
    parser.add_argument(
        "--check", action="store_true", help="exit code 1 if a figure is not what it must be"
    )
    parser.add_argument("--forget", action="store_true", help="remove the corpus afterwards")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    if arguments.list:
        for name, row in ROWS.items():
            print(f"{name:10}{(row.__doc__ or '').partition(chr(10))[0]}")
        return 0
    console = Console(stderr=True)
    command = arguments.command or str(Path(sys.executable).with_name("windowsfilter"))
    report = Report(arguments.runs)
    full = corpus.FULL
    wanted = arguments.entries
    session = Session(
        work=arguments.work.resolve(),
        shape=full if wanted == full.entries else full.scaled(wanted),
        runs=arguments.runs,
        command=[command],
        report=report,
        say=lambda text: console.print(f"[dim]{text}[/]"),
    )
    session.work.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in arguments.row or ROWS:
        session.say(name)
        try:
            room_for(session)
            ROWS[name](session)
        except NotHereError as error:
            report.note(f"{name}: {error}")
        except BenchError as error:
            failed = True
            report.note(f"{name}: failed: {error}")
    with suppress(OSError):
        (session.work / "tmp").rmdir()
    if arguments.forget:
        shutil.rmtree(session.work / "corpus", ignore_errors=True)
    report.write(arguments.json)
    # In a file nobody wants the table folded to 80 columns.
    report.print(Console(width=None if sys.stdout.isatty() else 160))
    print(f"written to {arguments.json}")
    return 1 if failed or (arguments.check and report.missed) else 0


if __name__ == "__main__":
    sys.exit(main())
