"""Mixed-integer programs against enumeration, and what is made of their answers."""

from __future__ import annotations

import itertools
import pathlib
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

import mnist_adv
from mnist_adv.certification import checker, mixed_integer
from mnist_adv.certification.bounds import Bounder
from mnist_adv.certification.mixed_integer import Program
from mnist_adv.certification.propagation import FLOAT64, Propagation
from mnist_adv.certification.read_model import read_network
from mnist_adv.certification.region import Ball
from mnist_adv.geometry.norms import Norm
from mnist_adv.models.linear import LinearModel
from tests.certification.support import (
    perceptron,
    random_layers,
    sample,
    smallest_margins,
)
from tests.certification.test_bounds import images_of
from tests.certification.test_checker import read

TINY = (4, 3, 3, 3)


def program_of(model: Any, image: np.ndarray, norm: str, epsilon: float) -> Program:
    """Set up a model's program, by intervals that lines give."""
    height, width, channels = image.shape
    network, ball = read_network(model, (height, width, channels)), Ball(Norm(norm), 0.0, 1.0)
    bounder = Bounder(Propagation(network, ball, FLOAT64))
    pixels = image.reshape(1, -1).astype(np.float64)
    region, intervals = bounder.intervals(pixels, np.array([epsilon]))
    return Program(network, ball, region, intervals)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("norm, epsilon", [("linf", 0.4), ("l1", 0.7)])
def test_the_minimum_is_the_enumerated_one_and_bounds_enclose_it(
    norm: str, epsilon: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers, identity, gaps = random_layers(*TINY), np.eye(3), []
    for image in images_of(3, 2, 2, 1):
        exact = smallest_margins(layers, image.reshape(-1).astype(float), 0, norm, epsilon)
        program = program_of(perceptron(layers), image, norm, epsilon)
        assert program.num_binaries > 0
        for other in (1, 2):
            row = identity[0] - identity[other]
            answer = program.minimise(row, 10)
            assert answer.bound - 1e-6 <= exact[other] <= answer.margin + 1e-6
            assert (answer.bound > 0) == (exact[other] > 0) == (answer.margin > 0)
            gaps.append(answer.margin - answer.bound)
            move = np.abs(answer.image - image.reshape(-1))
            assert (move.max() if norm == "linf" else move.sum()) <= epsilon + 1e-9
            assert answer.image.min() >= 0 and answer.image.max() <= 1
            with monkeypatch.context() as patch:
                patch.setattr(mixed_integer, "_GAP", 1e-9)
                answer = program.minimise(row, 10)
            assert np.allclose([answer.bound, answer.margin], exact[other], atol=1e-5)
    assert max(gaps) > 0.01  # it stops when the sign is known


@pytest.mark.usefixtures("eagerly")
def test_maxima_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed_integer, "_GAP", 1e-9)
    (first, bias), (last, last_bias) = random_layers(8, 8, 2)[0], random_layers(2, 3, seed=1)[0]
    # Where one value is at its top, its opposite is at its bottom: no smaller constant would do.
    first[:, [1, 3]], bias[[1, 3]], first[:, 4:] = (
        -first[:, [0, 2]],
        -bias[[0, 2]],
        first[:, 4:] / 4,
    )

    def model(images: Any) -> Any:
        values = tf.reshape(images, [-1, 8]) @ tf.cast(first, images.dtype) + bias
        maxima = tf.nn.max_pool2d(tf.reshape(values, [-1, 2, 4, 1]), 2, 2, "VALID")
        return tf.reshape(maxima, [-1, 2]) @ tf.cast(last, images.dtype) + last_bias

    windows, wins = [[0, 1, 4, 5], [2, 3, 6, 7]], set()
    for image in images_of(3, 2, 4, 1):
        pixels = image.reshape(-1).astype(float)
        cost, ends = last[:, 0] - last[:, 1], np.clip([pixels - 0.5, pixels + 0.5], 0, 1)
        values = []
        for best in itertools.product(*windows):
            rows = [
                first[:, other] - first[:, one]
                for one, window in zip(best, windows)
                for other in window
            ]
            limits = [
                bias[one] - bias[other] for one, window in zip(best, windows) for other in window
            ]
            of_pixels = first[:, best] @ cost
            answer = scipy.optimize.linprog(of_pixels, rows, limits, bounds=ends.T)
            if answer.fun is not None:
                shift = bias[list(best)] @ cost + last_bias[0] - last_bias[1]
                values.append((answer.fun + shift, best))
        exact, best = min(values)
        wins.add(best)
        program = program_of(model, image, "linf", 0.5)
        found = program.minimise(np.array([1.0, -1.0, 0.0]), 10)
        assert np.allclose([found.bound, found.margin], exact, atol=1e-5)
    assert len(wins) > 1


