"""One program for all commands, and how any of them ends early."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest

import mnist_adv
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.commands import attack as attack_command
from mnist_adv.commands import cli, main
from mnist_adv.models import checkpoints, first_look
from mnist_adv.models.softmax_regression import SoftmaxRegression

Captured = pytest.CaptureFixture[str]
_ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def tensorflow_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a command comes as far as TensorFlow."""

    def too_far(values: object) -> None:
        raise AssertionError("TensorFlow is imported")

    monkeypatch.setattr(cli, "load_tensorflow", too_far)


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A checkpoint of ours with five named classes."""
    folder = tmp_path_factory.mktemp("five")
    config = {
        "model": {"type": "SoftmaxRegression", "num_classes": 5, "image_shape": [4, 3, 1]},
        "class_names": ["ant", "bee", "cat", 'quo"te', "七"],
        "dataset": "somewhere/insects",
    }
    saver = checkpoints.Saver(folder, SoftmaxRegression(5, 12), config)
    saver.save(1)
    saver.save(2)
    return folder


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_without_a_command_all_are_listed(arguments: list[str], capsys: Captured) -> None:
    assert main.main(["mnist-adv", *arguments]) == 0
    told = capsys.readouterr().out
    for name, row in main.COMMANDS.items():
        assert f"  {name:<12} {row.load().summary}\n" in told


def test_the_version_is_told(capsys: Captured) -> None:
    assert main.main(["mnist-adv", "--version"]) == 0
    assert capsys.readouterr().out == f"mnist-adv {mnist_adv.__version__}\n"


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ("atack", "Received: 'atack'; did you mean attack?"),
        ("--target", "a command comes first: train, attack"),
        ("", "command must be one of train, attack"),
    ],
)
def test_an_unknown_command_is_refused(first: str, told: str, capsys: Captured) -> None:
    assert main.main(["mnist-adv", first]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mnist-adv: error: ") and told in error
    assert error.count("\n") == 1


def test_a_command_runs_under_its_name_with_its_flags(capsys: Captured) -> None:
    assert main.main(["mnist-adv", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["attacks"]) == list(ATTACKS)
    assert found["attacks"]["ddn"] == {"norms": ["l2"], "paper": "Rony et al., 2019"}
    assert main.main(["mnist-adv", "attack", "--norm=l3"]) == 2
    assert capsys.readouterr().err.startswith("mnist-adv attack: error: ")


@pytest.mark.parametrize(
    ("program", "train"),
    [
        ("attack.py", "python train.py"),
        ("/usr/bin/mnist-adv-attack", "mnist-adv-train"),
        ("mnist-adv attack", "mnist-adv train"),
    ],
)
@pytest.mark.usefixtures("tensorflow_is_late")
def test_hints_name_commands_as_the_user_calls_them(
    program: str, train: str, tmp_path: pathlib.Path, capsys: Captured
) -> None:
    assert attack_command.main([program, f"--checkpoint_dir={tmp_path}"]) == 2
    assert capsys.readouterr().err.endswith(f"no checkpoint in {tmp_path}; {train} makes one\n")
    assert attack_command.main([program, "--help"]) == 0
    called = train.replace("train", "attack")
    assert f"Goal:    {called} --target 2 --confidence 0.9\n" in capsys.readouterr().out


@pytest.mark.usefixtures("tensorflow_is_late")
def test_mistakes_that_need_no_tensorflow_are_told_without_it(
    five: pathlib.Path, tmp_path: pathlib.Path, capsys: Captured
) -> None:
    ours = f"--checkpoint_dir={five}"
    for flags, told in (
        ([ours, "--target=12"], "targets must lie in 0..4. Received: 12"),
        ([ours, "--target=be"], "no class is called 'be'; did you mean bee?"),
        ([ours, "--image=no.png"], "no file no.png"),
        ([ours, "--attack=fgmn"], "Received: 'fgmn'; did you mean f"),
        ([ours, "--attack=ddn"], "norm of ddn must be one of l2. Received: 'linf'"),
        (["--checkpoint_dir=nowhere"], "no folder nowhere; python train.py makes one"),
        (["--model=no.keras"], "no file no.keras"),
        (["--checkpoint=nowhere/model"], "no checkpoint nowhere/model: neither"),
    ):
        assert attack_command.main(["attack.py", *flags]) == 2, flags
        assert told in capsys.readouterr().err, flags


def test_classes_are_seen_in_a_checkpoint_without_reading_it(five: pathlib.Path) -> None:
    assert first_look.class_names(str(five)) == checkpoints.load(five).class_names


@pytest.mark.parametrize("state", ["", "garbage", 'model_checkpoint_path: "ckpt-9"', "\udcff"])
def test_what_the_first_look_does_not_find_is_left_to_the_reader(
    state: str, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "checkpoint").write_text(state, "utf-8", "surrogateescape")
    (tmp_path / "ckpt-1.data-00000-of-00001").write_bytes(b'{"class_names": ["a", "b"]}')
    assert first_look.class_names(str(tmp_path)) == ()


@pytest.mark.parametrize("config", [b'{"class_names": 3}', b'{"class_names": [1]}', b"[" * 10**5])
def test_a_config_of_another_form_is_left_to_the_reader(
    config: bytes, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-1"\n')
    (tmp_path / "ckpt-1.data-00000-of-00001").write_bytes(config)
    assert first_look.class_names(str(tmp_path)) == ()


def test_a_defect_is_told_in_one_line_that_asks_for_a_report(capsys: Captured) -> None:
    def body() -> int:
        raise KeyError("a mistake of ours")

    assert cli.guarded("attack.py", body) == cli.DEFECT == 70
    told = capsys.readouterr().err
    assert told.startswith("attack.py: KeyError: 'a mistake of ours'; this is a defect")
    assert "please report it" in told and told.count("\n") == 1
    assert cli.guarded("attack.py", body, verbose=lambda: True) == 70
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupted_command_says_how_to_go_on(capsys: Captured) -> None:
    def body() -> int:
        raise KeyboardInterrupt

    assert cli.guarded("train.py", body, interrupted="--resume goes on") == 130
    assert capsys.readouterr().err == "train.py: interrupted; --resume goes on\n"


@pytest.mark.slow
def test_what_there_is_to_choose_from_is_listed_without_tensorflow() -> None:
    program = (
        "import sys; from mnist_adv.commands.main import main;"
        "sys.exit(main(['mnist_adv', 'list']) or 'tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "fgsm, bim, pgd" in done.stdout


@pytest.mark.slow
def test_a_closed_pipe_ends_quietly() -> None:
    command = f"{sys.executable} -m mnist_adv list | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; for i in 1 2 3 4 5; do {command}; done"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.count("attacks:") == 5
