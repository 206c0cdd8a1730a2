from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import click
import pytest

from tests.support.command import Command, Stream
from windowsfilter import errors
from windowsfilter.cli import program
from windowsfilter.cli.commands import EXIT_CODES, GlobalOption, Group, pass_settings
from windowsfilter.cli.settings import Settings


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path / "store")


def every_command(group: Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    context = click.Context(group)
    found = []
    for name in group.list_commands(context):
        child = group.get_command(context, name)
        found.append((*path, name))
        if isinstance(child, Group):
            found += every_command(child, (*path, name))
    return found


EVERY_COMMAND = every_command(program.program)


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `images` fail with `error`."""

    @click.command(cls=program.program.command_class)
    @pass_settings
    def images(_: Settings) -> None:
        raise error

    monkeypatch.setitem(program.program.commands, "images", images)


# -- help -------------------------------------------------------------------------------------


def test_the_commands_of_the_design_are_there() -> None:
    names = {" ".join(path) for path in EVERY_COMMAND}
    for group, commands in {
        "": "load images inspect rmi tag save ls stat cat tree find mount umount info du prune",
        "layer": "ls inspect changes diff size",
        "scratch": "create ls rm mount umount diff commit write mkdir remove rename",
    }.items():
        assert names >= {f"{group} {name}".strip() for name in commands.split()}


@pytest.mark.parametrize("path", [(), *EVERY_COMMAND], ids=" ".join)
def test_every_help_tells_global_options_and_exit_codes(
    command: Command, path: tuple[str, ...]
) -> None:
    shown = command.ok(*path, "--help").text
    for option in ("--root", "--json", "--mount-engine", "--verbose", "--quiet"):
        assert option in shown
    for code, meaning in EXIT_CODES.items():
        assert f"  {code} " in shown
        assert " ".join(meaning.split()[:4]) in " ".join(shown.split())
    assert command.ok(*path, "-h").text == shown


def test_exit_codes_in_the_help_are_those_of_the_error_classes() -> None:
    assert set(EXIT_CODES) == {0, 1, 2, 3, 4, 130}
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.WindowsFilterError):
            assert value.exit_code in EXIT_CODES, name


@pytest.mark.parametrize("arguments", [["--help"], ["scratch", "--help"], ["load", "--help"]])
def test_help_imports_click_and_little_else(arguments: list[str]) -> None:
    code = (
        "import sys; from windowsfilter.cli.program import run; run(sys.argv[1:]); "
        "print(*sys.modules, file=sys.stderr)"
    )
    # Measuring coverage in the child would import most of these itself.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"rich", "sqlite3", "msgspec", "json", "ctypes", "isal", "subprocess", "logging"}
    heavy |= {"windowsfilter.store", "windowsfilter.engines", "windowsfilter.images"}
    assert not heavy & set(done.stderr.split())


def test_no_command_at_all_shows_the_help_as_an_error(command: Command) -> None:
    with redirect_stdout(Stream()), redirect_stderr(Stream()) as err:
        assert program.run([]) == 2
    assert err.kept.getvalue().startswith(b"Usage: windowsfilter")


def test_the_version_is_told(command: Command) -> None:
    assert command.ok("--version").text.startswith("windowsfilter, version ")


# -- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EVERY_COMMAND, ids=" ".join)
def test_global_options_belong_to_every_command(path: tuple[str, ...]) -> None:
    found: click.Command | None = program.program
    for name in path:
        assert isinstance(found, Group)
        found = found.get_command(click.Context(found), name)
    assert found is not None
    names = {p.name for p in found.params if isinstance(p, GlobalOption)}
    assert names == {"root", "json", "mount_engine", "verbose", "quiet"}
    # And nothing of their own takes the same letters.
    letters = [option for p in found.params for option in p.opts if option.startswith("-")]
    assert len(letters) == len(set(letters))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--json", "--root", "{}", "layer", "ls"],
        ["layer", "--json", "--root", "{}", "ls"],
        ["layer", "ls", "--json", "--root", "{}"],
        ["--json", "layer", "--root", "{}", "ls"],
        ["--root", "/nowhere/else", "layer", "ls", "--json", "--root", "{}"],
    ],
)
def test_global_options_may_stand_in_any_place(tmp_path: Path, arguments: list[str]) -> None:
    with redirect_stdout(Stream()) as out, redirect_stderr(Stream()):
        code = program.run([word.format(tmp_path / "store") for word in arguments])
    assert (code, out.kept.getvalue()) == (0, b"[]\n")
    assert (tmp_path / "store" / "store.json").exists()


# -- failures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.UsageError("no such thing"), 2, "no such thing"),
        (errors.FormatError("bad", offset=7), 3, "bad (at byte 7)"),
        (errors.HostError("disk is full"), 4, "disk is full"),
        (errors.HostError(errno.EPERM, "mount: not allowed"), 4, "mount: not allowed"),
        (FileNotFoundError(errno.ENOENT, "Gone", "/x"), 4, "'/x': Gone"),
        (MemoryError(), 4, "out of memory"),
        (errors.WindowsFilterError("odd"), 1, "odd"),
        (ValueError("a bug"), 1, "ValueError: a bug; this is a bug, -v shows where"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (errors.FormatError("name \x1b[2J\nnext"), 3, "name \\x1b[2J\\x0anext"),
    ],
)
def test_an_error_is_one_line_and_its_class_the_exit_code(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    message: str,
) -> None:
    raising(monkeypatch, error)
    done = command("images")
    assert (done.code, done.err, done.out) == (code, f"windowsfilter: {message}\n", b"")


def test_errors_are_json_too_where_results_are(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(monkeypatch, errors.DigestMismatch("layer 1: other bytes", offset=12))
    first, second = command("images", "--json").err.splitlines()
    assert first == "windowsfilter: layer 1: other bytes (at byte 12)"
    assert json.loads(second) == {
        "error": "DigestMismatch",
        "message": "layer 1: other bytes (at byte 12)",
        "exit_code": 3,
        "offset": 12,
    }


def test_a_bug_shows_where_it_is_when_asked(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(monkeypatch, ValueError("a bug"))
    done = command("images", "-v")
    assert done.code == 1
    assert "Traceback" in done.err
    assert done.err.endswith("windowsfilter: ValueError: a bug\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command 'nonsense' (see windowsfilter --help)"),
        (["ls"], "Missing argument 'IMAGE' (see windowsfilter ls --help)"),
        (["layer", "ls", "--nonsense"], "No such option '--nonsense'"),
        (["save", "x", "-o", "y", "--format", "zip"], "'zip' is not one of"),
        (["find", "x", "--type", "fz"], "'fz': write one or more of f, d, l, j"),
        (["mount", "x"], "Missing argument 'DIR' (see windowsfilter mount --help)"),
    ],
)
def test_wrong_arguments_are_the_callers_fault(
    command: Command, arguments: list[str], message: str
) -> None:
    done = command(*arguments)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert message.replace("'", "") in done.err.replace("'", "").replace(": --", " --")


def test_wrong_arguments_are_told_in_json_before_options_are_read(command: Command) -> None:
    done = command("ls", "--json")
    assert json.loads(done.err.splitlines()[1])["exit_code"] == 2


def test_a_reader_that_went_away_is_no_error(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = errors.HostError("write the archive: Broken pipe")
    broken.__cause__ = BrokenPipeError()
    for error in (broken, BrokenPipeError()):
        raising(monkeypatch, error)
        done = command("images")
        assert (done.code, done.err) == (141, "")
