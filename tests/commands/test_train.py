"""train.py, as a user runs it: repeated, killed, resumed, refused."""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from mnist_adv.commands import train as train_command
from mnist_adv.models import checkpoints

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]


def folders(tmp_path: pathlib.Path) -> list[str]:
    return [f"--checkpoint_dir={tmp_path / 'checkpoints'}", f"--logdir={tmp_path / 'logs'}"]


def weights(folder: pathlib.Path) -> bytes:
    model = checkpoints.restore(folder / "checkpoints")
    return bytes(model.W.numpy().tobytes() + model.b.numpy().tobytes())


def test_train_twice_gives_the_same_bits(workshop: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert train_command.main(["train.py", *folders(tmp_path)]) == 0
    assert weights(tmp_path) == weights(workshop)


def test_a_killed_training_is_readable_and_resumes_to_the_same_bits(
    workshop: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, str(ROOT / "train.py"), *folders(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state, deadline = tmp_path / "checkpoints/checkpoint", time.monotonic() + 60
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    epoch = checkpoints.load(tmp_path / "checkpoints").config["epoch"]
    assert 1 <= epoch < 8
    assert train_command.main(["train.py", "--resume", *folders(tmp_path)]) == 0
    assert weights(tmp_path) == weights(workshop)
    capsys.readouterr()
    assert train_command.main(["train.py", "--resume", *folders(tmp_path)]) == 0
    assert "has all its 8 epochs; nothing to do" in capsys.readouterr().out


def test_resume_keeps_the_checkpoints_settings(
    workshop: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train.py", "--resume", "--seed=5", f"--checkpoint_dir={workshop / 'checkpoints'}"]
    assert train_command.main(argv) == 2
    assert "seed is 0 there. Received: --seed=5" in capsys.readouterr().err


def test_a_defended_training_reaches_its_figures_and_resumes(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    defend = ["--defend=linf", "--epsilon=0.1"]
    assert train_command.main(["train.py", *folders(tmp_path), *defend, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["robust_accuracy"] >= 0.684 and record["test"]["accuracy"] >= 0.866
    stored = checkpoints.load(tmp_path / "checkpoints").config["training"]
    assert stored["defend"] == "linf" and stored["epsilon"] == 0.1
    (events,) = (tmp_path / "logs/train/test").glob("events*")
    logged = [
        tf.make_ndarray(value.tensor).item()
        for event in tf.compat.v1.train.summary_iterator(str(events))
        for value in event.summary.value
        if value.tag == "robust_accuracy"
    ]
    assert len(logged) == 8 and logged[-1] == pytest.approx(record["robust_accuracy"])
    (card,) = (
        tf.make_ndarray(value.tensor).item().decode()
        for file in (tmp_path / "logs/train/train").glob("events*")
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
        if value.tag == "card"
    )
    assert f"exact robust accuracy inside linf 0.1: {record['robust_accuracy']:.4f}" in card
    other = ["train.py", *folders(tmp_path), "--resume", "--defend=l2"]
    assert train_command.main(other) == 2
    assert "defend is 'linf' there. Received: --defend=l2" in capsys.readouterr().err


def test_resume_refuses_to_defend_what_was_trained_plainly(
    workshop: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train.py", "--resume", "--defend=l2", "--epsilon=1"]
    assert train_command.main([*argv, f"--checkpoint_dir={workshop / 'checkpoints'}"]) == 2
    assert "defend is None there. Received: --defend=l2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--num_epochs=0", "num_epochs must be an integer in 1..2147483647. Received: 0"),
        (
            "--learning_rate=0",
            "learning_rate must be a finite number above 0 in float32. Received: 0.0",
        ),
        ("--defend=linf", "defend and epsilon must be given together"),
        ("--dataset=no_such_set", "Received: 'no_such_set'"),
        ("--data_dir=x", "mnist comes with the package"),
        ("--batch_size=60001", "at most the 60000 training images. Received: 60001"),
    ],
)
def test_a_training_that_cannot_be_is_refused(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], flag: str, message: str
) -> None:
    assert train_command.main(["train.py", *folders(tmp_path), flag]) == 2
    assert message in capsys.readouterr().err
