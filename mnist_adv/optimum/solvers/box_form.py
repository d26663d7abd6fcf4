"""The L2 and (by columns) the L1 problem in the form that `interior_point.py` solves."""

from __future__ import annotations

import dataclasses

import numpy as np
from typing_extensions import override

from mnist_adv.optimum.constraints import ColumnConstraints, Constraints, box_support
from mnist_adv.optimum.solvers.interior_point import Finish, Form, Reduced

_FLOOR = 0.1  # of the bounds' first dual variables, in units of the costs
_FIRST = 0.1  # the constraints' first dual variables, in units of the largest that is dual feasible


@dataclasses.dataclass(frozen=True)
class BoxForm(Form):
    """min costs . d + curvature / 2 ||d||^2 inside the ranges; v is d.

    Attributes:
        constraints: of n problems, over m columns.
        ranges: `[2, n, m]`, how far each column can rise and fall, together positive.
        costs: `[n, m]`, at least 0.
        curvature: 1 for the L2 problem, 0 for a linear program.
        lam: `[n, K]`, the constraints' first dual variables.
    """

    constraints: Constraints | ColumnConstraints
    ranges: np.ndarray
    costs: np.ndarray
    curvature: float
    lam: np.ndarray

    @override
    def start(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        point = (self.ranges[0] - self.ranges[1]) / 2
        bound_rhs = self.constraints.combine(self.lam) - self.costs - self.curvature * point
        floor = _FLOOR * (self.costs + self.curvature)
        return (
            point,
            np.stack([np.maximum(bound_rhs, 0), np.maximum(-bound_rhs, 0)]) + floor,
            self.lam,
        )

    @override
    def slacks(self, point: np.ndarray) -> np.ndarray:
        return self.ranges + self.change(point)

    @override
    def change(self, direction: np.ndarray) -> np.ndarray:
        return np.stack([-direction, direction])

    @override
    def constraint_values(self, point: np.ndarray) -> np.ndarray:
        return self.constraints.apply(point)

    @override
    def cost(self, point: np.ndarray) -> np.ndarray:
        return np.einsum("nm,nm->n", self.costs + 0.5 * self.curvature * point, point)

    @override
    def support(self, dual_variables: np.ndarray) -> np.ndarray:
        return box_support(self.constraints.combine(dual_variables), self.ranges)

    @override
    def reduce(self, scaling: np.ndarray) -> _BoxReduced:
        return _BoxReduced(self.constraints, 1 / (self.curvature + scaling[0] + scaling[1]))

    @override
    def take(self, keep: np.ndarray) -> BoxForm:
        return BoxForm(
            self.constraints.take(keep),
            self.ranges[:, keep],
            self.costs[keep],
            self.curvature,
            self.lam[keep],
        )


class _BoxReduced(Reduced):
    def __init__(
        self, constraints: Constraints | ColumnConstraints, inverse_hessian: np.ndarray
    ) -> None:
        self._constraints, self._inverse_hessian = constraints, inverse_hessian
        self.matrix = constraints.gram(inverse_hessian)

    @override
    def eliminate(self, bound_rhs: np.ndarray) -> tuple[np.ndarray, Finish]:
        net_rhs = bound_rhs[1] - bound_rhs[0]

        def finish(dual_variables: np.ndarray) -> np.ndarray:
            return self._inverse_hessian * (self._constraints.combine(dual_variables) + net_rhs)

        return self._constraints.apply(self._inverse_hessian * net_rhs), finish


def quadratic_form(constraints: Constraints, ranges: np.ndarray) -> BoxForm:
    """Set up min 1/2 ||d||^2 inside the ranges.

    Args:
        constraints: of n problems.
        ranges: `[2, n, D]`.

    Returns:
        The form.
    """
    count, num_pixels = ranges.shape[1:]
    lam = np.full((count, constraints.weights.shape[1]), _FIRST)
    return BoxForm(constraints, ranges, np.zeros((count, num_pixels)), 1.0, lam)


def linear_form(columns: np.ndarray, ranges: np.ndarray, costs: np.ndarray) -> BoxForm:
    """Set up min costs . v with 0 <= v <= range: each column is one pixel moved one way.

    Args:
        columns: `[n, m, K]`, what one unit of each column adds to the constraints.
        ranges: `[n, m]`, positive.
        costs: `[n, m]`, positive; 1 for the L1 norm.

    Returns:
        The form.
    """
    largest = np.abs(columns / costs[:, :, np.newaxis]).max(axis=(1, 2))
    lam = np.full((len(ranges), columns.shape[2]), _FIRST)
    lam /= np.maximum(largest, 1e-200)[:, np.newaxis]
    return BoxForm(
        ColumnConstraints(columns), np.stack([ranges, np.zeros_like(ranges)]), costs, 0.0, lam
    )
