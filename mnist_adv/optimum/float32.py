"""Turn certified float64 images into float32 images that a forward pass classifies the same.

The optimum lies on the border between classes, where float32 logits, rounded in the last digits,
may favour either. So the image gets a margin of a few units of that rounding: it is farther than
the certified float64 image, on digits by a few parts per million in L2 and L1, some tens in L-inf.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mnist_adv.optimum.problem import Classifier, make_block, make_classifier, right_hand_side
from mnist_adv.optimum.result import Optimum
from mnist_adv.optimum.solvers.feasibility import repair

_MARGINS = (4, 16, 64, 256)  # tried in turn, in units of float32 rounding of a logit
_CHUNK = 128


def to_float32(
    W: Any,
    b: Any,
    optimum: Optimum,
    *,
    lower: Any = 0.0,
    upper: Any = 1.0,
    one_by_one: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Round nearest images to float32 without losing what they are classified as.

    Args:
        W: `[D, K]`, the weights the optimum belongs to.
        b: `[K]`.
        optimum: for these weights.
        lower: the box, one number or `[D]`.
        upper: likewise.
        one_by_one: as for `smallest_perturbation`.

    Returns:
        float32 images in the shape of `optimum.images`, and `[n]` bool: whether the margin
        holds in float32 and in float64 arithmetic, in any order of summation to be expected.
        Where it does not, or nothing was found, the image is the rounded `optimum.adversarial`.
    """
    classifier = make_classifier(W, b, lower, upper)
    shape = optimum.adversarial.shape
    count = len(optimum.classes)
    clean = np.asarray(optimum.images).reshape(count, -1)
    near = optimum.adversarial.reshape(count, -1)
    images = np.empty(near.shape, np.float32)
    kept = np.zeros(count, bool)
    size = 1 if one_by_one else _CHUNK
    for start in range(0, count, size):
        part = slice(start, start + size)
        images[part] = _inside(near[part], classifier)
        todo = np.arange(count)[part][optimum.found[part]]
        for extra in _MARGINS:
            if not todo.size:
                break
            x = clean[todo].astype(np.float64)
            moved_images, holds = _add_margin(classifier, optimum, x, near[todo], todo, extra)
            images[todo[holds]] = moved_images[holds]
            kept[todo[holds]] = True
            todo = todo[~holds]
    return images.reshape(shape), kept


def _add_margin(
    classifier: Classifier,
    optimum: Optimum,
    clean: np.ndarray,
    near: np.ndarray,
    index: np.ndarray,
    extra: float,
) -> tuple[np.ndarray, np.ndarray]:
    targets = optimum.reached[index]
    size = (np.abs(near) @ np.abs(classifier.weights) + np.abs(classifier.bias)).max(axis=1)
    rounding = float(np.finfo(np.float32).eps) * size
    block = make_block(classifier, clean, targets, optimum.margin)
    scale = classifier.unit * classifier.width
    rhs = block.rhs + (extra * rounding / scale)[:, np.newaxis]
    matters = np.ones(rhs.shape, bool)
    if not optimum.targeted:
        matters[:] = np.arange(rhs.shape[1]) == optimum.classes[index][:, np.newaxis]
    rhs = np.where(matters & np.isfinite(rhs), rhs, -np.inf)
    active = classifier.active
    points = ((near - clean) / classifier.width)[:, active]
    points = repair(
        optimum.norm, block.constraints, block.ranges, rhs, points, 0.25 * extra * rounding / scale
    )
    moved = near.copy()
    moved[:, active] = clean[:, active] + points * classifier.width
    # A pixel that did not change keeps its bits.
    moved = np.where(np.abs(moved - clean) > 0, moved, clean)
    images = _inside(moved, classifier)
    own = np.arange(len(index))
    single = images @ classifier.weights.astype(np.float32) + classifier.bias.astype(np.float32)
    short = single - single[own, targets][:, np.newaxis] + np.float32(optimum.margin)
    short[own, targets] = -np.inf
    exact = right_hand_side(classifier, images.astype(np.float64), targets, optimum.margin)
    both = np.where(matters, np.maximum(short + rounding[:, np.newaxis], exact), -np.inf)
    return images, np.asarray((both <= 0).all(axis=1))


def _inside(pixels: np.ndarray, classifier: Classifier) -> np.ndarray:
    """Round to float32, and back into the box where rounding has left it."""
    rounded = pixels.astype(np.float32)
    high, low = rounded > classifier.upper, rounded < classifier.lower
    rounded = np.where(high, np.nextafter(rounded, np.float32(-np.inf)), rounded)
    return np.where(low, np.nextafter(rounded, np.float32(np.inf)), rounded)
