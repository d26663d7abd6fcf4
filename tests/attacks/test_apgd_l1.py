"""AutoPGD in L1: budgets, floors, and what others reach."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mnist_adv import attack, smallest_perturbation
from mnist_adv.models.softmax_regression import SoftmaxRegression

pytestmark = pytest.mark.slow

COUNT = 32


@pytest.fixture(scope="module")
def digits(trained: SoftmaxRegression, test_set: Any) -> dict[str, Any]:
    """Images that the model gets right, a target for each, and the least L1 way to it."""
    right = np.flatnonzero(trained(test_set.images[:90]).numpy().argmax(1) == test_set.labels[:90])
    chosen = right[:COUNT]
    images, labels = test_set.images[chosen], test_set.labels[chosen]
    targets = (labels + 1) % 10
    optimum = smallest_perturbation(
        trained.W.numpy(), trained.b.numpy(), images, targets, norm="l1"
    )
    return {"images": images, "labels": labels, "targets": targets, "l1": optimum.lower_bound}


# The DLR loss is no convex function of the pixels, and gets stuck a little more often.
@pytest.mark.parametrize(("method", "share"), [("apgd_ce", 0.9), ("apgd_dlr", 0.8)])
def test_l1_autopgd_reaches_what_there_is_and_no_more(
    trained: SoftmaxRegression, digits: dict[str, Any], method: str, share: float
) -> None:
    epsilon = np.maximum(1.1 * digits["l1"], 0.5)  # each image's own: all can be reached
    options: dict[str, Any] = {"targets": digits["targets"], "method": method, "norm": "l1"}
    result = attack(trained, digits["images"], epsilon=epsilon, **options)
    assert (result.verdict.norms["l1"] <= epsilon + 1e-6).all()
    assert result.success.mean() >= share
    assert (result.distances[result.success] >= digits["l1"][result.success] * (1 - 1e-6)).all()
    below = attack(trained, digits["images"], epsilon=0.99 * digits["l1"], **options)
    assert not below.success.any()
    # PGD's step is exact on a linear model: nothing does better
    pgd = attack(
        trained, digits["images"], epsilon=epsilon, num_steps=100, **{**options, "method": "pgd"}
    )
    assert 1 - share >= pgd.success.mean() - result.success.mean() >= 0


def test_l1_autopgd_counts_its_stages_and_stops_early(
    trained: SoftmaxRegression, digits: dict[str, Any]
) -> None:
    images, targets = digits["images"][:8], digits["targets"][:8]
    options: dict[str, Any] = {"method": "apgd_ce", "norm": "l1", "epsilon": 25.0}
    result = attack(trained, images, targets=targets, **options)
    found = result.success
    assert found.sum() >= 6
    # 1 for the start, 31 in each of the larger balls, and the budget's own
    assert ((result.num_queries < 1 + 31 + 31 + 41) == found).all()
    assert (result.num_queries > 1 + 31 + 31).all()
    assert (result.num_steps >= 60).all() and (result.num_steps < 100).all()
    there = attack(trained, images, targets=digits["labels"][:8], **options)
    assert (there.num_queries == 1).all() and not there.perturbation.any()
    sure = attack(trained, images, targets=targets, stop_early=False, **options)
    assert (sure.num_queries == 1 + 31 + 31 + 41).all()
    lower = np.take_along_axis(result.verdict.probabilities, targets[:, None], 1)
    higher = np.take_along_axis(sure.verdict.probabilities, targets[:, None], 1)
    assert (higher >= lower).all() and (higher[found] > lower[found]).all()
    short = attack(trained, images, targets=targets, num_steps=3, **options)
    assert (short.num_steps <= 3).all() and (short.num_queries <= 1 + 3 + 3).all()


def test_l1_autopgd_moves_few_pixels(trained: SoftmaxRegression, digits: dict[str, Any]) -> None:
    options: dict[str, Any] = {"targets": digits["targets"], "norm": "l1", "epsilon": 10.0}
    sparse = attack(trained, digits["images"], method="apgd_ce", stop_early=False, **options)
    # ten pixels' worth of way: spread over tens of pixels, not over all that have a slope
    dense = attack(trained, digits["images"], method="pgd", step="unit", step_size=0.3, **options)
    assert 2 * np.median(sparse.verdict.norms["l0"]) < np.median(dense.verdict.norms["l0"])
