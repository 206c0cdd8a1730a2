"""Tables: drawn by rich on a terminal, aligned columns of plain text everywhere else.

Cells are text that the caller has made fit for the place (`ui.output`); they are never wrapped or
cut, whatever the width of the terminal: a name that is not whole is of no use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import IO

_GAP = "  "
# Wider than any row: rich must measure the cells, not the window.
_UNBOUNDED = 1 << 20


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
    """The lines of the table; the last column is not padded."""
    titles = tuple(column.title for column in table.columns)
    lines = [titles, *table.rows]
    widths = [max(len(line[number]) for line in lines) for number in range(len(titles))]
    for line in lines:
        cells = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, table.columns, strict=True)
        ]
        yield _GAP.join(cells).rstrip(" ")


def draw(table: Table, terminal: IO[str]) -> None:
    """Draw the table with rich, which is imported here for the first time."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=None, padding=(0, len(_GAP), 0, 0), header_style="bold", pad_edge=False)
    for column in table.columns:
        drawn.add_column(
            Text(column.title),
            justify="right" if column.right else "left",
            style=column.style,
            no_wrap=True,
        )
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    Console(file=terminal, width=_UNBOUNDED, highlight=False).print(drawn, crop=False)
