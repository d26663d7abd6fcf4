"""The images that a report shows, with what the model says of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy.special

from mnist_adv.data.datasets import to_float
from mnist_adv.evaluation.analyse.table import Table
from mnist_adv.evaluation.measure.chunk import Places
from mnist_adv.evaluation.measure.store import Store
from mnist_adv.evaluation.report.figures import Pair
from mnist_adv.models.logits import predict

if TYPE_CHECKING:
    from mnist_adv.models.model import Model


@dataclasses.dataclass(frozen=True)
class Case:
    """One image, and what the best attack made of it, rounded to 8 bits.

    Attributes:
        index: of the image in the split.
        label: its class.
        target: the class to be reached; -1: none.
        attack: the attack whose result it is.
        distance: of the perturbation before rounding; infinite where no attack met the goal.
        clean: `[h, w, c]` uint8.
        changed: `[h, w, c]` uint8.
        before: `[k]` float64, the model's probabilities for the clean image.
        after: `[k]` float64, for the changed one.
    """

    index: int
    label: int
    target: int
    attack: str
    distance: float
    clean: np.ndarray
    changed: np.ndarray
    before: np.ndarray
    after: np.ndarray

    def pair(self, class_names: Sequence[str]) -> Pair:
        """Caption the two images.

        Args:
            class_names: k names.

        Returns:
            The pair, to be drawn.
        """
        met = bool(np.isfinite(self.distance))
        seen, length = class_names[int(self.after.argmax())], f"{self.distance:.3g}"
        return Pair(
            clean=self.clean,
            changed=self.changed,
            caption=f"#{self.index}: {class_names[self.label]} to {seen}\n"
            f"{length if met else 'not met'}",
            met=met,
        )


def fetch(
    store: Store, table: Table, places: Places, model: Model, cases: np.ndarray
) -> dict[int, Case]:
    """Fetch some cases, chunk by chunk.

    Args:
        store: the result files.
        table: their cases.
        places: where the data are.
        model: images -> logits.
        cases: `[m]`, their rows in the table.

    Returns:
        Row -> case.
    """
    plan, distance = table.plan, table.distance("float")
    best = distance.argmin(axis=0)
    firsts = np.searchsorted(table["index"], [chunk.first for chunk in plan.chunks()])
    home = np.searchsorted(firsts, cases, side="right") - 1
    found: dict[int, Case] = {}
    for chunk in plan.chunks():
        mine = np.unique(cases[home == chunk.number])
        if not len(mine):
            continue
        levels = store.read_chunk(chunk, ("levels",))["levels"]
        images = places.data(plan).load(chunk.rows).images[table["index"][mine] - chunk.first]
        changed = levels[best[mine], mine - firsts[chunk.number]]
        before, after = (
            scipy.special.softmax(predict(model, pixels).astype(np.float64), axis=1)
            for pixels in (images, to_float(changed))
        )
        for place, case in enumerate(mine.tolist()):
            found[case] = Case(
                index=int(table["index"][case]),
                label=int(table["label"][case]),
                target=int(table["target"][case]),
                attack=plan.attacks[best[case]],
                distance=float(distance[best[case], case]),
                clean=np.rint(255 * images[place]).astype(np.uint8),
                changed=changed[place],
                before=before[place],
                after=after[place],
            )
    return found
