"""The numbers that an attack is given, checked, and as the loop takes them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mnist_adv.arguments import ABOVE_0, as_array, real, shown, whole
from mnist_adv.attacks.base import Attack
from mnist_adv.attacks.registry import NamedAttack
from mnist_adv.attacks.task import Task
from mnist_adv.geometry.norms import GEOMETRY, Norm

# Projections are exact but for rounding: a share of the radius, and half a unit in the last place
# of a pixel near 1, in every pixel.
_ROUNDING = 1e-6
_PIXEL_ROUNDING = 2.0**-25
# Budgets and steps beyond this do the same, and their squares would be infinite in float32.
_FAR = 1e15


def epsilon_of(row: NamedAttack, norm: Norm, epsilon: Any, count: int, scale: float) -> Any:
    """Check a budget, or choose one.

    Args:
        row: the attack.
        norm: of the budget.
        epsilon: one number or `[count]`; None: the default.
        count: of the images.
        scale: how wide the box is, in the unit of the default.

    Returns:
        One number or `[count]` float64; infinite where there is no limit.

    Raises:
        ValueError: no number that float32 holds, at least 0, or one for each image.
    """
    if epsilon is None and row.attack.minimal:
        return math.inf
    if epsilon is None:
        return scale * (GEOMETRY[norm].default_epsilon if row.epsilon is None else row.epsilon)
    values = real(epsilon, "epsilon", 0, count=count, infinite=row.attack.minimal)
    return float(values) if values.ndim == 0 else values


def step_size_of(step_size: Any, count: int, scale: float) -> Any:
    """Check a step size.

    Args:
        step_size: one number or `[count]`; None: the attack's own.
        count: of the images.
        scale: how wide the box is.

    Returns:
        None, or the step size in a box from 0 to 1.

    Raises:
        ValueError: no number above 0 that float32 holds, or one for each image.
    """
    if step_size is None:
        return None
    return np.minimum(real(step_size, "step_size", ABOVE_0, count=count) / scale, _FAR)


def num_steps_of(attack: Attack, num_steps: Any, count: int) -> np.ndarray:
    """Check a number of steps.

    Args:
        attack: whose own number is taken if there is none.
        num_steps: one number or `[count]`, or None.
        count: of the images.

    Returns:
        `[count]` int32; 0 where each part of an ensemble takes its own number.

    Raises:
        ValueError: no integer from 1 to 2**31 - 1, or one for each image.
    """
    if num_steps is None and not attack.num_steps:
        return np.zeros(count, np.int32)  # each part of an ensemble has its own
    values = whole(attack.num_steps if num_steps is None else num_steps, "num_steps", count=count)
    return np.broadcast_to(values.astype(np.int32), (count,))


def max_queries_of(max_queries: Any, count: int) -> np.ndarray | None:
    """Check a budget of passes through the model.

    Args:
        max_queries: one number or `[count]`, or None.
        count: of the images.

    Returns:
        `[count]` int64; None if there is no limit.

    Raises:
        ValueError: no integer from 1 to 2**31 - 1, or one for each image.
    """
    if max_queries is None:
        return None
    return np.broadcast_to(whole(max_queries, "max_queries", count=count), (count,))


def record_at_of(record_at: Any, count: int) -> np.ndarray:
    """Check the numbers of passes at which distances are recorded.

    Args:
        record_at: `[p]` or `[count, p]`, or None.
        count: of the images.

    Returns:
        `[count, p]` int64; p is 0 if nothing is recorded.

    Raises:
        ValueError: no integers of that shape.
    """
    if record_at is None:
        return np.zeros((count, 0), np.int64)
    marks = as_array(record_at, "record_at", "integers")
    integers = np.issubdtype(marks.dtype, np.integer)
    if not integers or marks.ndim not in (1, 2) or (marks.ndim == 2 and len(marks) != count):
        raise ValueError(
            f"record_at must be integers in a row, or a row for each of {count} images. "
            f"Received: {shown(record_at)}"
        )
    return np.broadcast_to(marks.astype(np.int64), (count, marks.shape[-1]))


def inside(task: Task, epsilon: Any, count: int) -> np.ndarray:
    """Shorten budgets by what rounding adds.

    Args:
        task: norm and shape.
        epsilon: one number or `[count]`, in a box from 0 to 1.
        count: of the images.

    Returns:
        `[count]` float32.
    """
    if task.norm in (Norm.L2, Norm.L1):
        order = 2 if task.norm is Norm.L2 else 1
        rounding = task.num_pixels ** (1 / order) * _PIXEL_ROUNDING
        epsilon = np.maximum(epsilon * (1 - _ROUNDING) - rounding, 0)
    limited = np.where(np.isfinite(epsilon), np.minimum(epsilon, _FAR), epsilon)
    return np.broadcast_to(limited.astype(np.float32), (count,))
