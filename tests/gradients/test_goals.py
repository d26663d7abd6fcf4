"""Goals: which classes are reached or left, and how sure the model must be."""

from __future__ import annotations

import numpy as np
import pytest

from mnist_adv.gradients.goals import make_goal

# The probabilities of the largest logits are 0.5, 0.6, 0.4.
LOGITS = np.log([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.4, 0.3, 0.3]])


def test_a_target_is_reached_and_a_label_is_left() -> None:
    classes = np.array([0, 2, 0])
    reached = make_goal(3, 3, targets=classes)
    assert reached.reached(LOGITS, classes).numpy().tolist() == [True, False, True]
    left = make_goal(3, 3, labels=classes)
    assert left.reached(LOGITS, classes).numpy().tolist() == [False, True, False]
    assert (reached.describe("abc"), left.describe("abc")) == ("to a", "away from a")


def test_a_confidence_is_that_of_the_new_prediction() -> None:
    for confidence, expected in ((None, [1, 1, 1]), (0.45, [1, 1, 0]), (0.55, [0, 1, 0])):
        goal = make_goal(3, 3, targets=[0, 1, 0], confidence=confidence)
        assert goal.satisfied(LOGITS, goal.classes).numpy().tolist() == expected
    goal = make_goal(3, 3, labels=[1, 2, 0], confidence=0.45)
    assert goal.satisfied(LOGITS, goal.classes).numpy().tolist() == [True, True, False]


def test_targets_and_labels_may_both_be_given_if_they_differ() -> None:
    goal = make_goal(2, 3, targets=[0, 1], labels=[1, 2])
    assert goal.targeted and goal.classes.tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"target 1 for an image with that label \(index 1\)"):
        make_goal(2, 3, targets=[0, 1], labels=[1, 1])
    with pytest.raises(ValueError, match=r"targets .* or labels .* must be given"):
        make_goal(2, 3)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.5, np.nan])
def test_confidences_lie_between_0_and_1(confidence: float) -> None:
    with pytest.raises(ValueError, match=r"confidence must lie in \(0, 1\)"):
        make_goal(1, 3, targets=0, confidence=confidence)
