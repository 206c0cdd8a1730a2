"""Scratches: `scratch create|ls|rm|mount|umount|diff|commit`, and changes without a mount.

Those of metadata are in scratch_metadata.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from windowsfilter.cli.commands import Group, pass_settings
from windowsfilter.cli.mounts import directory_argument, view_of_mount
from windowsfilter.cli.parameters import PATH, SCRATCH, image_argument
from windowsfilter.cli.scratch_metadata import acl, attrib, inside_option, name_argument, touch
from windowsfilter.cli.settings import Settings
from windowsfilter.cli.streams import copied_to

if TYPE_CHECKING:
    from windowsfilter import View

_STANDARD = "-"
_PIECE = 1 << 20


@click.group(cls=Group)
def scratch() -> None:
    """Change an image: writable layers over it, each with a name.

    A scratch is changed through a mount (needs root), or without one by `write`, `mkdir`, `rename`
    and `remove`, its metadata by `acl`, `attrib` and `touch`. `diff` tells what changed, `commit` makes
    an image of it.
    """


@scratch.command("create")
@click.argument("name")
@image_argument
@pass_settings
def create(settings: Settings, name: str, image: str) -> None:
    """Make an empty scratch NAME over IMAGE."""
    from windowsfilter.ui import documents

    with settings.store() as store:
        made = store.create_scratch(name, image)
        if settings.out.json:
            settings.out.document(documents.scratch(made))
        else:
            settings.out.message(f"Made scratch {made.name} over {image}")


@scratch.command("ls")
@pass_settings
def list_scratches(settings: Settings) -> None:
    """List the scratches, the newest first."""
    from windowsfilter.ui import documents, pages

    out = settings.out
    with settings.store(create=True) as store:
        found = store.scratches()
        if out.json:
            out.document([documents.scratch(each) for each in found])
        elif out.quiet:
            out.lines(each.name for each in found)
        else:
            out.table(pages.scratches(found, store.images()))


@scratch.command("rm")
@click.argument("names", type=SCRATCH, nargs=-1, required=True, metavar="NAME...")
@pass_settings
def remove_scratches(settings: Settings, names: tuple[str, ...]) -> None:
    """Remove scratches with all that was written into them."""
    from windowsfilter.ui import documents

    with settings.store() as store:
        removed = [documents.removed(store.remove_scratch(name)) for name in names]
    if settings.out.json:
        settings.out.document({"removed": removed, "bytes": sum(each["bytes"] for each in removed)})
    else:
        settings.out.message(f"Removed {', '.join(names)}")


@scratch.command("mount")
@name_argument
@directory_argument
@view_of_mount
@pass_settings
def mount(settings: Settings, name: str, directory: Path, view: str) -> None:
    """Show the scratch at the folder DIR, writable, until `scratch umount`."""
    from windowsfilter.ui import documents

    with settings.store() as store:
        mounted = store.scratch(name).mount(directory, view=view)
    if settings.out.json:
        settings.out.document(documents.mount(mounted))
    else:
        settings.out.message(f"Mounted {name} at {directory}")


@scratch.command("umount")
@name_argument
@click.option("-l", "--lazy", is_flag=True, help="Now, although it is in use; those finish.")
@pass_settings
def umount(settings: Settings, name: str, lazy: bool) -> None:
    """Take the mount of the scratch away. What was written stays."""
    with settings.store() as store:
        store.scratch(name).unmount(lazy=lazy)
    if settings.out.json:
        settings.out.document({"unmounted": name})
    else:
        settings.out.message(f"Unmounted {name}")


@scratch.command("diff")
@name_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="Write the layer tar that a commit would store instead; - for standard output.",
)
@pass_settings
def diff(settings: Settings, name: str, output: str | None) -> None:
    """List what the scratch adds, modifies and deletes."""
    from windowsfilter.ui import documents, pages

    out = settings.out
    with settings.store() as store:
        found = store.scratch(name)
        if output is not None:
            target = out.data("scratch diff") if output == _STANDARD else output
            with found.diff() as tar:
                copied_to(target, tar)
        elif out.json:
            out.documents(documents.change(change) for change in found.changes())
        else:
            out.lines(pages.changes(found.changes()))


@scratch.command("commit")
@name_argument
@click.argument("tag")
@pass_settings
def commit(settings: Settings, name: str, tag: str) -> None:
    """Make a layer of the changes, and an image TAG with it on top. The scratch stays."""
    from windowsfilter.ui import documents

    out = settings.out
    with settings.store() as store:
        image = documents.image(store.scratch(name).commit(tag))
    if out.json:
        out.document(image)
    elif out.quiet:
        out.line(image["id"])
    else:
        out.line(f"Committed {', '.join(image['references'])}: {image['id']}")


# -- without a mount --------------------------------------------------------------------------


@scratch.command("write")
@name_argument
@click.argument("path", type=PATH)
@click.argument("file", type=click.File("rb"), default=_STANDARD, metavar="[FILE|-]")
@inside_option
@pass_settings
def write(settings: Settings, name: str, path: str, file: BinaryIO, inside: str) -> None:
    """Give the file PATH the content of FILE or standard input; it is made if it is missing.

    `file.txt:stream` is an alternate data stream.
    """
    with settings.store() as store:
        store.scratch(name).write_bytes(path, _pieces(file), view=_view(inside))
    _done(settings, "write", path)


@scratch.command("mkdir")
@name_argument
@click.argument("path", type=PATH)
@click.option("-p", "--parents", is_flag=True, help="Those above it too; it may exist.")
@inside_option
@pass_settings
def mkdir(settings: Settings, name: str, path: str, parents: bool, inside: str) -> None:
    """Make the directory PATH."""
    with settings.store() as store:
        store.scratch(name).mkdir(path, parents=parents, exist_ok=parents, view=_view(inside))
    _done(settings, "mkdir", path)


@scratch.command("remove")
@name_argument
@click.argument("path", type=PATH)
@click.option("-r", "--recursive", is_flag=True, help="A directory with all that is in it.")
@inside_option
@pass_settings
def remove(settings: Settings, name: str, path: str, recursive: bool, inside: str) -> None:
    """Delete a file, link, stream or empty directory."""
    with settings.store() as store:
        store.scratch(name).remove(path, recursive=recursive, view=_view(inside))
    _done(settings, "remove", path)


@scratch.command("rename")
@name_argument
@click.argument("path", type=PATH)
@click.argument("to", type=PATH)
@click.option("-f", "--replace", is_flag=True, help="Overwrite a file that is there.")
@inside_option
@pass_settings
def rename(settings: Settings, name: str, path: str, to: str, replace: bool, inside: str) -> None:
    """Move PATH to TO, with all its metadata and streams."""
    with settings.store() as store:
        store.scratch(name).rename(path, to, replace=replace, view=_view(inside))
    _done(settings, "rename", path)


@scratch.command("read")
@name_argument
@click.argument("path", type=PATH)
@inside_option
@pass_settings
def read(settings: Settings, name: str, path: str, inside: str) -> None:
    """Write the content of the file or stream PATH to standard output."""
    with settings.store() as store:
        data = store.scratch(name).read_bytes(path, view=_view(inside))
    settings.out.content().write(data)


@scratch.command("dir")
@name_argument
@click.argument("path", type=PATH, default="")
@inside_option
@pass_settings
def list_directory(settings: Settings, name: str, path: str, inside: str) -> None:
    """List the names in the directory PATH."""
    with settings.store() as store:
        names = store.scratch(name).listdir(path, view=_view(inside))
    if settings.out.json:
        settings.out.document(names)
    else:
        settings.out.lines(names)


for _command in (acl, attrib, touch):
    scratch.add_command(_command)


def _view(inside: str) -> View:
    from windowsfilter import View

    return View(inside)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


def _done(settings: Settings, operation: str, path: str) -> None:
    """Programs get a word that it is done; people hear of failures only, as from `mv`."""
    if settings.out.json:
        settings.out.document({"operation": operation, "path": path})
