"""What an evaluation has to say: lines for a person, a record for a machine, one page for both."""

from __future__ import annotations

import base64
import html
import pathlib
import string
from collections.abc import Mapping, Sequence
from typing import Any

from mnist_adv.evaluation.analyse.checks import Check
from mnist_adv.evaluation.plan import Plan, Targets
from mnist_adv.evaluation.analyse.result import Evaluation
from mnist_adv.evaluation.analyse.statistics import WORST, Curve, Share
from mnist_adv.evaluation.analyse.table import Table
from mnist_adv.reporting.figures import png
from mnist_adv.geometry.norms import Norm

_TEMPLATE = pathlib.Path(__file__).with_name("report.html")
# Around the only section that quotes times, and so differs from run to run.
COSTS = "<!-- costs -->"
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
        Some of them.
    """
    return [curve for curve in curves if curve.form == form]


def record(found: Evaluation, extremes: Mapping[str, Any]) -> dict[str, Any]:
    """Turn an evaluation into JSON.

    Args:
        found: everything.
        extremes: the easiest and hardest rows.

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


def clean_accuracy(table: Table) -> Share:
    """Count the images that are classified correctly before anything is done to them."""
    correct = table.per_image(table.clean_correct.astype(int))
    return Share(int(correct.sum()), len(correct))


