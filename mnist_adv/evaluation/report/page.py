"""Report an evaluation: lines for a terminal, a record as JSON, one HTML page."""

from __future__ import annotations

import base64
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np

from mnist_adv.drawing.canvas import clipped, png
from mnist_adv.evaluation.analyse import statistics
from mnist_adv.evaluation.analyse.band import CERTIFIED, Band
from mnist_adv.evaluation.analyse.parts import head, lay_out
from mnist_adv.evaluation.analyse.statistics import Curve, Share, clean_accuracy
from mnist_adv.evaluation.analyse.table import Table
from mnist_adv.evaluation.measure.chunk import MARKS
from mnist_adv.evaluation.plan import Plan, Targets
from mnist_adv.evaluation.report.cases import Case
from mnist_adv.evaluation.report.figures import most_frequent
from mnist_adv.evaluation.result import Evaluation
from mnist_adv.geometry.norms import Norm

_GRID = 201  # distances at which the cumulative curve is counted
_MOST_BARS, _LONGEST_NAME = 10, 12
# Picture, title and text of the sections that show images.
_GALLERIES = (
    ("easiest", "Easiest", "Classified correctly when clean, and misclassified the soonest."),
    (
        "hardest",
        "Hardest",
        "Classified correctly the longest; framed in red, where no attack met the goal.",
    ),
    (
        "mosaic",
        "Overview",
        "Images spread evenly over what was measured: clean, changed and rounded to 8 bits.",
    ),
)
# What is said of a setting that is not set.
_UNSET = {
    "reading": "as the file says",
    "num_steps": "each attack's own",
    "step_size": "each attack's own",
    "attack_settings": "each attack's own",
    "confidence": "any",
    "max_queries": "no limit",
    "certify_method": "not certified",
}
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
        "band": None if found.band is None else found.band.record(),
        "optimum": None if found.beside is None else found.beside.record(),
        "costs": found.costs.record(),
        "parts": [part.record() for part in found.costs.parts],
        "over_queries": {"passes": list(MARKS), "median_distance": table.medians_over_queries()},
        "warnings": found.warnings,
        "checks": [
            {
                "statement": check.statement,
                "holds": check.holds,
                "decisive": check.decisive,
                "detail": check.told,
            }
            for check in found.checks
        ],
    }


def lines(found: Evaluation) -> list[str]:
    """Summarise an evaluation for a terminal.

    Args:
        found: the evaluation.

    Returns:
        The lines; the last but those on what is wrong are a table by epsilon.
    """
    plan = found.table.plan
    said = [
        f"threat: {threat(plan)}",
        f"clean accuracy: {_told(clean_accuracy(found.table))}",
        "",
        *found.costs.lines(),
    ]
    if found.costs.parts:
        said += ["", "parts of ensembles (images attacked, and goals each reached, by budget):"]
        said += lay_out(found.costs.parts, plan.epsilons)
    if plan.targeted:
        said += ["", "success (share of the cases whose target is reached):"]
        said += _by_epsilon(found, "success")
    said += ["", "robust accuracy (share of the images classified correctly after the attack):"]
    said += _by_epsilon(found, "robust", found.band)
    if found.band is not None:
        said += ["", f"{plan.norm.value}: {found.band.sentence}"]
    said += [f"doctor: {warning}" for warning in found.warnings]
    failed = [check for check in found.checks if not check.holds]
    said.append(f"checks: {len(found.checks) - len(failed)} of {len(found.checks)} hold")
    said += [f"  {check.verdict}: {check.statement}: {check.told}" for check in failed]
    return said


def _by_epsilon(found: Evaluation, what: str, band: Band | None = None) -> list[str]:
    """Lay out a table: a line per epsilon, a column per attack."""
    plan = found.table.plan
    floats, saved = summary(found.curves), summary(found.curves, "saved")
    columns = [(curve.name, getattr(curve, what)) for curve in floats]
    columns.append((f"{saved[-1].name} in 8 bits", getattr(saved[-1], what)))
    if found.beside is not None:
        columns.append((found.beside.curve.name, getattr(found.beside.curve, what)))
    if band is not None:
        columns.append((f"{CERTIFIED} ({band.method})", band.certified))
    heads = [f"{plan.norm.value} epsilon", *(name for name, _ in columns)]
    rows = [
        [f"{epsilon:g}", *(f"{shares[number].value:.2%}" for _, shares in columns)]
        for number, epsilon in enumerate(plan.epsilons)
    ]
    rows.append(["median distance", *(_distance(curve.median) for curve in floats)])
    rows[-1] += [_distance(saved[-1].median)]
    if found.beside is not None:
        rows[-1].append(_distance(found.beside.curve.median))
    if band is not None:
        rows[-1].append("")
    widths = [max(len(row[place]) for row in (heads, *rows)) for place in range(len(heads))]
    return [
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths))
        for row in (heads, *rows)
    ]


