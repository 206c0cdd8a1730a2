"""Images, layers, scratches and the store as a whole, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from windowsfilter.ui import figures
from windowsfilter.ui.tables import Column, Table
from windowsfilter.ui.text import decode

if TYPE_CHECKING:
    from windowsfilter.engines.portable.changes import Change
    from windowsfilter.store.garbage import Removed
    from windowsfilter.store.image import Image
    from windowsfilter.store.layer import Layer
    from windowsfilter.store.mounts import Mount
    from windowsfilter.store.scratch import Scratch
    from windowsfilter.store.usage import Usage

SHORT_ID = 12
_NO_TAG = "<none>"
_SHOWN_PROBLEMS = 20

Lines = Iterator[tuple[str, str]]


def aligned(lines: Iterable[tuple[str, str]]) -> Iterator[str]:
    """`Label:  value`, the values below each other."""
    pairs = list(lines)
    width = max((len(label) for label, _ in pairs), default=0) + 1
    for label, value in pairs:
        yield f"{label + ':':{width}}  {value}".rstrip()


def platform(of: Mapping[str, Any]) -> str:
    """`windows/amd64 10.0.20348.169`, as far as it is known."""
    words = "/".join(str(of[key]) for key in ("os", "architecture", "variant") if of.get(key))
    version = of.get("os.version")
    return f"{words} {version}" if version else words or "unknown"


def images(found: Iterable[Image]) -> Table:
    """One row for each tag, or for an image without one."""
    table = Table(
        (
            Column("REFERENCE", style="bold"),
            Column("ID", style="cyan"),
            Column("PLATFORM"),
            Column("LAYERS", right=True),
            Column("SIZE", right=True),
            Column("LOADED", style="dim"),
        )
    )
    for image in found:
        for reference in image.references or (_NO_TAG,):
            table.add(
                reference,
                image.id.hex[:SHORT_ID],
                platform(image.platform),
                str(len(image.layers)),
                figures.size(image.size),
                figures.unix_time(image.created),
            )
    return table


def image(found: Image) -> Lines:
    """The page of an image."""
    for reference in found.references or (_NO_TAG,):
        yield "Reference", reference
    yield "Id", str(found.id)
    yield "Platform", platform(found.platform)
    yield "Loaded", figures.unix_time(found.created) + " UTC"
    yield "Size", figures.size(found.size)
    config = found.config
    yield from (("Made", str(made)) for made in [config.get("created")] if made)
    settings = config.get("config")
    if isinstance(settings, dict):
        for key, value in settings.items():
            if value not in (None, "", [], {}):
                yield f"Config {key}", _plain(value)
    for number, layer in enumerate(found.layers):
        size, entries = layer.size or 0, layer.entries or 0
        what = f"{figures.size(size)}, {figures.count(entries, 'entry', 'entries')}"
        yield f"Layer {number}", f"{layer.id} ({what})"
    problems = found.problems
    for problem in problems[:_SHOWN_PROBLEMS]:
        yield "Problem", f"{decode(problem.name)}: {problem.reason}"
    if len(problems) > _SHOWN_PROBLEMS:
        yield "Problem", f"{len(problems) - _SHOWN_PROBLEMS} more, see --json"


def _plain(value: object) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def layers(found: Iterable[Layer]) -> Table:
    """One row for each layer."""
    table = Table(
        (
            Column("ID", style="cyan"),
            Column("PARENT"),
            Column("STATE"),
            Column("ENTRIES", right=True),
            Column("SIZE", right=True),
            Column("MADE", style="dim"),
        )
    )
    for layer in found:
        table.add(
            layer.id,
            (layer.parent or "-")[:SHORT_ID],
            str(layer.state),
            "-" if layer.entries is None else str(layer.entries),
            "-" if layer.size is None else figures.size(layer.size),
            figures.unix_time(layer.created),
        )
    return table


def layer(found: Layer) -> Lines:
    """The page of a layer."""
    yield "Id", found.id
    yield "Parent", found.parent or "none"
    yield "State", str(found.state)
    yield "DiffID", str(found.diff_id or "none")
    yield "ChainID", str(found.chain_id or "none")
    if found.size is not None:
        yield "Tar", f"{found.size} bytes ({figures.size(found.size)})"
    if found.entries is not None:
        yield "Entries", f"{found.entries:,}"
    yield "Made", figures.unix_time(found.created) + " UTC"


def removed(what: Removed, *, planned: bool = False) -> Iterator[str]:
    """A line for each thing that went, and the space."""
    for item in what.items:
        yield f"{item.kind} {item.id} ({figures.size(item.bytes)})"
    verb = "would be freed" if planned else "freed"
    yield f"{figures.size(what.bytes)} {verb}"


def usage(found: Usage, *, with_layers: bool = False) -> Table:
    """What occupies the disk: images, scratches, on request layers, and the sums."""
    table = Table(
        (
            Column("KIND"),
            Column("NAME", style="bold"),
            Column("EXCLUSIVE", right=True),
            Column("SHARED", right=True),
        )
    )
    size = figures.size
    for image in found.images:
        name = ", ".join(image.references) or image.id.hex[:SHORT_ID]
        table.add("image", name, size(image.exclusive), size(image.shared))
    for scratch in found.scratches:
        table.add("scratch", scratch.name, size(scratch.bytes))
    if with_layers:
        for layer in found.layers:
            shared = len(layer.images) > 1
            cells = ("", size(layer.bytes)) if shared else (size(layer.bytes), "")
            table.add("layer", layer.id, *cells)
    table.add("derived", "EROFS images", size(found.derived))
    table.add("reserve", "for a full disk", size(found.reserve))
    table.add("total", "", size(found.total))
    table.add("reclaimable", "by prune", size(found.reclaimable))
    return table


def changes(found: Iterable[Change]) -> Iterator[str]:
    """A line for each: `modify  Files/Windows/x.dll`."""
    for change in found:
        yield f"{change.kind:6}  {decode(change.path)}"


def scratches(found: Iterable[Scratch], images: Iterable[Image]) -> Table:
    """One row for each scratch."""
    names = {image.id: ", ".join(image.references) for image in images}
    table = Table(
        (
            Column("NAME", style="bold"),
            Column("IMAGE"),
            Column("ID", style="cyan"),
            Column("MADE", style="dim"),
            Column("MOUNTED AT"),
        )
    )
    for scratch in found:
        image = scratch.image
        below = "-" if image is None else names.get(image) or image.hex[:SHORT_ID]
        table.add(
            scratch.name,
            below,
            scratch.id[:SHORT_ID],
            figures.unix_time(scratch.created),
            ", ".join(str(mount.path) for mount in scratch.mounts) or "-",
        )
    return table


def mounts(found: Iterable[Mount]) -> Table:
    """One row for each mount."""
    table = Table((Column("DIR", style="bold"), Column("LAYER", style="cyan"), Column("MODE")))
    for mount in found:
        table.add(
            str(mount.path), mount.id[:SHORT_ID], "writable" if mount.writable else "read-only"
        )
    return table


def info(found: Mapping[str, Any]) -> Lines:
    """The page of the store and the machine."""
    for key, value in found.items():
        if key == "mount":
            yield "Mounts with", str(value["chosen"])
            yield "Available", ", ".join(value["available"]) or "none"
            yield from ((f"Not {name}", reason) for name, reason in value["unavailable"].items())
        elif isinstance(value, Mapping):
            yield from ((f"{_title(key)} {inner}", _plain(each)) for inner, each in value.items())
        elif isinstance(value, list):
            yield from ((_title(key), _plain(each)) for each in value)
        else:
            yield _title(key), figures.size(value) if key == "bytes" else _plain(value)


def _title(key: str) -> str:
    return key.replace("_", " ").capitalize()
