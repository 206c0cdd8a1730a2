"""`completion`: what a shell must run to complete our commands, options and names."""

from __future__ import annotations

import click

from windowsfilter.cli.commands import Command, pass_settings
from windowsfilter.cli.settings import Settings

_SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(_SHELLS))
@pass_settings
def completion(settings: Settings, shell: str) -> None:
    r"""Print a script that makes SHELL complete commands, options, images, layers and paths.

    \b
    bash:  eval "$(windowsfilter completion bash)"    in ~/.bashrc (bash 4.4 or newer)
    zsh:   eval "$(windowsfilter completion zsh)"     in ~/.zshrc, after compinit
    fish:  windowsfilter completion fish > ~/.config/fish/completions/windowsfilter.fish
    """
    from click.shell_completion import ShellComplete, get_completion_class

    from windowsfilter.cli.program import COMPLETE_VARIABLE, NAME, program

    found = get_completion_class(shell)
    assert found is not None
    # The general `source`: bash's own starts a bash here to ask for its version.
    script = ShellComplete.source(found(program, {}, NAME, COMPLETE_VARIABLE))
    settings.out.line(script, end="")
