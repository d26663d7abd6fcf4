"""The smallest perturbations: bounds from both sides, and a sentence for each."""

from __future__ import annotations

import dataclasses
import enum
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.records import write_record

if TYPE_CHECKING:
    import pandas as pd

    from mnist_adv.drawing.pairs import Picture

GAP = 1e-6  # nothing is called optimal with a larger relative gap


class Status(enum.Enum):
    """How much is proved of one image's smallest perturbation; the value is its sentence."""

    OPTIMAL = "no smaller change exists: the bounds meet within a relative gap of 1e-6"
    ALREADY = "nothing has to change: the image is already classified as wanted"
    INFEASIBLE = "impossible: the dual variables prove that no image in the box is classified so"
    BRANCHED = (
        "no smaller change exists, by branch and bound; the dual variables alone prove only the "
        "lower bound"
    )
    OPEN = "undecided: the smallest change lies between the two bounds, which do not meet"

    @property
    def sentence(self) -> str:
        """The explanation for people."""
        return self.value


@dataclasses.dataclass(frozen=True)
class Optimum:
    """The smallest perturbations of n images, each with its certificate.

    `check` verifies all of it, by code that shares nothing with the solvers.

    Attributes:
        norm: "linf", "l2", "l1" or "l0".
        targeted: whether `classes` are to be reached, or to be left.
        classes: `[n]` int64.
        margin: of the wanted logit over the others.
        images: the clean images, as given.
        adversarial: float64, the same shape: images in the box that are classified as wanted in
            float64 arithmetic, at distance `upper_bound`; the clean image where there is none.
        reached: `[n]` int64, the class of `adversarial`; for an untargeted goal the nearest rival.
        lower_bound: `[n]`, no image nearer than this is classified as wanted; infinity if none is.
        upper_bound: `[n]`, the norm of `adversarial - images`; infinity where nothing was found.
        dual_variables: `[n, K]`, at least 0, that prove the lower bound of a targeted problem: how
            much the optimum grows per unit of margin for class k. Zero for untargeted ones, whose
            closed forms need none.
        iterations: `[n]` int64, of the solver.
        branch_bound: `[n]`, for l0 the lower bound that branch and bound claims beyond what the
            dual variables prove; `lower_bound` elsewhere.
        seconds: wall time of the whole call.
    """

    norm: str
    targeted: bool
    classes: np.ndarray
    margin: float
    images: np.ndarray
    adversarial: np.ndarray
    reached: np.ndarray
    lower_bound: np.ndarray
    upper_bound: np.ndarray
    dual_variables: np.ndarray
    iterations: np.ndarray
    branch_bound: np.ndarray
    seconds: float

    @property
    def perturbation(self) -> np.ndarray:
        """The smallest change found, float64, in the shape of the images."""
        return self.adversarial - np.asarray(self.images, np.float64)

    @property
    def gap(self) -> np.ndarray:
        """`(upper_bound - lower_bound) / upper_bound`, `[n]`, at least 0."""
        return relative_gap(self.lower_bound, self.upper_bound)

    @property
    def status(self) -> np.ndarray:
        """The `Status` of each image, `[n]` objects."""
        status = np.full(len(self.classes), Status.OPEN, object)
        branched = relative_gap(self.branch_bound, self.upper_bound) <= GAP
        status[branched] = Status.BRANCHED
        status[self.gap <= GAP] = Status.OPTIMAL
        status[self.upper_bound == 0] = Status.ALREADY
        status[np.isinf(self.lower_bound)] = Status.INFEASIBLE
        return status

    @property
    def found(self) -> np.ndarray:
        """Whether `adversarial` is classified as wanted, `[n]` bool."""
        return np.isfinite(self.upper_bound)

    def sentence(self, index: int) -> str:
        """Explain the answer for one image in one sentence.

        Args:
            index: of the image.

        Returns:
            The sentence.
        """
        status: Status = self.status[index]
        goal = "as" if self.targeted else "as anything but"
        text = f"{self.norm} to be classified {goal} {self.classes[index]}: {status.sentence}"
        if status in (Status.ALREADY, Status.INFEASIBLE):
            return text
        return (
            f"{text} ({self.lower_bound[index]:.9g} <= optimum <= {self.upper_bound[index]:.9g}, "
            f"gap {self.gap[index]:.1e})"
        )

    def statistics(self) -> dict[str, Any]:
        """Summarise the batch.

        Returns:
            Names -> numbers that can be written as JSON.
        """
        status = self.status
        finite = self.upper_bound[self.found]
        gaps = self.gap[self.found]
        return {
            "norm": self.norm,
            "images": len(self.classes),
            "status": {s.name.lower(): int((status == s).sum()) for s in Status},
            "median": float(np.median(finite)) if finite.size else None,
            "largest_gap": float(gaps.max()) if gaps.size else None,
            "mean_iterations": float(self.iterations.mean()) if self.iterations.size else 0.0,
            "most_iterations": int(self.iterations.max(initial=0)),
            "seconds": self.seconds,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save everything in one file, which `load_result` reads.

        Args:
            path: of the file, such as "smallest.npz"; replaced if it is there.

        Raises:
            OSError: the file cannot be written.
        """
        write_record(path, self)

    def plot(
        self, indices: Sequence[int] | None = None, class_names: Sequence[str] | None = None
    ) -> Picture:
        """Draw clean images, their smallest changes, and the nearest images found.

        Args:
            indices: of the images that are drawn; None: the first eight.
            class_names: k names; None: the classes' numbers.

        Returns:
            A figure of matplotlib, which notebooks show, and its `show()` everywhere else.

        Raises:
            ValueError: an index without an image, no index, or too few names.
        """
        from mnist_adv.drawing.pairs import chosen, named, pairs

        shown, status = chosen(indices, len(self.classes)), self.status
        names = named(class_names, self.dual_variables.shape[1])
        pixels = self.images[shown]
        return pairs(
            pixels,
            self.adversarial[shown],
            before=["" if self.targeted else names[self.classes[i]] for i in shown],
            between=[
                f"{self.norm} {self.upper_bound[i]:.4g}" if self.found[i] else "none found"
                for i in shown
            ],
            after=[
                f"{names[self.reached[i]] if self.found[i] else 'unchanged'}\n"
                f"{status[i].name.lower()}"
                for i in shown
            ],
            bounds=(min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))),
        )

    def to_dataframe(self) -> pd.DataFrame:
        """Tabulate the answers, one row per image.

        Returns:
            Goal, status, the class reached, both bounds, their relative gap, and iterations.

        Raises:
            ImportError: pandas is not installed.
        """
        from mnist_adv.drawing.notebook import data_frame

        return data_frame({
            "goal": "reach" if self.targeted else "leave",
            "class": self.classes,
            "status": [status.name.lower() for status in self.status],
            "reached": self.reached,
            "lower_bound": self.lower_bound,
            "upper_bound": self.upper_bound,
            "gap": self.gap,
            "iterations": self.iterations,
        })

    def __repr__(self) -> str:
        status, found = self.status, self.upper_bound[self.found]
        counts = [
            f"{int((status == s).sum())} {s.name.lower()}" for s in Status if (status == s).any()
        ]
        kind, count = "targeted" if self.targeted else "untargeted", len(self.classes)
        middle = "" if count == 1 else "median "
        return f"Optimum({kind}, {self.norm}: {', '.join(counts) or 'no images'}" + (
            f", {middle}distance {np.median(found):.4g})" if len(found) else ")"
        )

    def _repr_html_(self) -> str:
        from mnist_adv.drawing.notebook import as_html

        return as_html(repr(self), self.plot() if len(self.classes) else None)


def relative_gap(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Compute `(upper - lower) / upper`; 0 where both are equal, 1 where only upper is infinite.

    Args:
        lower: `[n]`.
        upper: `[n]`.

    Returns:
        `[n]`, at least 0.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.where(np.isinf(upper), 1.0, (upper - lower) / upper)
    gap = np.where(lower >= upper, 0.0, gap)
    return np.maximum(gap, 0)