def lines(found: Evaluation) -> list[str]:
    """Say what was found, for a terminal.

    Args:
        found: everything.

    Returns:
        Lines.
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
    """Write the evaluation as one HTML page that needs nothing else.

    Args:
        found: everything.

    Returns:
        UTF-8, pictures inlined. All of it but the section on costs is the same in every run.
    """
    table, curves, pictures = found.table, found.curves, found.pictures
    plan = table.plan
    last = summary(curves)[-1]
    title = f"{plan.dataset} {plan.split}: {', '.join(plan.attacks)} ({plan.norm.value})"
    largest = f"{plan.norm.value} {plan.epsilons[-1]:g}"
    numbers = [
        ("clean accuracy", clean_accuracy(table)),
        (f"robust accuracy at {largest}", last.robust[-1]),
        (f"success at {largest}", last.success[-1]),
        ("the same, rounded to 8 bits", summary(curves, "saved")[-1].success[-1]),
    ]
    sections = [
        _section("Security curve", _curve_text(plan), _picture(pictures["curve"], "curves")),
        _section("In numbers", _shares_text(), _shares_table(plan, curves)),
        *_warnings_section(found.warnings),
        *_beside_section(found),
        _section("Distances", "How far the goals were.", _picture(pictures["distances"], "")),
        _section("Class by class", _matrix_text(plan), *_named(pictures, "matrix_")),
        _section(
            "Easiest",
            "Classified correctly, and the first to give way.",
            _picture(pictures["easiest"], "easiest images"),
        ),
        _section(
            "Hardest",
            "The last to give way; in red, where no attack met the goal.",
            _picture(pictures["hardest"], "hardest images"),
        ),
        _section(
            "At a glance",
            "Images spread evenly over what was measured: clean, changed " "and rounded to 8 bits.",
            _picture(pictures["mosaic"], "mosaic"),
        ),
        _section(
            "Checks", "What must be true of any sound evaluation.", _checks_table(found.checks)
        ),
        _section(
            "Settings",
            "The same settings give the same bytes, but for times.",
            _settings_table(plan),
        ),
    ]
    text = string.Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        threat=html.escape(f"Threat model: {threat(plan)}."),
        numbers="".join(
            f"<div class=number><b>{share.value:.2%}</b>{html.escape(name)}<br>"
            f"<span>{share.count} of {share.total}; 95 % interval {_interval(share)}</span></div>"
            for name, share in numbers
        ),
        sections="\n".join(sections),
    )
    return text.encode()


def _warnings_section(warnings: Sequence[str]) -> list[str]:
    if not warnings:
        return []
    text = "What is wrong with the model itself: the numbers on this page may mean little."
    return [
        _section(
            "Look at the model first", text, _rows([_cells(line, kind="text") for line in warnings])
        )
    ]


def _beside_section(found: Evaluation) -> list[str]:
    text = "What each attack asked of the model, per row and over all budgets."
    if found.beside is not None:
        text = (
            "The model is linear in the pixels, so the smallest change of every image is known, "
            "with a proof: the dashed line of the curves, which no honest attack can pass. Below, "
            "how far above it each attack is, how much it found of what exists at the largest "
            "budget, and what it asked of the model, per row and over all budgets."
        )
    text += (
        " Images per second are those of the middle chunk, one budget each; where there is one "
        "chunk only, they include compiling."
    )
    costs = found.costs
    tables = [_rows([_cells(*cost.cells()) for cost in costs.attacks], costs.head)]
    name = "What it cost" if found.beside is None else "Beside the certified optimum"
    return [f"{COSTS}{_section(name, text, *tables)}{COSTS}"]


def _curve_text(plan: Plan) -> str:
    text = (
        "Left, the images that are classified correctly whatever was tried, of all images; right, "
        "the rows whose goal was met. Bands are Wilson's 95 % intervals; dotted, the same for "
        "images rounded to 256 grey levels."
    )
    if len(plan.attacks) > 1:
        text += f" The {WORST} takes, for each image, whichever attack did best."
    return text


def _shares_text() -> str:
    return (
        'Success counts an image that is at its goal from the start; "of correct" leaves out '
        "those that are not classified correctly when clean."
    )


def _matrix_text(plan: Plan) -> str:
    if plan.targeted:
        return "Rows: true classes; columns: targets. Where the median is infinite, most missed."
    return "Rows are the true classes, columns what the images ended as."


def _shares_table(plan: Plan, curves: Sequence[Curve]) -> str:
    head = (
        "attack",
        "epsilon",
        "success",
        "95 % interval",
        "of correct",
        "8 bits",
        "robust",
        "95 % interval",
        "of correct",
        "8 bits",
    )
    rows = []
    for curve, saved in zip(summary(curves), summary(curves, "saved")):
        for number, epsilon in enumerate(plan.epsilons):
            success, robust = curve.success[number], curve.robust[number]
            rows.append(
                _cells(
                    curve.name,
                    f"{epsilon:g}",
                    f"{success.value:.2%}",
                    _interval(success),
                    f"{curve.success_of_correct[number].value:.2%}",
                    f"{saved.success[number].value:.2%}",
                    f"{robust.value:.2%}",
                    _interval(robust),
                    f"{curve.robust_of_correct[number].value:.2%}",
                    f"{saved.robust[number].value:.2%}",
                )
            )
    return _rows(rows, head)


def _section(title: str, text: str, *content: str) -> str:
    return f"<h2>{html.escape(title)}</h2>\n<p>{html.escape(text)}</p>\n" + "\n".join(content)


def _picture(pixels: Any, alt: str) -> str:
    encoded = base64.b64encode(png(pixels)).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{encoded}">'


def _named(pictures: Mapping[str, Any], prefix: str) -> list[str]:
    return [
        _picture(pixels, f"{name.removeprefix(prefix)} by class")
        for name, pixels in pictures.items()
        if name.startswith(prefix)
    ]


def _rows(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    top = "<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>"
    body = "".join("<tr>" + "".join(row) + "</tr>\n" for row in rows)
    return f"<div class=scroll><table>{top if head else ''}{body}</table></div>"


def _cells(*values: str, kind: str = "") -> list[str]:
    mark = f" class={kind}" if kind else ""
    return [f"<td{mark}>{html.escape(value)}</td>" for value in values]


def _checks_table(checks: Sequence[Check]) -> str:
    return _rows(
        [
            [
                *_cells("holds" if check.holds else "FAILS", kind="good" if check.holds else "bad"),
                *_cells(check.statement, check.detail, kind="text"),
            ]
            for check in checks
        ]
    )


def _settings_table(plan: Plan) -> str:
    settings = {**plan.settings(), "digest": plan.digest}
    return _rows(
        [[*_cells(name), *_cells(_plain(value), kind="text")] for name, value in settings.items()]
    )


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
