"""The whole command: its families, one run of it, and what a failure becomes.

Exit codes come from the error classes (`errors`). An error is one line on stderr, with `--json` one
JSON object in a line after it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import click

from windowsfilter.cli.commands import INTERRUPTED, Group
from windowsfilter.cli.descriptors import raise_limit
from windowsfilter.cli.settings import Settings
from windowsfilter.errors import HostError, UsageError, WindowsFilterError
from windowsfilter.ui.output import complain, complain_in_json, output_error

NAME = "windowsfilter"
COMPLETE_VARIABLE = "_WINDOWSFILTER_COMPLETE"
_BROKEN_PIPE = 141  # 128 + SIGPIPE: what shells show for a program that the signal ended

_EXPECTED = (click.ClickException, WindowsFilterError, OSError, MemoryError)

_HERE = "windowsfilter.cli"


@click.group(
    cls=Group,
    name=NAME,
    lazy={
        "load": f"{_HERE}.transfer:load",
        "images": f"{_HERE}.images:images",
        "inspect": f"{_HERE}.images:inspect",
        "tag": f"{_HERE}.images:tag",
        "rmi": f"{_HERE}.images:rmi",
        "save": f"{_HERE}.transfer:save",
        "export": f"{_HERE}.export:export",
        "ls": f"{_HERE}.reading:ls",
        "stat": f"{_HERE}.reading:stat",
        "cat": f"{_HERE}.reading:cat",
        "tree": f"{_HERE}.searching:tree",
        "find": f"{_HERE}.searching:find",
        "mount": f"{_HERE}.mounts:mount",
        "umount": f"{_HERE}.mounts:umount",
        "scratch": f"{_HERE}.scratch:scratch",
        "layer": f"{_HERE}.layer:layer",
        "info": f"{_HERE}.upkeep:info",
        "du": f"{_HERE}.upkeep:du",
        "prune": f"{_HERE}.upkeep:prune",
        "completion": f"{_HERE}.completion:completion",
    },
)
@click.version_option(package_name=NAME, prog_name=NAME)
def program() -> None:
    r"""Keep Windows container layers: on any operating system, without unpacking them.

    IMAGE is a tag, an image id or a layer id, or a unique beginning of an id. PATH is a Windows
    path in any case, with \ or / between the names: C:\Windows\System32, windows/system32. It
    starts at what the container sees as C:\, or at Files/, Hives/ and UtilityVM/ for the whole of
    the layers.
    """


def main() -> int:
    """Run the command of this process; its exit code."""
    _end_by_exception(signal.SIGTERM)
    _end_by_exception(getattr(signal, "SIGHUP", None))
    raise_limit()
    return run(sys.argv[1:])


def run(arguments: Sequence[str]) -> int:
    """Run the command with these arguments; its exit code."""
    settings = Settings()
    arguments = list(arguments)
    code = 0
    try:
        with settings.closing:
            code = _run(arguments, settings)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader had enough (`windowsfilter ls ... | head`): that is no error worth a word.
        _forget_stdout()
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        code = _interrupted()
    except OSError as error:  # of the flush; if the command failed by that too, it has been said
        code = code or _fail(output_error(error), settings, arguments)
        _forget_stdout()
    return code


def _run(arguments: list[str], settings: Settings) -> int:
    try:
        instruction = os.environ.get(COMPLETE_VARIABLE)
        if instruction:
            from click.shell_completion import shell_complete

            return shell_complete(program, {"obj": settings}, NAME, COMPLETE_VARIABLE, instruction)
        with program.make_context(NAME, arguments, obj=settings) as context:
            program.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _interrupted()
    except Exception as error:  # the top of the process
        if _is_broken_pipe(error):
            raise BrokenPipeError from error
        return _fail(error, settings, arguments)
    return 0


def _is_broken_pipe(error: BaseException | None) -> bool:
    """Whether the reader of our output went away, also if the library gave that another name."""
    while error is not None and not isinstance(error, BrokenPipeError):
        error = error.__cause__ if isinstance(error, HostError) else None
    return error is not None


def _fail(error: Exception, settings: Settings, arguments: Sequence[str]) -> int:
    """Say what went wrong; returns the exit code."""
    message, code = _described(error)
    if not isinstance(error, _EXPECTED):
        code = WindowsFilterError.exit_code
        if settings.out.verbosity > 0:
            import traceback

            traceback.print_exception(error)
        else:
            message += "; this is a bug, -v shows where"
    complain(f"{NAME}: {message}")
    # An error in the options may come before `--json` was read.
    if settings.out.json or "--json" in arguments:
        offset = getattr(error, "offset", None)
        complain_in_json(
            {
                "error": type(error).__name__,
                "message": message,
                "exit_code": code,
                **({} if offset is None else {"offset": offset}),
            }
        )
    return code


def _described(error: Exception) -> tuple[str, int]:
    """The message and the exit code of an error."""
    if isinstance(error, click.ClickException):
        message = error.format_message().rstrip(".")
        context = getattr(error, "ctx", None)
        if isinstance(context, click.Context):
            message += f" (see {context.command_path} --help)"
        return message, UsageError.exit_code
    if isinstance(error, HostError):
        return _without_number(error), error.exit_code
    if isinstance(error, WindowsFilterError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        return _without_number(error), HostError.exit_code
    if isinstance(error, MemoryError):
        return "out of memory", HostError.exit_code
    return f"{type(error).__name__}: {error}", WindowsFilterError.exit_code


def _without_number(error: OSError) -> str:
    """The words of an error without Python's `[Errno 95]` in front; the file is named once."""
    words = error.strerror or str(error)
    name = error.filename
    if name is None or (os.fsdecode(name) if isinstance(name, bytes) else str(name)) in words:
        return words
    return f"{name!r}: {words}"


def _interrupted() -> int:
    complain(f"{NAME}: interrupted")
    return INTERRUPTED


def _end_by_exception(number: int | None) -> None:
    """Let a signal end the process as Ctrl-C does: whatever is open closes, nothing is left."""

    def leave(number: int, _: FrameType | None) -> Any:
        raise SystemExit(128 + number)

    if number is not None and signal.getsignal(number) is signal.SIG_DFL:
        signal.signal(number, leave)


def _forget_stdout() -> None:
    """Send what is still buffered nowhere, or Python would complain about it when it ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass  # not a real file (in tests)
