"""Images of the store: `images`, `inspect`, `tag`, `rmi`."""

from __future__ import annotations

import click

from windowsfilter.cli.commands import Command, pass_settings
from windowsfilter.cli.parameters import IMAGE, image_argument
from windowsfilter.cli.settings import Settings


@click.command(cls=Command)
@pass_settings
def images(settings: Settings) -> None:
    """List the images, the newest first."""
    from windowsfilter.ui import documents, pages

    out = settings.out
    with settings.store(create=True) as store:
        found = store.images()
        if out.json:
            out.document([documents.image(image) for image in found])
        elif out.quiet:
            out.lines(image.id for image in found)
        else:
            out.table(pages.images(found))


@click.command(cls=Command)
@image_argument
@pass_settings
def inspect(settings: Settings, image: str) -> None:
    """Show an image: tags, platform, config, layers, and problems.

    With --json also the whole config and the manifest it came with.
    """
    from windowsfilter.ui import documents, pages

    with settings.store() as store:
        found = store.image(image)
        if settings.out.json:
            settings.out.document(documents.image_in_full(found))
        else:
            settings.out.lines(pages.aligned(pages.image(found)))


@click.command(cls=Command)
@image_argument
@click.argument("reference", metavar="TAG")
@pass_settings
def tag(settings: Settings, image: str, reference: str) -> None:
    """Give IMAGE one more TAG, taking it from the image that has it."""
    from windowsfilter.ui import documents

    with settings.store() as store:
        store.tag(image, reference)
        if settings.out.json:
            settings.out.document(documents.image(store.image(reference)))
        else:
            settings.out.message(f"Tagged {image} as {reference}")


@click.command(cls=Command)
@click.argument("images", type=IMAGE, nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "-f", "--force", is_flag=True, help="Also with several tags, and while its layers are in use."
)
@pass_settings
def rmi(settings: Settings, images: tuple[str, ...], force: bool) -> None:
    """Remove images and the layers that nothing else needs.

    Of an image with several tags, named by one of them, only that tag goes. The space is free when
    the command returns.
    """
    from windowsfilter.ui import documents, pages

    out = settings.out
    done = []
    with settings.store() as store:
        for image in images:
            removed = store.remove_image(image, force=force)
            done.append({"image": image, **documents.removed(removed)})
            if not removed.items:
                out.message(f"Untagged {image}")
            elif not out.json and not out.quiet:
                out.lines(pages.removed(removed))
    if out.json:
        out.document({"removed": done, "bytes": sum(each["bytes"] for each in done)})
