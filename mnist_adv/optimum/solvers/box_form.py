"""The L2 and (by columns) the L1 problem, as `interior.py` wants them."""

from __future__ import annotations

import dataclasses

import numpy as np

from mnist_adv.optimum.solvers.interior_point import Finish
from mnist_adv.optimum.constraints import Columns, Rows, most

_FLOOR = 0.1  # of the bounds' first multipliers, in units of the costs
_FIRST = 0.1  # the rows' first multipliers, in units that just pay


@dataclasses.dataclass(frozen=True)
class BoxForm:
    """min costs . d + curvature / 2 ||d||^2 inside the rooms; v is d.

    Attributes:
        all_rows: of n problems, over m columns.
        room: `[2, n, m]`, how far each column can rise and fall, together positive.
        costs: `[n, m]`, at least 0.
        curvature: 1 for the L2 problem, 0 for a linear program.
        lam: `[n, K]`, the rows' first multipliers.
    """

    all_rows: Rows | Columns
    room: np.ndarray
    costs: np.ndarray
    curvature: float
    lam: np.ndarray

    def start(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        point = (self.room[0] - self.room[1]) / 2
        pull = self.all_rows.combine(self.lam) - self.costs - self.curvature * point
        floor = _FLOOR * (self.costs + self.curvature)
        return point, np.stack([np.maximum(pull, 0), np.maximum(-pull, 0)]) + floor, self.lam

    def slacks(self, point: np.ndarray) -> np.ndarray:
        return self.room + self.change(point)

    def change(self, direction: np.ndarray) -> np.ndarray:
        return np.stack([-direction, direction])

    def rows(self, point: np.ndarray) -> np.ndarray:
        return self.all_rows.apply(point)

    def cost(self, point: np.ndarray) -> np.ndarray:
        return np.einsum("nm,nm->n", self.costs + 0.5 * self.curvature * point, point)

    def most(self, multipliers: np.ndarray) -> np.ndarray:
        return most(self.all_rows.combine(multipliers), self.room)

    def reduce(self, scaling: np.ndarray) -> _BoxReduced:
        return _BoxReduced(self.all_rows, 1 / (self.curvature + scaling[0] + scaling[1]))

    def take(self, keep: np.ndarray) -> BoxForm:
        return BoxForm(
            self.all_rows.take(keep),
            self.room[:, keep],
            self.costs[keep],
            self.curvature,
            self.lam[keep],
        )


class _BoxReduced:
    def __init__(self, rows: Rows | Columns, give: np.ndarray) -> None:
        self._rows, self._give = rows, give
        self.matrix = rows.gram(give)

    def pulled(self, pull: np.ndarray) -> tuple[np.ndarray, Finish]:
        net = pull[1] - pull[0]

        def finish(multipliers: np.ndarray) -> np.ndarray:
            return self._give * (self._rows.combine(multipliers) + net)

        return self._rows.apply(self._give * net), finish


def quadratic(rows: Rows, room: np.ndarray) -> BoxForm:
    """Set up min 1/2 ||d||^2, given the rows and the rooms `[2, n, D]`."""
    count, num_pixels = room.shape[1:]
    lam = np.full((count, rows.weights.shape[1]), _FIRST)
    return BoxForm(rows, room, np.zeros((count, num_pixels)), 1.0, lam)


def linear(columns: np.ndarray, room: np.ndarray, costs: np.ndarray) -> BoxForm:
    """Set up min costs . v with 0 <= v <= room: each column is one pixel moved one way.

    Args:
        columns: `[n, m, K]`, what one unit of each column adds to the rows.
        room: `[n, m]`, positive.
        costs: `[n, m]`, positive; 1 for the L1 norm.

    Returns:
        The form.
    """
    largest = np.abs(columns / costs[:, :, np.newaxis]).max(axis=(1, 2))
    lam = np.full((len(room), columns.shape[2]), _FIRST)
    lam /= np.maximum(largest, 1e-200)[:, np.newaxis]
    return BoxForm(Columns(columns), np.stack([room, np.zeros_like(room)]), costs, 0.0, lam)
