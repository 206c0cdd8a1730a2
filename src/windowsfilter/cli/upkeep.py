"""The store as a whole: `info`, `du`, `prune`."""

from __future__ import annotations

import click

from windowsfilter.cli.commands import Command, pass_settings
from windowsfilter.cli.settings import Settings


@click.command(cls=Command)
@pass_settings
def info(settings: Settings) -> None:
    """Show the store and how this machine can mount.

    Also why it cannot in other ways.
    """
    from windowsfilter.ui import pages

    with settings.store(create=True) as store:
        found = store.info()
    if settings.out.json:
        settings.out.document(found)
    else:
        settings.out.lines(pages.aligned(pages.info(found)))


@click.command(cls=Command)
@click.option("--layers", is_flag=True, help="Each layer too.")
@pass_settings
def du(settings: Settings, layers: bool) -> None:
    """Show what occupies the disk.

    EXCLUSIVE goes with the image, SHARED is needed by others too. Bytes are blocks on the disk.
    """
    from windowsfilter.ui import documents, pages

    with settings.store(create=True) as store:
        usage = store.usage()
    if settings.out.json:
        settings.out.document(documents.usage(usage))
    else:
        settings.out.table(pages.usage(usage, with_layers=layers))


@click.command(cls=Command)
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would go.")
@click.option("-a", "--untagged", is_flag=True, help="Images without a tag too.")
@pass_settings
def prune(settings: Settings, dry_run: bool, untagged: bool) -> None:
    """Remove what nothing needs.

    Layers, blobs, EROFS images, leftovers of crashes; with -a also images that have no tag.
    """
    from windowsfilter.ui import documents, pages

    out = settings.out
    with settings.store(create=True) as store:
        removed = store.prune(dry_run=dry_run, untagged=untagged)
    if out.json:
        out.document({"dry_run": dry_run, **documents.removed(removed)})
    elif not out.quiet:
        out.lines(pages.removed(removed, planned=dry_run))
