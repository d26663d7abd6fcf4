"""Branch and bound against enumeration, and the proofs of its cases."""

from __future__ import annotations

import itertools
import pathlib
import time
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import mnist_adv
from mnist_adv.certification import branching, checker
from mnist_adv.certification.bounds import Bounder
from mnist_adv.certification.branching import Cases, Search
from mnist_adv.certification.propagation import FLOAT64, Propagation
from mnist_adv.certification.read_model import read_network
from mnist_adv.certification.region import Ball
from mnist_adv.geometry.norms import Norm
from mnist_adv.models.as_model import as_model
from tests.certification.support import (
    Layers,
    perceptron,
    random_layers,
    sample,
    smallest_margins,
)
from tests.certification.test_bounds import CHAINS, images_of
from tests.certification.test_checker import Arrays, read

TINY, EPSILON = (4, 3, 4, 3), 0.4


def bounder_of(model: Any, shape: tuple[int, int, int], norm: str = "linf") -> Bounder:
    return Bounder(Propagation(read_network(model, shape), Ball(Norm(norm), 0.0, 1.0), FLOAT64))


def with_constant(layers: Layers) -> Layers:
    """Add a logit that is always 1, by which rows can shift margins."""
    (*first, (weights, bias)) = layers
    column = np.zeros((len(weights), 1), np.float32)
    return [*first, (np.hstack([weights, column]), np.append(bias, np.float32(1)))]


def search(
    bounder: Bounder, image: np.ndarray, epsilon: float, shift: Any, seconds: float
) -> Search:
    """Search the margins of class 0 less shifts `[m]`, which come after its own and before 1."""
    whole = bounder.refine(image.reshape(-1).astype(np.float64), epsilon)
    shift = np.asarray(shift)
    rows = np.hstack([np.ones((len(shift), 1)), -np.eye(len(shift)), -shift[:, None]])
    return bounder.brancher.search(whole, rows, seconds, keep=True)


@pytest.mark.parametrize("norm", ["linf", pytest.param("l1", marks=pytest.mark.slow)])
def test_branching_reaches_the_enumerated_minimum_and_never_passes_it(norm: str) -> None:
    layers = random_layers(*TINY)
    bounder = bounder_of(perceptron(with_constant(layers)), (2, 2, 1), norm)
    loose = broken = 0
    for image in images_of(5, 2, 2, 1):
        exact = smallest_margins(layers, image.reshape(-1).astype(float), 0, norm, EPSILON)[1:]
        start = search(bounder, image, EPSILON, exact, 0)
        assert (start.bounds <= 1e-9).all()
        loose += int((start.bounds < -0.05).any())
        proved = search(bounder, image, EPSILON, exact - 0.01, 60)
        assert (proved.bounds > 0).all() and (proved.bounds <= 0.01 + 1e-9).all()
        assert proved.margin >= proved.bounds.min()
        failed = search(bounder, image, EPSILON, exact + 0.01, 1)
        assert (failed.bounds <= 0).all() and (failed.bounds >= start.bounds - 0.01 - 1e-9).all()
        broken += int(failed.margin < 0)
        logits = np.asarray(perceptron(layers)(failed.image.reshape(1, 2, 2, 1)))[0]
        assert np.isclose(failed.margin, (logits[0] - logits[1:] - exact - 0.01).min(), atol=1e-5)
    assert loose and broken


def given(cases: Cases, row: int) -> list[dict[int, bool]]:
    signs = np.concatenate(cases.signs, axis=1)[cases.rows == row]
    return [{int(n): bool(case[n] > 0) for n in np.flatnonzero(case)} for case in signs]


