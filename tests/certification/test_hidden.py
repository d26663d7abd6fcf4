"""Float32 bounds of hidden neurons beside the same bounds in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from mnist_adv.certification import hidden, propagation
from mnist_adv.certification.hidden import Fields, bound_neurons
from mnist_adv.certification.propagation import FLOAT64, Interval, Propagation
from mnist_adv.certification.read_model import read_network
from mnist_adv.certification.region import Ball
from mnist_adv.geometry.norms import Norm
from mnist_adv.models.as_model import as_model
from tests.certification.support import margins, perceptron, random_layers, smallest_margins
from tests.certification.test_bounds import CHAINS, chain_of, images_of

pytestmark = pytest.mark.usefixtures("eagerly")
Pair = tuple[np.ndarray, np.ndarray]


def bounded(
    model: Any, images: np.ndarray, epsilon: float, norm: Norm = Norm.LINF
) -> list[tuple[Pair, Pair]]:
    """Bound all hidden neurons behind a nonlinearity from both sides, in float32 and in float64."""
    network = read_network(model, images.shape[1:])
    through = Propagation(network, Ball(norm, 0.0, 1.0), FLOAT64)
    fields = Fields(network)
    pixels = tf.constant(images.reshape(len(images), -1), tf.float64)
    region = through.ball.region(pixels, tf.fill([len(images)], tf.constant(epsilon, tf.float64)))
    intervals, found = [through.first(region)], []
    slopes: list[Any] = []
    for number in range(len(network.kinds)):
        size = network.segments[number].out_size
        groups = fields.groups(number)
        if (number or norm is not Norm.LINF) and network.segments[number].num_products:
            assert groups is not None
            assert np.array_equal(np.concatenate([g.rows for g in groups]), np.arange(size))
            terms = [fields.num_terms(before) for before in range(number + 1)]
            seen = through.deviations(terms, region, intervals, slopes)
            wanted = np.full((len(images), size), True)
            quick = bound_neurons(groups, tf.nest.map_structure(np.asarray, seen), wanted, norm)
            rows = tf.eye(size, dtype=tf.float64)[tf.newaxis]
            lower, upper = (
                sign * np.asarray(through.backward(region, intervals, slopes, sign * rows))
                for sign in (1, -1)
            )
            found.append((quick, (lower, upper)))
            last = intervals[-1]
            intervals[-1] = Interval(
                tf.maximum(last.lower, lower), tf.minimum(last.upper, upper), last.rounding
            )
        pair, after = through.through(number, intervals[-1])
        slopes.append(tuple(tf.cast(tf.cast(each, tf.float32), tf.float64) for each in pair))
        intervals.append(after)
    return found


NETS: dict[str, tuple[Callable[[], Any], tuple[int, int, int]]] = {
    "relu": (lambda: perceptron(random_layers(144, 70, 600, 40, 3)), (12, 12, 1)),
    "tanh": (CHAINS["tanh"], (8, 8, 2)),
    "conv": (CHAINS["conv"], (8, 8, 2)),
    "pools": (CHAINS["pools"], (8, 8, 2)),
    "normalised": (CHAINS["normalised"], (8, 8, 2)),
}


@pytest.mark.parametrize("name", NETS)
def test_float32_bounds_are_just_outside_those_of_float64(name: str) -> None:
    make, shape = NETS[name]
    images = images_of(3, *shape)
    model = as_model(make(), images)
    for epsilon in (0.0, 1e-3, 0.1):
        for (low, high), (lower, upper) in bounded(model, images, epsilon):
            tiny, width = 1e-12 * (1 + np.abs(lower).max()), upper - lower
            assert (low <= lower + tiny).all() and (high >= upper - tiny).all()
            assert (lower - low <= 5e-3 * width + 1e-9).all()
            assert (high - upper <= 5e-3 * width + 1e-9).all()


@pytest.mark.parametrize("norm, epsilon", [("l2", 0.4), ("l1", 1.5)])
def test_bounds_in_other_norms_are_near_those_of_float64(norm: str, epsilon: float) -> None:
    make, shape = NETS["pools"]
    images = images_of(3, *shape)
    bounds = bounded(as_model(make(), images), images, epsilon, Norm(norm))
    assert len(bounds) == 1
    for (low, high), (lower, upper) in bounds:
        width = upper - lower
        assert (np.abs(lower - low) <= 1e-3 * width).all()
        assert (np.abs(high - upper) <= 1e-3 * width).all()


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_the_dual_bounds_the_largest_fall_from_above(norm: str) -> None:
    generator = np.random.default_rng(0)
    coefficients = generator.normal(size=(20, 9)).astype(np.float32)
    coefficients[0] = 0
    falls, rises = generator.uniform(0, 1, (2, 9))
    for epsilon in (0.0, 0.3, 1.0, 9.0):
        found = hidden._MOST[Norm(norm)](coefficients, falls, rises, epsilon)
        for row, most in zip(coefficients.astype(np.float64), found):
            size, ends = np.abs(row), np.where(row > 0, falls, rises)
            if norm == "l1":
                total = np.ones((1, 9))
                answer = scipy.optimize.linprog(
                    -size, total, [epsilon], bounds=list(zip(0 * ends, ends))
                )
                exact = -answer.fun
            else:  # min(t s, r) of the t that is as long as epsilon

                def long(t: float, size: Any = size, ends: Any = ends) -> float:
                    return float(np.linalg.norm(np.minimum(t * size, ends)))

                free = np.where(size > 0, ends, 0)
                if np.linalg.norm(free) <= epsilon:
                    exact = size @ ends
                else:
                    t = scipy.optimize.brentq(lambda t: long(t) - epsilon, 0, 1e9, xtol=1e-15)
                    exact = size @ np.minimum(t * size, ends)
            assert exact - 1e-9 <= most <= exact + 1e-6


@pytest.mark.parametrize("norm, epsilon", [("linf", 0.02), ("l2", 0.2)])
def test_receptive_fields_that_are_too_large_are_followed_in_float64(
    norm: str, epsilon: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, shape = NETS["conv"]
    images = images_of(3, *shape)
    model = as_model(make(), images)
    given = model, images, np.zeros(3, np.int64), norm, epsilon, "crown"
    quick = margins(*given)[:, 1:]
    monkeypatch.setattr(hidden, "_MOST_NUMBERS", 0)
    network = read_network(model, shape)
    assert all(Fields(network).groups(number) is None for number in range(len(network.kinds)))
    slow = margins(*given)[:, 1:]
    assert (quick != slow).any() and np.allclose(quick, slow, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_numbers_at_the_ends_of_float32_are_bounded(scale: float) -> None:
    layers, images = random_layers(4, 3, 3, 3), images_of(3, 2, 2, 1)
    first, (weights, bias), (last, end) = layers
    number = np.float32(scale)
    scaled = [first, (weights * number, bias * number), (last / number, end)]
    labels = np.zeros(3, np.int64)
    bounds = margins(perceptron(scaled), images, labels, "linf", 0.15, "crown")
    assert scale < 1 or (bounds[:, 1:] > -100).all()
    for image, bound in zip(images, bounds):
        exact = smallest_margins(layers, image.reshape(-1).astype(float), 0, "linf", 0.15)
        assert (bound[1:] <= exact[1:] + 1e-5).all()


def test_a_sum_beside_a_neuron_of_no_inputs_is_no_choice_of_inputs() -> None:
    (first, _, last), sums = random_layers(4, 2, 2, 3), np.array([[1, 0], [1, 0]], np.float32)
    layers = [first, (sums, np.zeros(2, np.float32)), last]
    groups = Fields(read_network(perceptron(layers), (2, 2, 1))).groups(1)
    assert groups is not None and len(groups) == 1
    matrix = groups[0].hops[1].matrix
    assert matrix is not None and np.array_equal(matrix, sums.T)


def test_matrices_with_hardly_any_numbers_but_0_are_not_made() -> None:
    model = chain_of(
        keras.layers.Conv2D(200, 2, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(9, activation="relu"),
    )
    network = read_network(as_model(model, images_of(1, 8, 8, 2)), (8, 8, 2))
    fields = Fields(network)
    assert fields.groups(0) is not None and fields.groups(1) is None


def test_without_its_error_term_float32_would_claim_more_than_float64(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (hidden, propagation):
        monkeypatch.setattr(module, "UNIT", 0.0)
    make, shape = NETS["relu"]
    images = images_of(3, *shape)
    (_, ((low, _), (lower, _))) = bounded(as_model(make(), images), images, 0.1)
    assert (low > lower + 1e-12 * (1 + np.abs(lower).max())).any()
