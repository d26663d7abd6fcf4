"""Certified images in float32 arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mnist_adv.data.datasets import Dataset
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.optimum import smallest_perturbation, to_float32
from mnist_adv.optimum.certificate import bounds

COUNT = 40


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_float32_images_keep_their_class_and_stay_near(
    norm: str, trained: SoftmaxRegression, test_set: Dataset
) -> None:
    images, labels = test_set.images[:COUNT], test_set.labels[:COUNT]
    W, b = trained.W.numpy(), trained.b.numpy()
    goals: tuple[dict[str, Any], ...] = ({"targets": (labels + 3) % 10}, {"labels": labels})
    for wanted in goals:
        optimum = smallest_perturbation(W, b, images, norm=norm, **wanted)
        rounded, kept = to_float32(W, b, optimum)
        assert rounded.dtype == np.float32 and kept.all()
        assert rounded.min() >= 0 and rounded.max() <= 1
        predictions = np.asarray(trained(rounded)).argmax(axis=1)
        if "targets" in wanted:
            np.testing.assert_array_equal(predictions, wanted["targets"])
        else:
            assert (predictions != labels).all()
        moved = (rounded.astype(np.float64) - images).reshape(COUNT, -1)
        distance = bounds.measure(norm, moved)
        assert (distance <= optimum.upper_bound * (1 + 1e-3) + 1e-4).all()
        if norm == "l0":
            np.testing.assert_array_equal(distance, optimum.upper_bound)
