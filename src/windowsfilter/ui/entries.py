"""Directory entries for people: the lines of `ls`, the table of `ls -l`, the page of `stat`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from windowsfilter.errors import FormatError
from windowsfilter.ntfs import accounts, attributes, eas
from windowsfilter.ntfs.reparse import LinkNames, ReparseTag, link_names, tag_name
from windowsfilter.ui import figures
from windowsfilter.ui.tables import Column, Table

if TYPE_CHECKING:
    from windowsfilter.store.paths import LayerPath
    from windowsfilter.store.stats import Stat

SHORT_ID = 12
_SHOWN_BYTES = 32

_MARKS = {"directory": "\\", "symlink": "@", "junction": "@"}
_COLUMNS = (
    Column("ATTR", style="magenta"),
    Column("OWNER"),
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
            name = f"  {path.name}:{stream.name}"
            table.add("", "", str(stream.size), "", "", "", "", "", name)
    return table


def _row(name: str, stat: Stat) -> tuple[str, ...]:
    shown = name + _MARKS.get(stat.type, "")
    if stat.link_target is not None:
        shown = f"{name} -> {stat.link_target}"
    elif stat.dangling:
        shown = f"{name} (dangling)"
    return (
        attributes.letters(stat.attributes) or "-",
        "-" if stat.owner is None else accounts.short_name(stat.owner),
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
    yield from _security(stat)
    yield from _extended_attributes(stat)
    yield from _reparse_point(stat)
    yield from (("Problem", problem) for problem in stat.problems)
    yield "Layer", stat.layer or "none (a directory that no tar has)"
    if stat.pax:
        yield "Records", f"{', '.join(stat.pax)} (see --json)"


def _security(stat: Stat) -> Iterator[tuple[str, str]]:
    descriptor = stat.security_descriptor
    if descriptor is None:
        yield "Security", "none"
        return
    for label, sid in (("Owner", stat.owner), ("Group", stat.group)):
        if sid is not None:
            yield label, accounts.full_name(sid)
    try:
        yield "Security", stat.sddl or "empty"
    except FormatError as error:
        if not stat.damaged:  # else it is among the problems
            yield "Problem", f"its security descriptor cannot be said in SDDL: {error}"
        yield "Security", f"{figures.count(len(descriptor), 'byte')}, see --json"


def _extended_attributes(stat: Stat) -> Iterator[tuple[str, str]]:
    try:
        found = stat.extended_attributes
    except FormatError:
        return
    for ea in found:
        need = ", needed to open it" if ea.flags & eas.NEED_EA else ""
        rest = ea.flags & ~eas.NEED_EA
        flags = f", flags {rest:#x}" if rest else ""
        size = figures.count(len(ea.value), "byte")
        name = ea.name.decode("utf-8", "backslashreplace")
        yield "EA", f"{name} ({size}{need}{flags}): {_value(ea.value)}"


def _reparse_point(stat: Stat) -> Iterator[tuple[str, str]]:
    """What a link's target does not tell; everything of a reparse point that is no link."""
    try:
        point = stat.reparse_point
    except FormatError:
        return
    if point is None:
        return
    if not point.is_link:
        size = figures.count(len(point.data), "byte")
        yield "Reparse", f"{tag_name(point.tag)} ({point.tag:#010x}, {size}): {_value(point.data)}"
        return
    names = LinkNames.parse(point)
    usual = link_names(names.target, mount_point=point.tag == ReparseTag.MOUNT_POINT)
    if names != usual:
        yield "Substitute", names.substitute_name
        yield "Print name", names.print_name or "none"


def _value(value: bytes) -> str:
    """A short value: as text where it is some, else in hex; the beginning of a long one."""
    shown = value[:_SHOWN_BYTES]
    more = "" if len(value) == len(shown) else " …, see --json"
    if shown and all(0x20 <= byte < 0x7F for byte in shown):
        return repr(shown.decode()) + more
    return (shown.hex() or "empty") + more


def with_mark(path: LayerPath, stat: Stat) -> str:
    r"""A name for `tree`: `\` behind directories, `@` behind links."""
    return path.name + _MARKS.get(stat.type, "") if path.name else str(path) or "."
