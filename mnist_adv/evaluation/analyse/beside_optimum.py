"""Attacks beside the certified optimum: how much each found of what can be found.

For models that are linear in the pixels the smallest adversarial change is known with a proof, so
attacks are compared with it instead of with each other. An attack that reports a smaller change
than the proof allows stops the run: one of the two is wrong.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.evaluation.analyse import statistics
from mnist_adv.evaluation.analyse.statistics import Curve
from mnist_adv.evaluation.analyse.table import Table
from mnist_adv.evaluation.measure.chunk import FORMS, Places
from mnist_adv.geometry.norms import Norm
from mnist_adv.models.linear import linear_parts
from mnist_adv.optimum import Optimum, smallest_perturbation
from mnist_adv.verdict.beside_optimum import bounds_with_rounding, float32_rounding, require_bounds
from mnist_adv.verdict.judge import TOLERANCE

# Solved at once: of each, float64 images, dual variables and what the solvers need.
_MOST_CASES = 2500

if TYPE_CHECKING:
    from mnist_adv.models.model import Model


@dataclasses.dataclass(frozen=True)
class Found:
    """One attack beside the optimum.

    Attributes:
        name: of the attack.
        over_optimum: median of distance over optimum, of the cases whose goal it met.
        share_found: per epsilon, of the cases whose goal can be met, those where it was; None where
            none can.
    """

    name: str
    over_optimum: float | None
    share_found: tuple[float | None, ...]


@dataclasses.dataclass(frozen=True)
class BesideOptimum:
    """The certified optimum of every case, and the attacks beside it.

    Attributes:
        lower_bound: `[r]`, no smaller change of a case's image meets its goal.
        distance: `[r]`, the smallest known change that does; infinite if there is none.
        proved: `[r]`, no smaller change makes a case's image misclassified, in float32 either; 0
            where it was not asked for (`certify_method`) and nothing below the optimum was found.
        escape: `[r]`, the smallest known change that does.
        curve: success and robust accuracy of an attack that always finds the optimum.
        found: each attack beside it.
    """

    lower_bound: np.ndarray
    distance: np.ndarray
    proved: np.ndarray
    escape: np.ndarray
    curve: Curve
    found: tuple[Found, ...]

    def record(self) -> list[dict[str, Any]]:
        """Turn into JSON.

        Returns:
            One object per attack.
        """
        return [dataclasses.asdict(each) for each in self.found]


def find(table: Table, model: Model, places: Places) -> BesideOptimum | None:
    """Compute the optimum of every case, and compare the attacks with it.

    Args:
        table: all cases.
        model: images -> logits.
        places: where the data are.

    Returns:
        The comparison; None where no optimum is known (a model that is not linear in the pixels)
        or where it would take hours (targeted L0).

    Raises:
        BelowOptimumError: an attack reports a change smaller than the certified lower bound.
    """
    parts, plan = linear_parts(model), table.plan
    if parts is None or (plan.norm is Norm.L0 and plan.targeted):
        return None
    norm, certify = plan.norm.value, plan.certify_method is not None
    lower, distance, proved, escape = np.empty((4, len(table)))
    for cases in _blocks(table["index"]):
        index, labels = table["index"][cases], table["label"][cases]
        first = int(index[0])
        images = places.data(plan).load((first, int(index[-1]) + 1)).images
        _, ones, of_image = np.unique(index, return_index=True, return_inverse=True)
        optimum = smallest_perturbation(*parts, images, norm=norm, labels=labels[ones])
        escape[cases] = optimum.upper_bound[of_image]
        nearest = np.min([table.distance(form)[:, cases] for form in FORMS], axis=(0, 1))
        doubtful = np.full(len(ones), certify)
        if not plan.targeted:
            doubtful[of_image[nearest < optimum.lower_bound[of_image]]] = True
        bound = proved[cases] = _with_rounding(parts, optimum, doubtful)[of_image]
        if plan.targeted:
            images, targets = images[index - first], table["target"][cases]
            optimum = smallest_perturbation(*parts, images, norm=norm, targets=targets)
            bound = _with_rounding(parts, optimum, nearest < optimum.lower_bound)
        lower[cases], distance[cases] = optimum.lower_bound, optimum.upper_bound
        _require_bounds(table, bound, cases)
    return BesideOptimum(
        lower_bound=lower,
        distance=distance,
        proved=proved,
        escape=escape,
        curve=statistics.curve(table, statistics.OPTIMUM, "float", distance, escape),
        found=tuple(
            _found(table, name, number, lower, distance) for number, name in enumerate(plan.attacks)
        ),
    )


def _blocks(index: np.ndarray) -> list[slice]:
    """Cut the cases into blocks that end where an image's cases end."""
    ends = np.flatnonzero(np.diff(index, append=-1)) + 1
    blocks, first = [], 0
    for end in ends.tolist():
        if end - first >= _MOST_CASES or end == len(index):
            blocks.append(slice(first, end))
            first = end
    return blocks


def _with_rounding(
    parts: tuple[np.ndarray, np.ndarray], optimum: Optimum, chosen: np.ndarray
) -> np.ndarray:
    # 0 where not chosen: nothing was found below the optimum, and so below what rounding allows.
    bound = np.zeros(len(chosen))
    if chosen.any():
        # The float images are not kept: the rounding is that of an image whose pixels are all 1.
        rounding = float32_rounding(*parts, np.ones([1, len(parts[0])]))
        bound[chosen] = bounds_with_rounding(*parts, optimum, rounding, chosen)
    return bound


def _require_bounds(table: Table, bound: np.ndarray, cases: slice) -> None:
    for form in FORMS:
        for name, distance in zip(table.plan.attacks, table.distance(form)[:, cases]):
            names = [f"{name} on image {index}" for index in table["index"][cases]]
            require_bounds(bound, distance, table.plan.norm.value, names)


def _found(table: Table, name: str, number: int, lower: np.ndarray, distance: np.ndarray) -> Found:
    attained = table.distance("float")[number]
    both = np.isfinite(attained) & (lower > 0)
    shares: list[float | None] = []
    for epsilon in table.plan.epsilons:
        feasible = distance <= epsilon + TOLERANCE
        met = attained[feasible] <= epsilon + TOLERANCE
        shares.append(float(met.mean()) if feasible.any() else None)
    ratio = statistics.median(attained[both] / lower[both])
    return Found(name, statistics.finite(ratio), tuple(shares))
