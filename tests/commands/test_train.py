"""train.py, as a user runs it: repeated, killed, resumed, refused."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys
import time

import pytest

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


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--num_epochs=0", "num_epochs must be an integer in 1..2147483647. Received: 0"),
        (
            "--learning_rate=0",
            "learning_rate must be a finite number above 0 in float32. Received: 0.0",
        ),
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
