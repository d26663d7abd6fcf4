"""From a linear classifier and images to the numbers that the solvers work on.

"Image x, of class t" reads: `a_k . d >= g_k` for every class k, with `a_k = w_t - w_k`,
`g_k = z_k(x) - z_t(x) + margin`, and d inside the ranges that the box leaves to each pixel.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mnist_adv.arguments import as_array, real_array, shown
from mnist_adv.optimum.constraints import Constraints, make_constraints, product

NORMS = ("linf", "l2", "l1", "l0")

# What the solvers aim for beyond g, so that rounding leaves a feasible image: relative to the
# largest g, and to the size of the logits.
_EXCESS = 1e-11
_ROUNDING = 3e-15


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A linear classifier `z = x W + b` on a box of images, prepared once for many problems.

    Attributes:
        weights: `[D, K]` float64.
        bias: `[K]` float64.
        lower: `[D]` float64, the box.
        upper: `[D]` float64.
        active: `[D]` bool, the pixels that can change and matter to some pair of classes.
        unit: the longest constraint, by which all constraints are divided for the solvers.
        width: the widest pixel, by which all ranges are divided for the solvers.
    """

    weights: np.ndarray
    bias: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    active: np.ndarray
    unit: float
    width: float


@dataclasses.dataclass(frozen=True)
class Block:
    """Some targeted problems, scaled: ranges at most 1, the longest constraint about 1.

    Attributes:
        constraints: a_k, over the active pixels.
        ranges: `[2, n, D]`, how far each active pixel can rise and fall.
        rhs: g, `[n, K]`, with a little excess; -1 where the constraint is zero and holds anyway.
        tolerance: `[n]`, the part of the excess that a solver may leave unmet.
        unsatisfiable: `[n, K]` bool, constraints that are zero and do not hold.
    """

    constraints: Constraints
    ranges: np.ndarray
    rhs: np.ndarray
    tolerance: np.ndarray
    unsatisfiable: np.ndarray

    def take(self, chosen: np.ndarray) -> Block:
        """Keep some of the problems.

        Args:
            chosen: `[m]` indices, or `[n]` bool.

        Returns:
            These problems.
        """
        return Block(
            constraints=self.constraints.take(chosen),
            ranges=self.ranges[:, chosen],
            rhs=self.rhs[chosen],
            tolerance=self.tolerance[chosen],
            unsatisfiable=self.unsatisfiable[chosen],
        )


def make_classifier(weights: Any, bias: Any, lower: Any, upper: Any) -> Classifier:
    """Check and prepare a linear classifier.

    Args:
        weights: `[D, K]`, K at least 2; column k is the template of class k.
        bias: `[K]`.
        lower: the least value of a pixel, one number or `[D]`.
        upper: the largest.

    Returns:
        The classifier.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, an empty box.
    """
    weights = real_array(weights, "W").astype(np.float64)
    bias = real_array(bias, "b").astype(np.float64)
    if weights.ndim != 2 or weights.shape[0] < 1 or weights.shape[1] < 2:
        raise ValueError(
            "W must have shape [pixels, classes] with at least two classes. "
            f"Received: {list(weights.shape)}"
        )
    if bias.shape != weights.shape[1:]:
        raise ValueError(f"b must have shape [{weights.shape[1]}]. Received: {list(bias.shape)}")
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        raise ValueError("W and b must be finite. Received: NaN or infinite entries")
    pixels = weights.shape[0]
    ends = {"lower": lower, "upper": upper}
    box = [real_array(side, name).astype(np.float64).reshape(-1) for name, side in ends.items()]
    if any(side.size not in (1, pixels) for side in box):
        raise ValueError(
            f"lower and upper must be one number each, or one per pixel ({pixels}). "
            f"Received: {[side.size for side in box]} numbers"
        )
    low, high = (np.broadcast_to(side, (pixels,)) for side in box)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
        raise ValueError(
            f"lower and upper must be finite, lower <= upper. Received: {lower!r} and {upper!r}"
        )
    active = (np.ptp(weights, axis=1) > 0) & (high > low)
    centered = weights[active] - weights[active].mean(axis=1, keepdims=True)
    unit = float(np.sqrt((centered**2).sum(axis=0)).max(initial=0)) or 1.0
    width = float((high - low).max(initial=0)) or 1.0
    return Classifier(weights, bias, low, high, active, unit, width)


