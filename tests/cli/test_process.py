"""The command as a process among others: pipes, signals, shells."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.chains import file, folder, tar
from tests.support.command import Command, on_path, write_layout

BASH = shutil.which("bash")


def test_the_command_is_installed_under_its_name(reader: Command) -> None:
    program = Path(sysconfig.get_path("scripts"), "windowsfilter")
    if not program.exists():
        pytest.skip("windowsfilter is not installed")
    done = subprocess.run(
        [program, "images", "-q", "--root", reader.root], capture_output=True, check=True
    )
    assert done.stdout.startswith(b"sha256:")


def test_a_reader_that_stops_early_ends_the_command_quietly(
    command: Command, tmp_path: Path
) -> None:
    names = [file(f"Files/{number:05} {'x' * 100}") for number in range(2000)]
    command.ok("load", write_layout(tmp_path / "oci", tar([folder("Files"), *names])))
    process = command.process("ls", "demo:1")
    assert process.stdout is not None
    assert process.stdout.read(10) == b"00000 xxxx"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this machine cannot: no /dev/full")
def test_output_that_cannot_be_written_is_the_machines_fault(reader: Command) -> None:
    with open("/dev/full", "wb") as full:
        process = reader.process("ls", "demo:1", stdout=full)
        _, err = process.communicate()
    assert process.returncode == 4
    assert err == b"windowsfilter: write standard output: No space left on device\n"


def test_of_a_tar_that_does_not_fit_nothing_is_left(command: Command, tmp_path: Path) -> None:
    layer = tar([folder("Files"), file("Files/big", b"x" * (3 << 20))])
    command.ok("load", write_layout(tmp_path / "oci", layer))
    (layer_id,) = command.ok("layer", "ls", "-q").lines
    target = tmp_path / "layer.tar"
    process = command.process(
        *("layer", "diff", layer_id, "-o", target),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20)),
    )
    _, err = process.communicate()
    assert process.returncode == 4
    assert err.decode() == f"windowsfilter: write {target}: File too large\n"
    assert not target.exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_a_load_and_leaves_nothing(
    command: Command, number: signal.Signals, code: int
) -> None:
    command.json("images")
    # Without SIGINT's handler (as in a background job of a shell) Python does not see it at all.
    process = command.process(
        "load",
        "-",
        stdin=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdin is not None
    # More than a pipe holds: when all is written, the command is reading it.
    process.stdin.write(b"\0" * (1 << 20))
    process.stdin.flush()
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == code, err
    assert (b"interrupted" in err) == (code == 130)
    assert b"Traceback" not in err
    assert not list((command.root / "tmp").iterdir())
    assert command.json("images") == []


def completed(reader: Command, *words: str) -> list[str]:
    """What bash would offer for the last of `words`, which are as bash takes them apart."""
    if BASH is None:
        pytest.skip("bash is not installed")
    script = reader.ok("completion", "bash").text
    script += 'COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))\n'
    script += '_windowsfilter_completion windowsfilter\n[[ ${#COMPREPLY[@]} -eq 0 ]] || printf "%s\\n" "${COMPREPLY[@]}"\n'
    environment = {
        **os.environ,
        "WINDOWSFILTER_ROOT": str(reader.root),
        "PATH": on_path(reader.root.parent / "bin"),
    }
    done = subprocess.run(
        [BASH, "--norc", "-c", script, "bash", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_bash_completes_commands_options_and_names(reader: Command) -> None:
    layers = reader.ok("layer", "ls", "-q").lines
    assert completed(reader, "windowsfilter", "la") == ["layer"]
    assert completed(reader, "windowsfilter", "layer", "insp") == ["inspect"]
    assert completed(reader, "windowsfilter", "save", "--fo") == ["--format"]
    assert completed(reader, "windowsfilter", "save", "--format", "d") == ["docker"]
    assert completed(reader, "windowsfilter", "rmi", "de") == ["demo:1"]
    assert completed(reader, "windowsfilter", "layer", "inspect", "") == sorted(layers)


def test_bash_completes_names_with_colons_and_paths_with_spaces(reader: Command) -> None:
    assert completed(reader, "windowsfilter", "rmi", "demo", ":", "") == ["1"]
    assert completed(reader, "windowsfilter", "rmi", "demo", ":") == ["1"]
    image = ("windowsfilter", "ls", "demo", ":", "1")
    assert completed(reader, *image, "win") == ["Windows/"]
    assert completed(reader, *image, "windows/") == [
        "windows/System32/",
        "windows/win.ini",
        "windows/linked.ini",
    ]
    assert completed(reader, *image, "Docu") == ["Documents\\ and\\ Settings/"]


def test_completion_knows_scratches_and_never_fails(demo: Command) -> None:
    demo.ok("scratch", "create", "work", "demo:1")
    assert completed(demo, "windowsfilter", "scratch", "diff", "w") == ["work"]
    assert completed(demo, "windowsfilter", "ls", "nothing", "x") == []
    assert completed(Command(demo.root / "nowhere"), "windowsfilter", "rmi", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_complete(reader: Command, shell: str) -> None:
    script = reader.ok("completion", shell).text
    assert f"_WINDOWSFILTER_COMPLETE={shell}_complete" in script
    assert "%(" not in script
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n", "/dev/stdin"], input=script.encode(), check=True)


def test_python_runs_the_package() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "windowsfilter", "--version"], capture_output=True, check=True
    )
    assert done.stdout.startswith(b"windowsfilter, version ")