def test_each_case_bounds_what_it_is_of_and_all_are_covered() -> None:
    layers, image = random_layers(4, 5, 4, 2), images_of(1, 2, 2, 1)[0]
    exact = smallest_margins(layers, image.reshape(-1).astype(float), 0, "linf", EPSILON)[1]
    bounder = bounder_of(perceptron(with_constant(layers)), (2, 2, 1))
    found = search(bounder, image, EPSILON, [exact - 0.02], 60)
    cases = found.cases
    assert cases is not None and len(cases.rows) > 2
    of_margin = given(cases, 0)
    for signs in itertools.product([False, True], repeat=9):
        assert any(all(signs[n] == active for n, active in case.items()) for case in of_margin)
    points = sample(image.reshape(-1), "linf", EPSILON, 2000, np.random.default_rng(0))
    first = points @ layers[0][0] + layers[0][1]
    second = np.maximum(first, 0) @ layers[1][0] + layers[1][1]
    logits = np.maximum(second, 0) @ layers[2][0] + layers[2][1]
    before, seen = np.concatenate([first, second], axis=1), 0
    for case, bound in zip(of_margin, cases.bounds):
        inside = np.all([(before[:, n] >= 0) == a for n, a in case.items()], axis=0)
        seen += inside.sum()
        assert (logits[inside, 0] - logits[inside, 1] - exact + 0.02 >= bound - 1e-6).all()
    assert seen >= 2000


def test_slopes_for_hidden_neurons_tighten_their_bounds() -> None:
    layers, image = random_layers(9, 8, 8, 8, 3), images_of(1, 3, 3, 1)[0]
    bounder = bounder_of(perceptron(layers), (3, 3, 1))
    network = read_network(perceptron(layers), (3, 3, 1))
    pixels = image.reshape(-1).astype(np.float64)
    _, loose = bounder.intervals(pixels[None], np.array([0.2]))
    whole = bounder.refine(pixels, 0.2)
    values = tf.constant(sample(pixels, "linf", 0.2, 2000, np.random.default_rng(0)))
    for number, (before, after) in enumerate(zip(loose[:-1], whole.intervals)):
        values = network.segments[number].linear(values) + network.segments[number].bias
        widths = [np.asarray(each.upper - each.lower) for each in (before, after)]
        assert (widths[1] <= widths[0] + 1e-9).all()
        assert (np.asarray(values) >= np.asarray(after.lower)).all()
        assert (np.asarray(values) <= np.asarray(after.upper)).all()
        values = tf.nn.relu(values)
    assert widths[1].sum() < 0.98 * widths[0].sum()


CERTIFIED: dict[str, tuple[Any, tuple[int, int, int], str, float]] = {
    "linf": (lambda: perceptron(random_layers(16, 9, 9, 9, 3)), (4, 4, 1), "linf", 0.07),
    "l1": (lambda: perceptron(random_layers(16, 9, 9, 3)), (4, 4, 1), "l1", 0.6),
    "conv": (CHAINS["conv"], (8, 8, 2), "linf", 0.009),
}


def certify_and_prove(name: str, folder: pathlib.Path) -> None:
    """See that branching proves more, rightly, and write the proofs."""
    make, shape, norm, epsilon = CERTIFIED[name]
    images = images_of(12, *shape)
    model = as_model(make(), images)
    labels = np.asarray(model(images)).argmax(axis=1)
    options: dict[str, Any] = {"norm": norm, "epsilon": epsilon, "attack": False}
    before = mnist_adv.certify(model, images, labels, **options)
    options |= {"method": "beta_crown", "seconds_per_image": 20}
    after = mnist_adv.certify(model, images, labels, **options)
    assert (after.proved | ~before.proved).all() and (after.margin >= before.margin - 1e-9).all()
    assert after.proved.sum() > before.proved.sum() and after.broken.any()
    generator = np.random.default_rng(0)
    for image, label in zip(images[after.proved], labels[after.proved]):
        near = sample(image.reshape(-1), norm, epsilon, 2000, generator).astype(np.float32)
        assert (np.asarray(model(near.reshape(-1, *shape))).argmax(axis=1) == label).all()
    assert mnist_adv.write_proofs(folder, model, after) == after.proved.sum()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["l1", "conv"])
