"""Judge adversarial images from the final arrays alone.

Nothing here is shared with the code that made the images but the model itself: norms, range,
budget and success are derived again, in float64 NumPy.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.arguments import real, shown
from mnist_adv.data.images import UNIT, Bounds, as_batch, as_classes, as_pixels, checked_bounds
from mnist_adv.gradients.goals import Goal, as_confidence
from mnist_adv.models.as_model import as_model
from mnist_adv.models.logits import predict

if TYPE_CHECKING:
    from mnist_adv.geometry.norms import Norm
    from mnist_adv.models.model import Model

# float32 pixels near 1 are spaced 6e-8 apart; x + d rounds once for each of them.
TOLERANCE = 1e-6
NORMS = ("linf", "l2", "l1", "l0")
# Images whose float64 differences are in memory at one time; images that the model sees at once.
_BLOCK = 250


@dataclasses.dataclass(frozen=True)
class FinalVerdict:
    """What can be said of adversarial images, one entry per image.

    Attributes:
        predictions: `[n]` int64, the model's class for the adversarial images.
        probabilities: `[n, k]` float64, the softmax of its logits.
        norms: norm name -> `[n]` float64, of adversarial minus clean, for linf, l2, l1 and l0.
        in_range: `[n]` bool, all pixels finite and inside the bounds.
        in_budget: `[n]` bool, the norm of the budget is at most epsilon (plus 1e-6 for rounding).
        reached: `[n]` bool, the prediction is the target, or no longer the label.
        confident: `[n]` bool, the prediction's probability is at least what was asked for.
        success: `[n]` bool, all four.
    """

    predictions: np.ndarray
    probabilities: np.ndarray
    norms: dict[str, np.ndarray]
    in_range: np.ndarray
    in_budget: np.ndarray
    reached: np.ndarray
    confident: np.ndarray
    success: np.ndarray

    def __repr__(self) -> str:
        return f"{type(self).__name__}({int(self.success.sum())} of {len(self.success)} succeed)"


@dataclasses.dataclass(frozen=True, repr=False)
class Verdict(FinalVerdict):
    """What can be said of a batch of images, one entry per image.

    Attributes:
        clean_predictions: `[n]` int64, the model's class for the clean images.
        clean_probabilities: `[n, k]` float64.
    """

    clean_predictions: np.ndarray
    clean_probabilities: np.ndarray


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
        images: clean, `[n, h, w, c]` floats inside the bounds.
        adversarial: the same shape, finite floats; what leaves the bounds is no success.
        targets: `[n]` or one integer, the class to be reached; or
        labels: `[n]` or one integer, the class to be left. Exactly one of the two.
        norm: "linf", "l2", "l1" or "l0", of the budget.
        epsilon: the budget, one number or `[n]`, at least 0; may be infinite.
        confidence: the least probability of the new prediction, in (0, 1); None: any.
        bounds: the least and the largest value of a pixel.

    Returns:
        The verdict.

    Raises:
        ValueError: images out of form or range; adversarial images of another shape, of whole
            numbers, not finite, or further outside the bounds than these are apart (0..255 for
            0..1); a class, a budget or a confidence out of range; not exactly one of targets and
            labels; an unknown norm; a model that does not return `[n, k]`.

    Example:
        >>> import mnist_adv
        >>> model = mnist_adv.restore("checkpoints")
        >>> seven = mnist_adv.load("mnist", "test").images[:1]
        >>> darker = 0.9 * seven
        >>> verdict = mnist_adv.judge(model, seven, darker, labels=7, norm="linf", epsilon=0.1)
        >>> bool(verdict.in_budget[0]), bool(verdict.success[0])
        (True, False)
    """
    clean, final, bounds = as_pair(images, adversarial, bounds)
    if (targets is None) == (labels is None):
        received = f"{shown(targets)}, {shown(labels)}"
        raise ValueError(f"exactly one of targets and labels must be given. Received: {received}")
    budget = real(epsilon, "epsilon", 0, count=len(clean), infinite=True)
    wanted = None if confidence is None else as_confidence(confidence)
    targeted = labels is None
    name, classes = ("targets", targets) if targeted else ("labels", labels)
    model = as_model(model, clean)
    num_classes = predict(model, clean[:1]).shape[1]
    goal = Goal(as_classes(classes, len(clean), num_classes, name), targeted, wanted)
    return judge_goal(model, clean, final, goal, norm=norm, epsilon=budget, bounds=bounds)


