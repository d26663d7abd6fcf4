"""Small networks, and their exact smallest margins by enumeration."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import scipy.optimize

from mnist_adv.certification.bounds import Bounder
from mnist_adv.certification.method import Method
from mnist_adv.certification.propagation import FLOAT64, Propagation
from mnist_adv.certification.read_model import read_network
from mnist_adv.certification.region import Ball
from mnist_adv.geometry.norms import Norm
from mnist_adv.models.activation import Activation
from mnist_adv.models.perceptron import make_model

Layers = list[tuple[np.ndarray, np.ndarray]]


def random_layers(*widths: int, seed: int = 0) -> Layers:
    generator = np.random.default_rng(seed)
    return [
        (
            generator.normal(size=(before, after)).astype(np.float32),
            generator.normal(size=after).astype(np.float32) / 4,
        )
        for before, after in itertools.pairwise(widths)
    ]


def perceptron(layers: Layers, activation: str = "relu") -> Any:
    return make_model(layers, Activation(activation))


def margins(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    norm: str,
    epsilon: Any,
    method: str,
    unit: float = FLOAT64,
) -> np.ndarray:
    """Bound the margins of images `[n, h, w, c]` in the unit box, `[n, k]`."""
    network = read_network(model, images.shape[1:])
    bounder = Bounder(Propagation(network, Ball(Norm(norm), 0.0, 1.0), unit))
    radii = np.broadcast_to(np.float64(epsilon), (len(images),))
    return bounder.margins(images.reshape(len(images), -1), labels, radii, Method(method))


def smallest_margins(
    layers: Layers, image: np.ndarray, label: int, norm: str, epsilon: float
) -> np.ndarray:
    """Minimise each margin of a ReLU network exactly: a linear program for each pattern.

    Args:
        layers: as `random_layers` makes them.
        image: `[D]`.
        label: whose logit.
        norm: "linf" or "l1".
        epsilon: the radius.

    Returns:
        `[k]`; infinite for the label.
    """
    widths = [weights.shape[1] for weights, _ in layers[:-1]]
    num_classes = layers[-1][0].shape[1]
    found = np.full(num_classes, np.inf)
    for pattern in itertools.product([0.0, 1.0], repeat=sum(widths)):
        masks = np.split(np.array(pattern), np.cumsum(widths)[:-1])
        matrix, shift = np.eye(len(image)), np.zeros(len(image))
        rows, limits = [], []
        for (weights, bias), mask in zip(layers[:-1], masks):
            matrix, shift = matrix @ weights, shift @ weights + bias
            # Active neurons are at least 0, the others at most.
            sign = 1 - 2 * mask
            rows.append((matrix * sign).T)
            limits.append(-shift * sign)
            matrix, shift = matrix * mask, shift * mask
        matrix, shift = matrix @ layers[-1][0], shift @ layers[-1][0] + layers[-1][1]
        for other in range(num_classes):
            if other != label:
                value = _minimise(
                    matrix[:, label] - matrix[:, other],
                    np.concatenate(rows),
                    np.concatenate(limits),
                    image,
                    norm,
                    epsilon,
                )
                found[other] = min(found[other], value + shift[label] - shift[other])
    return found


def _minimise(
    cost: np.ndarray,
    rows: np.ndarray,
    limits: np.ndarray,
    image: np.ndarray,
    norm: str,
    epsilon: float,
) -> float:
    if norm == "linf":
        ends = np.maximum(image - epsilon, 0), np.minimum(image + epsilon, 1)
        answer = scipy.optimize.linprog(cost, rows, limits, bounds=np.stack(ends, axis=1))
    else:  # with the rise and the fall of each pixel
        size = len(image)
        rows = np.concatenate([np.hstack([rows, -rows]), np.ones((1, 2 * size))])
        limits = np.append(limits - rows[:-1, :size] @ image, epsilon)
        ranges = np.concatenate([1 - image, image])
        answer = scipy.optimize.linprog(
            np.concatenate([cost, -cost]),
            rows,
            limits,
            bounds=np.stack([np.zeros(2 * size), ranges], axis=1),
        )
        answer.fun = None if answer.fun is None else answer.fun + cost @ image
    return np.inf if answer.fun is None else float(answer.fun)


def sample(
    image: np.ndarray, norm: str, epsilon: float, count: int, generator: np.random.Generator
) -> np.ndarray:
    """Draw images of the ball and the box, many of them at their borders: `[count, D]`."""
    shape = (count, len(image))
    if norm == "linf":
        moves = epsilon * np.where(
            generator.random((count, 1)) < 0.5,
            generator.choice([-1.0, 1.0], shape),
            generator.uniform(-1, 1, shape),
        )
    else:
        moves = generator.normal(size=shape) * (generator.random(shape) < generator.random())
        order = 2 if norm == "l2" else 1
        lengths = np.linalg.norm(moves, order, axis=1, keepdims=True)
        moves *= epsilon / np.maximum(lengths, 1e-12)
    return np.clip(image + moves, 0, 1)