@pytest.mark.usefixtures("eagerly")
def test_where_there_is_no_such_program_it_is_said() -> None:
    model, images = perceptron(random_layers(16, 5, 3)), images_of(1, 4, 4, 1)
    given: dict[str, Any] = {"epsilon": 0.1, "method": "milp", "seconds_per_image": 1}
    with pytest.raises(ValueError, match=r"milp needs norm linf or l1.* Received: 'l2'"):
        mnist_adv.certify(model, images, 0, **{**given, "norm": "l2"})
    with pytest.raises(ValueError, match=r"needs seconds_per_image above 0. Received: seconds_per"):
        mnist_adv.certify(model, images, 0, **{**given, "seconds_per_image": 0})
    smooth = perceptron(random_layers(16, 5, 3), "sigmoid")
    with pytest.raises(ValueError, match=r"milp needs ReLU or maxima.* Received: sigmoid"):
        mnist_adv.certify_radius(smooth, images, 0, method="milp", seconds_per_image=1)
    wide = perceptron(random_layers(16, 20_001, 3))
    with pytest.raises(ValueError, match=r"at most 20,000 hidden neurons. Received: 20,001"):
        mnist_adv.certify(wide, images, 0, **given)


DEEP, RADIUS = random_layers(16, 9, 9, 9, 3), 0.07


@pytest.mark.slow
def test_what_highs_decides_is_proved_or_met_and_branching_agrees(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(mixed_integer, "_BEFORE", 0.0)  # all that is open goes to HiGHS
    answers = []
    minimise = Program.minimise

    def watched(self: Program, row: np.ndarray, seconds: float) -> Any:
        answers.append(minimise(self, row, seconds))
        return answers[-1]

    monkeypatch.setattr(Program, "minimise", watched)
    model, images = perceptron(DEEP), images_of(12, 4, 4, 1)
    labels = np.asarray(model(images)).argmax(axis=1)
    options: dict[str, Any] = {"epsilon": RADIUS, "attack": False}
    options["seconds_per_image"] = 20
    branched = mnist_adv.certify(model, images, labels, method="beta_crown", **options)
    found = mnist_adv.certify(model, images, labels, method="milp", **options)
    assert (found.proved | found.broken).all() and found.proved.any() and found.broken.any()
    assert np.array_equal(found.proved, branched.proved)
    claims = [answer.bound > 0 for answer in answers]
    assert any(claims) and not all(claims)
    generator = np.random.default_rng(0)
    for image, label in zip(images[found.proved], labels[found.proved]):
        near = sample(image.reshape(-1), "linf", RADIUS, 2000, generator).astype(np.float32)
        assert (np.asarray(model(near.reshape(-1, 4, 4, 1))).argmax(axis=1) == label).all()
    assert mnist_adv.write_proofs(tmp_path, model, found) == found.proved.sum()
    assert checker.main([str(tmp_path)]) == 0
    network = read(tmp_path / "network.npz")
    proofs = [read(path) for path in tmp_path.glob("proof_*.npz")]
    cut = max(proofs, key=lambda arrays: sum("multipliers" in name for name in arrays))
    wrong = {name: 50 * (1 + part) for name, part in cut.items() if "multipliers" in name}
    assert wrong
    with pytest.raises(ValueError, match="is not excluded as claimed"):
        checker.check(network, {**cut, **wrong})


@pytest.mark.slow
def test_a_wrong_claim_of_highs_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = perceptron(DEEP), images_of(12, 4, 4, 1)
    labels = np.asarray(model(images)).argmax(axis=1)
    options: dict[str, Any] = {"epsilon": RADIUS, "attack": False}
    broken = mnist_adv.certify(
        model, images, labels, method="beta_crown", seconds_per_image=20, **options
    ).broken
    assert broken.any()

    def wrong(self: Program, row: np.ndarray, seconds: float) -> mixed_integer.Answer:
        return mixed_integer.Answer(1.0, np.asarray(self._region.pixels)[0], 1.0)

    monkeypatch.setattr(Program, "minimise", wrong)
    monkeypatch.setattr(mixed_integer, "_BEFORE", 0.0)
    found = mnist_adv.certify(
        model, images[broken], labels[broken], method="milp", seconds_per_image=0.5, **options
    )
    assert not found.proved.any()


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("method", ["beta_crown", "milp"])
@pytest.mark.parametrize("widths", [(16, 3), (16, 2, 3)])
def test_networks_of_few_neurons_or_none_are_settled(method: str, widths: tuple[int, ...]) -> None:
    layers, images = random_layers(*widths), images_of(2, 4, 4, 1)
    model = LinearModel(*layers[0]) if len(layers) == 1 else perceptron(layers)
    labels = np.asarray(model(images)).argmax(axis=1)
    options: dict[str, Any] = {"method": method, "seconds_per_image": 5, "attack": False}
    found = mnist_adv.certify(model, images, labels, epsilon=[0.5, 0.01], **options)
    assert np.array_equal(found.broken, [True, False])
    assert np.array_equal(found.proved, [False, True])