def right_hand_side(
    classifier: Classifier, images: np.ndarray, targets: np.ndarray, margin: Any
) -> np.ndarray:
    """Compute g: by how much the target's logit must gain on each class.

    Args:
        classifier: of K classes.
        images: `[n, D]` float64.
        targets: `[n]`.
        margin: of the target's logit over the others, one number or `[n, 1]`.

    Returns:
        `[n, K]`; minus infinity at the target itself.
    """
    logits = product(images, classifier.weights) + classifier.bias
    index = np.arange(len(images))
    rhs = logits - logits[index, targets][:, np.newaxis] + margin
    rhs[index, targets] = -np.inf
    return rhs


def make_block(
    classifier: Classifier, images: np.ndarray, targets: np.ndarray, margin: Any
) -> Block:
    """Set up the problems of some images and their targets.

    Args:
        classifier: prepared.
        images: `[n, D]` float64, inside the box.
        targets: `[n]` int64.
        margin: of the target's logit over the others, one number or `[n, 1]`.

    Returns:
        The block.
    """
    active = classifier.active
    weights = classifier.weights[active] / classifier.unit
    rhs = right_hand_side(classifier, images, targets, margin)
    columns = np.abs(classifier.weights)
    size = (product(np.abs(images), columns) + np.abs(classifier.bias)).max(axis=1)
    excess = _EXCESS * rhs.max(axis=1) + _ROUNDING * size
    scale = classifier.unit * classifier.width
    ranges = np.stack([classifier.upper - images, images - classifier.lower])[:, :, active]
    scaled = (rhs + excess[:, np.newaxis]) / scale
    lengths = (weights**2).sum(axis=0)
    zero = (weights[:, :, np.newaxis] == weights[:, np.newaxis, :]).all(axis=0)[targets]
    unsatisfiable = zero & (rhs > 0)
    scaled[zero] = -max(1.0, float(lengths.max(initial=0)))
    return Block(
        constraints=make_constraints(weights, targets),
        ranges=ranges / classifier.width,
        rhs=scaled,
        tolerance=0.5 * excess / scale,
        unsatisfiable=unsatisfiable,
    )


def as_norm(norm: Any) -> str:
    """Check the name of a norm.

    Args:
        norm: "linf", "l2", "l1", "l0", or a `Norm`.

    Returns:
        The name.

    Raises:
        ValueError: another norm.
    """
    name = getattr(norm, "value", norm)
    if not isinstance(name, str) or name not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}. Received: {shown(norm)}")
    return name


def as_pixels(images: Any, classifier: Classifier) -> np.ndarray:
    """Flatten images and check that they lie in the box.

    Args:
        images: `[n, D]`, image-shaped, or one image.
        classifier: of D pixels.

    Returns:
        `[n, D]`, float32 or float64 as it came.

    Raises:
        ValueError: another number of pixels, not floats, or a pixel outside the box.
    """
    pixels = as_array(images, "images", "floats")
    count = len(classifier.lower)
    whole = pixels.size == count and pixels.ndim != 2
    if not whole and (pixels.ndim < 2 or pixels[0:1].size != (count if len(pixels) else 0)):
        raise ValueError(
            f"images must have {count} pixels each, as W has rows. Received: shape "
            f"{list(pixels.shape)}"
        )
    if not np.issubdtype(pixels.dtype, np.floating):
        raise ValueError(f"images must be floats. Received: dtype={pixels.dtype}")
    pixels = pixels.reshape(-1, count)
    if not ((pixels >= classifier.lower) & (pixels <= classifier.upper)).all():
        raise ValueError(
            "images must be finite and lie in the box from lower to upper. Received: pixels from "
            f"{pixels.min():g} to {pixels.max():g}"
        )
    return pixels
