"""The best image inside a budget, as `inside.py` wants it: bounds, rows and a ball."""

from __future__ import annotations

import dataclasses

import numpy as np

from mnist_adv.optimum.constraints import Rows, product

_TINY = 1e-200


@dataclasses.dataclass(frozen=True)
class Budget:
    """n problems: v, which moves the pixels, between two bounds and in a ball.

    Attributes:
        rows: of the problems, over D pixels, in units of logits.
        needs: g, `[n, K - 1]`, of the other classes.
        others: `[n, K - 1]`, these classes.
        low: `[n, m]`, bounds of v; m = D, or 2 D where ways up and down are apart.
        high: `[n, m]`.
        scale: `[n, m]`, how far a unit of v moves its pixel, with its sign; 0 where it has no room.
        order: of the ball's norm: 1 for `sum v <= radius`, 2 for `||v|| <= radius`, 0 for none.
        radius: of the ball.
        soft: whether the log-odds are sought.
        unit: `[n]`, what counts as large among logits.
    """

    rows: Rows
    needs: np.ndarray
    others: np.ndarray
    low: np.ndarray
    high: np.ndarray
    scale: np.ndarray
    order: int
    radius: float
    soft: bool
    unit: np.ndarray

    def take(self, keep: np.ndarray) -> Budget:
        """Keep some of the problems."""
        return dataclasses.replace(
            self,
            rows=self.rows.take(keep),
            needs=self.needs[keep],
            others=self.others[keep],
            low=self.low[keep],
            high=self.high[keep],
            scale=self.scale[keep],
            unit=self.unit[keep],
        )

    def move(self, v: np.ndarray) -> np.ndarray:
        """Compute the perturbation `[n, D]`."""
        return self._fold(v * self.scale)

    def gains(self, v: np.ndarray) -> np.ndarray:
        """Compute A d: `[n, K - 1]`."""
        return np.take_along_axis(self.rows.apply(self.move(v)), self.others, axis=1)

    def combine(self, lam: np.ndarray) -> np.ndarray:
        """Compute what the rows' multipliers make of each v: `[n, m]`."""
        row = self.rows.combine(self.everybody(lam))
        return np.tile(row, self.scale.shape[1] // row.shape[1]) * self.scale

    def everybody(self, lam: np.ndarray) -> np.ndarray:
        """Give the target a multiplier of zero: `[n, K - 1]` -> `[n, K]`."""
        full = np.zeros((len(lam), lam.shape[1] + 1))
        np.put_along_axis(full, self.others, lam, axis=1)
        return full

    def gram(self, give: np.ndarray) -> np.ndarray:
        """Compute A diag(give) A^T: `[n, K - 1, K - 1]`."""
        full = self.rows.gram(self._fold(give * self.scale**2))
        index = np.arange(len(full))[:, np.newaxis, np.newaxis]
        return full[index, self.others[:, :, np.newaxis], self.others[:, np.newaxis, :]]

    def spent(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the share of the budget that v spends, `[n]`, and its gradient."""
        live = self.scale != 0
        if self.order == 1:
            return (v * live).sum(axis=1) / self.radius, live / self.radius
        if self.order == 2:
            return (v**2).sum(axis=1) / self.radius**2, 2 * v / self.radius**2
        return np.zeros(len(v)), np.zeros(v.shape)

    @property
    def curvature(self) -> float:
        """The second derivative of what is spent, in each v."""
        return 2 / self.radius**2 if self.order == 2 else 0.0

    def _fold(self, values: np.ndarray) -> np.ndarray:
        return _fold(values, len(self.rows.weights))


def make_budget(
    norm: str,
    rows: Rows,
    room: np.ndarray,
    logits: np.ndarray,
    radius: float,
    *,
    soft: bool,
) -> Budget:
    """Set up the problems of some images and their targets.

    Args:
        norm: "linf", "l2", "l1" or "l0"; for l0 each pixel moves by a share of its room, and the
            shares add to at most the number of pixels: a relaxation.
        rows: over D pixels.
        room: `[2, n, D]`.
        logits: `[n, K]`, of the clean images.
        radius: positive; for l0 a number of pixels.
        soft: whether the log-odds are sought, not the lead.

    Returns:
        The problems.
    """
    count, num_classes = logits.shape
    index = np.arange(count)[:, np.newaxis]
    others = np.arange(num_classes - 1) + (np.arange(num_classes - 1) >= rows.targets[:, None])
    needs = logits[index, others] - logits[index, rows.targets[:, np.newaxis]]
    if norm in ("linf", "l2"):
        high, below = np.minimum(room, radius)
        low, sign = -below, np.ones_like(high)
    else:
        high = np.concatenate(list(room), axis=1)
        low = np.zeros_like(high)
        sign = np.concatenate([np.ones_like(room[0]), -np.ones_like(room[1])], axis=1)
        if norm == "l0":
            sign, high = sign * high, np.sign(high)
        else:
            high = np.minimum(high, radius)
    # What has no room would have no interior: it may go anywhere, and does nothing.
    here = high > low
    high, low, scale = np.where(here, high, 1.0), np.where(here, low, 0.0), np.where(here, sign, 0)
    order = {"linf": 0, "l2": 2}.get(norm, 1)
    centered = np.abs(rows.weights - rows.weights.mean(axis=1, keepdims=True))
    reach = product(_fold((high - low) * np.abs(scale), len(rows.weights)), centered)
    unit = 2 * reach.max(axis=1) + np.ptp(needs, axis=1) + (1.0 if soft else _TINY)
    return Budget(rows, needs, others, low, high, scale, order, float(radius), soft, unit)


def _fold(values: np.ndarray, num_pixels: int) -> np.ndarray:
    """Add a pixel's two ways, where they are apart: `[n, m]` -> `[n, D]`."""
    if values.shape[1] == num_pixels:
        return values
    return values[:, :num_pixels] + values[:, num_pixels:]
