"""The proximal operators of the norms against a general minimiser."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from mnist_adv.geometry.norms import GEOMETRY, Norm

ORDERS = {Norm.LINF: np.inf, Norm.L2: 2, Norm.L1: 1}


@pytest.mark.parametrize("norm", ORDERS)
@pytest.mark.parametrize("amount", [0.0, 0.3, 1.5, 100.0])
def test_no_other_point_is_better(norm: Norm, amount: float) -> None:
    generator = np.random.default_rng(4)
    points = generator.normal(size=(3, 1, 1, 6))
    shrink = GEOMETRY[norm].shrink
    assert shrink is not None
    shrunk = shrink(tf.constant(points), tf.fill([3], tf.constant(amount, tf.float64))).numpy()

    for point, found in zip(points.reshape(3, -1), shrunk.reshape(3, -1)):

        def value(z: np.ndarray, point: np.ndarray = point) -> float:
            away = ((z - point) ** 2).sum() / 2
            return float(amount * np.linalg.norm(z, ORDERS[norm]) + away)

        best = scipy.optimize.minimize(
            value, found, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12}
        )
        assert value(found) <= best.fun + 1e-9
        others = [found + generator.normal(0, 10.0**-k, 6) for k in range(5) for _ in range(40)]
        assert value(found) <= min(map(value, others)) + 1e-12
