"""Tables: drawn by rich on a terminal, aligned columns of plain text everywhere else.

Cells are text that the caller has made fit for the place (`ui.output`); they are never wrapped or
cut, whatever the width of the terminal: a name that is not whole is of no use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import IO

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `right` for figures, `style` is rich's name of a colour."""

    title: str
    right: bool = False
    style: str = ""


@dataclass(slots=True)
class Table:
    """Columns and rows; short rows are filled up with empty cells."""

    columns: Sequence[Column]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        missing = len(self.columns) - len(cells)
        self.rows.append(cells + ("",) * missing)


def plain(table: Table) -> Iterable[str]:
    """The lines of the table; nothing is padded at the end of a line."""
    widths = _widths(table, len)
    for line in [_titles(table), *table.rows]:
        cells = (
            _padded(cell, width, len, column)
            for cell, width, column in zip(line, widths, table.columns, strict=True)
        )
        yield _GAP.join(cells).rstrip(" ")


def draw(table: Table, terminal: IO[str]) -> None:
    """Draw the table with rich, which is imported here for the first time.

    Not as rich's own table: that pads every row to the longest name, and a narrow terminal would
    show an empty line after each.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text

    console = Console(file=terminal, highlight=False)
    widths = _widths(table, cell_len)
    for number, line in enumerate([_titles(table), *table.rows]):
        drawn = Text()
        for cell, width, column in zip(line, widths, table.columns, strict=True):
            drawn.append(_padded(cell, width, cell_len, column), column.style if number else "bold")
            drawn.append(_GAP)
        drawn.rstrip()
        console.print(drawn, soft_wrap=True)


def _titles(table: Table) -> tuple[str, ...]:
    return tuple(column.title for column in table.columns)


def _widths(table: Table, length: Callable[[str], int]) -> list[int]:
    lines = [_titles(table), *table.rows]
    return [max(length(line[number]) for line in lines) for number in range(len(table.columns))]


def _padded(cell: str, width: int, length: Callable[[str], int], column: Column) -> str:
    blanks = " " * (width - length(cell))
    return blanks + cell if column.right else cell + blanks
