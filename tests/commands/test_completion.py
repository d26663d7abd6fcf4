"""The completion of `mnist-adv`, asked as bash and zsh ask it."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from mnist_adv.commands import main

_ASK = 'COMP_CWORD=$(($# - 1)); COMP_WORDS=("$@"); _mnist_adv; printf "%s\\n" "${COMPREPLY[@]}"'


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What `mnist-adv completion` prints."""
    from mnist_adv.commands import completion

    path = tmp_path_factory.mktemp("completion") / "script.sh"
    path.write_text(completion.script({name: row.load() for name, row in main.COMMANDS.items()}))
    return path


def complete(script: pathlib.Path, *words: str) -> list[str]:
    """Complete the last word."""
    line = ["bash", "-c", f'source "$1"; shift; {_ASK}', "bash", str(script), "mnist-adv", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["ev"], ["evaluate"]),
        ([""], list(main.COMMANDS)),
        (["attack", "--num_s"], ["--num_steps"]),
        (["evaluate", "--num_"], ["--num_images", "--num_steps"]),
        (["train", "--num_"], ["--num_epochs"]),
        (["attack", "--norm", "=", "l"], ["linf", "l2", "l1", "l0"]),  # as bash splits --norm=l
        (["attack", "--norm", "="], ["linf", "l2", "l1", "l0"]),
        (["attack", "--norm", "li"], ["linf"]),
        (["attack", "--norm=li"], ["--norm=linf"]),  # as zsh has it
        (["attack", "--attack", "fg"], ["fgsm"]),
        (["convert", "--format", "n"], ["npz"]),
        (["attack", "--image", "pic"], []),  # files are left to the shell
    ],
)
def test_words_are_completed(script: pathlib.Path, words: list[str], completed: list[str]) -> None:
    assert complete(script, *words) == completed
