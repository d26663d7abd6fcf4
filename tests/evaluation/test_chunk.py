"""What is recorded of a chunk, where rounding does more than the attack."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mnist_adv.data.datasets import Dataset, to_float
from mnist_adv.evaluation.measure import chunk
from mnist_adv.evaluation.plan import Plan, Targets
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.verdict.judge import judge
from tests.evaluation.support import SMALL


@pytest.mark.parametrize("targets", [Targets.UNTARGETED, Targets.NEXT])
def test_what_rounding_alone_reaches_is_no_success(targets: Targets) -> None:
    # Class 1 from level 102.8 of the first pixel on; the attack ends at 102.54, rounded up.
    model = SoftmaxRegression()
    weights = np.zeros((784, 10), np.float32)
    weights[0, 1] = 10
    model.W.assign(weights)
    model.b.assign([0, -1028 / 255, *[-100] * 8])
    images = np.zeros((1, 28, 28, 1), np.float32)
    images[0, 0, 0, 0] = 102 / 255
    changes: dict[str, Any] = {"epsilons": (0.01,), "num_steps": 1, "step_size": 0.54 / 255}
    plan = Plan(**{**SMALL, **changes, "targets": targets})
    cases = Dataset(images, np.array([0]), ("0",) * 10)
    record, _ = chunk._run_attack(plan, model, "pgd", cases, np.array([1]), None)
    rounded = to_float(record["levels"])
    assert judge(model, images, rounded, labels=0, norm="linf", epsilon=0.01).success[0]
    assert not record["float_success"][0] and not record["saved_success"][0]
    assert record["saved_escape"][0] == np.inf
