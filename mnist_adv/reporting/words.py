"""What an attack on one image has to say: lines for a person, a record for a machine."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mnist_adv.attacks import AttackResult
from mnist_adv.geometry.norms import Norm
from mnist_adv.reporting.figures import seen
from mnist_adv.verdict.judge import Verdict

if TYPE_CHECKING:
    from mnist_adv.optimum import Optimum
    from mnist_adv.verdict import Comparison

READ_ATTACK = """How to read the rest: under Images, `attack/figure` tells it at a glance and
`attack/film_strip` shows the digit changing, and `attack/iterate` and `attack/gradient_image` have
a slider for the steps. Under Scalars, the objective is what every step lowers; the probabilities
cross where the model changes its mind. Under Histograms, `attack/gradient` narrows as the objective
flattens."""
READ_TRAINING = """How to read the rest: under Scalars, `loss` and `accuracy` of the runs `train`
and `test` overlay: a gap between them would be overfitting. Under Images, `templates` has the
weights of each class as a picture, one slider for the epochs: bright pixels speak for the class,
dark ones against it. Under Graphs, the compiled epoch."""

_PACKAGES = ("mnist_adv", "tensorflow", "numpy")


def budget(result: AttackResult) -> str:
    """Say how far the image may move.

    Args:
        result: any.

    Returns:
        The norm and epsilon: "linf at most 0.3 (76.5 of 255 levels)".
    """
    if math.isinf(result.epsilon):
        return f"{result.norm.value} as small as possible"
    levels = f" ({255 * result.epsilon:g} of 255 levels)" if result.norm is Norm.LINF else ""
    return f"{result.norm.value} at most {result.epsilon:g}{levels}"


def outcome(result: AttackResult, verdict: Verdict, class_names: Sequence[str]) -> list[str]:
    """Say what became of one image.

    Args:
        result: of one image.
        verdict: on the image as it was read back from its file.
        class_names: k names.

    Returns:
        Lines: reached or not, and what it cost.
    """
    wanted = int(result.goal.classes[0])
    name, steps = class_names[wanted], int(result.num_steps[0])
    now = seen(verdict.probabilities[0], class_names)
    if verdict.success[0] and not result.success[0]:
        lines = [
            f"NOT reached by the attack, only by rounding to 8 bits: the saved image is seen as "
            f"{now}; allow a larger --epsilon or more --num_steps"
        ]
    elif verdict.success[0]:
        effort = "" if result.method == "optimum" else f" in {_count(steps, 'step')}"
        lines = [f"reached{effort}: the saved image is seen as {now}"]
    elif verdict.reached[0] and not verdict.confident[0]:
        lines = [
            f"NOT reached with confidence {result.goal.confidence:g}: the best saved image is seen "
            f"as {now}; allow a larger --epsilon or more --num_steps"
        ]
    elif verdict.reached[0]:
        lines = ["NOT reached: the saved image left the budget or [0, 1]"]
    else:
        share = verdict.probabilities[0, wanted]
        lines = [
            f"NOT reached within the budget: the best saved image is seen as {now}, with {name} at "
            f"{share:.2%}; allow a larger --epsilon or more --num_steps"
        ]
    if result.success[0] and not verdict.success[0]:
        lines.append("the image before rounding to 8 bits did reach it")
    norms = {norm: float(values[0]) for norm, values in verdict.norms.items()}
    lines.append(
        f"perturbation: linf {norms['linf']:.4g}, l2 {norms['l2']:.4g}, l1 {norms['l1']:.4g}, "
        f"l0 {norms['l0']:.0f} pixels"
    )
    return lines


def record(result: AttackResult, verdict: Verdict) -> dict[str, Any]:
    """Turn the attack on one image into JSON.

    Args:
        result: of one image.
        verdict: on the image as it was read back from its file.

    Returns:
        Goal, threat model, what the model saw before, in the float image and in the saved one.
        "success": both images meet the goal; rounding alone is no success of an attack.
    """
    goal = result.goal
    return {
        "goal": {
            "kind": "reach" if goal.targeted else "leave",
            "class": int(goal.classes[0]),
            "confidence": goal.confidence,
        },
        "threat": {
            "norm": result.norm.value,
            "epsilon": result.epsilon if math.isfinite(result.epsilon) else None,
            "box": [0, 1],
            "knowledge": "white box: weights and gradients",
        },
        "before": {
            "prediction": int(verdict.clean_predictions[0]),
            "probabilities": verdict.clean_probabilities[0].tolist(),
        },
        "after": _judged(verdict),
        "after_before_rounding": _judged(result.verdict),
        "num_steps": int(result.num_steps[0]),
        "success": bool(result.success[0] and verdict.success[0]),
    }


def _judged(verdict: Verdict) -> dict[str, Any]:
    return {
        "prediction": int(verdict.predictions[0]),
        "probabilities": verdict.probabilities[0].tolist(),
        "norms": {name: float(values[0]) for name, values in verdict.norms.items()},
        "in_range": bool(verdict.in_range[0]),
        "in_budget": bool(verdict.in_budget[0]),
        "reached": bool(verdict.reached[0]),
        "confident": bool(verdict.confident[0]),
        "success": bool(verdict.success[0]),
    }


def optimum_lines(truth: Comparison | None, proof: Optimum | None) -> list[str]:
    """Say how far one image is from the smallest change that could do.

    Args:
        truth: the saved image beside the optimum; None if none is known.
        proof: the optimum, if it was what was asked for.

    Returns:
        Lines.
    """
    if truth is None:
        return []
    lines = [] if proof is None else [f"proof: {proof.sentence(0)}"]
    known, bound = truth.optimum.lower_bound[0], truth.ratio[0]
    if math.isfinite(bound):
        lines.append(f"the saved image: {truth.sentence} ({truth.optimum.norm} {known:.6g})")
    elif 0 < known < math.inf:
        lines.append(f"the smallest possible change: {truth.optimum.norm} {known:.6g}")
    return lines


def optimum_record(truth: Comparison) -> dict[str, Any]:
    """Turn the certificate of one image into JSON; infinite bounds become null.

    Args:
        truth: the saved image beside the optimum.

    Returns:
        Status, bounds, gap, dual variables, and the saved image's ratio to the lower bound.
    """
    optimum = truth.optimum
    numbers = {
        "lower_bound": optimum.lower_bound[0],
        "upper_bound": optimum.upper_bound[0],
        "relative_gap": optimum.gap[0],
        "saved_over_lower_bound": truth.ratio[0],
    }
    return {
        "status": optimum.status[0].name.lower(),
        "sentence": optimum.sentence(0),
        **{name: float(x) if math.isfinite(x) else None for name, x in numbers.items()},
        "dual_variables": optimum.dual_variables[0].tolist(),
    }


def gradient_table(errors: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Lay out how far the gradient sources are apart.

    Args:
        errors: dtype -> source -> relative disagreement, from `check_gradient`.

    Returns:
        Lines of a table.
    """
    sources = list(next(iter(errors.values())))
    lines = [
        f"  {'largest difference / largest derivative':<42}" + "".join(map("{:>12}".format, errors))
    ]
    for source in sources:
        cells = "".join(f"{errors[dtype][source]:>12.1e}" for dtype in errors)
        lines.append(f"  {source:<42}{cells}")
    return lines


def versions() -> dict[str, str]:
    """List the versions that a result depends on.

    Returns:
        Name -> version, Python's among them.
    """
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout, not installed
            from mnist_adv import __version__

            found[package] = __version__
    return found


def card(record: Mapping[str, Any], lines: Sequence[str], how_to_read: str) -> str:
    """Write the card that TensorBoard shows beside a run.

    Args:
        record: the run's record: command, flags, checkpoint, versions.
        lines: what was printed.
        how_to_read: where to look for what.

    Returns:
        Markdown.
    """
    given = {name: value for name, value in record["flags"].items() if value is not None}
    facts = {
        "command": f"`{record['command']}`",
        "settings": ", ".join(f"{name} {value}" for name, value in given.items()),
        "checkpoint": f"`{record['checkpoint']['prefix']}`, SHA-256 "
        f"`{record['checkpoint']['sha256'][:16]}...`",
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    said = "\n".join(f"    {line}" for line in lines)
    return f"| run | |\n|---|---|\n{rows}\n\n{said}\n\n{how_to_read}\n"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
