"""TensorBoard's view of an evaluation: one run per attack, the same tags in each.

The run of the evaluation itself has the worst case of all. The step of a curve is a budget's
thousandths, since steps are whole numbers: 100 is epsilon 0.1.
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from mnist_adv.evaluation.analyse.band import Band
from mnist_adv.evaluation.analyse.statistics import Curve, Share, clean_accuracy
from mnist_adv.evaluation.analyse.table import Table
from mnist_adv.evaluation.plan import Plan
from mnist_adv.evaluation.report import page
from mnist_adv.evaluation.result import Evaluation
from mnist_adv.reporting.tensorboard import writing
from mnist_adv.tensors.lazy import tf


def hparams(plan: Plan) -> dict[str, Any]:
    """List the hyper-parameters that TensorBoard shows of a plan.

    Args:
        plan: what was measured.

    Returns:
        Name -> value.
    """
    return {
        "command": "evaluate",
        "dataset": plan.dataset,
        "seed": plan.seed,
        "goal": plan.targets.value,
        "norm": plan.norm.value,
        "epsilon": plan.epsilons[-1],
        "num_steps": plan.num_steps,
        "step_size": plan.step_size,
        "attack": ", ".join(plan.attacks),
        "certify_method": None if plan.certify_method is None else plan.certify_method.value,
    }


def write(folder: pathlib.Path, evaluation: Evaluation) -> None:
    """Write curves, distances and pictures.

    Args:
        folder: the run's folder, from `tensorboard.new_run`; each attack
            gets a run of its own in it.
        evaluation: the results.
    """
    table = evaluation.table
    floats, saved = (page.summary(evaluation.curves, form) for form in ("float", "saved"))
    for curve, rounded in zip(floats[:-1], saved[:-1]):
        with writing(folder / curve.name):
            _write_curve(table, curve, rounded)
    with writing(folder):  # the worst case of several attacks, or the one attack
        _write_curve(table, floats[-1], saved[-1])
        if evaluation.band is not None:
            _write_band(table, evaluation.band)
        for name, pixels in evaluation.pictures.items():
            tf.summary.image(f"evaluation/{name}", pixels[np.newaxis], step=0)
        said = page.lines(evaluation)
        tf.summary.text("evaluation/card", "\n".join(f"    {line}" for line in said), step=0)


def step_of(epsilon: float) -> int:
    """Turn a budget into TensorBoard's step, thousandths of it.

    Args:
        epsilon: in pixel units.

    Returns:
        The step; of budgets beyond 9.2e15 the largest that there is.
    """
    return min(round(1000 * epsilon), 2**63 - 1)


def _write_band(table: Table, band: Band) -> None:
    """Write certified accuracy beside robust accuracy, and both radii."""
    for epsilon, share in zip(table.plan.epsilons, band.certified):
        step = step_of(epsilon)
        tf.summary.scalar("evaluation/certified_accuracy", share.value, step=step)
    for name, radii in (("proved", band.proved_radius), ("broken", band.broken_radius)):
        known = radii[np.isfinite(radii) & (radii >= 0)]
        tf.summary.histogram(f"evaluation/{name}_radius", known, step=step)


def _write_curve(table: Table, curve: Curve, rounded: Curve) -> None:
    """Write success and robust accuracy; a curve begins at budget 0, where no image changes."""
    steps = [step_of(epsilon) for epsilon in table.plan.epsilons]
    points = list(zip(steps, curve.success, rounded.success, curve.robust))
    if table.plan.epsilons[0] > 0:
        wanted = table["target"] if table.plan.targeted else table["label"]
        met = (table["clean_prediction"] == wanted) == table.plan.targeted
        at_once = Share(int(met.sum()), len(met))
        points.insert(0, (0, at_once, at_once, clean_accuracy(table)))
    for step, success, success_8_bits, robust in points:
        tf.summary.experimental.set_step(step)
        tf.summary.scalar("evaluation/success", success.value)
        tf.summary.scalar("evaluation/success_8_bits", success_8_bits.value)
        tf.summary.scalar("evaluation/robust_accuracy", robust.value)
    if curve.name in table.plan.attacks:
        found = table.distance("float")[table.plan.attacks.index(curve.name)]
        tf.summary.histogram("evaluation/distance", found[np.isfinite(found)])
