"""Mounts of images: `mount`, `umount`."""

from __future__ import annotations

from pathlib import Path

import click

from windowsfilter.cli.commands import Command, pass_settings
from windowsfilter.cli.parameters import IMAGE
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
@click.argument("image", type=IMAGE, required=False, metavar="IMAGE")
@click.argument(
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    required=False,
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@view_of_mount
@click.option("--allow-other", is_flag=True, help="Let other users see it too.")
@pass_settings
def mount(
    settings: Settings,
    image: str | None,
    directory: Path | None,
    command: tuple[str, ...],
    view: str,
    allow_other: bool,
) -> None:
    """Show IMAGE at the folder DIR, read-only, until `umount`.

    With COMMAND, nobody else sees the mount, it needs no root, and it ends with the command, whose
    exit code is ours. Without IMAGE and DIR, list what is mounted.
    """
    from windowsfilter.ui import documents

    if image is None:
        _list(settings)
        return
    if directory is None:
        raise click.UsageError("Missing argument 'DIR'")
    out = settings.out
    with settings.store() as store:
        found = store.image(image)
        if command:
            raise click.exceptions.Exit(found.run(command, directory, view=view))
        mounted = found.mount(directory, view=view, allow_other=allow_other)
    if out.json:
        out.document(documents.mount(mounted))
    else:
        out.message(f"Mounted {image} at {directory}")


def _list(settings: Settings) -> None:
    from windowsfilter.ui import documents, pages

    with settings.store(create=True) as store:
        mounts = store.mounts()
    if settings.out.json:
        settings.out.document([documents.mount(mount) for mount in mounts])
    elif settings.out.quiet:
        settings.out.lines(str(mount.path) for mount in mounts)
    else:
        settings.out.table(pages.mounts(mounts))


@click.command(cls=Command)
@directory_argument
@click.option("-l", "--lazy", is_flag=True, help="Now, although it is in use; those finish.")
@pass_settings
def umount(settings: Settings, directory: Path, lazy: bool) -> None:
    """Take the mount at the folder DIR away."""
    with settings.store() as store:
        store.unmount(directory, lazy=lazy)
    if settings.out.json:
        settings.out.document({"unmounted": str(directory.absolute())})
    else:
        settings.out.message(f"Unmounted {directory}")
