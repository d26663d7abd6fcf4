"""The best image inside a ball in the form that `interior_point.py` solves."""

from __future__ import annotations

import dataclasses

import numpy as np

from mnist_adv.optimum.constraints import Constraints, product

_TINY = 1e-200


@dataclasses.dataclass(frozen=True)
class BallProblem:
    """n problems: v, which moves the pixels, between two bounds and in a ball.

    Attributes:
        constraints: of the problems, over D pixels, in units of logits.
        rhs: g, `[n, K - 1]`, of the other classes.
        others: `[n, K - 1]`, these classes.
        low: `[n, m]`, bounds of v; m = D, or 2 D where up and down are separate.
        high: `[n, m]`.
        scale: `[n, m]`, how far a unit of v moves its pixel, with its sign; 0 where it is fixed.
        order: of the ball's norm: 1 for `sum v <= radius`, 2 for `||v|| <= radius`, 0 for none.
        radius: of the ball.
        log_odds: whether the log-odds are sought.
        unit: `[n]`, the size of the logits, for tolerances.
    """

    constraints: Constraints
    rhs: np.ndarray
    others: np.ndarray
    low: np.ndarray
    high: np.ndarray
    scale: np.ndarray
    order: int
    radius: float
    log_odds: bool
    unit: np.ndarray

    def take(self, keep: np.ndarray) -> BallProblem:
        """Keep some of the problems.

        Args:
            keep: `[n]` bool.

        Returns:
            These problems.
        """
        return dataclasses.replace(
            self,
            constraints=self.constraints.take(keep),
            rhs=self.rhs[keep],
            others=self.others[keep],
            low=self.low[keep],
            high=self.high[keep],
            scale=self.scale[keep],
            unit=self.unit[keep],
        )

    def perturbation(self, v: np.ndarray) -> np.ndarray:
        """Compute the perturbation of the pixels.

        Args:
            v: `[n, m]`.

        Returns:
            `[n, D]`.
        """
        return self._fold(v * self.scale)

    def gains(self, v: np.ndarray) -> np.ndarray:
        """Compute A d.

        Args:
            v: `[n, m]`.

        Returns:
            `[n, K - 1]`.
        """
        return np.take_along_axis(self.constraints.apply(self.perturbation(v)), self.others, axis=1)

    def combine(self, lam: np.ndarray) -> np.ndarray:
        """Compute the coefficient of each v in the weighted sum of the constraints.

        Args:
            lam: the weights, `[n, K - 1]`.

        Returns:
            `[n, m]`.
        """
        coefficients = self.constraints.combine(self.with_target(lam))
        return np.tile(coefficients, self.scale.shape[1] // coefficients.shape[1]) * self.scale

    def with_target(self, lam: np.ndarray) -> np.ndarray:
        """Insert a dual variable of zero for the target.

        Args:
            lam: `[n, K - 1]`.

        Returns:
            `[n, K]`.
        """
        full = np.zeros((len(lam), lam.shape[1] + 1))
        np.put_along_axis(full, self.others, lam, axis=1)
        return full

    def gram(self, inverse_hessian: np.ndarray) -> np.ndarray:
        """Compute `A diag(h) A^T`.

        Args:
            inverse_hessian: h, `[n, m]`.

        Returns:
            `[n, K - 1, K - 1]`.
        """
        full = self.constraints.gram(self._fold(inverse_hessian * self.scale**2))
        index = np.arange(len(full))[:, np.newaxis, np.newaxis]
        return full[index, self.others[:, :, np.newaxis], self.others[:, np.newaxis, :]]

    def ball_constraint(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the norm of v as a share of the radius (L2: of their squares), and its gradient.

        Args:
            v: `[n, m]`.

        Returns:
            `[n]` and `[n, m]`.
        """
        live = self.scale != 0
        if self.order == 1:
            return (v * live).sum(axis=1) / self.radius, live / self.radius
        if self.order == 2:
            return (v**2).sum(axis=1) / self.radius**2, 2 * v / self.radius**2
        return np.zeros(len(v)), np.zeros(v.shape)

    @property
    def curvature(self) -> float:
        """The second derivative of the ball's constraint in each v."""
        return 2 / self.radius**2 if self.order == 2 else 0.0

    def _fold(self, values: np.ndarray) -> np.ndarray:
        return _fold(values, len(self.constraints.weights))


def make_ball_problem(
    norm: str,
    constraints: Constraints,
    ranges: np.ndarray,
    logits: np.ndarray,
    radius: float,
    *,
    log_odds: bool,
) -> BallProblem:
    """Set up the problems of some images and their targets.

    Args:
        norm: "linf", "l2", "l1" or "l0"; for l0 each pixel moves by a share of its range, and the
            shares add to at most the number of pixels: a relaxation.
        constraints: over D pixels.
        ranges: `[2, n, D]`.
        logits: `[n, K]`, of the clean images.
        radius: positive; for l0 a number of pixels.
        log_odds: whether the log-odds are sought, not the margin.

    Returns:
        The problems.
    """
    count, num_classes = logits.shape
    index = np.arange(count)[:, np.newaxis]
    others = np.arange(num_classes - 1) + (
        np.arange(num_classes - 1) >= constraints.targets[:, None]
    )
    rhs = logits[index, others] - logits[index, constraints.targets[:, np.newaxis]]
    if norm in ("linf", "l2"):
        high, below = np.minimum(ranges, radius)
        low, sign = -below, np.ones_like(high)
    else:
        high = np.concatenate(list(ranges), axis=1)
        low = np.zeros_like(high)
        sign = np.concatenate([np.ones_like(ranges[0]), -np.ones_like(ranges[1])], axis=1)
        if norm == "l0":
            sign, high = sign * high, np.sign(high)
        else:
            high = np.minimum(high, radius)
    # A fixed v would have no interior: it gets one, and changes nothing.
    here = high > low
    high, low, scale = np.where(here, high, 1.0), np.where(here, low, 0.0), np.where(here, sign, 0)
    order = {"linf": 0, "l2": 2}.get(norm, 1)
    centered = np.abs(constraints.weights - constraints.weights.mean(axis=1, keepdims=True))
    reach = product(_fold((high - low) * np.abs(scale), len(constraints.weights)), centered)
    unit = 2 * reach.max(axis=1) + np.ptp(rhs, axis=1) + (1.0 if log_odds else _TINY)
    return BallProblem(
        constraints, rhs, others, low, high, scale, order, float(radius), log_odds, unit
    )


def _fold(values: np.ndarray, num_pixels: int) -> np.ndarray:
    """Add a pixel's two directions, where they are separate: `[n, m]` -> `[n, D]`."""
    if values.shape[1] == num_pixels:
        return values
    return values[:, :num_pixels] + values[:, num_pixels:]
