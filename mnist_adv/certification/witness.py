"""Look for images that contradict a proof, and check them by code that did not make them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.attacks import attack
from mnist_adv.attacks.base import Attack
from mnist_adv.certification.result import TOLERANCE
from mnist_adv.geometry.norms import Norm
from mnist_adv.models.logits import predict

if TYPE_CHECKING:
    from mnist_adv.data.images import Bounds
    from mnist_adv.models.model import Model

# What float32 pixels round off a budget.
_LESS = 1e-6
# A name of the table of attacks, or an attack.
ATTACK: str | Attack = "strongest"


def find_witnesses(
    model: Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    norm: Norm,
    epsilon: np.ndarray,
    bounds: Bounds,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Attack images, and keep what holds in float64.

    Args:
        model: images -> logits.
        images: `[n, h, w, c]` float32.
        labels: `[n]` int64, which they have.
        norm: "linf", "l2" or "l1".
        epsilon: `[n]`, the radii within which something is sought.
        bounds: the least and the largest value of a pixel.
        seed: of the attack.

    Returns:
        Images of another class, the clean ones where none was found, and their distances `[n]`,
        infinite there.
    """
    budget: Any = np.maximum(epsilon - _LESS * (bounds[1] - bounds[0]), 0)
    found = attack(
        model,
        images,
        labels=labels,
        method=ATTACK,
        norm=norm,
        epsilon=budget,
        bounds=bounds,
        seed=seed,
    ).adversarial
    distance = check_witnesses(
        model, images, found, labels, norm=norm, epsilon=epsilon, bounds=bounds
    )
    there = np.isfinite(distance).reshape(-1, 1, 1, 1)
    return np.where(there, found, images), distance


def check_witnesses(
    model: Model,
    images: np.ndarray,
    adversarial: np.ndarray,
    labels: np.ndarray,
    *,
    norm: Norm,
    epsilon: np.ndarray,
    bounds: Bounds,
) -> np.ndarray:
    """Check that images get another class, in float32 and in float64, inside ball and box.

    Args:
        model: images -> logits.
        images: clean, `[n, h, w, c]`.
        adversarial: the same shape.
        labels: `[n]` int64.
        norm: "linf", "l2" or "l1".
        epsilon: `[n]`, the radii; a distance may exceed its own by 1e-8.
        bounds: the least and the largest value of a pixel.

    Returns:
        `[n]` float64: the distances; infinite where the check fails.
    """
    exact = adversarial.astype(np.float64)
    sizes = np.abs(exact - images.astype(np.float64)).reshape(len(images), -1)
    if norm is Norm.LINF:
        distance = sizes.max(axis=1)
    else:
        distance = np.sqrt((sizes**2).sum(axis=1)) if norm is Norm.L2 else sizes.sum(axis=1)
    flat = exact.reshape(len(images), -1)
    inside = ((flat >= bounds[0]) & (flat <= bounds[1])).all(axis=1)
    holds = inside & (distance <= epsilon + TOLERANCE)
    for pixels in (adversarial.astype(np.float32), exact):
        logits = predict(model, pixels).astype(np.float64)
        own = np.take_along_axis(logits, labels[:, np.newaxis], axis=1)[:, 0]
        np.put_along_axis(logits, labels[:, np.newaxis], -np.inf, axis=1)
        holds &= own - logits.max(axis=1) < -TOLERANCE * (pixels.dtype == np.float64)
    return np.where(holds, distance, np.inf)
