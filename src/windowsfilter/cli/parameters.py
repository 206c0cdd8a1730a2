"""Types of arguments and options: names of the store, paths in images, sizes. They know how to complete."""

# ruff: noqa: ARG002  # the signatures are click's

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from windowsfilter.cli.settings import Settings

if TYPE_CHECKING:
    from windowsfilter.store.store import Store

    _IntType = click.ParamType[int]
    _TextType = click.ParamType[str]
else:
    _IntType = _TextType = click.ParamType  # which took no types before click 8.3

_SIZE = re.compile(r"(\d+)(?:\.(\d+))?\s*(?:([kmgtpe])(i?b?)|b)?", re.IGNORECASE)
_POWERS = "kmgtpe"
_SHORT_ID = 12

Names = Callable[["Store"], Iterable[str]]


class Size(_IntType):
    """A number of bytes: `4096`, `64K`, `1.5GiB` are binary, `64kB`, `1.5GB` decimal."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no size, write 4096, 64K or 1.5GiB", param, ctx)
        whole, fraction, unit, suffix = found.groups(default="")
        base = 1000 if suffix.lower() == "b" else 1024
        factor = base ** (_POWERS.index(unit.lower()) + 1) if unit else 1
        rest: int = int(fraction or 0) * factor // 10 ** len(fraction)
        return int(whole) * factor + rest


class Time(_IntType):
    """A time to 100 ns, as `stat` prints it; the value is a FILETIME."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        from windowsfilter.errors import FormatError
        from windowsfilter.ntfs import calendar, filetime

        if value == "now":
            return filetime.from_unix_ns(time.time_ns())
        try:
            return calendar.from_text(str(value))
        except FormatError as error:
            self.fail(str(error), param, ctx)


class StoreName(_TextType):
    """Something that the store knows by name."""

    def __init__(self, name: str, names: Names) -> None:
        self.name = name
        self._names = names

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names that begin like what was typed. A store that cannot be opened has none."""
        with suppress(Exception), ctx.ensure_object(Settings).store() as store:
            return [
                CompletionItem(name)
                for name in sorted(set(self._names(store)))
                if name.startswith(incomplete)
            ]
        return []


class InnerPath(_TextType):
    """A path inside an image: any text that is no surprise to Windows layers."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        # Bytes that are not UTF-8 may be a name with lone surrogates, as our output spells it.
        return os.fsencode(value).decode("utf-8", "surrogatepass" if _is_wtf8(value) else "replace")

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Entries of the directory that was typed so far, with the separators that were used."""
        image = ctx.params.get("image")
        with suppress(Exception), ctx.ensure_object(Settings).store() as store:
            from windowsfilter.cli.targets import find_path

            cut = max(incomplete.rfind("/"), incomplete.rfind("\\")) + 1
            before, leaf = incomplete[:cut], incomplete[cut:].casefold()
            separator = "\\" if before.endswith("\\") else "/"
            return [
                CompletionItem(before + entry.name + (separator if entry.is_dir() else ""))
                for entry in find_path(store, str(image), before).iterdir()
                if entry.name.casefold().startswith(leaf)
            ]
        return []


def _is_wtf8(value: str) -> bool:
    try:
        os.fsencode(value).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _image_names(store: Store) -> Iterable[str]:
    for image in store.images():
        yield from image.references or (image.id.hex[:_SHORT_ID],)


def _layer_names(store: Store) -> Iterable[str]:
    for layer in store.layers():
        yield layer.id


def _scratch_names(store: Store) -> Iterable[str]:
    for scratch in store.scratches():
        yield scratch.name


SIZE = Size()
TIME = Time()
IMAGE = StoreName("image", _image_names)
LAYER = StoreName("layer", _layer_names)
SCRATCH = StoreName("scratch", _scratch_names)
PATH = InnerPath()

image_argument = click.argument("image", type=IMAGE)
path_argument = click.argument("path", type=PATH, default="")
view_option = click.option(
    "--view",
    type=click.Choice(["volume", "layer"]),
    help="volume: PATH starts at C:\\; layer: at the root of the layers.",
)
