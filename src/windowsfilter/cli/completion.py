"""`completion`: what a shell must run to complete our commands, options and names."""

from __future__ import annotations

import click

from windowsfilter.cli.commands import Command, pass_settings
from windowsfilter.cli.settings import Settings

_SHELLS = ("bash", "zsh", "fish")

# Not click's own: bash takes words apart at colons, which tags and streams have, and does not quote
# what it inserts, although names have spaces. So words are put together again, the part that bash
# believes to be finished is cut off the answers, and they are quoted.
_BASH = r"""%(complete_func)s() {
    local IFS=$'\n' type value word response done_part current=0 index
    local -a words=()
    for index in "${!COMP_WORDS[@]}"; do
        word=${COMP_WORDS[index]}
        if (( ${#words[@]} > 1 )) && [[ $word == :* || ${words[-1]} == *: ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        (( index == COMP_CWORD )) && current=$(( ${#words[@]} - 1 ))
    done
    done_part=
    [[ ${words[current]} == *:* ]] && done_part=${words[current]%%:*}:
    response=$(env COMP_WORDS="${words[*]}" COMP_CWORD="$current" \
        %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    while IFS=',' read -r type value; do
        case $type in
            dir) compopt -o dirnames 2>/dev/null ;;
            file) compopt -o default 2>/dev/null ;;
            plain)
                [[ $value == */ ]] && compopt -o nospace 2>/dev/null
                printf -v value '%%q' "$value"
                COMPREPLY+=("${value#"$done_part"}")
                ;;
        esac
    done <<< "$response"
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(_SHELLS))
@pass_settings
def completion(settings: Settings, shell: str) -> None:
    r"""Print a script that teaches SHELL to complete.

    Commands, options, images, layers, scratches, and paths inside images.

    \b
    bash:  eval "$(windowsfilter completion bash)"    in ~/.bashrc (bash 4.4 or newer)
    zsh:   eval "$(windowsfilter completion zsh)"     in ~/.zshrc, after compinit
    fish:  windowsfilter completion fish > ~/.config/fish/completions/windowsfilter.fish
    """
    from click.shell_completion import get_completion_class

    from windowsfilter.cli.program import COMPLETE_VARIABLE, NAME, program

    found = get_completion_class(shell)
    assert found is not None
    scripts = found(program, {}, NAME, COMPLETE_VARIABLE)
    if shell == "bash":
        script = _BASH % scripts.source_vars()
    else:
        script = scripts.source()
    settings.out.line(script.rstrip("\n"))
