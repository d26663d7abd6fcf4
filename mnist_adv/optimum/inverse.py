"""The inverse question: inside a budget, how far can a class get ahead, and is the label safe?

Untargeted: a rival's largest lead is one closed form (`support.py`). Targeted: the largest margin
m whose smallest perturbation is no longer than epsilon. That length is a convex, growing function
of m, so each solve at a margin too large gives multipliers, their line a smaller upper bound on m,
and the bound falls to the root (Newton's iteration from the right; finitely many pieces for L-inf
and L1). Each bound comes with a proof: an image for what is reached, multipliers for what is not.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mnist_adv.images import as_classes
from mnist_adv.optimum.bounds import measure
from mnist_adv.optimum.problem import Classifier, make_classifier, row_needs
from mnist_adv.optimum.rows import combine
from mnist_adv.optimum.solve import NORMS, as_pixels, blocks, in_parallel
from mnist_adv.optimum.support import largest_gain
from mnist_adv.optimum.targeted import reach

_BLOCK = 64
_MAX_ROUNDS = 40
_CLOSE = 1e-8  # of the size of the logits' differences


@dataclasses.dataclass(frozen=True)
class LargestLead:
    """How far ahead the wanted class can get inside a budget, per image.

    Attributes:
        norm: "linf", "l2", "l1" or "l0".
        epsilon: the budget.
        lower_bound: `[n]`, the lead (in logits) that `adversarial` has.
        upper_bound: `[n]`, no image in the budget and the box leads by more.
        multipliers: `[n, K]`, adding to 1, that prove the upper bound of a target; the one nearest
            rival for a label.
        log_odds: `[n, 2]`, bounds on the largest log-odds `log(p / (1 - p))` of the target; NaN
            for labels.
        adversarial: float64, in the shape of the images.
    """

    norm: str
    epsilon: float
    lower_bound: np.ndarray
    upper_bound: np.ndarray
    multipliers: np.ndarray
    log_odds: np.ndarray
    adversarial: np.ndarray

    @property
    def certified(self) -> np.ndarray:
        """Whether no image in the budget is classified as wanted, `[n]` bool.

        For labels: the label is certified. For targets: the target is out of reach.
        """
        return self.upper_bound < 0

    def sentence(self, index: int) -> str:
        """Explain the answer for one image in one sentence."""
        verdict = "impossible" if self.certified[index] else "possible"
        if self.lower_bound[index] < 0 <= self.upper_bound[index]:
            verdict = "undecided"
        return (
            f"{self.norm} <= {self.epsilon:g}: {verdict}; the wanted class leads by at most "
            f"{self.upper_bound[index]:.6g} (reached: {self.lower_bound[index]:.6g})"
        )


def largest_lead(
    W: Any,
    b: Any,
    images: Any,
    targets: Any = None,
    labels: Any = None,
    *,
    norm: Any = "linf",
    epsilon: float,
    lower: Any = 0.0,
    upper: Any = 1.0,
    progress: bool | None = None,
) -> LargestLead:
    """Find how far ahead of all others a class can get inside a budget, with proof.

    Args:
        W: `[D, K]`, a linear classifier's weights.
        b: `[K]`.
        images: `[n, D]` or image-shaped, inside the box.
        targets: the classes that are to lead, one integer or `[n]`; or
        labels: the classes that any rival is to lead.
        norm: "linf", "l2", "l1", or, for labels, "l0".
        epsilon: the budget, at least 0.
        lower: least pixel value, one number or `[D]`.
        upper: largest pixel value.
        progress: show a bar on standard error; None: where it is worth it.

    Returns:
        Bounds from both sides, images and multipliers.

    Raises:
        ValueError: arguments out of form or range; not exactly one of targets and labels; l0 with
            targets.
    """
    norm = str(getattr(norm, "value", norm))
    if norm not in NORMS or (norm == "l0" and targets is not None):
        raise ValueError(f"norm must be linf, l2, l1 or, for labels, l0. Received: {norm!r}")
    if not (np.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be a finite number, at least 0. Received: {epsilon}")
    if (targets is None) == (labels is None):
        raise ValueError("exactly one of targets and labels must be given")
    classifier = make_classifier(W, b, lower, upper)
    pixels = as_pixels(images, classifier)
    count, num_classes = len(pixels), classifier.weights.shape[1]
    name = "labels" if targets is None else "targets"
    classes = as_classes(labels if targets is None else targets, count, num_classes, name)
    low, high = np.zeros(count), np.zeros(count)
    lambdas, odds = np.zeros((count, num_classes)), np.full((count, 2), np.nan)
    adversarial = np.empty(pixels.shape)

    def work(part: slice) -> None:
        x = pixels[part].astype(np.float64)
        problem = _Problem(classifier, norm, float(epsilon), x, classes[part])
        if targets is None:
            best, high[part], lambdas[part] = problem.any_rival()
        else:
            best, high[part], lambdas[part] = problem.target()
            odds[part] = problem.log_odds(best)
        low[part] = problem.lead(best, targeted=targets is not None)
        adversarial[part] = x + best

    in_parallel(work, blocks(count, _BLOCK), count, "image", progress)
    shape = np.shape(images) if np.ndim(images) > 1 else (1, *np.shape(images))
    return LargestLead(norm, epsilon, low, high, lambdas, odds, adversarial.reshape(shape))


@dataclasses.dataclass
class _Problem:
    classifier: Classifier
    norm: str
    epsilon: float
    images: np.ndarray
    classes: np.ndarray

    def any_rival(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        weights, index = self.classifier.weights, np.arange(len(self.images))
        ahead = -row_needs(self.classifier, self.images, self.classes, 0.0)
        best, top = np.zeros(self.images.shape), np.full(len(index), -np.inf)
        rivals = np.zeros((len(index), weights.shape[1]))
        for rival in range(weights.shape[1]):
            gain, moves = self._gain((weights[:, [rival]] - weights[:, self.classes]).T)
            lead = np.where(self.classes == rival, -np.inf, gain - ahead[:, rival])
            better = lead > top
            best[better], top[better] = moves[better], lead[better]
            rivals[better] = np.eye(weights.shape[1])[rival]
        return best, top, rivals

    def target(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        weights, (count, _) = self.classifier.weights, self.images.shape
        needs = row_needs(self.classifier, self.images, self.classes, 0.0)
        finite = np.where(np.isfinite(needs), needs, 0.0)
        size = 1 + np.abs(finite).max(axis=1)
        best, low = np.zeros(self.images.shape), -needs.max(axis=1)
        high, lambdas = np.full(count, np.inf), np.zeros(needs.shape)
        for rival in range(weights.shape[1]):  # each row alone bounds the lead
            gain, _ = self._gain((weights[:, self.classes] - weights[:, [rival]]).T)
            bound = np.where(self.classes == rival, np.inf, gain - finite[:, rival])
            lambdas[bound < high] = np.eye(weights.shape[1])[rival]
            high = np.minimum(high, bound)
        for _ in range(_MAX_ROUNDS):
            todo = np.flatnonzero(high - low > _CLOSE * size)
            if not todo.size:
                break
            x, t = self.images[todo], self.classes[todo]
            answer = reach(self.norm, self.classifier, x, t, high[todo][:, np.newaxis])
            moves = self._into_ball(answer.perturbations)
            lead = -row_needs(self.classifier, x + moves, t, 0.0).max(axis=1)
            better = lead > low[todo]
            best[todo[better]], low[todo[better]] = moves[better], lead[better]
            total = answer.multipliers.sum(axis=1)
            usable = total > 0
            gain, _ = self._gain(combine(weights, t, answer.multipliers), todo)
            line = gain - (answer.multipliers * finite[todo]).sum(axis=1)
            bound = np.where(usable, line / np.where(usable, total, 1), np.inf)
            lower = bound < high[todo]
            # Neither bound moves: float64 has nothing more to give.
            if not (lower | better).any():
                break
            won = todo[lower]
            high[won] = bound[lower]
            lambdas[won] = answer.multipliers[lower] / total[lower][:, np.newaxis]
        return best, high, lambdas

    def log_odds(self, start: np.ndarray, num_steps: int = 200) -> np.ndarray:
        """Bound the largest log-odds by Frank and Wolfe's method (1956); they are concave in d."""
        d, index = start.copy(), np.arange(len(start))
        low, high = np.full(len(start), -np.inf), np.full(len(start), np.inf)
        for step in range(num_steps):
            needs = row_needs(self.classifier, self.images + d, self.classes, 0.0)
            top = needs.max(axis=1, keepdims=True)
            shares = np.exp(needs - top)
            value = -(top[:, 0] + np.log(shares.sum(axis=1)))
            shares /= shares.sum(axis=1, keepdims=True)
            low = np.maximum(low, value)
            shares[index, self.classes] = 0
            row = combine(self.classifier.weights, self.classes, shares)
            gain, moves = self._gain(row)
            high = np.minimum(high, value + gain - np.einsum("nd,nd->n", row, d))
            d += 2 / (step + 2 + num_steps / 10) * (moves - d)
        return np.stack([low, np.maximum(high, low)], axis=1)

    def lead(self, moves: np.ndarray, *, targeted: bool) -> np.ndarray:
        """Measure the lead that the moved images have."""
        needs = row_needs(self.classifier, self.images + moves, self.classes, 0.0)
        if targeted:
            return -needs.max(axis=1)
        return needs.max(axis=1)

    def _gain(
        self, row: np.ndarray, chosen: slice | np.ndarray = slice(None)
    ) -> tuple[np.ndarray, np.ndarray]:
        up = self.classifier.upper - self.images[chosen]
        down = self.images[chosen] - self.classifier.lower
        rooms = np.where(row > 0, up, np.where(row < 0, down, 0.0))
        gain, moves = largest_gain(self.norm, np.abs(row), rooms, self.epsilon)
        return gain, moves * np.sign(row)

    def _into_ball(self, moves: np.ndarray) -> np.ndarray:
        if self.norm == "linf":
            return np.clip(moves, -self.epsilon, self.epsilon)
        length = measure(self.norm, moves)[:, np.newaxis]
        return moves * np.minimum(1, self.epsilon / np.maximum(length, 1e-300))
