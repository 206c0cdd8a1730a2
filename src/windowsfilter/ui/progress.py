"""How far long work has come: bars on a terminal's stderr, lines where asked for, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from windowsfilter.ui import figures
from windowsfilter.ui.text import escaped

if TYPE_CHECKING:
    from rich.progress import TaskID

    from windowsfilter.store.core import Event

    Report = Callable[[Event], None]


@contextmanager
def bars(terminal: IO[str]) -> Iterator[Report]:
    """One bar for each item of work; they vanish when all is done."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[tuple[str, str], TaskID] = {}
    with Progress(*columns, console=Console(file=terminal), transient=True) as drawn:

        def report(event: Event) -> None:
            key = event.operation, event.item
            if key not in tasks:
                title = escaped(f"{event.operation} {event.item}")
                tasks[key] = drawn.add_task(title, total=event.total)
            drawn.update(tasks[key], completed=event.done, total=event.total)

        yield report


def each_finished(say: Callable[[str], None]) -> Report:
    """A line for each item that is done: for logs, where bars are no help."""

    def report(event: Event) -> None:
        if event.total is not None and event.done >= event.total:
            say(f"{event.operation} {event.item}: {figures.size(event.done)}")

    return report
