"""The L-inf, the L2 and (by columns) the L1 problem, as `interior.py` wants them."""

from __future__ import annotations

import dataclasses

import numpy as np

from mnist_adv.optimum.interior import Finish
from mnist_adv.optimum.rows import Rows


@dataclasses.dataclass(frozen=True)
class LinfForm:
    """min e with -e <= d <= e inside the rooms; v is d and, as one more column, e.

    Attributes:
        all_rows: of n problems.
        room: `[2, n, D]`, how far each pixel can rise and fall.
    """

    all_rows: Rows
    room: np.ndarray

    def start(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        up, down = self.room
        perturbation = (up - down) / 8
        largest = np.abs(perturbation).max(axis=1, keepdims=True) + self.room.max() / 4
        count, num_pixels = up.shape
        length = np.abs(self.all_rows.weights).sum(axis=0).max()
        lam = np.full((count, self.all_rows.weights.shape[1]), 0.03 / max(length, 1e-300))
        row = self.all_rows.combine(lam)
        duals = np.empty((4, count, num_pixels))
        duals[:2] = 0.5 / num_pixels
        duals[2] = np.maximum(row, 0) + 0.1 / num_pixels
        duals[3] = np.maximum(-row, 0) + 0.1 / num_pixels
        return np.concatenate([perturbation, largest], axis=1), duals, lam

    def slacks(self, point: np.ndarray) -> np.ndarray:
        slacks = self.change(point)
        slacks[2:] += self.room
        return slacks

    def change(self, direction: np.ndarray) -> np.ndarray:
        perturbation, largest = direction[:, :-1], direction[:, -1:]
        change = np.empty((4, *perturbation.shape))
        np.subtract(largest, perturbation, out=change[0])
        np.add(largest, perturbation, out=change[1])
        np.negative(perturbation, out=change[2])
        change[3] = perturbation
        return change

    def rows(self, point: np.ndarray) -> np.ndarray:
        return self.all_rows.apply(point[:, :-1])

    def cost(self, point: np.ndarray) -> np.ndarray:
        return point[:, -1]

    def most(self, multipliers: np.ndarray) -> np.ndarray:
        row = self.all_rows.combine(multipliers)
        return np.maximum(row * self.room[0], -row * self.room[1]).sum(axis=1)

    def reduce(self, scaling: np.ndarray) -> _LinfReduced:
        return _LinfReduced(self.all_rows, scaling)

    def take(self, keep: np.ndarray) -> LinfForm:
        return LinfForm(self.all_rows.take(keep), self.room[:, keep])


class _LinfReduced:
    def __init__(self, rows: Rows, scaling: np.ndarray) -> None:
        ball, box = scaling[0] + scaling[1], scaling[2] + scaling[3]
        give = np.reciprocal(ball + box)
        self._rows, self._give = rows, give
        self._tilt = (scaling[0] - scaling[1]) * give
        # Sum of ball - tilt^2 / give without its cancellation.
        stiffness = (ball * box + 4 * scaling[0] * scaling[1]) * give
        self._stiffness = stiffness.sum(axis=1)
        self._lift = rows.apply(self._tilt)
        self.matrix = rows.gram(give)
        self.matrix += (
            self._lift[:, :, np.newaxis]
            * self._lift[:, np.newaxis, :]
            / self._stiffness[:, np.newaxis, np.newaxis]
        )

    def pulled(self, pull: np.ndarray) -> tuple[np.ndarray, Finish]:
        net = pull[0] - pull[1]
        net += pull[2]
        net -= pull[3]
        wish = (pull[0] + pull[1]).sum(axis=1) - np.einsum("nd,nd->n", self._tilt, net)
        net *= self._give
        taken = self._lift * (wish / self._stiffness)[:, np.newaxis] - self._rows.apply(net)

        def finish(multipliers: np.ndarray) -> np.ndarray:
            rise = wish + np.einsum("nk,nk->n", self._lift, multipliers)
            largest = (rise / self._stiffness)[:, np.newaxis]
            move = self._rows.combine(multipliers)
            move *= self._give
            move -= net
            move += self._tilt * largest
            return np.concatenate([move, largest], axis=1)

        return taken, finish


@dataclasses.dataclass(frozen=True)
class QuadraticForm:
    """min 1/2 ||d||^2 inside the rooms; v is d.

    Attributes:
        all_rows: of n problems.
        room: `[2, n, D]`, how far each pixel can rise and fall.
    """

    all_rows: Rows
    room: np.ndarray

    def start(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        up, down = self.room
        point = (up - down) / 4
        lam = np.full((len(up), self.all_rows.weights.shape[1]), 0.1)
        pull = self.all_rows.combine(lam) - point
        duals = np.stack([np.maximum(pull, 0), np.maximum(-pull, 0)]) + 0.1
        return point, duals, lam

    def slacks(self, point: np.ndarray) -> np.ndarray:
        return self.room + self.change(point)

    def change(self, direction: np.ndarray) -> np.ndarray:
        return np.stack([-direction, direction])

    def rows(self, point: np.ndarray) -> np.ndarray:
        return self.all_rows.apply(point)

    def cost(self, point: np.ndarray) -> np.ndarray:
        return 0.5 * np.einsum("nd,nd->n", point, point)

    def most(self, multipliers: np.ndarray) -> np.ndarray:
        row = self.all_rows.combine(multipliers)
        return np.maximum(row * self.room[0], -row * self.room[1]).sum(axis=1)

    def reduce(self, scaling: np.ndarray) -> _QuadraticReduced:
        return _QuadraticReduced(self.all_rows, 1 / (1 + scaling[0] + scaling[1]))

    def take(self, keep: np.ndarray) -> QuadraticForm:
        return QuadraticForm(self.all_rows.take(keep), self.room[:, keep])


class _QuadraticReduced:
    def __init__(self, rows: Rows, give: np.ndarray) -> None:
        self._rows, self._give = rows, give
        self.matrix = rows.gram(give)

    def pulled(self, pull: np.ndarray) -> tuple[np.ndarray, Finish]:
        net = pull[1] - pull[0]

        def finish(multipliers: np.ndarray) -> np.ndarray:
            return self._give * (self._rows.combine(multipliers) + net)

        return self._rows.apply(self._give * net), finish


@dataclasses.dataclass(frozen=True)
class ColumnForm:
    """min costs . v with 0 <= v <= room: each column is one pixel moved one way.

    Attributes:
        columns: `[n, m, K]`, what one unit of each column adds to the rows.
        room: `[n, m]`, positive.
        costs: `[n, m]`, positive; 1 for the L1 norm.
    """

    columns: np.ndarray
    room: np.ndarray
    costs: np.ndarray

    def start(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        largest = np.abs(self.columns / self.costs[:, :, np.newaxis]).max(axis=(1, 2))
        lam = np.full((len(self.room), self.columns.shape[2]), 0.1)
        lam /= np.maximum(largest, 1e-200)[:, np.newaxis]
        row = self._combine(lam)
        upper = np.maximum(row - self.costs, 0) + 0.1 * self.costs
        return self.room / 2, np.stack([self.costs + upper - row, upper]), lam

    def slacks(self, point: np.ndarray) -> np.ndarray:
        return np.stack([point, self.room - point])

    def change(self, direction: np.ndarray) -> np.ndarray:
        return np.stack([direction, -direction])

    def rows(self, point: np.ndarray) -> np.ndarray:
        return np.matmul(point[:, np.newaxis], self.columns)[:, 0]

    def cost(self, point: np.ndarray) -> np.ndarray:
        return np.einsum("nm,nm->n", self.costs, point)

    def most(self, multipliers: np.ndarray) -> np.ndarray:
        return (np.maximum(self._combine(multipliers), 0) * self.room).sum(axis=1)

    def reduce(self, scaling: np.ndarray) -> _ColumnReduced:
        return _ColumnReduced(self, 1 / (scaling[0] + scaling[1]))

    def take(self, keep: np.ndarray) -> ColumnForm:
        return ColumnForm(self.columns[keep], self.room[keep], self.costs[keep])

    def _combine(self, multipliers: np.ndarray) -> np.ndarray:
        return np.matmul(self.columns, multipliers[:, :, np.newaxis])[:, :, 0]


class _ColumnReduced:
    def __init__(self, form: ColumnForm, give: np.ndarray) -> None:
        self._form, self._give = form, give
        scaled = form.columns * give[:, :, np.newaxis]
        self.matrix = np.matmul(scaled.transpose(0, 2, 1), form.columns)

    def pulled(self, pull: np.ndarray) -> tuple[np.ndarray, Finish]:
        net = pull[0] - pull[1]

        def finish(multipliers: np.ndarray) -> np.ndarray:
            return self._give * (self._form._combine(multipliers) + net)

        return self._form.rows(self._give * net), finish
