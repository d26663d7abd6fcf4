"""Margins of ReLU networks over L-inf and L1 balls as mixed-integer linear programs, by HiGHS.

A neuron with value z before ReLU, `l <= z <= u` and l < 0 < u, is h = max(z, 0) exactly if a binary
a exists with

    h >= 0,  h >= z,  h <= u a,  h <= z - l (1 - a),

and m = max_i z_i if binaries a_i exist whose sum is 1, with

    m >= z_i,  m <= z_i + (max_j u_j - l_i) (1 - a_i).

The tighter l and u are, the faster the program is solved. HiGHS works with tolerances, and on the
network without rounding: what it says of a margin is a claim, and no proof. What it claims to be
above 0 is proved by branching (`branching.py`), whose cases a checker can follow; what it finds
below 0 is an image, which is classified again.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.optimize
import scipy.sparse

from mnist_adv.certification.branching import Brancher, Search, Whole
from mnist_adv.certification.network import Network
from mnist_adv.certification.propagation import Interval, Propagation
from mnist_adv.certification.read_model import logits_of
from mnist_adv.certification.region import Ball, Region
from mnist_adv.geometry.norms import Norm

_NORMS = (Norm.LINF, Norm.L1)
_KINDS = ("relu", "maximum")
_LARGEST = 20_000  # of all hidden neurons
# Relative, between both bounds of a minimum: below 1 they are on one side of 0, and that decides.
_GAP = 1 - 1e-6
# Of the time: for branching before HiGHS is asked, and for proving what HiGHS claims.
_BEFORE, _AFTER = 0.5, 0.25
Part = tuple[np.ndarray, Any]  # variables, and the matrix that their values are multiplied by


@dataclasses.dataclass(frozen=True)
class Answer:
    """What HiGHS says of a margin.

    Attributes:
        bound: the least that it can be, as HiGHS claims; minus infinity where it claims nothing.
        image: `[D]` float64 inside ball and box, the one that HiGHS found; the centre if none.
        margin: of this image, computed by the network.
    """

    bound: float
    image: np.ndarray
    margin: float


def require_linear(network: Network, norm: Norm) -> None:
    """Refuse what is no mixed-integer linear program, or none that could be solved.

    Args:
        network: as read.
        norm: of the ball.

    Raises:
        ValueError: the norm is not linear; a nonlinearity is neither ReLU nor a maximum; there are
            too many neurons.
    """
    if norm not in _NORMS:
        raise ValueError(
            "method milp needs norm linf or l1, whose balls have linear constraints. "
            f"Received: {norm.value!r}"
        )
    if not set(network.kinds) <= set(_KINDS):
        raise ValueError(
            "method milp needs ReLU or maxima between affine layers, which binary variables make "
            f"exact. Received: {', '.join(network.kinds)}"
        )
    size = sum(segment.out_size for segment in network.segments[:-1])
    if size > _LARGEST:
        raise ValueError(
            f"method milp needs at most {_LARGEST:,} hidden neurons. Received: {size:,}"
        )


def search(
    propagation: Propagation, brancher: Brancher, whole: Whole, rows: np.ndarray, seconds: float
) -> Search:
    """Bound margins from below by branching, and by HiGHS which of them branching can prove at all.

    What branching leaves open after a part of the time, HiGHS minimises, margin by margin, until
    one is below 0; if none is, branching goes on for the rest of the time.

    Args:
        propagation: through a network and over a ball that `require_linear` allows.
        brancher: of it.
        whole: what is known of the region.
        rows: `[m, k]` float64, which make margins of logits.
        seconds: above 0.

    Returns:
        What was proved, and the image with the least margin that was met.
    """
    until = brancher.clock() + seconds
    found = brancher.search(whole, rows, _BEFORE * seconds, keep=True)
    if found.margin < 0 or found.bounds.min() > 0:
        return found
    program = Program(propagation.network, propagation.ball, whole.region, whole.intervals)
    left = [place for place in found.bounds.argsort() if found.bounds[place] <= 0]
    for number, place in enumerate(left):
        share = (until - _AFTER * seconds - brancher.clock()) / (len(left) - number)
        if share <= 0:
            break
        answer = program.minimise(rows[place], share)
        if answer.margin < found.margin:
            found = dataclasses.replace(found, image=answer.image, margin=answer.margin)
        if found.margin < 0:
            return found
    return brancher.search(whole, rows, until - brancher.clock(), start=found)


class Program:
    """A network over one region as linear constraints and binaries, for any margin.

    Args:
        network: as `require_linear` allows it.
        ball: L-inf or L1.
        region: of one image.
        intervals: that hold after every segment.

    Attributes:
        num_binaries: how many choices there are.
    """

    def __init__(
        self, network: Network, ball: Ball, region: Region, intervals: Sequence[Interval]
    ) -> None:
        self._network, self._ball, self._region = network, ball, region
        variables, rows = _Variables(), _Rows()
        pixels, falls, rises = (np.asarray(part)[0] for part in region[:3])
        self._one = variables.add(np.ones(1), np.ones(1))
        if ball.norm is Norm.LINF:
            self._moves = [(variables.add(-falls, rises), 1.0)]
        else:
            ends = (rises, 1.0), (falls, -1.0)
            self._moves = [(variables.add(0 * end, end), sign) for end, sign in ends]
            ones = scipy.sparse.csr_array(np.ones((1, len(pixels))))
            rows.add(0.0, np.asarray(region.epsilon)[0], [(part, ones) for part, _ in self._moves])
        maps = _affine_maps(network)
        matrix, bias = maps[0]
        parts = [(moves, sign * matrix) for moves, sign in self._moves]
        shift = matrix @ pixels + bias
        layers = zip(network.kinds, network.windows, intervals, maps[1:])
        for kind, window, interval, (matrix, bias) in layers:
            low, high = np.asarray(interval.lower)[0], np.asarray(interval.upper)[0]
            if kind == "relu":
                after = _add_relu(variables, rows, parts, shift, low, high)
            else:
                after = _add_maximum(variables, rows, parts, shift, low, high, window)
            parts, shift = [(after, matrix)], bias
        self._logits, self._shift = parts, shift
        self._integral = np.concatenate(variables.integral)
        self.num_binaries = int(self._integral.sum())
        self._bounds = scipy.optimize.Bounds(
            np.concatenate(variables.lower), np.concatenate(variables.upper)
        )
        self._constraints = rows.constraints(len(self._integral))

    def minimise(self, row: np.ndarray, seconds: float) -> Answer:
        """Minimise a margin, until it is known on which side of 0 its minimum is, or time is up.

        Args:
            row: `[k]` float64, which makes the margin of logits.
            seconds: above 0.

        Returns:
            Bounds of the minimum from both sides: HiGHS' claim, and an image's margin.

        References:
            Tjeng, Xiao, Tedrake, "Evaluating Robustness of Neural Networks with Mixed Integer
            Programming", 2019. Huangfu, Hall, "Parallelizing the dual revised simplex method",
            2018 (HiGHS).
        """
        cost = np.zeros(len(self._integral))
        for columns, matrix in self._logits:
            cost[columns] = row @ matrix
        cost[self._one] = row @ self._shift  # a relative gap needs all of the margin
        answer = scipy.optimize.milp(
            cost,
            integrality=self._integral,
            bounds=self._bounds,
            constraints=self._constraints,
            options={"time_limit": seconds, "mip_rel_gap": _GAP},
        )
        pixels, falls, rises = (np.asarray(part)[0] for part in self._region[:3])
        image = pixels
        if answer.x is not None:
            image = pixels + sum(sign * answer.x[moves] for moves, sign in self._moves)
            image = np.clip(image, pixels - falls, pixels + rises)
        images = self._ball.inside(self._region, image[np.newaxis])
        margin = float(np.asarray(logits_of(self._network, images))[0] @ row)
        bound = -np.inf if answer.mip_dual_bound is None else float(answer.mip_dual_bound)
        return Answer(bound, np.asarray(images)[0], margin)


class _Variables:
    """Variables with their bounds, as they are added."""

    def __init__(self) -> None:
        self.lower: list[np.ndarray] = []
        self.upper: list[np.ndarray] = []
        self.integral: list[np.ndarray] = []

    def add(self, lower: np.ndarray, upper: np.ndarray, *, integral: bool = False) -> np.ndarray:
        first = sum(map(len, self.lower))
        self.lower.append(lower)
        self.upper.append(upper)
        self.integral.append(np.full(len(lower), int(integral)))
        return np.arange(first, first + len(lower))

    def add_binaries(self, count: int) -> np.ndarray:
        return self.add(np.zeros(count), np.ones(count), integral=True)


class _Rows:
    """Linear constraints, as they are added."""

    def __init__(self) -> None:
        self._low: list[Any] = []
        self._high: list[Any] = []
        self._parts: list[Sequence[Part]] = []

    def add(self, low: Any, high: Any, parts: Sequence[Part]) -> None:
        count = parts[0][1].shape[0]
        self._low.append(np.broadcast_to(low, (count,)))
        self._high.append(np.broadcast_to(high, (count,)))
        self._parts.append(parts)

    def constraints(self, num_variables: int) -> list[Any]:
        if not self._parts:
            return []
        matrices = []
        for parts in self._parts:
            data = [scipy.sparse.coo_array(matrix) for _, matrix in parts]
            places = [columns[each.coords[1]] for (columns, _), each in zip(parts, data)]
            matrices.append(
                scipy.sparse.csr_array(
                    (
                        np.concatenate([each.data for each in data]),
                        (np.concatenate([each.coords[0] for each in data]), np.concatenate(places)),
                    ),
                    shape=(data[0].shape[0], num_variables),
                )
            )
        low, high = np.concatenate(self._low), np.concatenate(self._high)
        return [scipy.optimize.LinearConstraint(scipy.sparse.vstack(matrices), low, high)]


def _add_relu(
    variables: _Variables,
    rows: _Rows,
    parts: Sequence[Part],
    shift: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:
    """Add what is after a ReLU; the values before it are `parts + shift`."""
    after = variables.add(np.maximum(low, 0), np.maximum(high, 0))
    active, unstable = np.flatnonzero(low >= 0), np.flatnonzero((low < 0) & (high > 0))
    identity = scipy.sparse.eye_array(len(active))
    rows.add(shift[active], shift[active], [(after[active], identity), *_rows_of(parts, active)])
    low, high, after_these = low[unstable], high[unstable], after[unstable]
    before = _add_values(variables, rows, parts, shift, unstable, (low, high))
    choice = variables.add_binaries(len(unstable))
    identity = scipy.sparse.eye_array(len(unstable))
    difference = [(after_these, identity), (before, -identity)]
    rows.add(0.0, np.inf, difference)
    rows.add(-np.inf, 0.0, [(after_these, identity), (choice, -scipy.sparse.diags_array(high))])
    rows.add(-np.inf, -low, [*difference, (choice, -scipy.sparse.diags_array(low))])
    return after


def _add_maximum(
    variables: _Variables,
    rows: _Rows,
    parts: Sequence[Part],
    shift: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    window: int,
) -> np.ndarray:
    """Add the maxima of windows of values; the values are `parts + shift`."""
    least, most = (ends.reshape(-1, window).max(axis=1) for ends in (low, high))
    after = variables.add(least, most)
    wins = np.flatnonzero(high.reshape(-1, window) >= least[:, np.newaxis])
    place = wins // window  # of each value that may be the largest one of its window
    before = _add_values(variables, rows, parts, shift, wins, (low[wins], high[wins]))
    choice = variables.add_binaries(len(wins))
    here = np.arange(len(wins))
    of_window = scipy.sparse.csr_array(
        (np.ones(len(wins)), (place, here)), shape=(len(after), len(wins))
    )
    rows.add(1.0, 1.0, [(choice, of_window)])
    spread, identity = of_window.T, scipy.sparse.eye_array(len(wins))
    difference = [(after, spread), (before, -identity)]
    rows.add(0.0, np.inf, difference)
    reach = most[place] - low[wins]
    rows.add(-np.inf, reach, [*difference, (choice, scipy.sparse.diags_array(reach))])
    return after


def _add_values(
    variables: _Variables,
    rows: _Rows,
    parts: Sequence[Part],
    shift: np.ndarray,
    which: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Add some values before a nonlinearity as variables."""
    before = variables.add(*ends)
    identity = scipy.sparse.eye_array(len(which))
    rows.add(shift[which], shift[which], [(before, identity), *_rows_of(parts, which)])
    return before


def _rows_of(parts: Sequence[Part], which: np.ndarray) -> list[Part]:
    """Take some rows of a sum of products, to the other side of an equation."""
    return [(columns, -matrix[which]) for columns, matrix in parts]


@functools.lru_cache(maxsize=4)
def _affine_maps(network: Network) -> list[tuple[Any, np.ndarray]]:
    """Write every segment as one sparse matrix and a bias."""
    return [
        (
            functools.reduce(
                lambda before, after: after @ before, [step[0] for step in segment.matrices()]
            ).tocsr(),
            segment.bias,
        )
        for segment in network.segments
    ]
