"""The ball around a clean image, on the grid of 256 levels: what fits, and rounding into it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from mnist_adv.geometry.norms import Norm
from mnist_adv.verdict.judge import TOLERANCE

TOP = 255

# Norms add up over pixels, but for linf, which `GridBudget.clip` alone keeps.
_SPENT: dict[Norm, Callable[[np.ndarray], np.ndarray]] = {
    Norm.LINF: np.zeros_like,
    Norm.L2: np.square,
    Norm.L1: np.abs,
    Norm.L0: lambda difference: (difference != 0).astype(np.float64),
}
_ALLOWED: dict[Norm, Callable[[np.ndarray], np.ndarray]] = {
    Norm.LINF: np.zeros_like,
    Norm.L2: lambda epsilon: np.square(TOP * epsilon),
    Norm.L1: lambda epsilon: TOP * epsilon,
    Norm.L0: np.floor,
}


@dataclasses.dataclass(frozen=True)
class GridBudget:
    """The balls around some clean images.

    Attributes:
        origin: `[n, pixels]` float64, the clean images in levels, 0..255.
        norm: of the budget.
        epsilon: `[n]`, radii in pixel units; may be infinite.
    """

    origin: np.ndarray
    norm: Norm
    epsilon: np.ndarray

    def of(self, rows: np.ndarray) -> GridBudget:
        """Take some images' balls."""
        return GridBudget(self.origin[rows], self.norm, self.epsilon[rows])

    def lengths(self, levels: np.ndarray) -> np.ndarray:
        """Measure how far levels `[n, pixels]` are from the clean ones, `[n]` in pixel units."""
        if self.norm is Norm.LINF:
            return np.abs(levels - self.origin).max(axis=1) / TOP
        spent = self.spent(levels).sum(axis=1)
        if self.norm is Norm.L2:
            return np.sqrt(spent) / TOP
        return spent / TOP if self.norm is Norm.L1 else spent

    def holds(self, levels: np.ndarray) -> np.ndarray:
        """Say which images are inside, `[n]` bool."""
        return self.lengths(levels) <= self.epsilon + TOLERANCE / 2

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Give the lowest and the highest level that each pixel may take, `[n, pixels]` both."""
        if self.norm is not Norm.LINF:
            return np.zeros_like(self.origin), np.full_like(self.origin, TOP)
        radius = TOP * (self.epsilon + TOLERANCE / 2)[:, np.newaxis]
        # A clean pixel between the levels may have none in reach: then its nearest.
        nearest = np.rint(self.origin)
        low = np.minimum(np.ceil(self.origin - radius), nearest)
        high = np.maximum(np.floor(self.origin + radius), nearest)
        return np.maximum(low, 0), np.minimum(high, TOP)

    def spent(self, levels: np.ndarray) -> np.ndarray:
        """Say what each pixel takes of the budget, `[n, pixels]`, in the unit of `allowed`."""
        return _SPENT[self.norm](levels - self.origin)

    @property
    def allowed(self) -> np.ndarray:
        """What all pixels of an image may take together, `[n]`."""
        return _ALLOWED[self.norm](self.epsilon + TOLERANCE / 2)


def round_inside(wanted: np.ndarray, budget: GridBudget) -> np.ndarray:
    """Round to whole levels: each pixel to its nearest, as far as the budget lets it.

    Args:
        wanted: `[n, pixels]` float64, in levels.
        budget: the balls.

    Returns:
        `[n, pixels]` float64, whole numbers in 0..255.
    """
    ends = budget.ends()
    levels = np.clip(np.rint(wanted), *ends)
    if budget.norm is Norm.LINF:
        return levels
    outside = np.flatnonzero(~budget.holds(levels))
    if len(outside):
        inner = np.clip(_towards(wanted[outside], budget.origin[outside]), 0, TOP)
        levels[outside] = _shortened(levels[outside], inner, wanted[outside], budget.of(outside))
    return levels


def _shortened(
    nearest: np.ndarray, inner: np.ndarray, wanted: np.ndarray, budget: GridBudget
) -> np.ndarray:
    """Take inner levels for nearest ones, first where the two are equally near, until it fits."""
    saving = budget.spent(nearest) - budget.spent(inner)
    further = np.abs(inner - wanted) - np.abs(nearest - wanted)
    order = np.argsort(np.where(saving > 0, further, np.inf), axis=1, kind="stable")
    saved = np.cumsum(np.take_along_axis(saving, order, axis=1), axis=1)
    needed = budget.spent(nearest).sum(axis=1) - budget.allowed
    before = np.concatenate([np.zeros((len(nearest), 1)), saved[:, :-1]], axis=1)
    chosen = np.zeros(saving.shape, bool)
    np.put_along_axis(chosen, order, before < needed[:, np.newaxis], axis=1)
    shorter = np.where(chosen, inner, nearest)
    # Clean pixels between the levels can make the inner level the longer one: then all inner.
    return np.where(budget.holds(shorter)[:, np.newaxis], shorter, inner)


def _towards(values: np.ndarray, origin: np.ndarray) -> np.ndarray:
    nearest = np.rint(origin)
    return np.where(
        values > origin,
        np.maximum(np.floor(values), nearest),
        np.minimum(np.ceil(values), nearest),
    )
