"""Semidefinite bounds against enumeration, and the proofs of their parts."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

import mnist_adv
from mnist_adv.certification import prover
from mnist_adv.certification.quadratic import (
    is_semidefinite,
    make_certain,
    quadratic_form,
    raise_diagonal,
)
from mnist_adv.certification.semidefinite import Hidden, Leaf, Margin, search
from tests.certification.support import margins, perceptron, random_layers, smallest_margins
from tests.certification.test_bounds import images_of

EPSILON = 0.15


def problem(seed: int, other: int = 1) -> tuple[Margin, float]:
    layers = random_layers(6, 7, 3, seed=seed)
    image = images_of(1, 6, seed=seed)[0].astype(np.float64)
    ends = np.maximum(image - EPSILON, 0), np.minimum(image + EPSILON, 1)
    centre, radius = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2
    (weights, bias), (last, last_bias) = [
        (weights.astype(np.float64), bias.astype(np.float64)) for weights, bias in layers
    ]
    before, reach = centre @ weights + bias, radius @ np.abs(weights)
    margin = Margin(
        Hidden(weights, bias, last, last_bias),
        last[:, 0] - last[:, other],
        float(last_bias[0] - last_bias[other]),
        centre,
        radius,
        before - reach,
        before + reach,
    )
    return margin, smallest_margins(layers, image, 0, "linf", EPSILON)[other]


@pytest.mark.parametrize("seed", range(6))
def test_the_bound_is_below_the_enumerated_minimum_and_branching_reaches_it(seed: int) -> None:
    margin, exact = problem(seed)
    (leaf,), bound = search(margin, 0)
    assert bound == leaf.bound and bound <= exact + 1e-9
    assert exact - bound < 1
    # Shifted so that only a tight bound is above 0.
    shifted = dataclasses.replace(margin, constant=margin.constant - exact + 0.01)
    leaves, reached = search(shifted, 20)
    assert 0 < reached <= 0.01 + 1e-9
    impossible = dataclasses.replace(margin, constant=margin.constant - exact - 1e-6)
    assert search(impossible, 0.2)[1] <= 0
    for signs in itertools.product([False, True], repeat=7):
        assert any(np.array_equal(np.array(signs)[x.neurons], x.active) for x in leaves)


def bound_of(margin: Margin, leaf: Leaf, point: np.ndarray) -> tuple[bool, float]:
    """Say whether an image is a leaf's case, and the margin there."""
    hidden = margin.hidden
    before = point @ hidden.weights + hidden.bias
    case = bool(((before[leaf.neurons] >= 0) == leaf.active).all())
    return case, float(np.maximum(before, 0) @ margin.coefficients + margin.constant)


@pytest.mark.parametrize("seed", range(3))
def test_each_leaf_bounds_its_own_case(seed: int) -> None:
    margin, exact = problem(seed)
    margin = dataclasses.replace(margin, constant=margin.constant - exact - 0.05)
    leaves, _ = search(margin, 1)
    assert len(leaves) > 1
    generator, seen = np.random.default_rng(0), 0
    for move in generator.choice([-1, -0.5, 0.5, 1], (3000, 6)):
        for leaf in leaves:
            case, value = bound_of(margin, leaf, margin.centre + move * margin.radius)
            seen += case
            assert not case or value >= leaf.bound
    assert seen >= 3000


def test_a_diagonal_is_raised_until_it_is_certain() -> None:
    generator = np.random.default_rng(1)
    product, linear = generator.normal(size=(8, 5)), generator.normal(size=8)
    matrix = quadratic_form(product, linear)
    point = generator.normal(size=14)
    form = point[:8] @ product @ point[8:13] + (point[:8] @ linear) * point[13]
    assert np.isclose(point @ matrix @ point / 2, form)
    low = np.full(14, 0.1)
    assert not is_semidefinite(matrix, low)
    raised = raise_diagonal(product, linear, low)
    certain = make_certain(product, linear, raised)
    least = np.linalg.eigvalsh(np.diag(certain) - matrix)[0]
    assert is_semidefinite(matrix, certain) and 0 <= least < 1e-3
    assert (raised <= certain).all() and (certain < raised * 1.001).all()
    assert is_semidefinite(matrix, make_certain(product, linear, low))
    assert not is_semidefinite(matrix, certain - least - 1e-9)


@pytest.mark.usefixtures("eagerly")
def test_certification_takes_semidefinite_bounds_where_lines_are_loose() -> None:
    model, images = perceptron(random_layers(36, 60, 3)), images_of(6, 6, 6, 1)
    labels = np.asarray(model(images)).argmax(axis=1)
    linear = margins(model, images, labels, "linf", 0.2, "alpha_crown").min(axis=1)
    given: dict[str, Any] = {"epsilon": 0.2, "attack": False, "method": "sdp"}
    found = mnist_adv.certify(model, images, labels, **given)
    loose = linear < 0
    assert loose.any() and (found.margin[loose] > linear[loose] + 0.5).any()
    assert (found.margin >= linear - 1e-2)[loose].all()


@pytest.mark.usefixtures("eagerly")
def test_where_there_are_no_semidefinite_bounds_it_is_said() -> None:
    images = images_of(1, 4, 4, 1)
    deep = perceptron(random_layers(16, 5, 5, 3))
    with pytest.raises(ValueError, match=r"sdp needs one hidden layer of ReLU.*relu, relu"):
        mnist_adv.certify(deep, images, 0, epsilon=0.1, method="sdp")
    with pytest.raises(ValueError, match=r"method sdp needs norm linf. Received: 'l2'"):
        mnist_adv.certify(deep, images, 0, epsilon=0.1, method="sdp", norm="l2")


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_semidefinite_bounds_and_branching_widen_the_radius(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, images = perceptron(random_layers(36, 60, 3)), images_of(2, 6, 6, 1)
    labels = np.asarray(model(images)).argmax(axis=1)
    options: dict[str, Any] = {"num_steps": 3, "epsilons": [0.1, 0.2, 0.4], "attack": False}
    limits: list[float] = []

    def watched(margin: Margin, seconds: float) -> tuple[list[Leaf], float]:
        limits.append(seconds)
        return search(margin, seconds)

    monkeypatch.setattr(prover, "search", watched)
    lines = mnist_adv.certify_radius(model, images, labels, **options).proved_radius
    options["method"] = "sdp"
    tight = mnist_adv.certify_radius(model, images, labels, **options).proved_radius
    assert (lines <= tight).all() and (lines < tight).any()
    assert limits and max(limits) <= 0
    limits.clear()
    options["seconds_per_image"] = 0.6
    done: list[int] = []
    options["progress"] = done.append
    branched = mnist_adv.certify_radius(model, images, labels, **options).proved_radius
    assert (tight <= branched).all() and done == [0, 1, 1]  # none is misclassified
    assert 0 < max(limits) <= 0.6
