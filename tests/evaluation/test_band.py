"""The band between what is proved and what is broken: sound, told the same everywhere, resumed."""

from __future__ import annotations

import csv
import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest

import mnist_adv
from mnist_adv import evaluate, load_result
from mnist_adv.certification.bounds import Bounder
from mnist_adv.certification.method import Method
from mnist_adv.commands import evaluate as evaluate_command
from mnist_adv.data.datasets import to_float
from mnist_adv.evaluation.analyse import band
from mnist_adv.evaluation.measure import run
from mnist_adv.evaluation.measure.store import Store
from mnist_adv.evaluation.report.files import finish
from mnist_adv.models.linear import LinearModel
from mnist_adv.verdict.radii import BelowRadiusError, require_outside
from tests.certification.support import perceptron, random_layers
from tests.evaluation.support import contents, hand_made, places, small_plan

LEVELS = np.random.default_rng(1).integers(0, 256, (16, 6, 6, 1)).astype(np.uint8)
IMAGES = to_float(LEVELS)
FORMS = ("float", "saved")
EPSILONS = {"linf": (0.0, 0.02, 0.05, 0.2), "l2": (0.0, 0.1, 0.3, 1.5), "l1": (0.0, 0.3, 1.0, 4.0)}


def balanced(model: Any) -> np.ndarray:
    """Labels of the model's own, the first of them wrong."""
    labels = np.asarray(model(IMAGES)).argmax(axis=1)
    labels[0] = (labels[0] + 1) % 3
    return labels


def hand_made_band(proved: list[float], broken: list[float]) -> band.Band:
    table = hand_made([0] * 4, [0, 0, 0, 1], [broken], proved_radius=proved)
    plan = dataclasses.replace(table.plan, certify_method=Method.CROWN)
    found = band.find(dataclasses.replace(table, plan=plan), None)
    assert found is not None
    return found


def test_shares_and_medians_are_those_of_the_radii() -> None:
    found = hand_made_band([0.05, 0.1, 0.0, -1.0], [0.1, 0.15, np.inf, 0.0])
    # At 0, 0.1 and 0.2; the last image is misclassified when clean.
    assert [share.count for share in found.certified] == [3, 1, 0]
    assert [share.count for share in found.unbroken] == [3, 2, 1]
    assert [share.count for share in found.open] == [0, 1, 1]
    assert (found.median_proved, found.median_broken, found.median_ratio) == (0.05, 0.15, 2.0)
    assert "proved by crown up to 0.05, broken from 0.15, broken over proved 2 " in found.sentence
    assert found.broken_radius.tolist() == [0.1, 0.15, np.inf, 0.0]


def test_an_attack_inside_a_proved_radius_is_named() -> None:
    said = (
        "pgd changes the class of image 1 at a linf distance of 0.09, but its label is proved up "
        "to 0.1: the attack, its measurement or the proof is wrong"
    )
    with pytest.raises(BelowRadiusError, match=said):
        hand_made_band([0.05, 0.1, 0.0, -1.0], [0.1, 0.09, np.inf, 0.0])
    one = np.array([[0.1]])
    require_outside(np.array([0.1]), one, ["pgd"], np.array([7]), "linf")  # to the last bit


def test_targeted_attacks_break_an_image_by_whatever_class_it_gets() -> None:
    escape = np.array([[0.3, 0.08, 0.2, 0.2]])
    table = hand_made(
        [0, 0, 1, 1],
        [0, 0, 1, 1],
        [[np.inf] * 4],
        index=[0, 0, 1, 1],
        target=[1, 2, 0, 2],
        float_escape=escape,
        saved_escape=escape + 0.01,
        proved_radius=[0.05, 0.05, 0.1, 0.1],
    )
    plan = dataclasses.replace(table.plan, certify_method=Method.IBP)
    found = band.find(dataclasses.replace(table, plan=plan), None)
    assert found is not None
    assert found.broken_radius.tolist() == [0.08, 0.2]
    assert found.proved_radius.tolist() == [0.05, 0.1]
    assert found.of_cases(table)["gap"].round(3).tolist() == [0.03, 0.03, 0.1, 0.1]


