"""Read back what `save` of a result wrote, and check its claims against its arrays."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from mnist_adv.attacks import AttackResult
from mnist_adv.evaluation.analyse import band, statistics
from mnist_adv.evaluation.analyse.band import Band
from mnist_adv.evaluation.result import Evaluation
from mnist_adv.optimum import Optimum
from mnist_adv.records import read_record
from mnist_adv.verdict.judge import measure
from mnist_adv.verdict.radii import BelowRadiusError
from mnist_adv.verdict.recheck import require_consistent

_KINDS = (AttackResult, Optimum, Evaluation)
_TOLERANCE = 1e-6  # of a bound, relative


def load_result(path: str | os.PathLike[str]) -> Any:
    """Read a result that was saved with `save`.

    Success, norms and the bounds of an optimum are derived again from the images in the file, and
    curves from their cases; what the model said of them is taken as it was. Nothing in the file is
    run.

    Args:
        path: of the file.

    Returns:
        The `AttackResult`, `Optimum` or `Evaluation`.

    Raises:
        ValueError: the file is damaged, is no such file, or claims what its arrays contradict.
        OSError: it cannot be read.

    Example:
        >>> import mnist_adv, tempfile
        >>> model = mnist_adv.restore("checkpoints")
        >>> seven = mnist_adv.load("mnist", "test").images[0]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     mnist_adv.attack(model, seven, targets=2).save(f"{folder}/two.npz")
        ...     result = mnist_adv.load_result(f"{folder}/two.npz")
        >>> int(result.verdict.predictions[0])
        2
    """
    result = read_record(path, {kind.__name__: kind for kind in _KINDS})
    try:
        if isinstance(result, AttackResult):
            _check_attack(result)
        elif isinstance(result, Evaluation):
            _check_evaluation(result)
        else:
            _check_optimum(result)
    except (ValueError, IndexError, KeyError) as error:
        raise ValueError(f"{os.fspath(path)} contradicts itself: {error}") from error
    return result


def _check_attack(result: AttackResult) -> None:
    count = len(result.images)
    _require_counts(count, result.num_steps, result.num_queries, result.num_gradients)
    require_consistent(
        result.images,
        result.adversarial,
        result.goal,
        result.verdict,
        norm=result.norm,
        epsilon=result.epsilon,
        bounds=result.bounds,
    )
    if result.trace is not None:
        trace, shape = result.trace, result.images.shape
        _require_counts(len(trace.images), trace.logits, trace.objective)
        _require_counts(len(trace.images) - 1, trace.gradients)
        if trace.images.shape[1:] != shape or trace.gradients.shape[1:] != shape:
            raise ValueError("iterates and images differ in shape")
    if result.certificate is not None:
        _check_optimum(result.certificate)


def _check_evaluation(evaluation: Evaluation) -> None:
    table = evaluation.table
    count, attacks = len(table), len(table.plan.attacks)
    for name, values in table.columns.items():
        if values.shape not in {(count,), (attacks, count)}:
            raise ValueError(f"{name} has another number of entries than {count}")
    if len(np.unique(table["index"])) != table.plan.num_images:
        raise ValueError("there are not as many images as the settings say")
    if statistics.curves(table) != evaluation.curves:
        raise ValueError("the curves are not what follows from the cases")
    try:
        expected = band.find(table, evaluation.beside)
    except BelowRadiusError as error:
        raise ValueError(str(error)) from error
    if not _same(evaluation.band, expected):
        raise ValueError("the band is not what follows from the cases")


def _same(one: Band | None, other: Band | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name))
        for field in dataclasses.fields(one)
    )


def _check_optimum(optimum: Optimum) -> None:
    count = len(optimum.classes)
    if optimum.images.shape != optimum.adversarial.shape:
        raise ValueError("images and adversarial images differ in shape")
    _require_counts(
        count,
        optimum.images,
        optimum.reached,
        optimum.lower_bound,
        optimum.upper_bound,
        optimum.dual_variables,
        optimum.iterations,
        optimum.branch_bound,
    )
    if optimum.norm not in {"linf", "l2", "l1", "l0"}:
        raise ValueError(f"there is no norm {optimum.norm!r}")
    shape = (count, -1) if count else (0, 1)
    lengths, _ = measure(
        optimum.images.reshape(shape), optimum.adversarial.reshape(shape), (-np.inf, np.inf)
    )
    found = optimum.found
    if not np.allclose(lengths[optimum.norm][found], optimum.upper_bound[found], _TOLERANCE, 1e-12):
        raise ValueError("upper_bound is not the norm of the perturbations")


def _require_counts(count: int, *arrays: np.ndarray) -> None:
    if any(array.ndim < 1 or len(array) != count for array in arrays):
        raise ValueError(f"an array has another number of entries than {count}")
