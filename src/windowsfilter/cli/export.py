"""Windows volumes of images: `export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from windowsfilter.cli.commands import Command, pass_settings
from windowsfilter.cli.mounts import view_of_mount
from windowsfilter.cli.parameters import SIZE, image_argument
from windowsfilter.cli.settings import Settings

if TYPE_CHECKING:
    from windowsfilter.store.exporting import Exported

_SHOWN_LOSSES = 20


@click.command(cls=Command)
@image_argument
@click.option(
    "--to-ntfs",
    type=click.Path(path_type=Path),
    metavar="DEVICE-or-FILE",
    help="An NTFS volume: in a new file, or over all of a block device.",
)
@click.option("--to-wim", type=click.Path(path_type=Path), metavar="FILE", help="A WIM.")
@view_of_mount
@click.option(
    "--force",
    is_flag=True,
    help="Replace FILE if it is there; write to a device, which is refused without it. A device that "
    "is in use or not empty is refused all the same.",
)
@click.option(
    "--skip-unsupported",
    is_flag=True,
    help="Go on without what the result cannot hold, and list it. Default: refuse, naming the entry.",
)
@click.option("--label", metavar="TEXT", help="Label of the volume. Default: none.")
@click.option(
    "--size", type=SIZE, metavar="SIZE", help="Of a volume in a file. Default: what fits."
)
@click.option(
    "--compress",
    "compression",
    type=click.Choice(["none", "xpress", "lzx", "lzms"]),
    help="How to pack a WIM. Default: xpress.",
)
@pass_settings
def export(
    settings: Settings,
    image: str,
    to_ntfs: Path | None,
    to_wim: Path | None,
    view: str,
    force: bool,
    skip_unsupported: bool,
    label: str | None,
    size: int | None,
    compression: str | None,
) -> None:
    """Make a Windows volume of IMAGE: with descriptors, attributes, times, streams and links.

    Needs root and the programs of ntfs-3g (package ntfs-3g), for a WIM also wimlib's (package
    wimtools). Nothing is left of FILE if it fails, and no volume on a device. A WIM has no place for
    change times and extended attributes.
    """
    from windowsfilter.cli.targets import find

    if (to_ntfs is None) == (to_wim is None):
        raise click.UsageError("Give one of --to-ntfs and --to-wim")
    if to_ntfs is None and (label is not None or size is not None):
        raise click.UsageError("--label and --size are for --to-ntfs")
    if to_wim is None and compression is not None:
        raise click.UsageError("--compress is for --to-wim")
    out = settings.out
    with settings.store() as store, out.progress() as progress:
        found = find(store, image)
        if to_ntfs is not None:
            exported = found.export_ntfs(
                to_ntfs,
                view=view,
                force=force,
                skip_unsupported=skip_unsupported,
                label=label,
                size=size,
                progress=progress,
            )
        else:
            assert to_wim is not None
            exported = found.export_wim(
                to_wim,
                view=view,
                force=force,
                skip_unsupported=skip_unsupported,
                compression=compression or "xpress",
                progress=progress,
            )
    _tell(settings, image, to_ntfs or to_wim, exported)


def _tell(settings: Settings, image: str, target: Path | None, exported: Exported) -> None:
    from windowsfilter.ui import documents, figures
    from windowsfilter.ui.text import decode

    out = settings.out
    if out.json:
        out.document(documents.exported(exported))
        return
    written = exported.written
    counts = (
        (written.directories, "directory", "directories"),
        (written.files, "file", ""),
        (written.links, "more name", ""),
        (written.streams, "stream", ""),
    )
    counted = ", ".join(figures.count(*each) for each in counts if each[0])
    out.message(
        f"Exported {image} to {target}: {counted}, {figures.size(written.data_bytes)} of data"
    )
    lost = exported.not_carried
    for loss in lost[:_SHOWN_LOSSES]:
        out.message(f"not carried: {decode(loss.path)}: {loss.what}")
    if len(lost) > _SHOWN_LOSSES:
        out.message(f"not carried: {len(lost) - _SHOWN_LOSSES} more, which --json lists")