def test_certification_branches_and_the_checker_derives_it_again(
    name: str, tmp_path: pathlib.Path
) -> None:
    certify_and_prove(name, tmp_path)
    assert checker.main([str(tmp_path)]) == 0


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> tuple[Arrays, Arrays]:
    """A network and a proof in several cases."""
    folder = tmp_path_factory.mktemp("proofs")
    certify_and_prove("linf", folder)
    assert checker.main([str(folder)]) == 0
    proofs = map(read, folder.glob("proof_*.npz"))
    return read(folder / "network.npz"), max(proofs, key=lambda arrays: num_cases(arrays)[0])


def num_cases(arrays: Arrays) -> tuple[int, str]:
    """Count the cases of the margin that has most of them, and name it."""
    parts = [name for name in arrays if name.startswith("cases") and name.endswith("signs.0")]
    return max(((len(arrays[name]), name.split(".")[0]) for name in parts), default=(0, ""))


@pytest.mark.slow
def test_wrong_cases_are_refused(proof: tuple[Arrays, Arrays]) -> None:
    network, arrays = proof
    margin = checker.check(network, arrays)
    assert margin > 0
    count, name = num_cases(arrays)
    own = {n: values for n, values in arrays.items() if n.startswith(f"{name}.")}
    assert count >= 2
    wrong = {
        "cases do not cover all": {n: values[1:] for n, values in own.items()},
        "a multiplier is below 0": {
            n: -1 - values for n, values in own.items() if "multipliers" in n
        },
        "is not excluded as claimed": {
            n: 100 * (1 + values) for n, values in own.items() if "multipliers" in n
        },
        "is not excluded as claimed: ": {
            n: 2 - 5 * values for n, values in own.items() if "lower" in n
        },
        "is not excluded as claimed:": {
            n: np.full_like(values, np.nan) for n, values in own.items() if "lower" in n
        },
    }
    for said, parts in wrong.items():
        assert parts
        with pytest.raises(ValueError, match=said.strip()):
            checker.check(network, {**arrays, **parts})
    # Any slope gives a bound of a hidden neuron: a wrong one never proves more.
    hidden = {n: 1 - values for n, values in arrays.items() if n.startswith("hidden1.lower")}
    assert hidden
    with pytest.raises(ValueError, match="is not excluded as claimed"):
        checker.check(network, {**arrays, **hidden})


@pytest.mark.usefixtures("eagerly")
def test_the_clock_of_a_search_stands_still_while_programs_are_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(branching, "_NUM_STEPS_WHOLE", 2)
    bounder, image = (
        bounder_of(perceptron(random_layers(4, 3, 3)), (2, 2, 1)),
        images_of(1, 2, 2, 1),
    )
    whole, rows = bounder.refine(image.reshape(-1).astype(np.float64), 0.1), np.eye(3)[:1]
    shares = []
    for _ in range(2):
        began = bounder.brancher.clock(), time.monotonic()
        bounder.brancher.search(whole, rows, 0)
        shares.append((bounder.brancher.clock() - began[0]) / (time.monotonic() - began[1]))
    assert shares[0] < 0.5 < shares[1]


def test_a_search_that_goes_on_ends_as_if_unbroken() -> None:
    layers, image = random_layers(4, 5, 4, 2), images_of(1, 2, 2, 1)[0]
    exact = smallest_margins(layers, image.reshape(-1).astype(float), 0, "linf", EPSILON)[1]
    bounder = bounder_of(perceptron(with_constant(layers)), (2, 2, 1))
    begun = search(bounder, image, EPSILON, [exact - 0.02], 0)
    assert begun.bounds[0] <= 0
    whole = bounder.refine(image.reshape(-1).astype(np.float64), EPSILON)
    rows = np.array([[1.0, -1.0, 0.02 - exact]])
    found = bounder.brancher.search(whole, rows, 60, keep=True, start=begun)
    unbroken = search(bounder, image, EPSILON, [exact - 0.02], 60)
    assert found.bounds[0] == unbroken.bounds[0] > 0 and found.margin <= begun.margin
    assert found.cases is not None and unbroken.cases is not None
    assert len(found.cases.rows) == len(unbroken.cases.rows) > 1
