"""Layers: `layer ls|inspect|changes|diff|size`."""

from __future__ import annotations

import click

from windowsfilter.cli.commands import Group, pass_settings
from windowsfilter.cli.parameters import LAYER
from windowsfilter.cli.settings import Settings
from windowsfilter.cli.streams import copied_to

_STANDARD = "-"

layer_argument = click.argument("layer", type=LAYER, metavar="ID")


@click.group(cls=Group)
def layer() -> None:
    """Look at single layers. ID is a layer's id, or a unique beginning of it."""


@layer.command("ls")
@pass_settings
def list_layers(settings: Settings) -> None:
    """List the layers, the newest first."""
    from windowsfilter.ui import documents, pages

    out = settings.out
    with settings.store(create=True) as store:
        found = store.layers()
        if out.json:
            out.document([documents.layer(each) for each in found])
        elif out.quiet:
            out.lines(each.id for each in found)
        else:
            out.table(pages.layers(found))


@layer.command("inspect")
@layer_argument
@pass_settings
def inspect(settings: Settings, layer: str) -> None:
    """Show what is known of a layer."""
    from windowsfilter.ui import documents, pages

    with settings.store() as store:
        found = store.layer(layer)
        if settings.out.json:
            settings.out.document({**documents.layer(found), "chain": found.chain})
        else:
            settings.out.lines(pages.aligned(pages.layer(found)))


@layer.command("changes")
@layer_argument
@pass_settings
def changes(settings: Settings, layer: str) -> None:
    """List what the layer adds, modifies and deletes, against the layers below it."""
    from windowsfilter.ui import documents, pages

    with settings.store() as store:
        found = store.layer(layer).changes()
        if settings.out.json:
            settings.out.documents(documents.change(change) for change in found)
        else:
            settings.out.lines(pages.changes(found))


@layer.command("diff")
@layer_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(allow_dash=True),
    default=_STANDARD,
    metavar="FILE",
    help="A file instead of standard output.",
)
@pass_settings
def diff(settings: Settings, layer: str, output: str) -> None:
    """Write the layer's tar, byte for byte as it came."""
    with settings.store() as store:
        target = settings.out.data("layer diff") if output == _STANDARD else output
        with store.layer(layer).diff() as tar:
            copied_to(target, tar)


@layer.command("size")
@layer_argument
@pass_settings
def size(settings: Settings, layer: str) -> None:
    """Show how much the files of the layer hold, in bytes: what Docker calls a layer's size."""
    with settings.store() as store:
        found = store.layer(layer)
        data_size, tar_size = found.data_size, found.size
    if settings.out.json:
        settings.out.document({"id": found.id, "data_size": data_size, "size": tar_size})
    else:
        settings.out.line(str(data_size))
