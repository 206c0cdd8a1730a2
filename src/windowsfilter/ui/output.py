"""Where results and messages go: results to stdout, everything else to stderr.

Results are text for people or, with `json`, documents for programs. On a terminal text is escaped
(`ui.text`); in pipes and files names keep their bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TextIO

from windowsfilter.errors import HostError, UsageError
from windowsfilter.ui import text

if TYPE_CHECKING:
    from windowsfilter.ui.progress import Report
    from windowsfilter.ui.tables import Table


class Output:
    """The two streams of a command. Streams are looked up when used: tests exchange them."""

    def __init__(self, *, json: bool = False, verbosity: int = 0) -> None:
        """`verbosity` is the number of `-v`, -1 for `-q`."""
        self.json = json
        self.verbosity = verbosity

    @property
    def quiet(self) -> bool:
        return self.verbosity < 0

    # -- results ------------------------------------------------------------------------------

    def line(self, line: str = "", *, end: str = "\n") -> None:
        """One line of text; `end` is a zero byte for names that another program shall read."""
        stdout = sys.stdout
        if _is_terminal(stdout):
            stdout.write(_printable(text.escaped(line), stdout) + end)
        else:
            _write(text.encode(line + end))

    def lines(self, lines: Iterable[str], *, end: str = "\n") -> None:
        """`line` for each."""
        for line in lines:
            self.line(line, end=end)

    def table(self, table: Table) -> None:
        """A table, if there is anything in it; with `quiet` its columns have no titles."""
        from windowsfilter.ui import tables

        stdout = sys.stdout
        if _is_terminal(stdout):
            table.rows = [
                tuple(_printable(text.escaped(cell), stdout) for cell in row) for row in table.rows
            ]
            tables.draw(table, stdout)
        else:
            self.lines(tables.plain(table))

    def document(self, value: Any) -> None:
        """One JSON document."""
        self._json(_dump(value, indent=2))

    def documents(self, values: Iterable[Any]) -> None:
        """A JSON array, an element a line, written while `values` are being made."""
        ahead = ""
        for value in values:
            self._json((ahead or "[\n") + "  " + _dump(value), end="")
            ahead = ",\n"
        self._json("\n]" if ahead else "[]")

    def data(self, what: str) -> BinaryIO:
        """Standard output for bytes. Raises UsageError if they would go to a terminal."""
        if _is_terminal(sys.stdout):
            raise UsageError(f"{what}: not to a terminal; name a file or send it through a pipe")
        return self.content()

    def content(self) -> BinaryIO:
        """Standard output for bytes, whatever it is."""
        sys.stdout.flush()
        return _raw(sys.stdout)

    def _json(self, document: str, end: str = "\n") -> None:
        _write((text.escaped_in_json(document) + end).encode())

    # -- everything else ----------------------------------------------------------------------

    def message(self, message: str) -> None:
        """Tell people what was done; not with `quiet`."""
        if not self.quiet:
            complain(message)

    @contextmanager
    def progress(self) -> Iterator[Report | None]:
        """What long work reports to: bars on a terminal, lines with `-v`, else nothing."""
        from windowsfilter.ui import progress

        if self.quiet or not (self.verbosity or _is_terminal(sys.stderr)):
            yield None
        elif _is_terminal(sys.stderr):
            with progress.bars(sys.stderr) as report:
                yield report
        else:
            yield progress.each_finished(complain)


def complain(message: str) -> None:
    """One line to stderr, whatever is in it."""
    stderr = sys.stderr
    stderr.write(_printable(text.escaped(message), stderr) + "\n")
    stderr.flush()


def complain_in_json(value: Any) -> None:
    """One JSON object in one line to stderr."""
    sys.stderr.write(_dump(value, ascii_only=True) + "\n")
    sys.stderr.flush()


def _dump(value: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    import json

    return json.dumps(value, ensure_ascii=ascii_only, indent=indent)


def _is_terminal(stream: IO[str]) -> bool:
    return stream.isatty()


def output_error(error: OSError) -> HostError:
    """What to say when standard output takes no more."""
    return HostError(f"write standard output: {error.strerror or error}")


def _write(data: bytes) -> None:
    try:
        _raw(sys.stdout).write(data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise output_error(error) from error


def _raw(stream: IO[str]) -> BinaryIO:
    stream.flush()
    return stream.buffer  # type: ignore[attr-defined, no-any-return]  # of TextIOWrapper


def _printable(line: str, stream: TextIO) -> str:
    """`line` as far as the encoding of `stream` goes, escapes for the rest."""
    encoding = stream.encoding or "utf-8"
    return line.encode(encoding, "backslashreplace").decode(encoding)
