"""Leave the pixels that are decided out of a half-solved L-inf problem.

The combined row c says which way each pixel goes, by e or to the end of its room; where c is near
zero it is undecided. After a few iterations of the interior-point method the order of |c| is known
well enough to keep the least of them and let all others ride along with e: they cost nothing more,
but for a sum. That they were rightly left out is seen at the end, where the final c must send each
of them the way it went.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mnist_adv.optimum.solvers.linf_form import BallForm
from mnist_adv.optimum.solvers.interior_point import Form, State
from mnist_adv.optimum.constraints import Columns, Rows

_OFF = 1e-6  # of the way between two bounds, kept from either
_WRONG = 1e-8  # share of e that pixels which went the wrong way may cost


@dataclasses.dataclass(frozen=True)
class Decided:
    """Which pixels are left out, and how they go.

    Attributes:
        rows: of n problems, over all D pixels.
        kept: `[n, m]`, the pixels that are still part of the problem.
        by_e: `[n, D]`, 1, -1 or 0: the others' moves per unit of e ...
        fixed: `[n, D]`, ... and besides.
        ways: `[n, D]`, which way each of them goes; 0 for those kept.
    """

    rows: Rows
    kept: np.ndarray
    by_e: np.ndarray
    fixed: np.ndarray
    ways: np.ndarray

    def widen(self, points: np.ndarray) -> np.ndarray:
        """Put the pixels that were left out back: `[n, m + 1]` -> `[n, D + 1]`."""
        largest = points[:, -1:]
        moves = self.by_e * largest + self.fixed
        np.put_along_axis(moves, self.kept, points[:, :-1], axis=1)
        return np.concatenate([moves, largest], axis=1)

    def right(self, multipliers: np.ndarray) -> np.ndarray:
        """Whether the multipliers send the pixels that were left out the way they went: `[n]`."""
        wrong = np.maximum(-self.ways * self.rows.combine(multipliers), 0)
        return 2 * wrong.sum(axis=1) <= _WRONG


def rough(state: State) -> State:
    """Round all that is as wide as an image to float32: enough to see which pixels are in doubt."""
    form, rows = _whole(state.form)
    return dataclasses.replace(
        state,
        form=dataclasses.replace(
            form,
            all_rows=Rows(
                rows.weights.astype(np.float32), rows.products.astype(np.float32), rows.targets
            ),
            room=form.room.astype(np.float32),
            ball=form.ball.astype(np.float32),
            base=form.base.astype(np.float32),
        ),
        point=state.point.astype(np.float32),
        duals=state.duals.astype(np.float32),
    )


def narrow(state: State, form: BallForm, num_kept: int) -> tuple[State, Decided]:
    """Continue with the undecided pixels only, in float64.

    Args:
        state: of problems over all pixels, exact or rough.
        form: of these problems, exact.
        num_kept: how many pixels to keep beside those with two bounds on one side.

    Returns:
        The state over the pixels kept, numbered from 0, and what became of the others.
    """
    form, rows = _whole(form)
    row = rows.combine(state.lam)
    doubt = np.abs(row)
    for side in (0, 1):
        np.put_along_axis(doubt, form.extra[side], -1.0, axis=1)
    num_kept += 2 * form.extra.shape[2]
    kept = np.argpartition(doubt, num_kept - 1, axis=1)[:, :num_kept]
    ways = np.sign(row)
    np.put_along_axis(ways, kept, 0.0, axis=1)
    upward = ways > 0
    by_e = ways * np.where(upward, form.ball[0], form.ball[1])
    fixed = (ways - by_e) * np.where(upward, form.room[0], form.room[1])
    place = np.empty(row.shape, np.int64)
    np.put_along_axis(place, kept, np.arange(num_kept)[np.newaxis], axis=1)
    up, down, above, below = form.parts(form.base)
    base = np.concatenate([_pick(up, kept), _pick(down, kept), above, below], axis=1)
    smaller = BallForm(
        Columns(rows.columns(kept)),
        np.take_along_axis(form.room, kept[np.newaxis], axis=2),
        form.sure,
        form.trusted,
        np.take_along_axis(form.ball, kept[np.newaxis], axis=2),
        np.take_along_axis(place[np.newaxis], form.extra, axis=2),
        base[np.newaxis],
        rows.apply(by_e),
        rows.apply(fixed),
    )
    point, duals = state.point.astype(np.float64), state.duals.astype(np.float64)
    duals, lam = _feasible(smaller, form.parts(duals), kept, _pick(row, kept), state.lam)
    narrowed = State(
        np.arange(len(row)),
        smaller,
        state.needs,
        _inside(smaller, _pick(point[:, :-1], kept), point[:, -1:]),
        duals,
        lam,
        state.over,
    )
    return narrowed, Decided(rows, kept, by_e, fixed, ways)


def _whole(form: Form) -> tuple[BallForm, Rows]:
    if not isinstance(form, BallForm) or not isinstance(form.all_rows, Rows):
        raise TypeError(f"only a BallForm over all pixels can be narrowed. Received: {form!r}")
    return form, form.all_rows


def _inside(form: BallForm, moves: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Keep v off its bounds, where float32 may have put it."""
    high, low = np.where(form.ball > 0, np.minimum(form.room, largest), form.room)
    off = _OFF * (high + low)
    return np.concatenate([np.clip(moves, off - low, high - off), largest], axis=1)


def _feasible(
    form: BallForm,
    duals: tuple[np.ndarray, ...],
    kept: np.ndarray,
    row: np.ndarray,
    lam: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Make the multipliers of the bounds kept, and of the rows, meet the dual equations again."""
    up, down, above, below = duals
    sides = np.stack([_pick(up, kept), _pick(down, kept)])
    net = sides[0] - sides[1]
    form.add(net, 0, above)
    form.add(net, 1, -below)
    sides += np.maximum([row - net, net - row], 0)
    spare = 1 - (form.ride * lam).sum(axis=1) - np.einsum("snd,snd->n", sides, form.ball)
    # What e's bounds on the others had to spare goes to those kept; or all pay for what is missing.
    sides += (np.maximum(spare, 0) / np.maximum(form.ball.sum(axis=(0, 2)), 1))[:, np.newaxis]
    scale = 1 / (1 + np.maximum(-spare, 0))[:, np.newaxis]
    return np.concatenate([*sides, above, below], axis=1)[np.newaxis] * scale, lam * scale


def _pick(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return np.take_along_axis(values, kept, axis=1)
