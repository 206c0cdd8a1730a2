"""Windows metadata of entries in a scratch: `scratch acl|attrib|touch`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from windowsfilter.cli.commands import Command, pass_settings
from windowsfilter.cli.parameters import PATH, SCRATCH, TIME
from windowsfilter.cli.settings import Settings

if TYPE_CHECKING:
    from windowsfilter.ntfs.attributes import FileAttribute

_CHANGE = re.compile(r"[+-][A-Za-z]+\Z")

name_argument = click.argument("name", type=SCRATCH)
path_argument = click.argument("path", type=PATH)
inside_option = click.option(
    "--view",
    "inside",
    type=click.Choice(["volume", "layer"]),
    default="volume",
    show_default=True,
    help="volume: PATH starts at C:\\; layer: at the root of the layers.",
)


@click.command("acl", cls=Command)
@name_argument
@path_argument
@click.option("--sddl", metavar="TEXT", help="Set this descriptor, exactly.")
@click.option(
    "--inherited",
    is_flag=True,
    help="Set what it would get if it were made in its directory now; the owner stays.",
)
@click.option("--owner", metavar="SID", help="S-1-5-18, or an alias of SDDL: SY, BA.")
@click.option("--group", metavar="SID", help="The primary group, likewise.")
@click.option("--domain", metavar="SID", help="What aliases such as DA stand below.")
@click.option("-r", "--recursive", is_flag=True, help="And on all below it, directories first.")
@inside_option
@pass_settings
def acl(
    settings: Settings,
    name: str,
    path: str,
    sddl: str | None,
    inherited: bool,
    owner: str | None,
    group: str | None,
    domain: str | None,
    recursive: bool,
    inside: str,
) -> None:
    """Show or change the security descriptor of PATH.

    Without options it is printed as SDDL, as it is now: that of a new entry as it inherits it.
    Changing a directory changes nothing below it; `--inherited -r` on what is below does.
    """
    from windowsfilter.ui import documents

    with settings.store() as store:
        scratch = store.scratch(name)
        if sddl is None and not inherited and owner is None and group is None:
            descriptor = scratch.security(path, view=inside)
            if settings.out.json:
                settings.out.document({"path": path, **documents.security(descriptor)})
            else:
                settings.out.line("none" if descriptor is None else descriptor.to_sddl() or "empty")
            return
        scratch.set_security(
            path,
            sddl,
            inherited=inherited,
            owner=owner,
            group=group,
            domain=domain,
            recursive=recursive,
            view=inside,
        )
    _done(settings, "acl", path)


class _Attrib(Command):
    """`-h` and `-r` are changes here, but `-h` alone asks for help as everywhere."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["--help"] if args[:1] == ["-h"] else args)


@click.command(
    "attrib",
    cls=_Attrib,
    context_settings={
        "help_option_names": ["--help"],
        "ignore_unknown_options": True,
        "max_content_width": 100,
    },
)
@name_argument
@path_argument
@click.argument("changes", nargs=-1, metavar="[+r|-r|+h|-h|...]...")
@click.option("--recursive", is_flag=True, help="And of all below it.")
@inside_option
@pass_settings
def attrib(
    settings: Settings,
    name: str,
    path: str,
    changes: tuple[str, ...],
    recursive: bool,
    inside: str,
) -> None:
    """Show or change the attributes of PATH.

    Letters are those of `attrib`: R read-only, H hidden, S system, A archive, O offline, I not
    indexed, and T temporary; in either case, several at once: +rh -a. Others describe what a
    file is, and cannot be set. Without changes the attributes are printed.
    """
    from windowsfilter.ntfs import attributes

    add, remove = _parsed(changes)
    with settings.store() as store:
        scratch = store.scratch(name)
        if not changes:
            mask = scratch.basic_info(path, view=inside).attributes
            words = attributes.describe(mask)
            if settings.out.json:
                settings.out.document({"path": path, "attributes": mask, "words": words})
            else:
                settings.out.line(f"{', '.join(words) or 'none'} ({mask:#x})")
            return
        scratch.set_attributes(path, add=add, remove=remove, recursive=recursive, view=inside)
    _done(settings, "attrib", path)


def _parsed(changes: tuple[str, ...]) -> tuple[int, int]:
    """(attributes to set, attributes to clear)"""
    from windowsfilter.ntfs import attributes

    masks = {"+": 0, "-": 0}
    for change in changes:
        if not _CHANGE.match(change):
            raise click.UsageError(f"{change!r} is no change of attributes, write +r or -r")
        for letter in change[1:]:
            flag: FileAttribute | None = attributes.from_letter(letter)
            if flag is None:
                raise click.UsageError(f"{change!r}: no attribute has the letter {letter!r}")
            masks[change[0]] |= int(flag)
    return masks["+"], masks["-"]


@click.command("touch", cls=Command)
@name_argument
@path_argument
@click.option("--created", type=TIME, metavar="TIME", help="When it was made.")
@click.option("--written", type=TIME, metavar="TIME", help="When its data was written last.")
@click.option("--accessed", type=TIME, metavar="TIME", help="When it was read last.")
@click.option("--changed", type=TIME, metavar="TIME", help="When anything of it changed last.")
@click.option("--create", is_flag=True, help="Make an empty file if there is none.")
@click.option("-r", "--recursive", is_flag=True, help="And of all below it.")
@inside_option
@pass_settings
def touch(
    settings: Settings,
    name: str,
    path: str,
    created: int | None,
    written: int | None,
    accessed: int | None,
    changed: int | None,
    create: bool,
    recursive: bool,
    inside: str,
) -> None:
    """Set times of PATH, exact to 100 ns.

    TIME is as `stat` prints it, 2021-05-07 10:00:00.1234567, in UTC unless it ends in a zone; digits may
    be missing at the end. `now` is now. Without any time, PATH was written and read now. The change
    time is now, unless it is given.
    """
    times = {"creation": created, "write": written, "access": accessed, "change": changed}
    if all(time is None for time in times.values()):
        times["write"] = times["access"] = TIME.convert("now", None, None)
    with settings.store() as store:
        store.scratch(name).set_times(
            path, **times, create=create, recursive=recursive, view=inside
        )
    _done(settings, "touch", path)


def _done(settings: Settings, operation: str, path: str) -> None:
    if settings.out.json:
        document: dict[str, Any] = {"operation": operation, "path": path}
        settings.out.document(document)