def page(
    found: Evaluation, galleries: Mapping[str, Sequence[Case]], class_names: Sequence[str]
) -> bytes:
    """Write the evaluation as one HTML page that needs no other file.

    Args:
        found: the evaluation.
        galleries: name -> the cases that are shown.
        class_names: k names.

    Returns:
        UTF-8, images inlined. All of it but the section on costs is the same in every run.
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
            *(
                ((f"certified at {largest}", found.band.certified[-1]),)
                if found.band is not None
                else ()
            ),
        ),
        attacks=list(zip(summary(found.curves), summary(found.curves, "saved"))),
        distance=_distance,
        matrices=_matrices(found.table, class_names),
        galleries=[each for each in _GALLERIES if each[0] in galleries],
        evaluation=found,
        part_head=head(plan.epsilons),
        data=data(found, galleries, class_names),
        settings={
            name: _UNSET.get(name, "none") if value in (None, "", {}) else value
            for name, value in {**plan.settings(), "digest": plan.digest}.items()
        },
    )
    return text.encode()


def data(
    found: Evaluation, galleries: Mapping[str, Sequence[Case]], class_names: Sequence[str]
) -> dict[str, Any]:
    """Collect what the page's program draws.

    Args:
        found: the evaluation.
        galleries: name -> the cases that are shown.
        class_names: k names.

    Returns:
        JSON-serialisable.
    """
    table = found.table
    attained = table.distance("float")
    met = attained[np.isfinite(attained)]
    grid = np.linspace(0, float(met.max()) if met.size and met.max() else 1.0, _GRID)
    return {
        "norm": table.plan.norm.value,
        "epsilons": list(table.plan.epsilons),
        "classes": list(class_names),
        "curves": [
            {
                "name": curve.name,
                "form": curve.form,
                "robust": [_point(share) for share in curve.robust],
                "success": [_point(share) for share in curve.success],
            }
            for curve in found.drawn
        ],
        "distances": {
            "grid": grid.tolist(),
            "total": attained.shape[1],
            "counts": {
                name: np.searchsorted(np.sort(values), grid, side="right").tolist()
                for name, values in zip(table.plan.attacks, attained)
            },
        },
        "over_queries": {"passes": list(MARKS), "medians": table.medians_over_queries()},
        "galleries": {
            name: [_shown(case, class_names, found) for case in cases]
            for name, cases in galleries.items()
        },
        "band": None
        if found.band is None
        else {
            "method": found.band.method,
            "certified": [_point(share) for share in found.band.certified],
            "unbroken": [_point(share) for share in found.band.unbroken],
            "open": [_point(share) for share in found.band.open],
        },
    }


def _point(share: Share) -> list[float]:
    return [share.count, share.total, *share.interval]


def _shown(case: Case, class_names: Sequence[str], found: Evaluation) -> dict[str, Any]:
    """Turn a case into JSON, with the classes that matter most to it."""
    proved: float | str = ""
    if found.band is not None:
        image = np.searchsorted(np.unique(found.table["index"]), case.index)
        proved = float(found.band.proved_radius[image])
    likeliest = np.argsort(-np.maximum(case.before, case.after), kind="stable")[:_MOST_BARS]
    return {
        "index": case.index,
        "label": class_names[case.label],
        "target": class_names[case.target] if case.target >= 0 else "",
        "attack": case.attack,
        "distance": case.distance if np.isfinite(case.distance) else "",
        "proved": proved,
        "clean": base64.b64encode(png(case.clean)).decode(),
        "changed": base64.b64encode(png(case.changed)).decode(),
        "sees": [class_names[int(each.argmax())] for each in (case.before, case.after)],
        "probabilities": [
            [class_names[k], round(float(case.before[k]), 6), round(float(case.after[k]), 6)]
            for k in np.sort(likeliest).tolist()
        ],
    }


def _matrices(table: Table, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Format true class by target, or by what the image became, of each attack."""
    drawn = []
    for number, name in enumerate(table.plan.attacks):
        found = statistics.matrices(table, number, "float")
        chosen = most_frequent(found.counts)
        cell = np.ix_(chosen, chosen)
        some, far = found.counts[cell] > 0, found.distance[cell]
        longest = float(far[np.isfinite(far)].max(initial=0)) or 1.0
        drawn.append({
            "name": name,
            "heads": [clipped(class_names[k], _LONGEST_NAME) for k in chosen],
            "share": _cells(some, found.success[cell], "{:.0%}", 1.0),
            "distance": _cells(some, far, "{:.2g}", longest),
        })
    return drawn


def _cells(
    some: np.ndarray, values: np.ndarray, form: str, largest: float
) -> list[list[tuple[str, float]]]:
    """Format a matrix: of each cell its text and its share of the largest; blank without images."""

    def text(value: float) -> str:
        if np.isinf(value):
            return "–"
        said = form.format(value).removesuffix("%")
        return said.removeprefix("0") if said.startswith("0.") else said

    shades = np.where(np.isfinite(values), values, 0.0) / largest
    return [
        [(text(value), shade) if known else ("", 0.0) for known, value, shade in zip(*row)]
        for row in zip(some.tolist(), values.tolist(), shades.tolist())
    ]


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _told(share: Share) -> str:
    return f"{share.value:.2%} ({share.count} of {share.total}; 95 % interval {_interval(share)})"


def _interval(share: Share) -> str:
    low, high = share.interval
    return f"{low:.2%} to {high:.2%}"


def _distance(value: float | None) -> str:
    return "most missed" if value is None else f"{value:.4g}"
