from __future__ import annotations

from tests.support.command import Stream
from windowsfilter.ui import tables
from windowsfilter.ui.tables import Column, Table

COLUMNS = (Column("NAME", style="bold"), Column("SIZE", right=True), Column("NOTE"))


def table_of(*rows: tuple[str, ...]) -> Table:
    table = Table(COLUMNS)
    for row in rows:
        table.add(*row)
    return table


def test_plain_columns_are_aligned_and_end_without_blanks() -> None:
    table = table_of(("a", "1", "x"), ("longer name", "1000", ""))
    assert list(tables.plain(table)) == [
        "NAME         SIZE  NOTE",
        "a               1  x",
        "longer name  1000",
    ]


def test_short_rows_are_filled_up_and_a_table_may_be_empty() -> None:
    assert list(tables.plain(table_of(("a",)))) == ["NAME  SIZE  NOTE", "a"]
    assert list(tables.plain(table_of())) == ["NAME  SIZE  NOTE"]


def test_on_a_terminal_nothing_is_cut_wrapped_or_taken_for_markup() -> None:
    name = "[bold]" + "very long " * 40 + "[/bold]"
    terminal = Stream(terminal=True)
    tables.draw(table_of((name, "1", "end"), ("short", "2", "")), terminal)
    lines = terminal.kept.getvalue().decode().splitlines()
    assert len(lines) == 3
    assert name in lines[1]
    assert "end" in lines[1]
    assert not any(line.endswith(" ") for line in lines)


def test_wide_characters_do_not_move_the_columns_of_a_terminal() -> None:
    terminal = Stream(terminal=True)
    tables.draw(table_of(("\u6771\u4eac", "1", "a"), ("four", "2", "b")), terminal)
    rows = terminal.kept.getvalue().decode().splitlines()[1:]
    assert rows[0].index("  a") + 2 == rows[1].index("  b")
