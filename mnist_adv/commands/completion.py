"""Write the completion of `mnist-adv` for bash and zsh: `eval "$(mnist-adv completion)"`."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from absl import flags

from mnist_adv.commands import cli

# Zsh, which hands over --flag=value as one word where bash makes three of it, runs it as bash does.
_SCRIPT = """\
[ -z "$ZSH_VERSION" ] || {{ autoload -U +X compinit bashcompinit && compinit && bashcompinit; }}
_mnist_adv() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} flag=${{COMP_WORDS[COMP_CWORD-1]}} before= words=
    case $word in
        --*=*) flag=${{word%%=*}}; before=$flag=; word=${{word#*=}} ;;
        =) word= ;;
        *) [ "$flag" != = ] || flag=${{COMP_WORDS[COMP_CWORD-2]}} ;;
    esac
    if [ "$COMP_CWORD" = 1 ]; then
        words={commands}
    else
        case ${{COMP_WORDS[1]}}$flag in
{values}
            *) case ${{COMP_WORDS[1]}}$word in
{flags}
            esac ;;
        esac
    fi
    COMPREPLY=( $(compgen -P "$before" -W "$words" -- "$word") )
}}
complete -o default -F _mnist_adv mnist-adv
"""


def script(commands: dict[str, cli.Command]) -> str:
    """Write the script.

    Args:
        commands: name -> command.

    Returns:
        Text that both shells evaluate.
    """
    names: list[str] = []
    values: list[str] = []
    for name, command in commands.items():
        defined = cli.flags_of(command)
        long = sorted(f"--{flag}" for flag in defined if len(flag) > 1)
        names.append(f"                {name}--*) words={_words(long)} ;;")
        for flag in defined:
            allowed = _allowed(defined[flag])
            if allowed:
                values.append(f"            {name}--{flag}) words={_words(allowed)} ;;")
    return _SCRIPT.format(
        commands=_words(commands), values="\n".join(values), flags="\n".join(names)
    )


def _allowed(flag: flags.Flag) -> list[str]:
    from mnist_adv.attacks.registry import ATTACKS

    if flag.name == "attack":
        return list(ATTACKS)
    if hasattr(flag.parser, "enum_class"):
        return [member.name.lower() for member in flag.parser.enum_class]
    return list(getattr(flag.parser, "enum_values", None) or ())


def _words(words: Iterable[str]) -> str:
    return shlex.quote(" ".join(words))


def _show(values: flags.FlagValues) -> int:
    from mnist_adv.commands.main import COMMANDS

    text = script({name: row.load() for name, row in COMMANDS.items()})
    cli.Output(values).lines(*text.splitlines())
    return cli.DONE


main = cli.Command(
    summary='Write the completion for bash and zsh: eval "$(mnist-adv completion)".',
    define_flags=lambda values: None,
    groups=(),
    body=_show,
)
