"""The commands, as a user runs them."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import mnist_adv as library
from mnist_adv.commands import attack as attack_command
from mnist_adv.commands import train as train_command
from mnist_adv.data import datasets
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.reporting import words
from mnist_adv.reporting.saved_attack import SavedAttack
from tests.data.support import write_idx

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
Attack = Callable[..., int]


@pytest.fixture
def attack(workshop: pathlib.Path, tmp_path: pathlib.Path) -> Attack:
    """Run attack.py on the trained model, with its output in a fresh folder."""

    def run(*flags: str) -> int:
        return attack_command.main([
            "attack.py",
            f"--checkpoint_dir={workshop / 'checkpoints'}",
            f"--results_dir={tmp_path / 'results'}",
            f"--logdir={tmp_path / 'logs'}",
            *flags,
        ])

    return run


def result(tmp_path: pathlib.Path, name: str) -> dict:
    return dict(json.loads((tmp_path / "results" / name / "result.json").read_text()))


def test_the_classic_run(
    attack: Attack, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attack("--target=2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("mnist-test-0, labelled 7: the model sees 7 (99.")
    assert lines[-1] == f"picture: {tmp_path / 'results/mnist-test-0-to-2/figure.png'}"
    assert lines[-2].startswith(f"to look at it: tensorboard --logdir {tmp_path / 'logs'}")
    folder = tmp_path / "results/mnist-test-0-to-2"
    assert sorted(path.name for path in folder.iterdir()) == [
        "adversarial.png",
        "figure.png",
        "film_strip.png",
        "result.json",
        "result.npz",
    ]
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name]


def test_an_ensemble_says_what_each_part_did(
    attack: Attack, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attack("--target=2", "--attack=autoattack", "--num_steps=2", "--epsilon=0.05") == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    start = lines.index(["part", "attacked", "reached", "left", "seconds"])
    table = lines[start + 1 : start + 5]
    assert [row[:4] for row in table] == [
        [name, "1", "0", "1"] for name in ("apgd_ce", "apgd_t", "fab_t", "square")
    ]


def test_what_is_reported_is_what_is_on_disk(
    attack: Attack, tmp_path: pathlib.Path, trained: SoftmaxRegression, seven: np.ndarray
) -> None:
    assert attack("--target=2", "--norm=l2", "--epsilon=2") == 0
    record = result(tmp_path, "mnist-test-0-to-2")
    with Image.open(tmp_path / "results/mnist-test-0-to-2/adversarial.png") as picture:
        assert (picture.mode, picture.size) == ("L", (28, 28))
        image = np.asarray(picture).astype(np.float64) / 255
    logits = image.ravel() @ trained.W.numpy() + trained.b.numpy()
    assert record["after"]["prediction"] == logits.argmax() == 2
    np.testing.assert_allclose(record["after"]["probabilities"], tf.nn.softmax(logits), atol=1e-5)
    moved = image.ravel() - seven.ravel()
    norms = record["after"]["norms"]
    assert norms["l2"] == pytest.approx(np.linalg.norm(moved), abs=1e-6) and norms["l2"] <= 2
    assert norms["l0"] == np.count_nonzero(np.abs(moved) > 1e-6)
    assert record["before"]["prediction"] == 7 and record["success"] is True
    with np.load(tmp_path / "results/mnist-test-0-to-2/result.npz", allow_pickle=False) as arrays:
        np.testing.assert_allclose(arrays["saved"][0, ..., 0], image, atol=1e-7)
        np.testing.assert_array_equal(arrays["images"][0], seven)
        assert len(arrays["trace_images"]) == record["num_steps"] + 1


def test_a_target_out_of_reach_is_said_plainly(
    attack: Attack, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # a budget within which it can be met, and steps that do not get there
    assert attack("--target=2", "--num_steps=1") == 1
    assert "NOT reached within the budget: the best saved image is seen as 7" in (
        capsys.readouterr().out
    )
    record = result(tmp_path, "mnist-test-0-to-2")
    assert record["success"] is False and record["after"]["in_budget"] is True
    assert record["after"]["probabilities"][2] > record["before"]["probabilities"][2]


def test_confidence_out_of_reach_is_said_plainly(
    attack: Attack, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attack("--target=2", "--epsilon=0.12", "--confidence=0.99") == 1
    assert "NOT reached with confidence 0.99: the best saved image is seen as 2" in (
        capsys.readouterr().out
    )


def test_a_goal_that_rounding_alone_met_is_not_reached(
    trained: SoftmaxRegression, seven: np.ndarray
) -> None:
    missed = library.attack(trained, seven, targets=2, num_steps=1, trace=True)
    met = library.attack(trained, seven, targets=2, trace=True)
    assert met.success.all() and not missed.success.any()
    saved = SavedAttack(missed, met.adversarial[0], met.verdict)
    assert words.outcome(saved, "0123456789")[0].startswith(
        "NOT reached by the attack, only by rounding to 8 bits: the saved image is seen as 2 ("
    )
    record = words.record(saved)
    assert record["success"] is False and record["after"]["success"] is True


def test_without_a_target_it_moves_away(attack: Attack, tmp_path: pathlib.Path) -> None:
    assert attack("--index=3", "--name=away") == 0
    record = result(tmp_path, "away")
    assert record["goal"] == {"kind": "leave", "class": 0, "confidence": None}
    assert record["after"]["prediction"] != 0


def test_the_attacks_settings_are_flags(
    attack: Attack, tmp_path: pathlib.Path, trained: SoftmaxRegression, seven: np.ndarray
) -> None:
    words_given = {"norm": "l2", "step": "unit", "loss": "margin", "source": "central_difference"}
    numbers = {"epsilon": 2.5, "step_size": 0.2, "num_steps": 30, "seed": 3}
    chosen: dict[str, Any] = {**words_given, **numbers}
    assert attack("--target=3", *(f"--{name}={value}" for name, value in chosen.items())) == 0
    direct = library.attack(trained, seven, targets=3, trace=True, **chosen)
    with np.load(tmp_path / "results/mnist-test-0-to-3/result.npz") as arrays:
        np.testing.assert_array_equal(arrays["adversarial"], direct.adversarial)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_the_optimum_comes_with_its_proof(
    attack: Attack, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], norm: str
) -> None:
    assert attack("--target=2", "--attack=optimum", f"--norm={norm}") == 0
    printed = capsys.readouterr().out
    assert f"proof: {norm} to be classified as 2: no smaller change exists" in printed
    assert "above the smallest possible" in printed
    record = result(tmp_path, "mnist-test-0-to-2")
    proof = record["optimum"]
    assert proof["lower_bound"] <= proof["upper_bound"] <= record["after"]["norms"][norm] + 1e-9
    assert proof["relative_gap"] <= 1e-6 and len(proof["dual_variables"]) == 10


def test_what_is_blended_in_is_of_the_data_set_under_attack(
    attack: Attack, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, split in (("train", "train"), ("t10k", "test")):
        some = datasets.load("mnist", split, rows=(0, 100))
        levels = np.rint(255 * (some.images if split == "test" else 1 - some.images))
        write_idx(tmp_path / "negatives", f"{name}-images-idx3-ubyte", levels[..., 0])
        write_idx(tmp_path / "negatives", f"{name}-labels-idx1-ubyte", some.labels)
    monkeypatch.chdir(tmp_path)
    attack("--target=2", "--dataset=negatives", "--attack=blend", "--num_steps=3", "--norm=l2")
    arrays = np.load(tmp_path / "results" / "negatives-test-0-to-2" / "result.npz")
    # the black border of a digit turns lighter only where white is mixed in
    assert arrays["images"][0, :2].max() == 0 < arrays["trace_images"][-1, 0, :2].min()


def test_every_report_says_how_far_above_the_optimum_it_is(
    attack: Attack, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attack("--target=2", "--attack=ddn", "--norm=l2", "--num_steps=30") == 0
    assert " % above the smallest possible (l2 1.3" in capsys.readouterr().out
    assert 1 <= result(tmp_path, "mnist-test-0-to-2")["optimum"]["saved_over_lower_bound"] < 1.1
    # out of reach: the proof says how far it would have been
    assert attack("--target=2", "--attack=optimum", "--norm=linf", "--epsilon=0.01") == 1
    assert "NOT reached within the budget" in capsys.readouterr().out
    assert attack("--target=2", "--epsilon=0.01") == 1
    assert "the smallest possible change: linf 0.08" in capsys.readouterr().out


def test_the_gradient_check_prints_every_source(
    attack: Attack, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attack("--target=2", "--check_gradient") == 0
    printed = capsys.readouterr().out
    for source in ("tape", "forward_mode", "forward_diff", "central_diff", "closed_form"):
        assert f"  {source}" in printed
    assert "the sources agree" in printed
    assert (tmp_path / "results/mnist-test-0-to-2/gradient_check.png").exists()


def test_extras_on_request(attack: Attack, tmp_path: pathlib.Path) -> None:
    assert attack("--target=2", "--save_iterates", "--animation", "--name=extras") == 0
    folder = tmp_path / "results/extras"
    steps = result(tmp_path, "extras")["num_steps"]
    assert len(list((folder / "iterates").glob("step_*.png"))) == steps + 1
    with Image.open(folder / "animation.gif") as animation:
        assert animation.n_frames == steps + 1


def test_a_picture_of_ones_own(
    attack: Attack,
    tmp_path: pathlib.Path,
    test_set: datasets.Dataset,
    capsys: pytest.CaptureFixture[str],
) -> None:
    levels = 255 - np.rint(255 * test_set.images[0, ..., 0]).astype(np.uint8)
    picture = Image.fromarray(levels).resize((280, 280), Image.Resampling.BICUBIC)
    picture.save(tmp_path / "my_digit.jpg")
    assert attack("--target=2", f"--image={tmp_path / 'my_digit.jpg'}") == 0
    printed = capsys.readouterr().out
    assert "inverted (the ink was dark)" in printed and "centred it by mass" in printed
    assert "my_digit: the model sees 7" in printed
    assert result(tmp_path, "my_digit-to-2")["success"] is True


def test_the_saved_picture_is_adversarial_when_it_comes_back(
    attack: Attack, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attack("--target=2") == 0
    saved = tmp_path / "results/mnist-test-0-to-2/adversarial.png"
    assert attack("--target=7", f"--image={saved}") == 0
    assert "adversarial: the model sees 2" in capsys.readouterr().out


def test_running_again_replaces_only_a_result(
    attack: Attack, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attack("--target=2", "--save_iterates", "--name=mine") == 0
    assert attack("--target=3", "--name=mine") == 0
    assert result(tmp_path, "mine")["goal"]["class"] == 3
    assert not (tmp_path / "results/mine/iterates").exists()
    (tmp_path / "results/thesis").mkdir()
    (tmp_path / "results/thesis/chapter.tex").write_text("years of work")
    assert attack("--target=2", "--name=thesis") == 2
    assert "holds no earlier result; choose another --name" in capsys.readouterr().err
    assert (tmp_path / "results/thesis/chapter.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--target=10"], "targets must lie in 0..9. Received: 10"),
        (["--target=-1"], "targets must lie in 0..9. Received: -1"),
        (["--target=7"], "targets must differ from labels. Received: target 7"),
        (["--target=two"], "no class is called 'two'; there are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        (["--targt=2"], "Unknown command line flag 'targt'. Did you mean: target"),
        (["--target=2", "--norm=l7"], "flag --norm=l7: value should be one of <linf|l2"),
        (["--target=2", "--epsilon=-0.1"], "epsilon must be a finite number, at least 0"),
        (["--target=2", "--step_size=nan"], "step_size must be a finite number"),
        (["--target=2", "--step_size=0"], "step_size must be a finite number above 0"),
        (
            ["--target=2", "--num_steps=0"],
            "num_steps must be an integer in 1..2147483647. Received: 0",
        ),
        (["--target=2", "--confidence=2"], "confidence must lie in (0, 1). Received: 2.0"),
        (["--target=2", "--index=10000"], "index must lie in 0..9999. Received: 10000"),
        (["--target=2", "--image=missing.png"], "no file missing.png"),
        (["--target=2", "--image=setup.cfg", "--index=1"], "--image takes the place of --index"),
        (["--target=2", "--label=7"], "--label is for --image"),
        (
            ["--target=2", "--checkpoint_dir=nowhere"],
            "no folder nowhere; python train.py makes one",
        ),
        (["--target=2", "--dataset=no_such_set"], "Received: 'no_such_set'"),
        (["--target=2", "--name=a/b"], "name must be a plain folder name. Received: 'a/b'"),
        (["--target=2", "--attack=magic"], "method must be one of fgsm, bim, pgd"),
        (["--target=2", "--attack=ddn"], "norm of ddn must be one of l2. Received: 'linf'"),
        (["--target=2", "--attack=optimum", "--num_steps=3"], "optimum takes no steps"),
        (["--target=2", "and more"], "unknown argument 'and more'"),
    ],
)
def test_a_mistake_is_one_line(
    attack: Attack,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    message: str,
) -> None:
    assert attack(*flags) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.err.startswith("attack.py: error: ")
    assert message in captured.err
    assert not (tmp_path / "results").exists() or not any((tmp_path / "results").iterdir())


def test_json_is_the_whole_output(
    attack: Attack, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attack("--target=2", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    folder = tmp_path / "results/mnist-test-0-to-2"
    assert printed.pop("folder") == str(folder)
    assert printed == json.loads((folder / "result.json").read_text())
    assert printed["command"].startswith("attack.py --target=2 ")
    assert (
        train_command.main([
            "train.py",
            f"--checkpoint_dir={tmp_path / 'checkpoints'}",
            f"--logdir={tmp_path / 'logs'}",
            "--num_epochs=1",
            "--json",
        ])
        == 0
    )
    record = json.loads(capsys.readouterr().out)
    assert record["epoch"] == 1 and record["test"]["accuracy"] > 0.9


def test_list_names_every_choice(attack: Attack, capsys: pytest.CaptureFixture[str]) -> None:
    assert attack("--list") == 0
    printed = capsys.readouterr().out
    for name in ("cross_entropy", "probability", "tape", "closed_form", "linf", "raw", "mnist"):
        assert name in printed


def test_colour_is_for_terminals_only(
    attack: Attack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert attack("--target=2") == 0
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert attack("--target=2") == 0
    assert "\x1b[32mreached in" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert attack("--target=2") == 0
    assert "\x1b" not in capsys.readouterr().out


def test_help_is_short_and_needs_no_tensorflow() -> None:
    for script in ("train.py", "attack.py"):
        finished = subprocess.run(
            [sys.executable, "-X", "importtime", ROOT / script, "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"python {script} " in finished.stdout
        assert finished.stdout.count("\n") < 60
        assert "tensorflow" not in finished.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into a read-only folder")
def test_a_read_only_folder_is_named(
    attack: Attack, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").mkdir(mode=0o555)
    assert attack("--target=2") == 2
    assert "results: Permission denied" in capsys.readouterr().err


def test_a_folder_that_is_a_file_is_named(
    attack: Attack, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").write_text("in the way")
    assert attack("--target=2") == 2
    assert str(tmp_path / "results") in capsys.readouterr().err
    assert train_command.main(["train.py", f"--checkpoint_dir={tmp_path / 'results'}"]) == 2
    assert str(tmp_path / "results") in capsys.readouterr().err
    assert (tmp_path / "results").read_text() == "in the way"


def test_the_scripts_run_silently_on_stderr(workshop: pathlib.Path, tmp_path: pathlib.Path) -> None:
    finished = subprocess.run(
        [
            sys.executable,
            ROOT / "attack.py",
            "--target=2",
            f"--checkpoint_dir={workshop / 'checkpoints'}",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    assert (tmp_path / "results/mnist-test-0-to-2/figure.png").exists()
    mistake = subprocess.run(
        [sys.executable, ROOT / "attack.py", "--target=2"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert mistake.returncode == 2
    assert mistake.stderr == (
        "attack.py: error: no folder checkpoints; python train.py makes one\n"
    )
