"""Where results go, and what is printed: nothing outside its folder, nothing a terminal obeys."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest
from absl import flags

from mnist_adv.commands import attack, cli, convert, evaluate, train
from mnist_adv.errors import printable, shortened


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "a/b", "..", ".", "\udcff"])
@pytest.mark.parametrize("command", [attack.main, evaluate.main], ids=["attack", "evaluate"])
def test_a_name_that_leads_elsewhere_is_refused_before_the_work(
    command: cli.Command, name: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["c.py", f"--results_dir={tmp_path / 'results'}", f"--logdir={tmp_path / 'logs'}"]
    assert command([*argv, f"--name={name}"]) == cli.BAD_REQUEST
    captured = capsys.readouterr().err
    assert captured.startswith("c.py: error: name must be ") and captured.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["results_dir", "logdir"])
@pytest.mark.parametrize("command", [attack.main, evaluate.main], ids=["attack", "evaluate"])
def test_a_folder_that_cannot_be_written_is_named_before_the_work(
    command: cli.Command, flag: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    given = {"results_dir": tmp_path / "results", "logdir": tmp_path / "logs"}
    given[flag] = tmp_path / "file" / "below"
    argv = [f"--{name}={path}" for name, path in given.items()]
    assert command(["c.py", *argv]) == cli.BAD_REQUEST
    assert capsys.readouterr().err == f"c.py: error: {tmp_path / 'file'}: Not a directory\n"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_training_names_its_folders_before_the_work(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    for flag in ("checkpoint_dir", "logdir"):
        assert train.main(["train.py", f"--{flag}={tmp_path / 'file'}"]) == cli.BAD_REQUEST
        said = capsys.readouterr().err
        assert said == f"train.py: error: {tmp_path / 'file'}: Not a directory\n"


def _command(body: Callable[[flags.FlagValues], int]) -> cli.Command:
    return cli.Command("Fails.", lambda values: None, (), body)


def test_what_a_terminal_would_obey_is_shown_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    def body(values: flags.FlagValues) -> int:
        output = cli.Output(values)
        output.lines("W is \x1b[2Jnice\nand \u202eback, \u7b2c \u00e9")
        output.outcome("reached \x07", good=True)
        raise ValueError("no variable '\x1b]0;owned\x07'")

    assert _command(body)(["c.py"]) == cli.BAD_REQUEST
    captured = capsys.readouterr()
    assert captured.out == "W is \\x1b[2Jnice\\nand \\u202eback, \u7b2c \u00e9\nreached \\x07\n"
    assert captured.err == "c.py: error: no variable '\\x1b]0;owned\\x07'\n"


def test_long_arguments_are_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    def body(values: flags.FlagValues) -> int:
        raise ValueError(f"'{'x' * 5000}' is no name; {'many words ' * 1000}")

    for command, flag in (
        (_command(body), ""),
        (train.main, f"--num_epochs={'9' * 5000}"),
        (train.main, f"--dataset={'x' * 5000}"),
        (train.main, f"--{'x' * 5000}"),
        (train.main, f"--logdir={'x/' * 3000}"),
        (train.main, "y" * 5000),
        (convert.main, f"--format={'x' * 5000}"),
        (evaluate.main, f"--name={'x' * 5000}"),
    ):
        assert command(["c.py", *([flag] if flag else [])]) == cli.BAD_REQUEST
        said = capsys.readouterr().err
        assert 20 < len(said) < 1800 and "..." in said and said.count("\n") == 1, said


def test_status_1_means_the_goal_alone(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(values: flags.FlagValues) -> int:
        raise KeyError("a defect")

    def takes_all(values: flags.FlagValues) -> int:
        raise MemoryError("Unable to allocate 2.85 TiB")

    assert _command(fails)(["c.py"]) == cli.DEFECT
    assert "KeyError: 'a defect'" in capsys.readouterr().err
    assert _command(takes_all)(["c.py"]) == cli.BAD_REQUEST
    said = capsys.readouterr().err
    assert said == "c.py: error: not enough memory (Unable to allocate 2.85 TiB)\n"


def test_printable_and_shortened_leave_plain_text_as_it_is() -> None:
    plain = "na\u00efve caf\u00e9, \u4e03 \U0001f600 'W=a,b=b'"
    assert printable(plain) == shortened(plain) == plain
    assert printable("a\tb\udcff\x9b") == "a\\tb\\udcff\\x9b"
    assert len(shortened("x" * 300)) < 200 and shortened("x" * 150) == "x" * 150
