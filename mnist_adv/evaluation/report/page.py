"""Report an evaluation: lines for a terminal, a record as JSON, one HTML page."""

from __future__ import annotations

import base64
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from mnist_adv.drawing.canvas import png
from mnist_adv.evaluation.analyse.statistics import Curve, Share, clean_accuracy
from mnist_adv.evaluation.plan import Plan, Targets
from mnist_adv.evaluation.result import Evaluation
from mnist_adv.geometry.norms import Norm

# Picture, title and text of the sections that show images.
_GALLERIES = (
    ("easiest", "Easiest", "Classified correctly when clean, and misclassified the soonest."),
    (
        "hardest",
        "Hardest",
        "Classified correctly the longest; in red, where no attack met the goal.",
    ),
    (
        "mosaic",
        "Overview",
        "Images spread evenly over what was measured: clean, changed and rounded to 8 bits.",
    ),
)
_GOALS = {
    Targets.UNTARGETED: "away from the label",
    Targets.RANDOM: "to a random other class",
    Targets.NEXT: "to the next class",
    Targets.LEAST_LIKELY: "to the class that the model finds least likely",
    Targets.ALL: "to each of the other classes",
}


def threat(plan: Plan) -> str:
    """State the threat model in one line.

    Args:
        plan: what was measured.

    Returns:
        Goal, budget and its unit, box, what the attacker knows, and the model.
    """
    largest = plan.epsilons[-1]
    levels = f" ({255 * largest:g} of 255 levels)" if plan.norm is Norm.LINF else ""
    return (
        f"{_GOALS[plan.targets]}, {plan.norm.value} at most {largest:g}{levels}, pixels in [0, 1], "
        f"white box (weights and gradients known), model {plan.checkpoint[:12]}"
    )


def summary(curves: Sequence[Curve], form: str = "float") -> list[Curve]:
    """Take the curves of one form, the worst case last.

    Args:
        curves: from `statistics.curves`.
        form: "float" or "saved".

    Returns:
        The curves of that form.
    """
    return [curve for curve in curves if curve.form == form]


def record(found: Evaluation, extremes: Mapping[str, Any]) -> dict[str, Any]:
    """Turn an evaluation into JSON.

    Args:
        found: the evaluation.
        extremes: the easiest and hardest cases.

    Returns:
        JSON-serialisable; the same for the same results, with no clock and no path.
    """
    table = found.table
    return {
        "threat": threat(table.plan),
        "digest": table.plan.digest,
        "settings": table.plan.settings(),
        "clean_accuracy": clean_accuracy(table).record(),
        "epsilons": list(table.plan.epsilons),
        "curves": [
            {
                "attack": curve.name,
                "image": curve.form,
                "median_distance": curve.median,
                **{
                    name: [share.record() for share in getattr(curve, name)]
                    for name in ("success", "success_of_correct", "robust", "robust_of_correct")
                },
            }
            for curve in found.curves
        ],
        **extremes,
        "optimum": None if found.beside is None else found.beside.record(),
        "costs": found.costs.record(),
        "warnings": found.warnings,
        "checks": [
            {"statement": check.statement, "holds": check.holds, "detail": check.detail}
            for check in found.checks
        ],
    }


def lines(found: Evaluation) -> list[str]:
    """Summarise an evaluation for a terminal.

    Args:
        found: the evaluation.

    Returns:
        The lines.
    """
    table, curves, checks = found.table, found.curves, found.checks
    plan = table.plan
    said = [
        f"threat: {threat(plan)}",
        f"clean accuracy: {_told(clean_accuracy(table))}",
        f"at {plan.norm.value} {plan.epsilons[-1]:g}:",
        f"  {'':<16}{'success':>9}{'of correct':>12}{'8 bits':>9}{'robust':>9}{'median':>10}",
    ]
    for curve, saved in zip(summary(curves), summary(curves, "saved")):
        said.append(
            f"  {curve.name:<16}{curve.success[-1].value:>9.2%}"
            f"{curve.success_of_correct[-1].value:>12.2%}{saved.success[-1].value:>9.2%}"
            f"{curve.robust[-1].value:>9.2%}{_distance(curve.median):>10}"
        )
    said += found.costs.lines()
    said += [f"doctor: {warning}" for warning in found.warnings]
    failed = [check for check in checks if not check.holds]
    said.append(f"checks: {len(checks) - len(failed)} of {len(checks)} hold")
    said += [f"  FAILED: {check.statement}: {check.detail}" for check in failed]
    return said


def page(found: Evaluation) -> bytes:
    """Write the evaluation as one HTML page that needs no other file.

    Args:
        found: the evaluation.

    Returns:
        UTF-8, pictures inlined. All of it but the section on costs is the same in every run.
    """
    plan, last = found.table.plan, summary(found.curves)[-1]
    largest = f"{plan.norm.value} {plan.epsilons[-1]:g}"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent="{:.2%}".format, interval=_interval, plain=_plain)
    text = environment.get_template("report.html").render(
        title=f"{plan.dataset} {plan.split}: {', '.join(plan.attacks)} ({plan.norm.value})",
        threat=threat(plan),
        plan=plan,
        numbers=(
            ("clean accuracy", clean_accuracy(found.table)),
            (f"robust accuracy at {largest}", last.robust[-1]),
            (f"success at {largest}", last.success[-1]),
            ("the same, rounded to 8 bits", summary(found.curves, "saved")[-1].success[-1]),
        ),
        shares=_shares(plan, found.curves),
        galleries=[each for each in _GALLERIES if each[0] in found.pictures],
        evaluation=found,
        pictures={
            name: base64.b64encode(png(pixels)).decode() for name, pixels in found.pictures.items()
        },
        settings={**plan.settings(), "digest": plan.digest},
    )
    return text.encode()


def _shares(plan: Plan, curves: Sequence[Curve]) -> list[tuple[str, ...]]:
    return [
        (
            curve.name,
            f"{epsilon:g}",
            f"{curve.success[number].value:.2%}",
            _interval(curve.success[number]),
            f"{curve.success_of_correct[number].value:.2%}",
            f"{saved.success[number].value:.2%}",
            f"{curve.robust[number].value:.2%}",
            _interval(curve.robust[number]),
            f"{curve.robust_of_correct[number].value:.2%}",
            f"{saved.robust[number].value:.2%}",
        )
        for curve, saved in zip(summary(curves), summary(curves, "saved"))
        for number, epsilon in enumerate(plan.epsilons)
    ]


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _told(share: Share) -> str:
    return f"{share.value:.2%} ({share.count} of {share.total}; 95 % interval {_interval(share)})"


def _interval(share: Share) -> str:
    low, high = share.interval
    return f"{low:.2%} to {high:.2%}"


def _distance(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
