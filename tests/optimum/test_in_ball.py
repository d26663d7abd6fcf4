"""The inverse question: the largest margin of a class inside a budget, against HiGHS and SciPy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.optimum_oracles import largest_margin_highs
from mnist_adv.data.datasets import Dataset
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.optimum import (
    LargestMargin,
    MarginCertificate,
    check_margin,
    largest_margin,
    smallest_perturbation,
)
from mnist_adv.optimum.certificate import bounds
from tests.optimum.test_targeted import random_problem

CONVEX = ("linf", "l2", "l1")
EPSILON = {"linf": 0.2, "l2": 0.6, "l1": 1.5, "l0": 3.0}


def judge(
    W: np.ndarray, b: np.ndarray, found: LargestMargin, *, log_odds: bool = False, **changes: Any
) -> MarginCertificate:
    """Let the checker judge an answer, with some of it replaced."""
    claim: dict[str, Any] = {
        "adversarial": found.adversarial,
        "dual_variables": found.dual_variables,
        "claimed_lower": found.lower_bound,
        "claimed_upper": found.upper_bound,
        "targets" if found.targeted else "labels": found.classes,
    }
    if log_odds:
        claim["adversarial"], claim["dual_variables"] = (
            found.odds_adversarial,
            found.odds_dual_variables,
        )
        claim["claimed_lower"], claim["claimed_upper"] = found.log_odds.T
    claim = {**claim, **changes}
    return check_margin(
        W, b, found.images, norm=found.norm, epsilon=found.epsilon, log_odds=log_odds, **claim
    )


def odds(W: np.ndarray, b: np.ndarray, image: np.ndarray, target: int) -> float:
    """Compute log(p / (1 - p)) in the plainest way."""
    logits = image @ W + b
    return float(logits[target] - scipy.special.logsumexp(np.delete(logits, target)))


@pytest.mark.parametrize("norm", ["linf", "l1"])
@pytest.mark.parametrize("share", [0.2, 1.0, 20.0])
def test_the_largest_margin_is_what_highs_finds(norm: str, share: float) -> None:
    W, b, images, targets = random_problem(61, 25, 5, 12)
    epsilon = share * EPSILON[norm]
    found = largest_margin(W, b, images, targets, norm=norm, epsilon=epsilon)
    assert judge(W, b, found).accepted.all(), judge(W, b, found).reasons
    for i, (image, target) in enumerate(zip(images, targets)):
        expected = largest_margin_highs(norm, W, b, image, int(target), epsilon)
        assert found.lower_bound[i] == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_digits_agree_with_highs(norm: str, trained: SoftmaxRegression, test_set: Dataset) -> None:
    W, b = trained.W.numpy().astype(np.float64), trained.b.numpy().astype(np.float64)
    images = test_set.images[:9].reshape(9, -1)
    targets = (test_set.labels[:9] + np.arange(1, 10)) % 10
    epsilon = {"linf": 0.1, "l1": 10.0}[norm]
    found = largest_margin(W, b, images, targets, norm=norm, epsilon=epsilon)
    assert found.gap.max() < 1e-7
    assert judge(W, b, found).accepted.all() and judge(W, b, found, log_odds=True).accepted.all()
    for i in range(9):
        image = images[i].astype(np.float64)
        expected = largest_margin_highs(norm, W, b, image, int(targets[i]), epsilon)
        assert found.lower_bound[i] == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("norm", CONVEX)
def test_the_largest_log_odds_are_what_scipy_finds(norm: str) -> None:
    W, b, images, targets = random_problem(62, 12, 4, 6)
    epsilon = EPSILON[norm]
    found = largest_margin(W, b, images, targets, norm=norm, epsilon=epsilon)
    assert judge(W, b, found, log_odds=True).accepted.all()
    for i, (image, target) in enumerate(zip(images, targets)):
        expected = _scipy_odds(norm, W, b, image, int(target), epsilon)
        low, high = found.log_odds[i]
        assert high - low < 1e-7
        assert low >= expected - 1e-7  # SciPy's image is a feasible one ...
        assert high <= expected + 1e-5  # ... and its best to its tolerance
        reached = odds(W, b, found.odds_adversarial[i], int(target))
        assert reached == pytest.approx(low, abs=1e-12)


def _scipy_odds(
    norm: str, W: np.ndarray, b: np.ndarray, image: np.ndarray, target: int, epsilon: float
) -> float:
    """Maximise by sequential quadratic programming; ways up and down apart, for L1."""

    def negative(v: np.ndarray) -> float:
        return -odds(W, b, image + v[:12] - v[12:], target)

    def left(v: np.ndarray) -> float:
        return float(epsilon - v.sum()) if norm == "l1" else float(epsilon**2 - (v**2).sum())

    ranges = np.concatenate([1 - image, image])
    if norm == "linf":
        ranges = np.minimum(ranges, epsilon)
    constraints = [] if norm == "linf" else [{"type": "ineq", "fun": left}]
    result = scipy.optimize.minimize(
        negative,
        np.minimum(ranges, epsilon / 24) / 2,
        bounds=[(0, one) for one in ranges],
        constraints=constraints,
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    return -float(result.fun)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    pixels=st.integers(1, 30),
    classes=st.integers(2, 8),
    scale=st.sampled_from([1e-3, 1.0, 1e2]),
    width=st.sampled_from([1.0, 255.0]),
    norm=st.sampled_from(CONVEX),
    share=st.sampled_from([0.0, 1e-4, 0.3, 1.0, 50.0]),
)
def test_every_answer_is_proved_in_any_size_and_unit(
    seed: int,
    pixels: int,
    classes: int,
    scale: float,
    width: float,
    norm: str,
    share: float,
) -> None:
    W, b, images, targets = random_problem(seed, pixels, classes, 5)
    W, b, images = W * scale / width, b * scale, images * width
    epsilon = EPSILON[norm] * share * width
    found = largest_margin(W, b, images, targets, norm=norm, epsilon=epsilon, upper=width)
    for log_odds in (False, True):
        certificate = judge(W, b, found, log_odds=log_odds, upper=width)
        assert certificate.accepted.all(), certificate.reasons


def test_a_nearly_singular_system_is_solved() -> None:
    W, b, images, targets = random_problem(27, 4, 5, 5)
    found = largest_margin(W * 100, b * 100, images, targets, norm="l1", epsilon=1.5)
    assert judge(W * 100, b * 100, found).accepted.all()


@pytest.mark.parametrize("norm", CONVEX)
def test_degenerate_classifiers(norm: str) -> None:
    W, b, images, targets = random_problem(63, 20, 5, 10)
    W[:, 3], b[3] = W[:, 1], b[1]  # equal columns
    W[:, 2] = 0
    W[4:8] = 0
    images[:5] = images[:5] > 0.5  # pixels at the ends of the box everywhere
    for weights in (W, np.zeros_like(W)):
        found = largest_margin(weights, b, images, targets, norm=norm, epsilon=EPSILON[norm])
        for log_odds in (False, True):
            certificate = judge(weights, b, found, log_odds=log_odds)
            assert certificate.accepted.all(), certificate.reasons
    # Of two equal columns neither exceeds the other.
    tied = largest_margin(W, b, images, 3, norm=norm, epsilon=5.0)
    assert (tied.upper_bound <= 1e-9).all()


@pytest.mark.parametrize("norm", [*CONVEX, "l0"])
def test_labels_are_judged_too(norm: str) -> None:
    W, b, images, targets = random_problem(64, 15, 4, 10)
    found = largest_margin(W, b, images, labels=targets, norm=norm, epsilon=EPSILON[norm])
    assert judge(W, b, found).accepted.all(), judge(W, b, found).reasons
    assert np.isnan(found.log_odds).all()
    assert not judge(W, b, found, claimed_upper=found.upper_bound - 1e-5).accepted.any()


@pytest.mark.slow
def test_few_pixels_are_bounded_from_both_sides() -> None:
    W, b, images, targets = random_problem(65, 9, 4, 20)
    for epsilon in (0, 1, 2, 9):
        found = largest_margin(W, b, images, targets, norm="l0", epsilon=epsilon)
        certificate = judge(W, b, found, allowed_gap=np.inf)
        assert certificate.accepted.all(), certificate.reasons
        assert judge(W, b, found, log_odds=True, allowed_gap=np.inf).accepted.all()
        best = [_few(W, b, x, int(t), epsilon) for x, t in zip(images, targets)]
        assert (found.lower_bound <= np.array(best) + 1e-8).all()
        assert (found.upper_bound >= np.array(best) - 1e-8).all()
        closed = found.gap < 1e-7
        assert closed.all() if epsilon in (0, 9) else closed.mean() > 0.1
        assert f"gap {found.gap[0]:.1e}" in found.sentence(0)
        changed = np.count_nonzero(found.adversarial - images, axis=1)
        assert (changed <= epsilon).all()


def _few(W: np.ndarray, b: np.ndarray, image: np.ndarray, target: int, size: int) -> float:
    """Try all choices of pixels; each is a linear program."""
    free = (np.isin(np.arange(9), chosen) for chosen in itertools.combinations(range(9), size))
    return max(largest_margin_highs("linf", W, b, image, target, 1.0, f) for f in free)


@pytest.fixture(scope="module", params=CONVEX)
def answer(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray, LargestMargin]:
    """A correct answer in each norm."""
    W, b, images, targets = random_problem(66, 25, 5, 10)
    norm = request.param
    return W, b, largest_margin(W, b, images, targets, norm=norm, epsilon=EPSILON[norm])


@pytest.mark.parametrize("log_odds", [False, True])
def test_wrong_claims_are_refused(
    log_odds: bool, answer: tuple[np.ndarray, np.ndarray, LargestMargin]
) -> None:
    W, b, found = answer
    good = judge(W, b, found, log_odds=log_odds)
    assert good.accepted.all(), good.reasons
    images, best = (
        np.asarray(found.images),
        found.odds_adversarial if log_odds else found.adversarial,
    )
    low, high = found.log_odds.T if log_odds else (found.lower_bound, found.upper_bound)
    lam = found.odds_dual_variables if log_odds else found.dual_variables
    own = np.eye(5)[found.classes]
    wrong: dict[str, list[dict[str, Any]]] = {
        "do not prove": [
            {"dual_variables": np.zeros_like(lam)},
            {"dual_variables": np.where(own > 0, 0.0, np.roll(lam, 1, axis=1) + 0.3)},
            {"dual_variables": -lam},
            {"dual_variables": np.full_like(lam, np.nan)},
            {"claimed_upper": high - 1e-5},
        ],
        "less than is claimed": [{"claimed_lower": low + 1e-5}, {"adversarial": images}],
        "leaves the box": [{"adversarial": best + 2.0}],
        "leaves the budget": [{"adversarial": np.clip(images + 2 * (best - images), 0, 1)}],
        "gap is too large": [{"claimed_upper": high + 1e-3}],
        "contradicts": [{"claimed_upper": high - 1e-3}],
    }
    for reason, changes in wrong.items():
        for change in changes:
            verdict = judge(W, b, found, log_odds=log_odds, **change)
            assert not verdict.accepted.any()
            assert all(reason in why for why in verdict.reasons), verdict.reasons


def test_what_cannot_be_judged_is_said(
    answer: tuple[np.ndarray, np.ndarray, LargestMargin],
) -> None:
    W, b, found = answer
    with pytest.raises(ValueError, match="exactly one"):
        judge(W, b, found, labels=found.classes)
    with pytest.raises(ValueError, match="log-odds need targets"):
        judge(W, b, found, log_odds=True, targets=None, labels=found.classes)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_inverse_question_inverts(norm: str) -> None:
    W, b, images, targets = random_problem(41, 25, 5, 20)
    epsilon = {"linf": 0.2, "l2": 0.6, "l1": 1.5}[norm]
    goals: tuple[dict[str, Any], ...] = ({"targets": targets}, {"labels": targets})
    for wanted in goals:
        found = largest_margin(W, b, images, norm=norm, epsilon=epsilon, **wanted)
        assert (found.upper_bound >= found.lower_bound - 1e-12).all()
        assert (found.upper_bound - found.lower_bound).max() < 1e-6
        distance = bounds.measure(norm, found.adversarial - images)
        assert (distance <= epsilon * (1 + 1e-12)).all()
        assert found.adversarial.min() >= 0 and found.adversarial.max() <= 1
        measured = bounds.margins(W, b, found.adversarial, **wanted)
        np.testing.assert_allclose(measured, found.lower_bound, atol=1e-12)
        optimum = smallest_perturbation(W, b, images, norm=norm, **wanted)
        np.testing.assert_array_equal(found.certified, optimum.lower_bound > epsilon)
        # Asking for that margin needs the whole budget.
        for i in np.flatnonzero(found.lower_bound > 0.01)[:4]:
            again = smallest_perturbation(
                W,
                b,
                images[i : i + 1],
                norm=norm,
                margin=found.lower_bound[i],
                **{name: classes[i] for name, classes in wanted.items()},
            )
            assert again.upper_bound[0] <= epsilon * (1 + 1e-6)
            assert again.upper_bound[0] >= epsilon * (1 - 1e-4)


def test_log_odds_are_bounded_from_both_sides() -> None:
    W, b, images, targets = random_problem(42, 25, 4, 10)
    found = largest_margin(W, b, images, targets, norm="l2", epsilon=0.5)
    low, high = found.log_odds.T
    assert (low <= high).all() and (high - low).max() < 1e-6
    assert (high <= found.upper_bound + 1e-6).all() and (low >= found.lower_bound - np.log(3)).all()
    generator = np.random.default_rng(0)
    for _ in range(50):  # no image of the ball passes the upper bound
        d = generator.normal(size=images.shape)
        d *= 0.5 / np.linalg.norm(d, axis=1, keepdims=True)
        logits = np.clip(images + d, 0, 1) @ W + b
        others = np.delete(logits.reshape(-1), np.arange(len(images)) * 4 + targets).reshape(
            len(images), 3
        )
        odds = logits[np.arange(len(images)), targets] - np.log(np.exp(others).sum(axis=1))
        assert (odds <= high).all()


def test_the_inverse_question_in_pixels() -> None:
    W, b, images, _ = random_problem(43, 20, 4, 15)
    labels = (images @ W + b).argmax(axis=1)
    optimum = smallest_perturbation(W, b, images, labels=labels, norm="l0")
    found = largest_margin(W, b, images, labels=labels, norm="l0", epsilon=2)
    np.testing.assert_array_equal(found.certified, optimum.upper_bound > 2)
    assert "at most" in found.sentence(0)
    with pytest.raises(ValueError, match="norm must be"):
        largest_margin(W, b, images, 0, norm="l3", epsilon=1)
    with pytest.raises(ValueError, match="epsilon must be"):
        largest_margin(W, b, images, 0, norm="l2", epsilon=-1)
    with pytest.raises(ValueError, match="exactly one"):
        largest_margin(W, b, images, norm="l2", epsilon=1)
