"""The inverse question: inside a budget, how far can a class get ahead, and is the label safe?

Untargeted: a rival's largest lead is one closed form (`support.py`). Targeted: the largest lead on
all other classes together, and the largest log-odds, are concave problems with an exact answer
(`inside.py`). Weights lambda of the rows that add to 1 bound both from above, whoever made them:

    lead(d) <= sum_k lambda_k (a_k . d - g_k) <= most(c) - lambda . g,     c = sum_k lambda_k a_k,
    log-odds(d) <= most(c) - lambda . g + sum_k lambda_k log lambda_k,

where most(c), the most that c can gain inside ball and box, is the closed form again. Each answer
comes with its proof: an image for what is reached, multipliers for what is not. For targeted L0 the
bounds need not meet: the lower one is an image, the upper one that of a relaxation.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mnist_adv.data.images import as_classes
from mnist_adv.optimum.in_ball import interior_point
from mnist_adv.optimum.certificate.bounds import measure
from mnist_adv.optimum.in_ball.problem import make_budget
from mnist_adv.optimum.problem import Classifier, as_norm, as_pixels, make_classifier, row_needs
from mnist_adv.optimum.constraints import Rows, combine, make_rows, product
from mnist_adv.optimum.parallel import blocks, in_parallel
from mnist_adv.optimum.in_ball.support import largest_gain

_BLOCK = 32


@dataclasses.dataclass(frozen=True)
class LargestLead:
    """How far ahead the wanted class can get inside a budget, per image.

    `check_lead` judges all of it again, by code that shares nothing with the solvers.

    Attributes:
        norm: "linf", "l2", "l1" or "l0".
        epsilon: the budget.
        targeted: whether `classes` are to lead, or to be led.
        classes: `[n]` int64.
        images: the clean images, as given.
        lower_bound: `[n]`, the lead (in logits) that `adversarial` has.
        upper_bound: `[n]`, no image in the budget and the box leads by more.
        multipliers: `[n, K]`, adding to 1, that prove the upper bound of a target; the one nearest
            rival for a label.
        adversarial: float64, in the shape of the images.
        log_odds: `[n, 2]`, bounds on the largest log-odds `log(p / (1 - p))` of the target; NaN
            for labels.
        odds_multipliers: `[n, K]`, adding to 1, that prove their upper bound; zeros for labels.
        odds_adversarial: the images that have the lower one; for labels the clean images.
    """

    norm: str
    epsilon: float
    targeted: bool
    classes: np.ndarray
    images: np.ndarray
    lower_bound: np.ndarray
    upper_bound: np.ndarray
    multipliers: np.ndarray
    adversarial: np.ndarray
    log_odds: np.ndarray
    odds_multipliers: np.ndarray
    odds_adversarial: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        """How far the bounds on the lead are apart, in logits, `[n]`."""
        return self.upper_bound - self.lower_bound

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
            f"{self.upper_bound[index]:.6g} (reached: {self.lower_bound[index]:.6g}, "
            f"gap {self.gap[index]:.1e})"
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
        norm: "linf", "l2", "l1" or "l0"; for l0 and targets the bounds may be apart.
        epsilon: the budget, at least 0.
        lower: least pixel value, one number or `[D]`.
        upper: largest pixel value.
        progress: show a bar on standard error; None: where it is worth it.

    Returns:
        Bounds from both sides, images and multipliers.

    Raises:
        ValueError: arguments out of form or range; not exactly one of targets and labels.
    """
    norm = as_norm(norm)
    if not (np.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be a finite number, at least 0. Received: {epsilon}")
    if (targets is None) == (labels is None):
        raise ValueError("exactly one of targets and labels must be given")
    classifier = make_classifier(W, b, lower, upper)
    pixels = as_pixels(images, classifier)
    count, num_classes = len(pixels), classifier.weights.shape[1]
    name = "labels" if targets is None else "targets"
    classes = as_classes(labels if targets is None else targets, count, num_classes, name)
    targeted = targets is not None
    low, high = np.zeros(count), np.zeros(count)
    lambdas, odds_lambdas = np.zeros((2, count, num_classes))
    odds = np.full((count, 2), np.nan)
    final, odds_final = np.empty(pixels.shape), pixels.astype(np.float64)

    def work(part: slice) -> None:
        x = pixels[part].astype(np.float64)
        problem = _Problem(classifier, norm, float(epsilon), x, classes[part])
        if targeted:
            final[part], low[part], high[part], lambdas[part] = problem.target(soft=False)
            answer = problem.target(soft=True)
            odds_final[part], odds[part, 0], odds[part, 1], odds_lambdas[part] = answer
        else:
            final[part], low[part], high[part], lambdas[part] = problem.any_rival()

    in_parallel(work, blocks(count, _BLOCK), "image", progress)
    shape = np.shape(images) if np.ndim(images) > 1 else (1, *np.shape(images))
    return LargestLead(
        norm=norm,
        epsilon=float(epsilon),
        targeted=targeted,
        classes=classes,
        images=np.reshape(images, shape),
        lower_bound=low,
        upper_bound=np.maximum(high, low),
        multipliers=lambdas,
        adversarial=final.reshape(shape),
        log_odds=np.stack([odds[:, 0], np.maximum(odds[:, 1], odds[:, 0])], axis=1),
        odds_multipliers=odds_lambdas,
        odds_adversarial=odds_final.reshape(shape),
    )


_Answer = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # images, from both sides, lambda


@dataclasses.dataclass
class _Problem:
    classifier: Classifier
    norm: str
    epsilon: float
    images: np.ndarray
    classes: np.ndarray

    def any_rival(self) -> _Answer:
        weights, count = self.classifier.weights, len(self.images)
        ahead = -row_needs(self.classifier, self.images, self.classes, 0.0)
        best, top = np.zeros(self.images.shape), np.full(count, -np.inf)
        rivals = np.zeros((count, weights.shape[1]))
        for rival in range(weights.shape[1]):
            gain, moves = self._gain((weights[:, [rival]] - weights[:, self.classes]).T)
            lead = np.where(self.classes == rival, -np.inf, gain - ahead[:, rival])
            better = lead > top
            best[better], top[better] = moves[better], lead[better]
            rivals[better] = np.eye(weights.shape[1])[rival]
        final = self._inside(best)
        return final, row_needs(self.classifier, final, self.classes, 0.0).max(axis=1), top, rivals

    def target(self, *, soft: bool) -> _Answer:
        """Find the largest lead, or the largest log-odds, of the target."""
        classifier = self.classifier
        num_classes = classifier.weights.shape[1]
        final, low = self.images.copy(), self._value(self.images, soft)
        # What is exact where nothing can move: the nearest class, or every other class's share.
        needs = row_needs(classifier, self.images, self.classes, 0.0)
        lam = np.eye(num_classes)[needs.argmax(axis=1)]
        if soft:
            lam = np.exp(needs - needs.max(axis=1, keepdims=True))
            lam /= lam.sum(axis=1, keepdims=True)
        high = self._bound(lam, soft)
        room = np.stack([classifier.upper - self.images, self.images - classifier.lower])
        radius = float(int(self.epsilon)) if self.norm == "l0" else self.epsilon
        if radius > 0 and classifier.active.any():
            room = room[:, :, classifier.active] / classifier.width
            rows = make_rows(classifier.weights[classifier.active] * classifier.width, self.classes)
            moves, found = self._solve(rows, room, radius, soft)
            for one in moves:
                wide = np.zeros(self.images.shape)
                wide[:, classifier.active] = one * classifier.width
                image = self._inside(wide)
                value = self._value(image, soft)
                better = value > low
                final[better], low[better] = image[better], value[better]
            bound = self._bound(found, soft)
            lower = bound < high
            high[lower], lam[lower] = bound[lower], found[lower]
        return final, low, high, lam

    def _solve(
        self, rows: Rows, room: np.ndarray, radius: float, soft: bool
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Propose moves and multipliers."""
        logits = product(self.images, self.classifier.weights) + self.classifier.bias
        scaled = radius if self.norm == "l0" else radius / self.classifier.width
        problem = make_budget(self.norm, rows, room, logits, scaled, soft=soft)
        v, lam = interior_point.solve(problem)
        multipliers = problem.everybody(lam)
        if self.norm != "l0":
            return [problem.move(v)], multipliers
        # The pixels that the relaxation moves most, or that its multipliers price highest: then
        # the best amounts for these, exactly.
        row = rows.combine(multipliers)
        worth = np.maximum(row * room[0], -row * room[1])
        moves = []
        for preference in (np.abs(problem.move(v)) / np.maximum(room.max(axis=0), 1e-300), worth):
            order = np.argsort(-preference, axis=1)
            chosen = np.zeros(room.shape[1:])
            np.put_along_axis(chosen, order[:, : int(radius)], 1.0, axis=1)
            few = make_budget("linf", rows, room * chosen, logits, float(room.max()), soft=soft)
            moves.append(few.move(interior_point.solve(few)[0]))
        return moves, multipliers

    def _value(self, images: np.ndarray, soft: bool) -> np.ndarray:
        """Measure the target's lead, or its log-odds."""
        needs = row_needs(self.classifier, images, self.classes, 0.0)
        top = needs.max(axis=1)
        if not soft:
            return -top
        return -top - np.log(np.exp(needs - top[:, np.newaxis]).sum(axis=1))

    def _bound(self, multipliers: np.ndarray, soft: bool) -> np.ndarray:
        needs = row_needs(self.classifier, self.images, self.classes, 0.0)
        needs[np.arange(len(needs)), self.classes] = 0
        gain, _ = self._gain(combine(self.classifier.weights, self.classes, multipliers))
        bound = gain - (multipliers * needs).sum(axis=1)
        if soft:
            bound += (multipliers * np.log(np.where(multipliers > 0, multipliers, 1))).sum(axis=1)
        return bound

    def _gain(self, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        up, down = self.classifier.upper - self.images, self.images - self.classifier.lower
        rooms = np.where(row > 0, up, np.where(row < 0, down, 0.0))
        gain, moves = largest_gain(self.norm, np.abs(row), rooms, self.epsilon)
        return gain, moves * np.sign(row)

    def _inside(self, moves: np.ndarray) -> np.ndarray:
        """Take what rounding has put, or may put, outside the ball or the box back into them."""
        if self.norm != "l0":
            rounding = measure(self.norm, np.spacing(np.abs(self.images) + np.abs(moves)))
            length = np.maximum(measure(self.norm, moves) + rounding, 1e-300)
            moves = moves * np.minimum(1, self.epsilon / length)[:, np.newaxis]
        moved = np.clip(self.images + moves, self.classifier.lower, self.classifier.upper)
        return np.where(moves != 0, moved, self.images)
