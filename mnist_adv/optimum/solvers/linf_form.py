"""The L-inf problem as `interior.py` wants it, with one bound for nearly every side of a pixel."""

from __future__ import annotations

import dataclasses

import numpy as np

from mnist_adv.optimum.solvers.interior_point import Finish
from mnist_adv.optimum.constraints import Rows, most

_TRUST = 0.5  # share of the dual budget that the first multipliers take
_OTHERS = 0.1  # what the other rows get of the largest of them
_LEAN = 0.25  # how far the first point leans from the middle towards the multipliers' side
_LARGER = 2.0  # the first e, in units of what it surely is


@dataclasses.dataclass(frozen=True)
class BallForm:
    """min e with -e <= d <= e inside the rooms; v is d and, as one more column, e.

    Each side of each pixel has one bound, by e or by its room. Where both may matter, the room has
    a second slack behind those of all pixels. All slacks of a problem lie in one row.

    Attributes:
        all_rows: of n problems.
        room: `[2, n, D]`, how far each pixel can rise and fall.
        sure: `[n]`, what e is at least.
        trusted: `[n, K]`, multipliers to start from.
        ball: `[2, n, D]`, 1 where e bounds that side, 0 where its room does.
        extra: `[2, n, m]`, the pixels that their rooms bound besides.
        base: `[1, n, 2 D + 2 m]`, what the slacks are at v = 0.
    """

    all_rows: Rows
    room: np.ndarray
    sure: np.ndarray
    trusted: np.ndarray
    ball: np.ndarray
    extra: np.ndarray
    base: np.ndarray

    def start(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        lam = self.trusted + _OTHERS * self.trusted.max(axis=1, keepdims=True)
        row = self.all_rows.combine(lam)
        sides = np.stack([np.maximum(row, 0), np.maximum(-row, 0)])
        # The multipliers of e's bounds must add to 1.
        spent = np.einsum("snd,snd->n", sides, self.ball)[:, np.newaxis]
        scale = _TRUST / np.where(spent > 0, spent, sides.sum(axis=(0, 2))[:, np.newaxis])
        lam, sides = lam * scale, sides * scale
        shares = np.ones_like(sides)
        for side in (0, 1):
            self.add(shares[1 - side], side, 1.0)  # balances the second bound's multiplier
        left = (1 - spent * scale) / np.einsum("snd,snd->n", shares, self.ball)[:, np.newaxis]
        behind = np.broadcast_to(left, (len(left), 2 * self.extra.shape[2]))
        duals = np.concatenate([*(sides + shares * left), behind], axis=1)[np.newaxis]
        largest = _LARGER * self.sure[:, np.newaxis]
        high, low = np.minimum(self.room, largest)
        point = (high - low) / 2 + _LEAN * np.sign(row) * (high + low) / 2
        return np.concatenate([point, largest], axis=1), duals, lam

    def slacks(self, point: np.ndarray) -> np.ndarray:
        slacks = self.change(point)
        slacks += self.base
        return slacks

    def change(self, direction: np.ndarray) -> np.ndarray:
        move, largest = direction[:, :-1], direction[:, -1:]
        change = np.empty_like(self.base)
        up, down, above, below = self.parts(change)
        np.multiply(self.ball[0], largest, out=up)
        up -= move
        np.multiply(self.ball[1], largest, out=down)
        down += move
        index = np.arange(len(move))[:, np.newaxis]
        np.negative(move[index, self.extra[0]], out=above)
        below[:] = move[index, self.extra[1]]
        return change

    def rows(self, point: np.ndarray) -> np.ndarray:
        return self.all_rows.apply(point[:, :-1])

    def cost(self, point: np.ndarray) -> np.ndarray:
        return point[:, -1]

    def most(self, multipliers: np.ndarray) -> np.ndarray:
        return most(self.all_rows.combine(multipliers), self.room)

    def reduce(self, scaling: np.ndarray) -> _BallReduced:
        return _BallReduced(self, scaling)

    def take(self, keep: np.ndarray) -> BallForm:
        return BallForm(
            self.all_rows.take(keep),
            self.room[:, keep],
            self.sure[keep],
            self.trusted[keep],
            self.ball[:, keep],
            self.extra[:, keep],
            self.base[:, keep],
        )

    def parts(self, slacks: np.ndarray) -> tuple[np.ndarray, ...]:
        """Split `[1, n, 2 D + 2 m]` into views: up, down, and behind them above and below."""
        first = self.room.shape[2]
        third = 2 * first + self.extra.shape[2]
        one = slacks[0]
        return one[:, :first], one[:, first : 2 * first], one[:, 2 * first : third], one[:, third:]

    def add(self, pixels: np.ndarray, side: int, values: np.ndarray | float) -> None:
        """Add values `[n, m]` to the pixels that have a second bound on that side."""
        pixels[np.arange(len(pixels))[:, np.newaxis], self.extra[side]] += values


def make_ball(
    rows: Rows, room: np.ndarray, trusted: np.ndarray, sure: np.ndarray, hoped: np.ndarray
) -> BallForm:
    """Set up problems whose e lies between two numbers.

    Args:
        rows: of n problems.
        room: `[2, n, D]`.
        trusted: `[n, K]`, multipliers to start from.
        sure: `[n]`, below e, positive.
        hoped: `[n]`; answers with a larger e are not to be used.

    Returns:
        The form.
    """
    is_ball = room > sure[:, np.newaxis]
    both = is_ball & (room < hoped[:, np.newaxis])
    num_extra = int(both.sum(axis=2).max(initial=0))
    # A problem with fewer of them gets other rooms besides: a bound twice is as true as once.
    extra = np.argpartition(~both, max(num_extra - 1, 0), axis=2)[:, :, :num_extra]
    ball = is_ball.astype(np.float64)
    own = np.take_along_axis(room, extra, axis=2)
    base = np.concatenate([*(room * (1 - ball)), *own], axis=1)[np.newaxis]
    return BallForm(rows, room, sure, trusted, ball, extra, base)


class _BallReduced:
    def __init__(self, form: BallForm, scaling: np.ndarray) -> None:
        up, down, above, below = form.parts(scaling)
        rise, fall = up * form.ball[0], down * form.ball[1]
        ball = rise + fall
        box = up - rise
        box += down
        box -= fall
        form.add(box, 0, above)
        form.add(box, 1, below)
        give = np.reciprocal(ball + box)
        self._form, self._give = form, give
        self._tilt = rise - fall
        self._tilt *= give
        # Sum of ball - tilt^2 / give without its cancellation.
        ball *= box
        rise *= fall
        rise *= 4
        ball += rise
        self._stiffness = np.einsum("nd,nd->n", ball, give)
        self._lift = form.all_rows.apply(self._tilt)
        self.matrix = form.all_rows.gram(give)
        self.matrix += (
            self._lift[:, :, np.newaxis]
            * self._lift[:, np.newaxis, :]
            / self._stiffness[:, np.newaxis, np.newaxis]
        )

    def pulled(self, pull: np.ndarray) -> tuple[np.ndarray, Finish]:
        form = self._form
        up, down, above, below = form.parts(pull)
        net = up - down
        form.add(net, 0, above)
        form.add(net, 1, -below)
        wish = np.einsum("nd,nd->n", up, form.ball[0]) + np.einsum("nd,nd->n", down, form.ball[1])
        wish -= np.einsum("nd,nd->n", self._tilt, net)
        net *= self._give
        taken = self._lift * (wish / self._stiffness)[:, np.newaxis] - form.all_rows.apply(net)

        def finish(multipliers: np.ndarray) -> np.ndarray:
            rise = wish + np.einsum("nk,nk->n", self._lift, multipliers)
            largest = (rise / self._stiffness)[:, np.newaxis]
            move = form.all_rows.combine(multipliers)
            move *= self._give
            move -= net
            move += self._tilt * largest
            return np.concatenate([move, largest], axis=1)

        return taken, finish
