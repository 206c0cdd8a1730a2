"""Mounts of images: `mount`, `umount`."""

from __future__ import annotations

from pathlib import Path

import click

from windowsfilter.cli.commands import Command, pass_settings
from windowsfilter.cli.parameters import image_argument
from windowsfilter.cli.settings import Settings

view_of_mount = click.option(
    "--view",
    type=click.Choice(["volume", "layer"]),
    default="volume",
    show_default=True,
    help="volume: what the container sees as C:\\; layer: Files, Hives and UtilityVM.",
)
directory_argument = click.argument(
    "directory", type=click.Path(file_okay=False, path_type=Path), metavar="DIR"
)


@click.command(cls=Command)
@image_argument
@directory_argument
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@view_of_mount
@pass_settings
def mount(
    settings: Settings, image: str, directory: Path, command: tuple[str, ...], view: str
) -> None:
    """Show IMAGE at the folder DIR, read-only, until `umount`.

    With COMMAND, nobody else sees the mount, it needs no root, and it ends with the command, whose
    exit code is ours.
    """
    from windowsfilter.ui import documents

    out = settings.out
    with settings.store() as store:
        found = store.image(image)
        if command:
            raise click.exceptions.Exit(found.run(command, directory, view=view))
        mounted = found.mount(directory, view=view)
    if out.json:
        out.document(documents.mount(mounted))
    else:
        out.message(f"Mounted {image} at {directory}")


@click.command(cls=Command)
@directory_argument
@pass_settings
def umount(settings: Settings, directory: Path) -> None:
    """Take the mount at the folder DIR away."""
    with settings.store() as store:
        store.unmount(directory)
    if settings.out.json:
        settings.out.document({"unmounted": str(directory.absolute())})
    else:
        settings.out.message(f"Unmounted {directory}")
