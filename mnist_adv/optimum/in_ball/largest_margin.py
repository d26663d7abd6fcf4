"""The largest margin and the largest log-odds of a class inside a ball, with proof.

Untargeted: a rival's largest margin is one closed form (`support.py`). Targeted: the largest margin
over all other classes together, and the largest log-odds, are concave problems with an exact answer
(`interior_point.py`). Any weights lambda of the constraints that add to 1 bound both from above:

    margin(d) <= sum_k lambda_k (a_k . d - g_k) <= S(c) - lambda . g,     c = sum_k lambda_k a_k,
    log-odds(d) <= S(c) - lambda . g + sum_k lambda_k log lambda_k,

where S(c), the maximum of c . d inside ball and box, is the closed form again. Each answer comes
with its proof: an image for what is reached, dual variables for what is not. For targeted L0 the
bounds need not meet: the lower one is an image, the upper one that of a relaxation.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mnist_adv.data.images import as_classes
from mnist_adv.optimum.certificate.bounds import measure
from mnist_adv.optimum.constraints import Constraints, combine, make_constraints, product
from mnist_adv.optimum.in_ball import interior_point
from mnist_adv.optimum.in_ball.problem import make_ball_problem
from mnist_adv.optimum.in_ball.support import support_function
from mnist_adv.optimum.parallel import blocks, in_parallel
from mnist_adv.optimum.problem import (
    Classifier,
    as_norm,
    as_pixels,
    make_classifier,
    right_hand_side,
)

_BLOCK = 32


@dataclasses.dataclass(frozen=True)
class LargestMargin:
    """The largest margin of the wanted class inside a budget, per image.

    `check_margin` verifies all of it again, by code that shares nothing with the solvers.

    Attributes:
        norm: "linf", "l2", "l1" or "l0".
        epsilon: the budget.
        targeted: whether `classes` are to be reached, or to be left.
        classes: `[n]` int64.
        images: the clean images, as given.
        lower_bound: `[n]`, the margin (in logits) of `adversarial`.
        upper_bound: `[n]`, no image in the budget and the box has a larger one.
        dual_variables: `[n, K]`, adding to 1, that prove the upper bound of a target; for a label 1
            at the rival that reaches most.
        adversarial: float64, in the shape of the images.
        log_odds: `[n, 2]`, bounds on the largest log-odds `log(p / (1 - p))` of the target; NaN
            for labels.
        odds_dual_variables: `[n, K]`, adding to 1, that prove their upper bound; zeros for labels.
        odds_adversarial: the images that have the lower one; for labels the clean images.
    """

    norm: str
    epsilon: float
    targeted: bool
    classes: np.ndarray
    images: np.ndarray
    lower_bound: np.ndarray
    upper_bound: np.ndarray
    dual_variables: np.ndarray
    adversarial: np.ndarray
    log_odds: np.ndarray
    odds_dual_variables: np.ndarray
    odds_adversarial: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        """How far the bounds on the margin are apart, in logits, `[n]`."""
        return self.upper_bound - self.lower_bound

    @property
    def certified(self) -> np.ndarray:
        """Whether no image in the budget is classified as wanted, `[n]` bool.

        For labels: the label is certified. For targets: the target is out of reach.
        """
        return self.upper_bound < 0

    def sentence(self, index: int) -> str:
        """Explain the answer for one image in one sentence.

        Args:
            index: of the image.

        Returns:
            The sentence.
        """
        verdict = "impossible" if self.certified[index] else "possible"
        if self.lower_bound[index] < 0 <= self.upper_bound[index]:
            verdict = "undecided"
        return (
            f"{self.norm} <= {self.epsilon:g}: {verdict}; the wanted class has a margin of at most "
            f"{self.upper_bound[index]:.6g} (reached: {self.lower_bound[index]:.6g}, "
            f"gap {self.gap[index]:.1e})"
        )


def largest_margin(
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
) -> LargestMargin:
    """Find the largest margin of a class over all others inside a budget, with proof.

    Args:
        W: `[D, K]`, a linear classifier's weights.
        b: `[K]`.
        images: `[n, D]` or image-shaped, inside the box.
        targets: the classes to reach, one integer or `[n]`; or
        labels: the classes to leave.
        norm: "linf", "l2", "l1" or "l0"; for l0 and targets the bounds may be apart.
        epsilon: the budget, at least 0.
        lower: least pixel value, one number or `[D]`.
        upper: largest pixel value.
        progress: show a bar on standard error; None: where it is worth it.

    Returns:
        Bounds from both sides, images and dual variables.

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
            final[part], low[part], high[part], lambdas[part] = problem.target(log_odds=False)
            answer = problem.target(log_odds=True)
            odds_final[part], odds[part, 0], odds[part, 1], odds_lambdas[part] = answer
        else:
            final[part], low[part], high[part], lambdas[part] = problem.any_rival()

    in_parallel(work, blocks(count, _BLOCK), "image", progress)
    shape = np.shape(images) if np.ndim(images) > 1 else (1, *np.shape(images))
    return LargestMargin(
        norm=norm,
        epsilon=float(epsilon),
        targeted=targeted,
        classes=classes,
        images=np.reshape(images, shape),
        lower_bound=low,
        upper_bound=np.maximum(high, low),
        dual_variables=lambdas,
        adversarial=final.reshape(shape),
        log_odds=np.stack([odds[:, 0], np.maximum(odds[:, 1], odds[:, 0])], axis=1),
        odds_dual_variables=odds_lambdas,
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
        ahead = -right_hand_side(self.classifier, self.images, self.classes, 0.0)
        best, top = np.zeros(self.images.shape), np.full(count, -np.inf)
        rivals = np.zeros((count, weights.shape[1]))
        for rival in range(weights.shape[1]):
            gain, perturbations = self._gain((weights[:, [rival]] - weights[:, self.classes]).T)
            margin = np.where(self.classes == rival, -np.inf, gain - ahead[:, rival])
            better = margin > top
            best[better], top[better] = perturbations[better], margin[better]
            rivals[better] = np.eye(weights.shape[1])[rival]
        final = self._inside(best)
        return (
            final,
            right_hand_side(self.classifier, final, self.classes, 0.0).max(axis=1),
            top,
            rivals,
        )

    def target(self, *, log_odds: bool) -> _Answer:
        """Find the largest margin, or the largest log-odds, of the target.

        Args:
            log_odds: whether to find the log-odds rather than the margin.

        Returns:
            Images `[n, pixels]`, what they reach `[n]`, an upper bound of it `[n]`, and the dual
            variables that prove the bound `[n, classes]`.
        """
        classifier = self.classifier
        num_classes = classifier.weights.shape[1]
        final, low = self.images.copy(), self._value(self.images, log_odds)
        # What is exact where nothing can move: the nearest class, or every other class's share.
        rhs = right_hand_side(classifier, self.images, self.classes, 0.0)
        lam = np.eye(num_classes)[rhs.argmax(axis=1)]
        if log_odds:
            lam = np.exp(rhs - rhs.max(axis=1, keepdims=True))
            lam /= lam.sum(axis=1, keepdims=True)
        high = self._bound(lam, log_odds)
        ranges = np.stack([classifier.upper - self.images, self.images - classifier.lower])
        radius = float(int(self.epsilon)) if self.norm == "l0" else self.epsilon
        if radius > 0 and classifier.active.any():
            ranges = ranges[:, :, classifier.active] / classifier.width
            constraints = make_constraints(
                classifier.weights[classifier.active] * classifier.width, self.classes
            )
            perturbations, found = self._solve(constraints, ranges, radius, log_odds)
            for one in perturbations:
                wide = np.zeros(self.images.shape)
                wide[:, classifier.active] = one * classifier.width
                image = self._inside(wide)
                value = self._value(image, log_odds)
                better = value > low
                final[better], low[better] = image[better], value[better]
            bound = self._bound(found, log_odds)
            lower = bound < high
            high[lower], lam[lower] = bound[lower], found[lower]
        return final, low, high, lam

    def _solve(
        self, constraints: Constraints, ranges: np.ndarray, radius: float, log_odds: bool
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Propose perturbations and dual variables."""
        logits = product(self.images, self.classifier.weights) + self.classifier.bias
        scaled = radius if self.norm == "l0" else radius / self.classifier.width
        problem = make_ball_problem(
            self.norm, constraints, ranges, logits, scaled, log_odds=log_odds
        )
        v, lam = interior_point.solve(problem)
        dual_variables = problem.with_target(lam)
        if self.norm != "l0":
            return [problem.perturbation(v)], dual_variables
        # The pixels that the relaxation changes most, or those that gain most under its dual
        # variables: then the best amounts for these, exactly.
        coefficients = constraints.combine(dual_variables)
        gains = np.maximum(coefficients * ranges[0], -coefficients * ranges[1])
        perturbations = []
        for preference in (
            np.abs(problem.perturbation(v)) / np.maximum(ranges.max(axis=0), 1e-300),
            gains,
        ):
            order = np.argsort(-preference, axis=1)
            chosen = np.zeros(ranges.shape[1:])
            np.put_along_axis(chosen, order[:, : int(radius)], 1.0, axis=1)
            few = make_ball_problem(
                "linf", constraints, ranges * chosen, logits, float(ranges.max()), log_odds=log_odds
            )
            perturbations.append(few.perturbation(interior_point.solve(few)[0]))
        return perturbations, dual_variables

    def _value(self, images: np.ndarray, log_odds: bool) -> np.ndarray:
        """Measure the target's margin, or its log-odds."""
        rhs = right_hand_side(self.classifier, images, self.classes, 0.0)
        top = rhs.max(axis=1)
        if not log_odds:
            return -top
        return -top - np.log(np.exp(rhs - top[:, np.newaxis]).sum(axis=1))

    def _bound(self, dual_variables: np.ndarray, log_odds: bool) -> np.ndarray:
        rhs = right_hand_side(self.classifier, self.images, self.classes, 0.0)
        rhs[np.arange(len(rhs)), self.classes] = 0
        gain, _ = self._gain(combine(self.classifier.weights, self.classes, dual_variables))
        bound = gain - (dual_variables * rhs).sum(axis=1)
        if log_odds:
            bound += (dual_variables * np.log(np.where(dual_variables > 0, dual_variables, 1))).sum(
                axis=1
            )
        return bound

    def _gain(self, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        up, down = self.classifier.upper - self.images, self.images - self.classifier.lower
        ranges = np.where(coefficients > 0, up, np.where(coefficients < 0, down, 0.0))
        gain, perturbations = support_function(
            self.norm, np.abs(coefficients), ranges, self.epsilon
        )
        return gain, perturbations * np.sign(coefficients)

    def _inside(self, perturbations: np.ndarray) -> np.ndarray:
        """Bring back what rounding has put, or may put, outside the ball or the box."""
        if self.norm != "l0":
            rounding = measure(self.norm, np.spacing(np.abs(self.images) + np.abs(perturbations)))
            length = np.maximum(measure(self.norm, perturbations) + rounding, 1e-300)
            perturbations = perturbations * np.minimum(1, self.epsilon / length)[:, np.newaxis]
        moved = np.clip(self.images + perturbations, self.classifier.lower, self.classifier.upper)
        return np.where(perturbations != 0, moved, self.images)
