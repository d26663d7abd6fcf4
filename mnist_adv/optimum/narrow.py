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

from mnist_adv.optimum.ball import BallForm
from mnist_adv.optimum.interior import State
from mnist_adv.optimum.rows import Columns, Rows

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


def narrow(state: State, num_kept: int) -> tuple[State, Decided]:
    """Continue with the undecided pixels only.

    Args:
        state: of problems over all pixels.
        num_kept: how many pixels to keep beside those with two bounds on one side.

    Returns:
        The state over the pixels kept, numbered from 0, and what became of the others.
    """
    form = state.form
    if not isinstance(form, BallForm) or not isinstance(form.all_rows, Rows):
        raise TypeError(f"only a BallForm over all pixels can be narrowed. Received: {form!r}")
    rows, index = form.all_rows, np.arange(len(state.lam))
    row = rows.combine(state.lam)
    doubt = np.abs(row)
    for side in (0, 1):
        np.put_along_axis(doubt, form.extra[side], -1.0, axis=1)
    kept = np.argpartition(doubt, num_kept + 2 * form.extra.shape[2] - 1, axis=1)
    kept = kept[:, : num_kept + 2 * form.extra.shape[2]]
    ways = np.sign(row)
    np.put_along_axis(ways, kept, 0.0, axis=1)
    upward = ways > 0
    by_e = ways * np.where(upward, form.ball[0], form.ball[1])
    fixed = (ways - by_e) * np.where(upward, form.room[0], form.room[1])
    place = np.empty(row.shape, np.int64)
    np.put_along_axis(place, kept, np.arange(kept.shape[1])[np.newaxis], axis=1)
    room = np.take_along_axis(form.room, kept[np.newaxis], axis=2)
    ball = np.take_along_axis(form.ball, kept[np.newaxis], axis=2)
    up, down, above, below = form.parts(form.base)
    base = [_pick(up, kept), _pick(down, kept), above, below]
    smaller = BallForm(
        Columns(rows.columns(kept)),
        room,
        form.sure,
        form.trusted,
        ball,
        np.take_along_axis(place[np.newaxis], form.extra, axis=2),
        np.concatenate(base, axis=1)[np.newaxis],
        rows.apply(by_e),
        rows.apply(fixed),
    )
    up, down, above, below = form.parts(state.duals)
    sides = np.stack([_pick(up, kept), _pick(down, kept)])
    # What e's bounds on the others had to spare goes to those kept: the dual stays feasible.
    spare = 1 - (smaller.ride * state.lam).sum(axis=1) - np.einsum("snd,snd->n", sides, ball)
    sides += (np.maximum(spare, 0) / np.maximum(ball.sum(axis=(0, 2)), 1))[:, np.newaxis]
    point = np.concatenate([_pick(state.point[:, :-1], kept), state.point[:, -1:]], axis=1)
    duals = np.concatenate([*sides, above, below], axis=1)[np.newaxis]
    narrowed = State(index, smaller, state.needs, point, duals, state.lam, state.over)
    return narrowed, Decided(rows, kept, by_e, fixed, ways)


def _pick(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return np.take_along_axis(values, kept, axis=1)