def as_pair(images: Any, adversarial: Any, bounds: Bounds) -> tuple[np.ndarray, np.ndarray, Bounds]:
    """Check clean and adversarial images.

    Args:
        images: clean, `[n, h, w, c]` floats inside the bounds.
        adversarial: the same shape, finite floats.
        bounds: the least and the largest value of a pixel.

    Returns:
        The three, checked.

    Raises:
        ValueError: as `judge`.
    """
    bounds = checked_bounds(bounds)
    clean, final = as_batch(images, bounds), as_pixels(adversarial, bounds, "adversarial")
    if clean.shape != final.shape:
        raise ValueError(
            "images and adversarial must have the same shape [n, h, w, c]. "
            f"Received: {list(clean.shape)} and {list(final.shape)}"
        )
    return clean, final, bounds


def judge_goal(
    model: Model,
    images: np.ndarray,
    adversarial: np.ndarray,
    goal: Goal,
    *,
    norm: Norm | str,
    epsilon: Any,
    bounds: Bounds = UNIT,
) -> Verdict:
    """Judge adversarial images against the goal of the attack that made them.

    Nothing is refused: an image that is not finite is judged as one outside the bounds.

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
        ValueError: an unknown norm, or a model that does not return `[n, k]`.
    """
    final = judge_final(model, images, adversarial, goal, norm=norm, epsilon=epsilon, bounds=bounds)
    logits = predict(as_model(model, images), images).astype(np.float64)
    return Verdict(
        **vars(final), clean_predictions=logits.argmax(axis=1), clean_probabilities=_softmax(logits)
    )


def judge_final(
    model: Model,
    images: np.ndarray,
    adversarial: np.ndarray,
    goal: Goal,
    *,
    norm: Norm | str,
    epsilon: Any,
    bounds: Bounds = UNIT,
) -> FinalVerdict:
    """Judge as `judge_goal`, and leave out what the model says of the clean images.

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
        ValueError: an unknown norm, or a model that does not return `[n, k]`.
    """
    name = norm if isinstance(norm, str) else getattr(norm, "value", None)
    if name not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}. Received: {shown(norm)}")
    norms, in_range = measure(images, adversarial, bounds)
    logits = predict(as_model(model, images), adversarial).astype(np.float64)
    predictions = logits.argmax(axis=1)
    reached = (predictions == goal.classes) == goal.targeted
    reached &= np.isfinite(logits).all(axis=1)  # argmax of NaN is a class, not a prediction
    probabilities = _softmax(logits)
    confident = probabilities.max(axis=1) >= (goal.confidence or 0)
    in_budget = norms[name] <= np.asarray(epsilon, np.float64) + TOLERANCE
    return FinalVerdict(
        predictions=predictions,
        probabilities=probabilities,
        norms=norms,
        in_range=in_range,
        in_budget=in_budget,
        reached=reached,
        confident=confident,
        success=reached & confident & in_range & in_budget,
    )


def measure(
    clean: np.ndarray, final: np.ndarray, bounds: Bounds
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Measure perturbations, in float64.

    Args:
        clean: `[n, ...]`.
        final: the same shape.
        bounds: the least and the largest value of a pixel.

    Returns:
        Norm name -> `[n]`; `[n]` bool, whether all pixels are finite and inside the bounds.
    """
    norms = {name: np.empty(len(clean)) for name in NORMS}
    in_range = np.empty(len(clean), bool)
    for start in range(0, len(clean), _BLOCK):
        block = slice(start, start + _BLOCK)
        pixels = final[block].reshape(len(final[block]), -1)
        # NaN is the smallest and the largest of the pixels that it is among, and inside nothing.
        in_range[block] = (pixels.min(axis=1) >= bounds[0]) & (pixels.max(axis=1) <= bounds[1])
        difference = pixels.astype(np.float64)
        difference -= clean[block].reshape(difference.shape).astype(np.float64)
        # As bytes: NumPy adds up truth values one by one.
        norms["l0"][block] = (difference != 0).view(np.uint8).sum(axis=1, dtype=np.uint32)
        np.abs(difference, out=difference)
        norms["linf"][block] = difference.max(axis=1)
        norms["l1"][block] = difference.sum(axis=1)
        norms["l2"][block] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return norms, in_range


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
