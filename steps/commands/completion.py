"""``completion bash|zsh``: completion of commands, switches and steps for a shell."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from steps import STEPS
from steps.commands.words import usage_name

__all__ = ["command", "completion_parser"]

_SCRIPT = """\
{prelude}_auto_selfcal() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} last=${{COMP_WORDS[COMP_CWORD-1]}}
    case $last in
        --from|--until|--only) COMPREPLY=($(compgen -W "{steps}" -- "$word")); return;;
        init) COMPREPLY=($(compgen -W "{configs}" -- "$word")); return;;
    esac
    case $word in
        -*) COMPREPLY=($(compgen -W "{switches}" -- "$word"));;
        *) COMPREPLY=($(compgen -f -- "$word"))
           [ "$COMP_CWORD" -eq 1 ] && COMPREPLY+=($(compgen -W "{commands}" -- "$word"));;
    esac
}}
complete -o filenames -F _auto_selfcal auto-selfcal
"""


def completion_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog=usage_name("completion"),
        description="Print a script that completes commands, switches and steps:"
        ' eval "$(auto-selfcal completion bash)" in ~/.bashrc.',
    )
    parser.add_argument("shell", choices=("bash", "zsh"), help="the shell it is for")
    return parser


def command(argv: Sequence[str], commands: Sequence[str]) -> int:
    """Print the script.

    Parameters
    ----------
    argv : sequence of str
        Without the program's and the command's name.
    commands : sequence of str
        Names of all commands.
    """
    from steps.commands.parsers import parser_of
    from steps.ready_configs import ready_config_names

    shell = completion_parser().parse_args(argv).shell
    prelude = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    switches = sorted(word for word in parser_of("")._option_string_actions if word[:2] == "--")
    print(
        _SCRIPT.format(
            prelude=prelude, steps=" ".join(STEPS), configs=" ".join(ready_config_names()),
            switches=" ".join(switches), commands=" ".join(commands),
        ),
        end="",
    )  # fmt: skip
    return 0