@pytest.mark.slow
@pytest.mark.parametrize("kind, norm", [("relu", "linf"), ("tanh", "l2"), ("relu", "l1")])
def test_no_proved_radius_is_above_a_found_one(
    norm: str, kind: str, tmp_path: pathlib.Path
) -> None:
    model = perceptron(random_layers(36, 12, 8, 3, seed=3), kind)
    labels, epsilons = balanced(model), EPSILONS[norm]
    found = evaluate(
        model,
        LEVELS,
        labels,
        attacks=["pgd", "fmn"],
        norm=norm,
        epsilons=epsilons,
        num_steps=30,
        certify=True,
        certify_method="alpha_crown" if norm == "linf" else "crown",
        folder=tmp_path,
        progress=False,
    )
    assert found.band is not None
    proved, broken = found.band.proved_radius, found.band.broken_radius
    assert (proved[1:] > 0).all() and (proved < broken).all()
    assert (proved[0], broken[0]) == (-1, 0)
    assert any(share.count for share in found.band.open)
    # At each budget what `certify` says of it, in the shares and in every file.
    for epsilon, share in zip(epsilons, found.band.certified):
        there = mnist_adv.certify(
            model,
            IMAGES,
            labels,
            norm=norm,
            epsilon=epsilon,
            method=found.band.method,
            attack=False,
        )
        assert np.array_equal(there.proved, proved >= epsilon)
        assert share.count == there.proved.sum()
    with (tmp_path / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        image = int(row["id"])
        assert float(row["proved_radius"]) == pytest.approx(proved[image], rel=1e-8)
        assert float(row["broken_radius"] or "inf") == pytest.approx(broken[image], rel=1e-8)
        mine = [each for each in rows if each["id"] == row["id"]]
        escapes = [float(each[f"{form}_escape"] or "inf") for each in mine for form in FORMS]
        assert float(row["broken_radius"] or "inf") == min(escapes)
    record = json.loads((tmp_path / "summary.json").read_text())["band"]
    assert record == json.loads(json.dumps(found.band.record()))
    with np.load(tmp_path / "results.npz") as arrays:
        assert np.array_equal(arrays["proved_radius"], proved)
    table, cases = found.to_dataframe(), found.to_dataframe(cases=True)
    assert sorted(set(table["certified_accuracy"])) == sorted({
        s.value for s in found.band.certified
    })
    assert np.array_equal(cases["proved_radius"][::2], proved)
    assert f"certified accuracy ({found.band.method})" in repr(found)
    found.save(tmp_path / "saved.npz")
    again = load_result(tmp_path / "saved.npz")
    assert repr(again) == repr(found) and again.band.record() == found.band.record()
    lied = dataclasses.replace(found.band, certified=found.band.unbroken)
    dataclasses.replace(found, band=lied).save(tmp_path / "lied.npz")
    with pytest.raises(ValueError, match="the band is not what follows from the cases"):
        load_result(tmp_path / "lied.npz")


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_band_of_a_linear_model_closes(norm: str) -> None:
    model = LinearModel(np.random.default_rng(0).normal(size=(36, 3)), np.zeros(3))
    labels, epsilons = balanced(model), EPSILONS[norm]
    found = evaluate(
        model,
        LEVELS,
        labels,
        attacks="fmn",
        norm=norm,
        epsilons=(*epsilons, 3e38),  # the largest that float32 holds, nearly
        targets="next",
        num_steps=5,
        certify=True,
        progress=False,
    )
    assert found.band is not None and found.band.method == "optimum"
    proved, broken = found.band.proved_radius, found.band.broken_radius
    least = mnist_adv.smallest_perturbation(model.W, model.b, IMAGES, labels=labels, norm=norm)
    assert (proved[0], broken[0]) == (-1, 0)
    np.testing.assert_allclose(proved[1:], least.lower_bound[1:], rtol=2e-4)
    np.testing.assert_allclose(broken[1:], least.upper_bound[1:], rtol=1e-9)
    assert (proved <= broken).all()
    assert not any(share.count for share in found.band.open)
    # By the lines alone, which know nothing of the optimum.
    lines = found.table["proved_radius"]
    assert (lines <= broken).all() and (lines[1:] > 0.95 * broken[1:]).all()


@pytest.mark.slow
def test_a_wrong_certificate_stops_the_run(
    workshop: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def too_large(self: Bounder, pixels: np.ndarray, *_: Any) -> np.ndarray:
        return np.ones((len(pixels), 10))

    monkeypatch.setattr(Bounder, "margins", too_large)
    argv = ["evaluate.py", f"--checkpoint_dir={workshop / 'checkpoints'}", "--num_images=20"]
    argv += [f"--results_dir={tmp_path}", f"--logdir={tmp_path / 'logs'}", "--name=wrong"]
    argv += ["--attack=fgsm", "--epsilons=0.2"]
    assert evaluate_command.main([*argv, "--certify"]) == 70
    said = capsys.readouterr().err
    assert "BelowRadiusError: fgsm changes the class of image 0 at a linf distance of 0.2" in said
    assert "but its label is proved up to " in said
    assert "this is a defect of mnist_adv: please report it" in said
    assert not list((tmp_path / "wrong/chunks").iterdir())
    assert not (tmp_path / "wrong/report.html").exists()
    # What was measured without it goes on; the settings are others.
    assert evaluate_command.main(argv) == 0


@pytest.mark.slow
def test_a_resumed_run_equals_an_unbroken_one(
    workshop: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    plan = small_plan(
        workshop, certify_method=Method.CROWN, num_images=10, chunk_size=4, epsilons=(0.0, 0.05)
    )

    def measured() -> dict[str, bytes]:
        store = Store(tmp_path / "it", plan)
        run.execute(store, places(workshop), quiet=True)
        model = places(workshop).model.open().model
        finish(store, places(workshop), model, tuple("0123456789"))
        return contents(tmp_path / "it")

    whole = measured()
    for number in (0, 2):
        chunk = plan.chunks()[number]
        Store(tmp_path / "it", plan).path(chunk).unlink()
    assert measured() == whole


def test_what_cannot_be_certified_is_refused_before_any_attack(tmp_path: pathlib.Path) -> None:
    def crossing(images: Any) -> Any:
        rows = np.eye(36, 3, dtype=np.float32)
        import tensorflow as tf

        flat = tf.reshape(images, [-1, 36])
        product = flat @ tf.cast(rows, images.dtype)
        return product * product

    linear = LinearModel(np.eye(36, 3), np.zeros(3))
    refused: list[tuple[Any, dict[str, Any], str]] = [
        (
            linear,
            {"certify": True, "norm": "l0", "epsilons": [3], "attacks": "fmn"},
            "radius can be certified: norm must be one of linf, l2, l1. Received: 'l0'",
        ),
        (
            linear,
            {"certify": True, "certify_method": "sdp"},
            "radius can be certified: method sdp needs one hidden",
        ),
        (
            linear,
            {"certify": True, "certify_method": "milp"},
            "radius can be certified: method milp needs seconds_per_image above 0",
        ),
        (
            linear,
            {"certify": True, "seconds_per_image": 1},
            "is for methods that branch: beta_crown, milp, sdp. Received: 'crown'",
        ),
        (linear, {"certify": True, "seconds_per_image": -1}, "seconds_per_image must be"),
        (linear, {"certify_method": "crown"}, "go with certify. Received: 'crown' and 0.0"),
        (linear, {"certify": 1}, "certify must be True or False"),
        (linear, {"certify": True, "certify_method": "lines"}, "certify_method must be one of ibp"),
        (crossing, {"certify": True}, "no radius can be certified: bounds need layers one after"),
    ]
    for model, given, said in refused:
        with pytest.raises(ValueError, match=said):
            evaluate(model, LEVELS, [0] * 16, folder=tmp_path, progress=False, **given)
    assert not list(tmp_path.iterdir())
