"""Images in and out of the store: `load`, `save`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

import click

from windowsfilter.cli.commands import Command, pass_settings
from windowsfilter.cli.parameters import IMAGE, SIZE
from windowsfilter.cli.settings import Settings

_STANDARD = "-"


@click.command(cls=Command)
@click.argument("source", type=click.Path(allow_dash=True, readable=False))
@click.option("-t", "--tag", "tags", multiple=True, metavar="TAG", help="One more tag; repeatable.")
@click.option(
    "--platform",
    metavar="OS/ARCH[,osver=VERSION]",
    help="Which image of several: windows/amd64,osver=10.0.20348. Default: the newest Windows.",
)
@click.option(
    "--verify/--no-verify",
    default=True,
    help="Refuse layers that are not what digests and config say, and Windows metadata that cannot "
    "be used (default), or take them as they are; `inspect` lists what is wrong.",
)
@click.option(
    "--keep-compressed",
    is_flag=True,
    help="Keep the compressed bytes too, so that a saved image has the same manifest digest.",
)
@click.option("--max-entries", type=click.IntRange(1), help="Entries of one layer.")
@click.option("--max-ratio", type=click.IntRange(1), help="Unpacked to packed bytes of one layer.")
@click.option("--max-bytes", type=SIZE, metavar="SIZE", help="Unpacked bytes of one layer.")
@pass_settings
def load(
    settings: Settings,
    source: str,
    tags: tuple[str, ...],
    platform: str | None,
    verify: bool,
    keep_compressed: bool,
    max_entries: int | None,
    max_ratio: int | None,
    max_bytes: int | None,
) -> None:
    """Load the images of SOURCE.

    SOURCE is an OCI layout (folder or tar), a docker archive (`docker save`), packed or not, or -
    for standard input. Each image comes in whole or not at all.
    """
    from dataclasses import replace

    from windowsfilter.engines.portable.import_terms import DEFAULT_LIMITS
    from windowsfilter.ui import documents, figures

    limits = {"max_entries": max_entries, "max_ratio": max_ratio, "max_bytes": max_bytes}
    out = settings.out
    with settings.store(create=True) as store, out.progress() as progress:
        images = store.load_all(
            sys.stdin.buffer if source == _STANDARD else source,
            platform=platform,
            verify=verify,
            keep_compressed=keep_compressed,
            limits=replace(DEFAULT_LIMITS, **{k: v for k, v in limits.items() if v is not None}),
            tags=tags,
            progress=progress,
        )
        loaded = [documents.image(image) for image in images]
    if out.json:
        out.document({"images": loaded})
        return
    for image in loaded:
        if out.quiet:
            out.line(image["id"])
            continue
        names = ", ".join(image["references"]) or "without a tag"
        layers = figures.count(len(image["layers"]), "layer")
        out.line(f"Loaded {names}: {image['id']} ({layers}, {figures.size(image['size'])})")


@click.command(cls=Command)
@click.argument("images", type=IMAGE, nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="The file; a folder if it ends in / (oci only); - for standard output.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["oci", "docker"]),
    default="oci",
    show_default=True,
    help="OCI image layout, or docker archive (which is an OCI layout too).",
)
@click.option(
    "--compression",
    type=click.Choice(["none", "gzip", "zstd"]),
    help="How to pack layers. Default: kept compressed bytes as they came, gzip for others.",
)
@pass_settings
def save(
    settings: Settings, images: tuple[str, ...], output: str, form: str, compression: str | None
) -> None:
    """Write images as an OCI layout or docker archive.

    Unpacked again, every layer is byte for byte what was loaded. Nothing is left of FILE if it fails.
    """
    out = settings.out
    to_stdout = output == _STANDARD
    target: str | BinaryIO = out.data("save") if to_stdout else output
    with settings.store() as store, out.progress() as progress:
        store.save(images, target, format=form, compression=compression, progress=progress)
    if to_stdout:
        return
    if out.json:
        out.document({"file": str(Path(output).absolute()), "format": form, "images": list(images)})
    else:
        out.message(f"Saved {', '.join(images)} to {output}")
