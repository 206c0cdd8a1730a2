"""Reading entries without a mount: `ls`, `stat`, `cat`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import click

from windowsfilter.cli.commands import Command, pass_settings
from windowsfilter.cli.parameters import PATH, image_argument, path_argument, view_option
from windowsfilter.cli.settings import Settings
from windowsfilter.cli.targets import find_path

if TYPE_CHECKING:
    from windowsfilter.store.paths import LayerPath

_PIECE = 1 << 20


@click.command(cls=Command)
@image_argument
@path_argument
@click.option(
    "-l", "--long", is_flag=True, help="Attributes, owner, size, all four times (UTC), layer."
)
@click.option("-d", "--directory", is_flag=True, help="PATH itself, not what is in it.")
@view_option
@pass_settings
def ls(
    settings: Settings, image: str, path: str, long: bool, directory: bool, view: str | None
) -> None:
    r"""List a directory of IMAGE, or one entry.

    PATH is `C:\` if it is left out. With -l, a line for each alternate data stream follows its file;
    attribute letters are those of `attrib`: D directory, A archive, S system, H hidden, R read-only,
    L reparse point.
    """
    from windowsfilter.ui import documents, entries

    out = settings.out
    with settings.store() as store:
        found = _listed(find_path(store, image, path, view), directory=directory)
        if out.json:
            out.documents(documents.entry(each, each.lstat()) for each in found)
        elif long:
            out.table(entries.long_table((each, each.lstat()) for each in found))
        else:
            out.lines(each.name or str(each) for each in found)


def _listed(path: LayerPath, *, directory: bool) -> list[LayerPath]:
    """The entries to show; those of a directory in the order of their names, as Windows lists."""
    if directory or not path.is_dir():
        path.lstat()  # raises EntryNotFound
        return [path]
    return sorted(path.iterdir())


@click.command(cls=Command)
@image_argument
@path_argument
@click.option("-L", "--follow", is_flag=True, help="Of a link, show where it leads.")
@view_option
@pass_settings
def stat(settings: Settings, image: str, path: str, follow: bool, view: str | None) -> None:
    """Show everything that is known of an entry.

    Size, attributes, all four times to 100 ns (UTC), link target, streams, hard links, owner and
    security descriptor (SDDL), extended attributes, reparse point, and the layer it comes from. With
    --json everything is there whole, PAX records included.
    """
    from windowsfilter.ui import entries, pages

    with settings.store() as store:
        found = find_path(store, image, path, view).stat(follow_symlinks=follow)
    if settings.out.json:
        settings.out.document(found.to_json())
    else:
        settings.out.lines(pages.aligned(entries.page(found)))


@click.command(cls=Command)
@image_argument
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@view_option
@pass_settings
def cat(settings: Settings, image: str, paths: tuple[str, ...], view: str | None) -> None:
    """Write the content of files to standard output.

    Byte for byte. `file.txt:stream` is an alternate data stream. Nothing is written unless all PATHs can be read.
    """
    with settings.store() as store:
        files = [find_path(store, image, path, view).open() for path in paths]
        output = settings.out.content()
        for file in files:
            with file:
                shutil.copyfileobj(file, output, _PIECE)
