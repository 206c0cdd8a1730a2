"""Going through whole directory trees: `tree`, `find`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from windowsfilter.cli.commands import Command, pass_settings
from windowsfilter.cli.parameters import SIZE, image_argument, path_argument, view_option
from windowsfilter.cli.settings import Settings
from windowsfilter.cli.targets import find_path

if TYPE_CHECKING:
    from windowsfilter.store.paths import LayerPath
    from windowsfilter.store.stats import Stat

_TYPES = {"f": "file", "d": "directory", "l": "symlink", "j": "junction"}

Node = tuple["LayerPath", "Stat"]
Test = Callable[["LayerPath", "Stat"], bool]


@click.command(cls=Command)
@image_argument
@path_argument
@click.option("--depth", type=click.IntRange(1), metavar="N", help="No deeper than N levels.")
@click.option("-d", "--directories", is_flag=True, help="Directories only.")
@view_option
@pass_settings
def tree(
    settings: Settings,
    image: str,
    path: str,
    depth: int | None,
    directories: bool,
    view: str | None,
) -> None:
    """Draw a directory and all below it. Links are not followed."""
    from windowsfilter.errors import UsageError
    from windowsfilter.ui import documents, entries, trees

    def below(node: Node, level: int) -> list[Node]:
        if (depth is not None and level >= depth) or node[1].type != "directory":
            return []
        kids = [(kid, kid.lstat()) for kid in sorted(node[0].iterdir())]
        return [kid for kid in kids if kid[1].type == "directory"] if directories else kids

    with settings.store() as store:
        start = find_path(store, image, path, view)
        if not start.is_dir():
            start.lstat()  # raises EntryNotFound
            raise UsageError(f"tree {start}: not a directory")
        start = start.resolve()
        root = (start, start.lstat())
        if settings.out.json:
            settings.out.document(documents.nested(root, below))
        else:
            settings.out.lines(trees.lines(root, below, lambda node: entries.with_mark(*node)))


@click.command(cls=Command)
@image_argument
@path_argument
@click.option("--name", metavar="GLOB", help="Names that match in any case: *.dll, kernel?2.*")
@click.option(
    "--type",
    "kinds",
    metavar="f|d|l|j",
    help="f files, d directories, l symbolic links, j junctions; several: --type fl",
)
@click.option("--larger", type=SIZE, metavar="SIZE", help="More bytes than this: 64K, 1.5GiB.")
@click.option("--smaller", type=SIZE, metavar="SIZE", help="Fewer bytes than this.")
@click.option("--layer", metavar="ID", help="From the layer whose id begins like this.")
@click.option("--stream", is_flag=True, help="With alternate data streams.")
@click.option("-0", "--print0", is_flag=True, help="End names with a zero byte, for xargs -0.")
@view_option
@pass_settings
def find(
    settings: Settings,
    image: str,
    path: str,
    name: str | None,
    kinds: str | None,
    larger: int | None,
    smaller: int | None,
    layer: str | None,
    stream: bool,
    print0: bool,
    view: str | None,
) -> None:
    """List the entries below PATH that fit all conditions. Links are not followed."""
    from windowsfilter.ui import documents

    tests: list[Test] = []
    if kinds is not None:
        wanted = _wanted_types(kinds)
        tests.append(lambda _, stat: stat.type in wanted)
    if larger is not None:
        tests.append(lambda _, stat: stat.type == "file" and stat.size > larger)
    if smaller is not None:
        tests.append(lambda _, stat: stat.type == "file" and stat.size < smaller)
    if layer is not None:
        tests.append(lambda _, stat: stat.layer is not None and stat.layer.startswith(layer))
    if stream:
        tests.append(lambda _, stat: bool(stat.streams))
    out = settings.out
    with settings.store() as store:
        found = _found(find_path(store, image, path, view), name, tests)
        if out.json:
            out.documents(documents.entry(each, each.lstat()) for each in found)
        else:
            out.lines(map(str, found), end="\0" if print0 else "\n")


def _wanted_types(kinds: str) -> set[str]:
    unknown = set(kinds) - set(_TYPES)
    if unknown or not kinds:
        raise click.BadParameter(
            f"{kinds!r}: write one or more of f, d, l, j", param_hint="'--type'"
        )
    return {_TYPES[kind] for kind in kinds}


def _found(start: LayerPath, glob: str | None, tests: list[Test]) -> Iterator[LayerPath]:
    """Entries below `start` that match, top down, each directory in the order of the layers."""
    from windowsfilter.ntfs.names import fold
    from windowsfilter.ui.text import decode, encode

    def folded(text: str) -> str:
        return decode(fold(encode(text)))

    matches = re.compile(fnmatch.translate(folded(glob))).match if glob is not None else None
    for directory, directories, others in start.walk():
        for name in (*directories, *others):
            if matches is not None and not matches(folded(name)):
                continue
            path = directory / name
            if tests:
                stat = path.lstat()
                if not all(test(path, stat) for test in tests):
                    continue
            yield path
