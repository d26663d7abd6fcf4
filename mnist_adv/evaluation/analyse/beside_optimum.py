"""The certified optimum beside the attacks: what exists, and how much of it each one found.

For models that are linear in the pixels the smallest change is known with a proof, so attacks are
measured against the truth instead of against each other. One that claims less than is possible
stops the run: it is a bug.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.data import datasets
from mnist_adv.evaluation.analyse import statistics
from mnist_adv.evaluation.analyse.statistics import Curve
from mnist_adv.evaluation.analyse.table import Table
from mnist_adv.evaluation.measure.chunk import FORMS, Places
from mnist_adv.geometry.norms import Norm
from mnist_adv.models.linear import linear_parts
from mnist_adv.optimum import smallest_perturbation
from mnist_adv.verdict.beside_optimum import BelowOptimumError
from mnist_adv.verdict.judge import TOLERANCE

if TYPE_CHECKING:
    from mnist_adv.models.model import Model

# Attacks are judged by float32 logits, which err by up to 1e-5: they call an image reached that is
# so much short of the border. Per unit of the norm the logits of a digit change by 0.5 and more.
_ROUNDING = 1e-4


@dataclasses.dataclass(frozen=True)
class Found:
    """One attack beside the truth.

    Attributes:
        name: of the attack.
        over_optimum: median of distance over optimum, of the rows whose goal it met.
        share_found: per epsilon, of the rows whose goal can be met, those where it was; None where
            none can.
    """

    name: str
    over_optimum: float | None
    share_found: tuple[float | None, ...]


@dataclasses.dataclass(frozen=True)
class Truth:
    """What is possible.

    Attributes:
        lower_bound: `[r]`, no change of a row's image below this meets its goal.
        distance: `[r]`, the smallest known change that does; infinite if there is none.
        curve: success and robust accuracy of an attack that finds all there is.
        found: each attack beside it.
    """

    lower_bound: np.ndarray
    distance: np.ndarray
    curve: Curve
    found: tuple[Found, ...]

    def record(self) -> list[dict[str, Any]]:
        """Turn into JSON.

        Returns:
            One record per attack.
        """
        return [dataclasses.asdict(each) for each in self.found]


def find(table: Table, model: Model, places: Places) -> Truth | None:
    """Compute the optimum of every row, and hold the attacks against it.

    Args:
        table: all rows.
        model: images -> logits.
        places: where the data are.

    Returns:
        The truth; None where none is known (a model that is not linear in the pixels) or where it
        would take hours (the fewest pixels to a target).

    Raises:
        BelowOptimumError: an attack claims a change smaller than is possible.
    """
    parts, plan = linear_parts(model), table.plan
    if parts is None or (plan.norm is Norm.L0 and plan.targeted):
        return None
    starts = np.flatnonzero(np.diff(table["index"], prepend=-1))
    images = _images(table, places)
    labels = table["label"][starts]
    leave = _solve(parts, images, labels, plan.norm, targeted=False)
    escape = np.repeat(leave[1], np.diff([*starts, len(table)]))
    lower, distance = leave
    if plan.targeted:
        rows = np.searchsorted(table["index"][starts], table["index"])
        lower, distance = _solve(parts, images[rows], table["target"], plan.norm, targeted=True)
    _require_possible(table, lower)
    return Truth(
        lower_bound=lower,
        distance=distance,
        curve=statistics.curve(table, statistics.OPTIMUM, "float", distance, escape),
        found=tuple(
            _found(table, name, number, lower, distance) for number, name in enumerate(plan.attacks)
        ),
    )


def _images(table: Table, places: Places) -> np.ndarray:
    plan = table.plan
    loaded = datasets.load(
        plan.dataset,
        plan.split,
        data_dir=places.data_dir,
        manual_dir=places.manual_dir,
        rows=(0, plan.num_images),
    )
    return loaded.images[np.unique(table["index"])]


def _solve(
    parts: tuple[np.ndarray, np.ndarray],
    images: np.ndarray,
    classes: np.ndarray,
    norm: Norm,
    *,
    targeted: bool,
) -> tuple[np.ndarray, np.ndarray]:
    wanted: dict[str, Any] = {"targets" if targeted else "labels": classes}
    optimum = smallest_perturbation(*parts, images, norm=norm.value, **wanted)
    return optimum.lower_bound, optimum.upper_bound


def _require_possible(table: Table, lower: np.ndarray) -> None:
    for form in FORMS:
        distance = table.distance(form)
        below = distance < lower * (1 - _ROUNDING) - _ROUNDING
        if below.any():
            number, row = np.argwhere(below)[0]
            raise BelowOptimumError(
                f"{table.plan.attacks[number]} claims that image {table['index'][row]} meets its "
                f"goal at {table.plan.norm.value} {distance[number, row]:.9g}, but the certificate "
                f"proves that nothing below {lower[row]:.9g} does: one of the two is wrong"
            )


def _found(table: Table, name: str, number: int, lower: np.ndarray, distance: np.ndarray) -> Found:
    made = table.distance("float")[number]
    both = np.isfinite(made) & (lower > 0)
    shares: list[float | None] = []
    for epsilon in table.plan.epsilons:
        exists = distance <= epsilon + TOLERANCE
        met = made[exists] <= epsilon + TOLERANCE
        shares.append(float(met.mean()) if exists.any() else None)
    ratio = statistics.median(made[both] / lower[both])
    return Found(name, statistics.finite(ratio), tuple(shares))
