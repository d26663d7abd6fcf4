"""Hold what attacks found against what is proved: no image changes its class in its radius."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_TOLERANCE = 1e-9  # relative, of a float64 distance


class BelowRadiusError(RuntimeError):
    """An attack changed a class inside a certified radius: one of the two is wrong."""


def require_outside(
    proved: np.ndarray, found: np.ndarray, names: Sequence[str], index: np.ndarray, norm: str
) -> None:
    """Refuse distances inside the radii in which labels are proved.

    Args:
        proved: `[r]`, up to which each image's label is proved; below 0: not at all.
        found: `[attacks, r]`, the distances at which attacks changed its class; infinite where they
            did not.
        names: of the attacks.
        index: `[r]`, of the images.
        norm: of both.

    Raises:
        BelowRadiusError: a distance is inside a radius.
    """
    for name, distance in zip(names, found):
        inside = distance < proved * (1 - _TOLERANCE)
        if inside.any():
            first = int(np.argmax(inside))
            raise BelowRadiusError(
                f"{name} changes the class of image {index[first]} at a {norm} distance of "
                f"{distance[first]:.9g}, but its label is proved up to {proved[first]:.9g}: the "
                "attack, its measurement or the proof is wrong"
            )
