"""Judge adversarial images from the final arrays alone.

Nothing here is shared with the code that made the images but the model itself: norms, range,
budget and success are derived again, in float64 NumPy.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.data.images import UNIT, Bounds
from mnist_adv.models.as_model import as_model
from mnist_adv.models.logits import predict

if TYPE_CHECKING:
    from mnist_adv.geometry.norms import Norm
    from mnist_adv.gradients.goals import Goal
    from mnist_adv.models.model import Model

# float32 pixels near 1 are spaced 6e-8 apart; x + d rounds once for each of them.
TOLERANCE = 1e-6
# Images whose float64 differences are in memory at one time; images that the model sees at once.
_BLOCK = 250


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What can be said of a batch of images, one entry per image.

    Attributes:
        predictions: `[n]` int64, the model's class for the adversarial images.
        probabilities: `[n, k]` float64, the softmax of its logits.
        clean_predictions: `[n]` int64, the same for the clean images.
        clean_probabilities: `[n, k]` float64.
        norms: norm name -> `[n]` float64, of adversarial minus clean, for linf, l2, l1 and l0.
        in_range: `[n]` bool, all pixels finite and inside the bounds.
        in_budget: `[n]` bool, the norm of the budget is at most epsilon (plus 1e-6 for rounding).
        reached: `[n]` bool, the prediction is the target, or no longer the label.
        confident: `[n]` bool, the prediction's probability is at least what was asked for.
        success: `[n]` bool, all four.
    """

    predictions: np.ndarray
    probabilities: np.ndarray
    clean_predictions: np.ndarray
    clean_probabilities: np.ndarray
    norms: dict[str, np.ndarray]
    in_range: np.ndarray
    in_budget: np.ndarray
    reached: np.ndarray
    confident: np.ndarray
    success: np.ndarray

    def __repr__(self) -> str:
        return f"Verdict({int(self.success.sum())} of {len(self.success)} succeed)"


def judge(
    model: Model,
    images: Any,
    adversarial: Any,
    *,
    targets: Any = None,
    labels: Any = None,
    norm: Norm | str,
    epsilon: Any,
    confidence: float | None = None,
    bounds: Bounds = UNIT,
) -> Verdict:
    """Judge adversarial images against the clean ones.

    Args:
        model: images -> logits.
        images: clean, `[n, h, w, c]`.
        adversarial: the same shape.
        targets: `[n]` or one integer, the class to be reached; or
        labels: `[n]` or one integer, the class to be left. Exactly one of the two.
        norm: "linf", "l2", "l1" or "l0", of the budget.
        epsilon: the budget, one number or `[n]`.
        confidence: the least probability of the new prediction; None: any.
        bounds: the least and the largest value of a pixel.

    Returns:
        The verdict.

    Raises:
        ValueError: shapes differ, or not exactly one of targets and labels, or an unknown norm.

    Example:
        >>> import mnist_adv
        >>> model = mnist_adv.restore("checkpoints")
        >>> seven = mnist_adv.load("mnist", "test").images[:1]
        >>> darker = 0.9 * seven
        >>> verdict = mnist_adv.judge(model, seven, darker, labels=7, norm="linf", epsilon=0.1)
        >>> bool(verdict.in_budget[0]), bool(verdict.success[0])
        (True, False)
    """
    clean, final = np.asarray(images), np.asarray(adversarial)
    if clean.shape != final.shape or clean.ndim != 4:
        raise ValueError(
            "images and adversarial must have the same shape [n, h, w, c]. "
            f"Received: {list(clean.shape)} and {list(final.shape)}"
        )
    if (targets is None) == (labels is None):
        raise ValueError(
            f"exactly one of targets and labels must be given. Received: {targets!r}, {labels!r}"
        )
    norms, in_range = _measure(clean, final, bounds)
    name = norm if isinstance(norm, str) else norm.value
    if name not in norms:
        raise ValueError(f"norm must be one of {', '.join(norms)}. Received: {name!r}")
    model = as_model(model, clean)
    logits, clean_logits = (predict(model, at).astype(np.float64) for at in (final, clean))
    predictions = logits.argmax(axis=1)
    reached = predictions == targets if labels is None else predictions != labels
    reached &= np.isfinite(logits).all(axis=1)  # argmax of NaN is a class, not a prediction
    probabilities = _softmax(logits)
    confident = probabilities.max(axis=1) >= (confidence or 0)
    in_budget = norms[name] <= np.asarray(epsilon, np.float64) + TOLERANCE
    return Verdict(
        predictions=predictions,
        probabilities=probabilities,
        clean_predictions=clean_logits.argmax(axis=1),
        clean_probabilities=_softmax(clean_logits),
        norms=norms,
        in_range=in_range,
        in_budget=in_budget,
        reached=reached,
        confident=confident,
        success=reached & confident & in_range & in_budget,
    )


def judge_goal(
    model: Model,
    images: Any,
    adversarial: Any,
    goal: Goal,
    *,
    norm: Norm | str,
    epsilon: Any,
    bounds: Bounds = UNIT,
) -> Verdict:
    """Judge adversarial images against the goal of the attack that made them.

    Args:
        model: images -> logits.
        images: clean, `[n, h, w, c]`.
        adversarial: the same shape.
        goal: the classes to be reached or left, and the confidence asked for.
        norm: of the budget.
        epsilon: the budget, one number or `[n]`.
        bounds: the least and the largest value of a pixel.

    Returns:
        The verdict.

    Raises:
        ValueError: as `judge`.
    """
    return judge(
        model,
        images,
        adversarial,
        targets=goal.classes if goal.targeted else None,
        labels=None if goal.targeted else goal.classes,
        norm=norm,
        epsilon=epsilon,
        confidence=goal.confidence,
        bounds=bounds,
    )


def _measure(
    clean: np.ndarray, final: np.ndarray, bounds: Bounds
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    norms = {name: np.empty(len(clean)) for name in ("linf", "l2", "l1", "l0")}
    in_range = np.empty(len(clean), bool)
    for start in range(0, len(clean), _BLOCK):
        block = slice(start, start + _BLOCK)
        pixels = final[block].reshape(len(final[block]), -1)
        # NaN is the smallest and the largest of the pixels that it is among, and inside nothing.
        in_range[block] = (pixels.min(axis=1) >= bounds[0]) & (pixels.max(axis=1) <= bounds[1])
        difference = pixels.astype(np.float64)
        difference -= clean[block].reshape(difference.shape)
        norms["l0"][block] = np.count_nonzero(difference, axis=1)
        np.abs(difference, out=difference)
        norms["linf"][block] = difference.max(axis=1)
        norms["l1"][block] = difference.sum(axis=1)
        norms["l2"][block] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return norms, in_range


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
