"""The L-inf problem as `interior_point.py` solves it: one bound for nearly every pixel side."""

from __future__ import annotations

import dataclasses

import numpy as np
from typing_extensions import override

from mnist_adv.optimum.constraints import Constraints, box_support
from mnist_adv.optimum.solvers.interior_point import Finish, Form, Reduced

_DUAL_SHARE = 0.5  # of the 1 to which the dual variables of e add, what the first ones take
_OTHER_DUALS = 0.1  # what the other constraints get of the largest of them
_OFF_CENTER = 0.25  # how far the first point is from the middle, as a share of half the range
_FIRST_E = 2.0  # the first e, in units of its lower bound


@dataclasses.dataclass(frozen=True)
class LinfForm(Form):
    """min e with -e <= d <= e inside the ranges; v is d and, as one more column, e.

    Each side of each pixel has one bound, by e or by its range. Where both may matter, the range
    has a second slack behind those of all pixels. All slacks of a problem lie in one array row.

    Attributes:
        constraints: of n problems.
        ranges: `[2, n, D]`, how far each pixel can rise and fall.
        e_lower: `[n]`, what e is at least.
        initial_duals: `[n, K]`, dual variables to start from.
        bounded_by_e: `[2, n, D]`, 1 where e bounds that side, 0 where its range does.
        twice_bounded: `[2, n, m]`, the pixels that their ranges bound besides.
        constant: `[1, n, 2 D + 2 m]`, what the slacks are at v = 0.
    """

    constraints: Constraints
    ranges: np.ndarray
    e_lower: np.ndarray
    initial_duals: np.ndarray
    bounded_by_e: np.ndarray
    twice_bounded: np.ndarray
    constant: np.ndarray

    @override
    def start(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        lam = self.initial_duals + _OTHER_DUALS * self.initial_duals.max(axis=1, keepdims=True)
        coefficients = self.constraints.combine(lam)
        sides = np.stack([np.maximum(coefficients, 0), np.maximum(-coefficients, 0)])
        # The dual variables of e's bounds must add to 1.
        spent = np.einsum("snd,snd->n", sides, self.bounded_by_e)[:, np.newaxis]
        scale = _DUAL_SHARE / np.where(spent > 0, spent, sides.sum(axis=(0, 2))[:, np.newaxis])
        lam, sides = lam * scale, sides * scale
        shares = np.ones_like(sides)
        for side in (0, 1):
            # Balances the second bound's dual variable.
            self.add_at_twice_bounded(shares[1 - side], side, 1.0)
        total = np.einsum("snd,snd->n", shares, self.bounded_by_e)[:, np.newaxis]
        left = (1 - spent * scale) / total
        behind = np.broadcast_to(left, (len(left), 2 * self.twice_bounded.shape[2]))
        duals = np.concatenate([*(sides + shares * left), behind], axis=1)[np.newaxis]
        e = _FIRST_E * self.e_lower[:, np.newaxis]
        high, low = np.minimum(self.ranges, e)
        point = (high - low) / 2 + _OFF_CENTER * np.sign(coefficients) * (high + low) / 2
        return np.concatenate([point, e], axis=1), duals, lam

    @override
    def slacks(self, point: np.ndarray) -> np.ndarray:
        slacks = self.change(point)
        slacks += self.constant
        return slacks

    @override
    def change(self, direction: np.ndarray) -> np.ndarray:
        move, e = direction[:, :-1], direction[:, -1:]
        change = np.empty_like(self.constant)
        up, down, above, below = self.parts(change)
        np.multiply(self.bounded_by_e[0], e, out=up)
        up -= move
        np.multiply(self.bounded_by_e[1], e, out=down)
        down += move
        index = np.arange(len(move))[:, np.newaxis]
        np.negative(move[index, self.twice_bounded[0]], out=above)
        below[:] = move[index, self.twice_bounded[1]]
        return change

    @override
    def constraint_values(self, point: np.ndarray) -> np.ndarray:
        return self.constraints.apply(point[:, :-1])

    @override
    def cost(self, point: np.ndarray) -> np.ndarray:
        return point[:, -1]

    @override
    def support(self, dual_variables: np.ndarray) -> np.ndarray:
        return box_support(self.constraints.combine(dual_variables), self.ranges)

    @override
    def reduce(self, scaling: np.ndarray) -> _LinfReduced:
        return _LinfReduced(self, scaling)

    @override
    def take(self, keep: np.ndarray) -> LinfForm:
        return LinfForm(
            self.constraints.take(keep),
            self.ranges[:, keep],
            self.e_lower[keep],
            self.initial_duals[keep],
            self.bounded_by_e[:, keep],
            self.twice_bounded[:, keep],
            self.constant[:, keep],
        )

    def parts(self, slacks: np.ndarray) -> tuple[np.ndarray, ...]:
        """Split slacks into views.

        Args:
            slacks: `[1, n, 2 D + 2 m]`.

        Returns:
            Up and down of all pixels, `[n, D]` each, then above and below of those that have a
            second bound, `[n, m]` each.
        """
        first = self.ranges.shape[2]
        third = 2 * first + self.twice_bounded.shape[2]
        one = slacks[0]
        return one[:, :first], one[:, first : 2 * first], one[:, 2 * first : third], one[:, third:]

    def add_at_twice_bounded(
        self, pixels: np.ndarray, side: int, values: np.ndarray | float
    ) -> None:
        """Add to the pixels that have a second bound on one side.

        Args:
            pixels: `[n, D]`, changed in place.
            side: 0 above, 1 below.
            values: `[n, m]`, or one number.
        """
        pixels[np.arange(len(pixels))[:, np.newaxis], self.twice_bounded[side]] += values


def make_linf_form(
    constraints: Constraints,
    ranges: np.ndarray,
    initial_duals: np.ndarray,
    e_lower: np.ndarray,
    e_upper: np.ndarray,
) -> LinfForm:
    """Set up problems whose e lies between two numbers.

    Args:
        constraints: of n problems.
        ranges: `[2, n, D]`.
        initial_duals: `[n, K]`, dual variables to start from.
        e_lower: `[n]`, below e, positive.
        e_upper: `[n]`; answers with a larger e are not to be used.

    Returns:
        The form.
    """
    bounds_e = ranges > e_lower[:, np.newaxis]
    both = bounds_e & (ranges < e_upper[:, np.newaxis])
    num_twice = int(both.sum(axis=2).max(initial=0))
    # A problem with fewer of them gets other ranges besides: a bound may be stated twice.
    twice_bounded = np.argpartition(~both, max(num_twice - 1, 0), axis=2)[:, :, :num_twice]
    bounded_by_e = bounds_e.astype(np.float64)
    own = np.take_along_axis(ranges, twice_bounded, axis=2)
    constant = np.concatenate([*(ranges * (1 - bounded_by_e)), *own], axis=1)[np.newaxis]
    return LinfForm(
        constraints, ranges, e_lower, initial_duals, bounded_by_e, twice_bounded, constant
    )


class _LinfReduced(Reduced):
    def __init__(self, form: LinfForm, scaling: np.ndarray) -> None:
        up, down, above, below = form.parts(scaling)
        rise, fall = up * form.bounded_by_e[0], down * form.bounded_by_e[1]
        bounded_by_e = rise + fall
        box = up - rise
        box += down
        box -= fall
        form.add_at_twice_bounded(box, 0, above)
        form.add_at_twice_bounded(box, 1, below)
        inverse_hessian = np.reciprocal(bounded_by_e + box)
        self._form, self._inverse_hessian = form, inverse_hessian
        self._e_coupling = rise - fall
        self._e_coupling *= inverse_hessian
        # sum(h - (rise - fall)^2 / (h + box)) with h = rise + fall, without its cancellation.
        bounded_by_e *= box
        rise *= fall
        rise *= 4
        bounded_by_e += rise
        self._e_curvature = np.einsum("nd,nd->n", bounded_by_e, inverse_hessian)
        self._e_gain = form.constraints.apply(self._e_coupling)
        self.matrix = form.constraints.gram(inverse_hessian)
        self.matrix += (
            self._e_gain[:, :, np.newaxis]
            * self._e_gain[:, np.newaxis, :]
            / self._e_curvature[:, np.newaxis, np.newaxis]
        )

    @override
    def eliminate(self, bound_rhs: np.ndarray) -> tuple[np.ndarray, Finish]:
        form = self._form
        up, down, above, below = form.parts(bound_rhs)
        net_rhs = up - down
        form.add_at_twice_bounded(net_rhs, 0, above)
        form.add_at_twice_bounded(net_rhs, 1, -below)
        e_rhs = np.einsum("nd,nd->n", up, form.bounded_by_e[0]) + np.einsum(
            "nd,nd->n", down, form.bounded_by_e[1]
        )
        e_rhs -= np.einsum("nd,nd->n", self._e_coupling, net_rhs)
        net_rhs *= self._inverse_hessian
        eliminated = self._e_gain * (e_rhs / self._e_curvature)[:, np.newaxis]
        eliminated -= form.constraints.apply(net_rhs)

        def finish(dual_variables: np.ndarray) -> np.ndarray:
            rise = e_rhs + np.einsum("nk,nk->n", self._e_gain, dual_variables)
            e = (rise / self._e_curvature)[:, np.newaxis]
            move = form.constraints.combine(dual_variables)
            move *= self._inverse_hessian
            move -= net_rhs
            move += self._e_coupling * e
            return np.concatenate([move, e], axis=1)

        return eliminated, finish
