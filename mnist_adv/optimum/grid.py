"""The optimum among images that a file can hold: 256 grey levels, bounded from both sides.

From below: the continuous bound, rounded up to what whole levels can measure (L-inf and L1 are
multiples of one level, L2 the root of a whole number of them). From above: the continuous optimum,
rounded and then moved level by level until it is classified as wanted.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mnist_adv.data.datasets import to_float
from mnist_adv.optimum.certificate.bounds import measure
from mnist_adv.optimum.problem import Classifier, make_classifier, row_needs
from mnist_adv.optimum.result import Optimum
from mnist_adv.optimum.constraints import combine

_TOP = 255
_ROWS = 64
_MAX_ROUNDS = 200
_ATTEMPTS = 5  # each starts a little farther away; for L-inf one level
_FARTHER = 0.004
_FLOAT32 = 2e-5  # by how many levels a float32 pixel may be off


@dataclasses.dataclass(frozen=True)
class GridOptimum:
    """The smallest change on the grid of 256 levels lies between two bounds.

    Attributes:
        lower_bound: `[n]`, in pixel units (1 is 255 levels).
        upper_bound: `[n]`, the norm of `levels / 255` minus the clean image; infinity where no
            image on the grid was found.
        levels: uint8, in the shape of the images; classified as wanted by a float64 forward pass
            over its float32 pixels where the upper bound is finite.
    """

    lower_bound: np.ndarray
    upper_bound: np.ndarray
    levels: np.ndarray

    @property
    def exact(self) -> np.ndarray:
        """Where the bounds meet, `[n]` bool."""
        return np.isfinite(self.upper_bound) & (self.upper_bound <= self.lower_bound * (1 + 1e-9))


def on_grid(W: Any, b: Any, optimum: Optimum) -> GridOptimum:
    """Bound the optimum among 8-bit images.

    Args:
        W: `[D, K]`, the weights the optimum belongs to.
        b: `[K]`.
        optimum: of images that lie on the grid, in the box [0, 1].

    Returns:
        Bounds and images.

    Raises:
        ValueError: a clean pixel is not a multiple of 1 / 255.
    """
    classifier = make_classifier(W, b, 0.0, 1.0)
    count = len(optimum.classes)
    pixels = np.asarray(optimum.images, np.float64).reshape(count, -1) * _TOP
    clean = np.rint(pixels)
    if np.abs(pixels - clean).max(initial=0) > 1e-3:
        raise ValueError(
            "images must lie on the grid of 256 levels. Received: pixels up to "
            f"{np.abs(pixels - clean).max():.3g} levels off"
        )
    moves = (optimum.adversarial.reshape(count, -1) - pixels / _TOP) * _TOP
    least = optimum.lower_bound
    if optimum.norm != "l0":
        least = _round_up(optimum.norm, least * _TOP, pixels.shape[1])
    final, found = clean.copy(), np.zeros(count, bool)
    for start in range(0, count, _ROWS):
        part = np.arange(count)[start : start + _ROWS]
        part = part[optimum.found[part]]
        for extra in range(_ATTEMPTS):
            if not part.size:
                break
            cap = least[part] + extra if optimum.norm == "linf" else np.full(len(part), _TOP)
            far = moves[part] * (1 + _FARTHER * extra)
            steps, reached = _search(
                classifier, optimum, part, clean[part], far, cap[:, np.newaxis]
            )
            final[part[reached]] += steps[reached]
            found[part[reached]] = True
            part = part[~reached]
    size = measure(optimum.norm, final - clean)
    unit = 1.0 if optimum.norm == "l0" else 1.0 / _TOP
    return GridOptimum(
        lower_bound=least * unit,
        upper_bound=np.where(found, size * unit, np.inf),
        levels=final.astype(np.uint8).reshape(optimum.adversarial.shape),
    )


def _round_up(norm: str, bound: np.ndarray, num_pixels: int) -> np.ndarray:
    """Round a bound in levels up to the next length that whole levels can have."""
    if norm == "l2":
        squared = np.maximum(bound * (1 - 1e-9) - np.sqrt(num_pixels) * _FLOAT32, 0) ** 2
        return np.sqrt(np.ceil(squared))
    off = _FLOAT32 * (num_pixels if norm == "l1" else 1)
    return np.ceil(np.maximum(bound * (1 - 1e-9) - off, 0))


def _search(
    classifier: Classifier,
    optimum: Optimum,
    index: np.ndarray,
    clean: np.ndarray,
    moves: np.ndarray,
    cap: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    norm, targets = optimum.norm, optimum.reached[index]
    steps = np.rint(moves)
    if norm == "linf":
        largest = np.abs(moves).max(axis=1, keepdims=True)
        steps = np.where(np.abs(moves) >= largest - 1e-3, np.sign(moves) * cap, steps)
    low, high = np.maximum(-clean, -cap), np.minimum(_TOP - clean, cap)
    steps = np.clip(steps, low, high)
    may_move = (moves != 0) if norm == "l0" else np.ones(moves.shape, bool)
    softness = max(8 * float(np.ptp(classifier.weights, axis=1).max()) / _TOP, 1e-300)
    own = np.arange(len(index))
    reached = np.zeros(len(index), bool)
    for _ in range(_MAX_ROUNDS):
        images = to_float((clean + steps).astype(np.uint8)).astype(np.float64)
        needs = row_needs(classifier, images, targets, optimum.margin)
        if not optimum.targeted:
            label = optimum.classes[index]
            only = needs[own, label]
            needs = np.full(needs.shape, -np.inf)
            needs[own, label] = only
        reached = needs.max(axis=1) <= 0
        if reached.all():
            break
        # A soft maximum over the rows: a step that helps one must not undo its neighbours.
        pressing = np.exp((needs - needs.max(axis=1, keepdims=True)) / softness)
        row = combine(classifier.weights, targets, pressing)
        direction = np.sign(row)
        room = np.where(direction > 0, high - steps, steps - low)
        value = np.abs(row)
        if norm == "l2":  # one more level lengthens d^2 by 2 |d| + 1, one less shortens it
            value = value / np.maximum(2 * steps * direction + 1, 0.5)
        elif norm == "l1":
            value = value * np.where(steps * direction < 0, 1e3, 1.0)
        value = np.where((room > 0) & may_move & ~reached[:, np.newaxis], value, 0.0)
        best = value.argmax(axis=1)
        moving = value[own, best] > 0
        if not moving.any():
            break
        steps[own[moving], best[moving]] += direction[own[moving], best[moving]]
    return steps, reached
