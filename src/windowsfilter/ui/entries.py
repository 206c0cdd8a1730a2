"""Directory entries for people: the lines of `ls`, the table of `ls -l`, the page of `stat`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from windowsfilter.ntfs import attributes
from windowsfilter.ui import figures
from windowsfilter.ui.tables import Column, Table

if TYPE_CHECKING:
    from windowsfilter.store.paths import LayerPath, Stat

SHORT_ID = 12

_MARKS = {"directory": "\\", "symlink": "@", "junction": "@"}
_COLUMNS = (
    Column("ATTR", style="magenta"),
    Column("SIZE", right=True),
    Column("WRITTEN"),
    Column("CREATED", style="dim"),
    Column("ACCESSED", style="dim"),
    Column("CHANGED", style="dim"),
    Column("LAYER", style="cyan"),
    Column("NAME"),
)


def long_table(entries: Iterable[tuple[LayerPath, Stat]]) -> Table:
    """One row for an entry, one for each of its streams."""
    table = Table(_COLUMNS)
    for path, stat in entries:
        table.add(*_row(path.name or str(path), stat))
        for stream in stat.streams:
            table.add("", str(stream.size), "", "", "", "", "", f"  {path.name}:{stream.name}")
    return table


def _row(name: str, stat: Stat) -> tuple[str, ...]:
    shown = name + _MARKS.get(stat.type, "")
    if stat.link_target is not None:
        shown = f"{name} -> {stat.link_target}"
    elif stat.dangling:
        shown = f"{name} (dangling)"
    return (
        attributes.letters(stat.attributes) or "-",
        "" if stat.type == "directory" else str(stat.size),
        figures.time(stat.last_write_time),
        figures.time(stat.creation_time),
        figures.time(stat.last_access_time),
        figures.time(stat.change_time),
        (stat.layer or "-")[:SHORT_ID],
        shown,
    )


def page(stat: Stat) -> Iterator[tuple[str, str]]:
    """(label, value) of everything that is known of an entry; labels may repeat."""
    yield "Path", stat.path
    yield "Type", stat.type + (" (dangling)" if stat.dangling else "")
    if stat.link_target is not None:
        yield "Target", stat.link_target
    yield "Size", f"{stat.size} ({figures.size(stat.size)})"
    words = ", ".join(attributes.describe(stat.attributes)) or "none"
    yield "Attributes", f"{words} ({stat.attributes:#x})"
    yield "Created", figures.exact_time(stat.creation_time)
    yield "Accessed", figures.exact_time(stat.last_access_time)
    yield "Written", figures.exact_time(stat.last_write_time)
    yield "Changed", figures.exact_time(stat.change_time)
    yield "Hard links", str(stat.hard_links)
    for stream in stat.streams:
        yield "Stream", f"{stream.name} ({figures.count(stream.size, 'byte')})"
    descriptor = stat.security_descriptor
    yield "Security", "none" if descriptor is None else f"{len(descriptor)} bytes, see --json"
    yield "Layer", stat.layer or "none (a directory that no tar has)"
    if stat.pax:
        yield "Records", f"{', '.join(stat.pax)} (see --json)"


def with_mark(path: LayerPath, stat: Stat) -> str:
    r"""A name for `tree`: `\` behind directories, `@` behind links."""
    return path.name + _MARKS.get(stat.type, "") if path.name else str(path) or "."
