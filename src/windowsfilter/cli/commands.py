"""Our kind of click command: global options in every place, exit codes in every `--help`.

`--root`, `--json`, `--mount-engine`, `-v` and `-q` are options of the program, of each group and of
each command, so they may stand before or after the command's name. Commands are imported when they
are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from windowsfilter import errors
from windowsfilter.cli.settings import ROOT_VARIABLE, Settings

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

EXIT_CODES = {
    0: "done",
    errors.WindowsFilterError.exit_code: "a bug in this program",
    errors.UsageError.exit_code: "the request was impossible: a wrong name, path or option, something in use",
    errors.FormatError.exit_code: "bytes from outside are wrong: a damaged, unfit or hostile file",
    errors.HostError.exit_code: "this machine failed: a full disk, a missing right or feature",
    INTERRUPTED: "interrupted",
}

pass_settings = click.make_pass_decorator(Settings)

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class GlobalOption(click.Option):
    """An option that writes into the Settings instead of reaching the command's function."""


def _global_options() -> list[click.Parameter]:
    return [
        GlobalOption(
            ["--root"],
            # Whose it is, opening it tells better than click does.
            type=click.Path(path_type=Path, readable=False),
            metavar="DIR",
            expose_value=False,
            callback=_set_root,
            help=f"The store. Default: ${ROOT_VARIABLE}, /var/lib/windowsfilter for root, "
            "the user's data folder for others.",
        ),
        GlobalOption(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_set_json,
            help="Print results as JSON, errors too.",
        ),
        GlobalOption(
            ["--mount-engine"],
            metavar="NAME",
            expose_value=False,
            callback=_set_engine,
            help="Mount with this engine only; `info` lists them.",
        ),
        GlobalOption(
            ["-v", "--verbose"],
            count=True,
            expose_value=False,
            callback=_more_verbose,
            help="Say more; twice: say everything.",
        ),
        GlobalOption(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            callback=_set_quiet,
            help="No progress and no messages; lists show names or ids only.",
        ),
    ]


def _set_root(context: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.ensure_object(Settings).root = value


def _set_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Settings).out.json = True


def _set_engine(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Settings).mount_engine = value


def _more_verbose(context: click.Context, _: click.Parameter, value: int) -> None:
    context.ensure_object(Settings).out.verbosity += value


def _set_quiet(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Settings).out.verbosity = -1


class Command(click.Command):
    """A command with the global options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", _CONTEXT)
        super().__init__(*args, **kwargs)
        self.params += _global_options()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _format_options(self, ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        _format_exit_codes(formatter)


class Group(click.Group):
    """A group of commands with the global options; `lazy` is name -> `module:attribute`."""

    command_class = Command

    def __init__(self, *args: Any, lazy: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", _CONTEXT)
        super().__init__(*args, **kwargs)
        self._lazy = dict(lazy or {})
        self.params += _global_options()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """A group alone is an error that shows its help; versions of click differ in that."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(errors.UsageError.exit_code)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's
        """In the order in which they were given, which is that of a user's work."""
        return [*self._lazy, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._lazy:
            module, _, attribute = self._lazy.pop(cmd_name).partition(":")
            self.add_command(getattr(import_module(module), attribute), cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _format_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        _format_exit_codes(formatter)


Group.group_class = Group


def _format_options(
    command: click.Command, context: click.Context, formatter: click.HelpFormatter
) -> None:
    """The command's own options first, the global ones under a title of their own."""
    own: list[tuple[str, str]] = []
    shared: list[tuple[str, str]] = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        # Arguments are in the usage line and the text; only some versions of click list them.
        if record is not None and isinstance(parameter, click.Option):
            (shared if isinstance(parameter, GlobalOption) else own).append(record)
    for title, records in (("Options", own), ("Global options, in any place", shared)):
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


def _format_exit_codes(formatter: click.HelpFormatter) -> None:
    with formatter.section("Exit codes"):
        formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])
