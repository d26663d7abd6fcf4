"""Judge what everybody made: by one judge, and against what is possible at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import baseline_tools
from mnist_adv import attack, judge, smallest_perturbation
from mnist_adv.models.softmax_regression import SoftmaxRegression

_TOLERANCE = 0.002 + 1e-9
_BUDGETS = {
    "pgd_linf": baseline_tools.LINF,
    "mi_fgsm": baseline_tools.LINF,
    "pgd_l2": baseline_tools.L2,
}


def add(
    record: dict[str, Any],
    attack_name: str,
    model: SoftmaxRegression,
    images: np.ndarray,
    classes: np.ndarray,
) -> None:
    """Put success, distance and what exists beside each tool's seconds.

    Args:
        record: of one attack; its tools' "adversarial" images are taken out.
        attack_name: which.
        model: the common one.
        images: clean, `[n, 28, 28, 1]`.
        classes: targets or labels, `[n]`.
    """
    budget = _BUDGETS.get(attack_name)
    norm = "linf" if attack_name in ("pgd_linf", "mi_fgsm") else "l2"
    record["norm"], record["epsilon"] = norm, budget
    goal: dict[str, Any] = {"targets" if record["targeted"] else "labels": classes}
    optimum = smallest_perturbation(model.W.numpy(), model.b.numpy(), images, norm=norm, **goal)
    for result in record["tools"].values():
        found = result.pop("adversarial", None)
        if found is not None:
            result.update(_verdict(model, images, found, goal, norm, budget, optimum.upper_bound))
    if budget is not None:
        record["exists"] = float((optimum.upper_bound <= budget).mean())
        record["last_iterate"] = _last_iterates(attack_name, model, images, goal, norm, budget)
    _compare(record)


def _verdict(
    model: SoftmaxRegression,
    images: np.ndarray,
    found: np.ndarray,
    goal: dict[str, Any],
    norm: str,
    budget: float | None,
    smallest: np.ndarray,
) -> dict[str, float]:
    # The judge's 1e-6 of slack is for our own rounding; the baselines' is larger in L2.
    epsilon = np.inf if budget is None else budget * (1 + 1e-5)
    verdict = judge(model, images, found, norm=norm, epsilon=epsilon, **goal)
    distances = np.where(verdict.success, verdict.norms[norm], np.inf)
    moves = smallest > 0
    possible = smallest <= epsilon
    measured = {
        "success": float(verdict.success.mean()),
        "share_found": float(verdict.success[possible].mean()),
        "median_distance": float(np.median(distances)),
        "median_over_optimum": float(np.median(distances[moves] / smallest[moves])),
    }
    return {name: value for name, value in measured.items() if np.isfinite(value)}


def _last_iterates(
    attack_name: str,
    model: SoftmaxRegression,
    images: np.ndarray,
    goal: dict[str, Any],
    norm: str,
    epsilon: float,
) -> float:
    """Judge our last iterates, which is what most tools return, in place of the best."""
    name, step_size = baseline_tools.BUDGETED[attack_name]
    successes = []
    for start in range(0, len(images), baseline_tools.BATCH):
        part = slice(start, start + baseline_tools.BATCH)
        traced = attack(
            model,
            images[part],
            method=name,
            norm=norm,
            epsilon=epsilon,
            step_size=step_size,
            num_steps=baseline_tools.NUM_STEPS,
            stop_early=False,
            trace=True,
            **{key: values[part] for key, values in goal.items()},
        )
        if traced.trace is None:
            raise RuntimeError(f"{name} kept no trace")
        last = traced.trace.images[-1]
        some = {key: values[part] for key, values in goal.items()}
        successes.append(
            judge(model, images[part], last, norm=norm, epsilon=epsilon, **some).success
        )
    return float(np.concatenate(successes).mean())


def _compare(record: dict[str, Any]) -> None:
    tools = record["tools"]
    own = np.array(tools["mnist_adv"]["seconds"])
    for result in tools.values():
        if result.get("seconds"):
            result["times_ours"] = float(np.median(np.array(result["seconds"]) / own))
    reached = {tool: r["success"] for tool, r in tools.items() if "success" in r}
    ours = [reached["mnist_adv"], record.get("last_iterate", reached["mnist_adv"])]
    record["disagree"] = [
        tool
        for tool, success in reached.items()
        if min(abs(success - own) for own in ours) > _TOLERANCE
    ]
