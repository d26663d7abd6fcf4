"""Settings of attacks as a person types them, and results that are never replaced in silence."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.attacks.settings import configure, parse_settings
from mnist_adv.commands import attack as attack_command
from mnist_adv.commands import evaluate as evaluate_command
from mnist_adv.geometry.steps import Step
from mnist_adv.gradients.losses import Loss

Captured = pytest.CaptureFixture[str]


def test_settings_are_of_all_attacks_or_of_the_one_named() -> None:
    items = ["momentum=0.9", "bim.restarts=10", "pgd.random_start=true", "pgd.loss=margin"]
    assert parse_settings(items, ["pgd", "bim"]) == {
        "pgd": {"momentum": 0.9, "random_start": True, "loss": "margin"},
        "bim": {"momentum": 0.9, "restarts": 10},
    }
    assert parse_settings([], ["pgd"]) == {"pgd": {}}


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ("momentum", "settings must be name=value"),
        ("=3", "settings must be name=value"),
        ("momentum=", "settings must be name=value"),
        ("pgdd.momentum=1", "did you mean pgd"),
    ],
)
def test_what_is_no_setting_is_refused(item: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_settings([item], ["pgd"])


def test_settings_of_text_become_the_attacks_own() -> None:
    given = {"step": "sign", "loss": "margin", "restarts": 3, "momentum": 1}
    attack = configure(ATTACKS["pgd"], given)
    assert (attack.step, attack.loss, attack.restarts) == (Step.SIGN, Loss.MARGIN, 3)  # type: ignore[attr-defined]


@pytest.mark.parametrize("row", list(ATTACKS))
@pytest.mark.parametrize("value", ["x", -1, float("nan"), True])
def test_a_wrong_value_of_any_setting_is_refused(row: str, value: object) -> None:
    fields = vars(ATTACKS[row].attack)
    for name in fields:
        if name not in ("num_steps", "donors"):  # donors are looked at beside the images
            try:
                configure(ATTACKS[row], {name: value})
            except ValueError:
                continue
            assert value is True and isinstance(fields[name], bool), name


@pytest.mark.slow
def test_evaluate_takes_what_attack_takes(
    workshop: pathlib.Path, tmp_path: pathlib.Path, capsys: Captured
) -> None:
    shared = [
        f"--checkpoint_dir={workshop / 'checkpoints'}",
        f"--results_dir={tmp_path}",
        f"--logdir={tmp_path / 'logs'}",
        *("--loss=margin", "--step=sign", "--settings=momentum=0.5", "--confidence=0.6"),
        *("--num_steps=20", "--seed=3", "--targets=next"),
    ]

    def evaluate(*flags: str) -> tuple[int, str, str]:
        arguments = [*shared, "--epsilons=0.15", "--num_images=8", *flags]
        status = evaluate_command.main(["evaluate.py", *arguments])
        return status, *capsys.readouterr()

    assert evaluate("--attack=pgd", "--name=one")[0] == 0
    settings = json.loads((tmp_path / "one" / "manifest.json").read_text())["settings"]
    assert settings["attack_settings"] == {
        "pgd": {"loss": "margin", "step": "sign", "momentum": 0.5}
    }
    (chunk,) = (tmp_path / "one" / "chunks").iterdir()
    with np.load(chunk) as arrays:
        success, labels = arrays["saved_success"][0], arrays["label"]
    alone = [flag for flag in shared if not flag.startswith("--targets")]
    for index in range(3):
        target = (labels[index] + 1) % 10
        flags = [f"--target={target}", f"--index={index}", "--epsilon=0.15", f"--name={index}"]
        status = attack_command.main(["attack.py", *alone, *flags])
        record = json.loads((tmp_path / f"{index}" / "result.json").read_text())
        assert record["success"] == success[index] == (status == 0)

    status, _, error = evaluate("--attack=pgd,fmn")
    assert status == 2 and "Received: step, loss, momentum" in error
    assert "--settings NAME.setting=value is for one attack" in error
    status, _, error = evaluate("--attack=deepfool", "--loss=margin")
    assert status == 2 and "settings of deepfool are" in error
    assert evaluate("--list")[0] == 0


@pytest.mark.slow
def test_what_is_replaced_is_said(
    workshop: pathlib.Path, tmp_path: pathlib.Path, capsys: Captured
) -> None:
    def attack(*flags: str) -> str:
        places = [f"--results_dir={tmp_path}", f"--logdir={tmp_path / 'logs'}", "--target=2"]
        ours = f"--checkpoint_dir={workshop / 'checkpoints'}"
        attack_command.main(["attack.py", ours, *places, *flags])
        return capsys.readouterr().out

    assert "this replaced" not in attack()
    assert "this replaced" not in attack()
    told = attack("--epsilon=0.2")
    assert "this replaced the result of: attack.py --target=2 --checkpoint_dir=" in told
    assert "--epsilon" not in told.partition("this replaced")[2]
