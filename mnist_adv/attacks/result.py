"""What an attack hands back."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.attacks.base import PartReport
from mnist_adv.geometry.norms import Norm
from mnist_adv.gradients.goals import Goal
from mnist_adv.records import write_record
from mnist_adv.verdict.judge import Verdict

if TYPE_CHECKING:
    import pandas as pd

    from mnist_adv.drawing.pairs import Picture
    from mnist_adv.optimum.result import Optimum


@dataclasses.dataclass(frozen=True)
class Trace:
    """Every iterate of the run that made each image's result; index 0 is where that run started.

    `images[result.num_steps[i], i]` is `result.adversarial[i]`. Where images took different numbers
    of steps, the last iterate of the shorter ones is repeated.

    Attributes:
        images: `[steps + 1, n, h, w, c]` float32.
        logits: `[steps + 1, n, k]`.
        objective: `[steps + 1, n]`, what the attack descends.
        gradients: `[steps, n, h, w, c]`, of the objective; none is kept of the last iterate.
        num_steps: `[n]` int64, how many steps each image's run took, past its result too.
    """

    images: np.ndarray
    logits: np.ndarray
    objective: np.ndarray
    gradients: np.ndarray
    num_steps: np.ndarray


@dataclasses.dataclass(frozen=True)
class AttackResult:
    """What an attack found, best iterate per image, and an independent verdict on it.

    Attributes:
        images: clean, `[n, h, w, c]` float32 inside `bounds`; the memory of the array that was
            attacked, if it had that form.
        adversarial: the same shape; where the goal was not reached, the nearest miss.
        goal: the classes and whether they are targets.
        norm: of the budget, or of the distance that was made small.
        epsilon: the budget, one number or `[n]`; infinite if only the distance counted.
        num_steps: `[n]` int64, steps to the returned iterate, in the run that made it.
        num_queries: `[n]` int64, forward passes of the model, over all steps, restarts and
            searches, counted by a wrapper around the model.
        num_gradients: `[n]` int64, backward passes, counted likewise; 0 for black-box attacks.
        verdict: derived again from the arrays above.
        method: the attack's name.
        bounds: the least and the largest value of a pixel.
        trace: all iterates, if asked for.
        certificate: of an attack that proves its result smallest, the `Optimum`.
        parts: of an ensemble, its attacks in their order, with the images that each attacked and
            its time; empty of other attacks.
        made_by: `[n]` int64, of an ensemble, the number of the part that made each image.
        distances_at: `[n, p]` float64, the smallest distance of an adversarial image found with at
            most as many passes as each of `record_at`, larger than epsilon too; infinite where
            none was found. Until the attack ends they are the attack's own account.
    """

    images: np.ndarray
    adversarial: np.ndarray
    goal: Goal
    norm: Norm
    epsilon: Any
    num_steps: np.ndarray
    num_queries: np.ndarray
    num_gradients: np.ndarray
    verdict: Verdict
    method: str
    bounds: tuple[float, float] = (0.0, 1.0)
    trace: Trace | None = None
    certificate: Optimum | None = None
    parts: tuple[PartReport, ...] = ()
    made_by: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    distances_at: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def perturbation(self) -> np.ndarray:
        """The adversarial minus the clean images, `[n, h, w, c]`."""
        return self.adversarial - self.images

    @property
    def success(self) -> np.ndarray:
        """Per image, `[n]` bool: goal reached, inside the budget and inside [0, 1]."""
        return self.verdict.success

    @property
    def distances(self) -> np.ndarray:
        """Per image, `[n]` float64: the norm of the perturbation; infinite without success."""
        return np.where(self.success, self.verdict.norms[self.norm.value], np.inf)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save everything in one file, which `load_result` reads.

        Args:
            path: of the file, such as "seven.npz"; replaced if it is there.

        Raises:
            OSError: the file cannot be written.
        """
        write_record(path, self)

    def plot(
        self, indices: Sequence[int] | None = None, class_names: Sequence[str] | None = None
    ) -> Picture:
        """Draw clean images, perturbations and adversarial images, with what the model sees.

        Args:
            indices: of the images that are drawn; None: the first eight.
            class_names: k names; None: the classes' numbers.

        Returns:
            A figure of matplotlib, which notebooks show, and its `show()` everywhere else.

        Raises:
            ValueError: an index without an image, no index, or too few names.
        """
        from mnist_adv.drawing.canvas import seen
        from mnist_adv.drawing.pairs import chosen, named, pairs

        verdict = self.verdict
        shown = chosen(indices, len(self.images))
        names = named(class_names, verdict.probabilities.shape[1])
        reached = np.where(self.success, "", "\nmissed")
        return pairs(
            self.images[shown],
            self.adversarial[shown],
            before=[seen(verdict.clean_probabilities[i], names) for i in shown],
            between=[f"{self.norm.value} {verdict.norms[self.norm.value][i]:.3g}" for i in shown],
            after=[f"{seen(verdict.probabilities[i], names)}{reached[i]}" for i in shown],
            bounds=self.bounds,
        )

    def to_dataframe(self) -> pd.DataFrame:
        """Tabulate the result, one row per image.

        Returns:
            Goal, predictions with their probabilities, success, the four norms, budget and costs.

        Raises:
            ImportError: pandas is not installed.
        """
        from mnist_adv.drawing.notebook import data_frame

        verdict, every = self.verdict, np.arange(len(self.images))
        return data_frame({
            "goal": "reach" if self.goal.targeted else "leave",
            "class": self.goal.classes,
            "clean_prediction": verdict.clean_predictions,
            "clean_probability": verdict.clean_probabilities[every, verdict.clean_predictions],
            "prediction": verdict.predictions,
            "probability": verdict.probabilities[every, verdict.predictions],
            "success": self.success,
            **verdict.norms,
            "epsilon": self.epsilon,
            "num_steps": self.num_steps,
            "num_queries": self.num_queries,
            "num_gradients": self.num_gradients,
        })

    def part_lines(self) -> list[str]:
        """Tabulate what the parts of an ensemble did.

        Returns:
            Lines: each part's images, those whose goal it met, what is left, and its seconds;
            empty of other attacks.
        """
        if not self.parts:
            return []
        met = np.bincount(self.made_by[self.success], minlength=len(self.parts))
        lines = [f"  {'part':<18}{'attacked':>10}{'reached':>10}{'left':>10}{'seconds':>10}"]
        left = len(self.images)
        for part, reached in zip(self.parts, met):
            left -= int(reached)
            cells = f"{part.num_images:>10}{reached:>10}{left:>10}{part.seconds:>10.1f}"
            lines.append(f"  {part.name:<18}{cells}")
        return lines

    def __repr__(self) -> str:
        kind = "targeted" if self.goal.targeted else "untargeted"
        found = self.distances[self.success]
        count, norm = len(self.images), self.norm.value
        shape = " x ".join(map(str, self.images.shape[1:]))
        middle = "" if count == 1 else "median "
        return (
            f"AttackResult({self.method}, {kind}, {self._budget()}: {len(found)} of {count} "
            f"image{'s' * (count != 1)} {shape} succeed{'s' * (count == 1)}"
            + (f", {middle}{norm} {np.median(found):.3g})" if len(found) else ")")
        )

    def _repr_html_(self) -> str:
        from mnist_adv.drawing.notebook import as_html

        return as_html(repr(self), self.plot() if len(self.images) else None)

    def _budget(self) -> str:
        if np.ndim(self.epsilon):
            return f"{self.norm.value} within a budget per image"
        if np.isinf(self.epsilon):
            return f"smallest {self.norm.value}"
        return f"{self.norm.value} <= {self.epsilon:g}"
