"""One attack with its image read back from disk: what every report is about."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mnist_adv.attacks import AttackResult, Trace
from mnist_adv.data import datasets
from mnist_adv.drawing.canvas import png
from mnist_adv.quantize.levels import to_levels
from mnist_adv.verdict.judge import Verdict, judge_goal

if TYPE_CHECKING:
    from mnist_adv.models.model import Model


@dataclasses.dataclass(frozen=True)
class SavedAttack:
    """The attack on one image, and the 8-bit image that it ended in.

    Attributes:
        result: of one image.
        image: `[h, w, c]` float32 in [0, 1], as read back from its file.
        verdict: on that image.
    """

    result: AttackResult
    image: np.ndarray
    verdict: Verdict

    @property
    def success(self) -> bool:
        """Whether the attack met its goal and the saved image still does."""
        return bool(self.result.success[0] and self.verdict.success[0])

    @property
    def trace(self) -> Trace:
        """The iterates; ValueError if the result has none or is of several images."""
        if self.result.trace is None or len(self.result.images) != 1:
            raise ValueError(
                f"result must be of one image, with trace=True. Received: {self.result!r}"
            )
        return self.result.trace

    def as_result(self) -> AttackResult:
        """Put the saved image in the place of the one before rounding.

        Returns:
            The attack's result, as if it had ended in the saved image.
        """
        return dataclasses.replace(
            self.result, adversarial=self.image[np.newaxis], verdict=self.verdict
        )


def save(path: pathlib.Path, model: Model, result: AttackResult) -> SavedAttack:
    """Save one adversarial image as an 8-bit PNG, read it back from disk and classify it.

    Args:
        path: of the PNG.
        model: images -> logits.
        result: of one image, grey or RGB, with its goal and budget.

    Returns:
        The attack with the image as it is on disk, and the verdict on that.
    """
    threat = {"norm": result.norm, "epsilon": result.epsilon}
    clean, goal = result.images, result.goal
    path.write_bytes(png(to_levels(model, clean, result.adversarial, goal, **threat)[0]))
    with Image.open(path) as picture:
        image = datasets.to_float(np.asarray(picture).reshape(clean.shape[1:]))
    verdict = judge_goal(model, clean, image[np.newaxis], goal, **threat)
    return SavedAttack(result, image, verdict)
