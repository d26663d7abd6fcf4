"""TensorBoard's view of an evaluation: one run per attack, the same tags in each.

The step of a curve is a budget's thousandths, since steps are whole numbers: 100 is epsilon 0.1.
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

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
        "attacks": ", ".join(plan.attacks),
    }


def write(folder: pathlib.Path, evaluation: Evaluation) -> None:
    """Write curves, distances and pictures.

    Args:
        folder: the run's folder, from `tensorboard.new_run`; each attack
            gets a run of its own in it.
        evaluation: the results.
    """
    table = evaluation.table
    steps = [round(1000 * epsilon) for epsilon in table.plan.epsilons]
    floats, saved = (page.summary(evaluation.curves, form) for form in ("float", "saved"))
    for curve, rounded in zip(floats, saved):
        with writing(folder / curve.name.replace(" ", "_")):
            for number, step in enumerate(steps):
                tf.summary.experimental.set_step(step)
                tf.summary.scalar("evaluation/success", curve.success[number].value)
                tf.summary.scalar("evaluation/success_8_bits", rounded.success[number].value)
                tf.summary.scalar("evaluation/robust_accuracy", curve.robust[number].value)
            if curve.name in table.plan.attacks:
                found = table.distance("float")[table.plan.attacks.index(curve.name)]
                tf.summary.histogram("evaluation/distance", found[np.isfinite(found)])
    with writing(folder):
        for name, pixels in evaluation.pictures.items():
            tf.summary.image(f"evaluation/{name}", pixels[np.newaxis])
        worst = floats[-1]
        tf.summary.scalar("evaluation/success", worst.success[-1].value)
        tf.summary.scalar("evaluation/robust_accuracy", worst.robust[-1].value)
        said = page.lines(evaluation)
        tf.summary.text("evaluation/card", "\n".join(f"    {line}" for line in said))
