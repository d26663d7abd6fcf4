"""Attacks that see decisions alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mnist_adv
from mnist_adv.models.softmax_regression import SoftmaxRegression

ATTACKS = (("boundary", "l2"), ("hop_skip_jump", "l2"), ("hop_skip_jump", "linf"))


@pytest.fixture(scope="module")
def decisions(trained: SoftmaxRegression) -> Any:
    """A NumPy function that returns one class and says nothing else."""
    W, b = trained.W.numpy(), trained.b.numpy()

    def decide(images: np.ndarray) -> np.ndarray:
        seen = (np.reshape(images, (len(images), -1)) @ W + b).argmax(axis=1)
        return np.eye(10, dtype=np.float32)[seen]

    return mnist_adv.from_numpy(decide, (28, 28, 1))


@pytest.mark.slow
@pytest.mark.parametrize(("method", "norm"), ATTACKS)
@pytest.mark.parametrize("targeted", [True, False])
def test_a_class_is_all_they_ask_for(
    decisions: Any,
    trained: SoftmaxRegression,
    test_set: Any,
    method: str,
    norm: str,
    targeted: bool,
) -> None:
    images, labels = test_set.images[:3], test_set.labels[:3]
    goal = {"targets": (labels + 1) % 10} if targeted else {"labels": labels}
    asked: dict[str, Any] = {
        "method": method,
        "norm": norm,
        "num_steps": 400,
        "donors": (test_set.images[500:900], test_set.labels[500:900]),
        **goal,
    }
    blind, seeing = (mnist_adv.attack(model, images, **asked) for model in (decisions, trained))
    assert blind.success.all() and (blind.num_gradients == 0).all()
    assert (blind.num_queries == 401).all()
    # The walk is the same, but for points so near to the border that logits and decisions differ.
    assert np.median(blind.distances / seeing.distances) == pytest.approx(1, abs=0.15)
    start = mnist_adv.attack(decisions, images, **{**asked, "num_steps": 1})
    assert (blind.distances < 0.8 * start.distances).all()


def test_without_donors_or_without_one_of_the_class_they_are_refused(
    trained: SoftmaxRegression, test_set: Any
) -> None:
    image = test_set.images[0]
    with pytest.raises(ValueError, match="begins with other images"):
        mnist_adv.attack(trained, image, targets=2, method="boundary", norm="l2")
    sevens = test_set.images[test_set.labels == 7][:20]
    donors = (sevens, np.full(20, 2))  # the labels say 2; the model is asked
    sees = trained(sevens).numpy().argmax(axis=1)
    assert 2 not in sees
    with pytest.raises(
        ValueError, match=r"an image of every class asked for. Received: none for 2"
    ):
        mnist_adv.attack(
            trained, image, targets=2, method="hop_skip_jump", norm="l2", donors=donors
        )
