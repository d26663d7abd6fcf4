"""Checks of what must be true of any sound evaluation.

See Carlini et al., "On Evaluating Adversarial Robustness", 2019. A check that fails points to a
bug in an attack or in the measuring, or to useless gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.data import datasets
from mnist_adv.evaluation.analyse.check import Check
from mnist_adv.evaluation.analyse.statistics import Curve
from mnist_adv.evaluation.analyse.strength import check_strength
from mnist_adv.evaluation.analyse.table import Table
from mnist_adv.evaluation.measure.chunk import FORMS, Places
from mnist_adv.evaluation.measure.store import Store
from mnist_adv.models.logits import predict
from mnist_adv.verdict.judge import TOLERANCE

if TYPE_CHECKING:
    from mnist_adv.models.model import Model


def check_all(
    store: Store, table: Table, curves: list[Curve], model: Model, places: Places
) -> list[Check]:
    """Check an evaluation.

    Args:
        store: the result files, whose images are classified again.
        table: their cases.
        curves: the curves that are reported.
        model: images -> logits.
        places: where the data are.

    Returns:
        All checks, whether they hold or not.
    """
    return [
        _clean_accuracy(table, curves),
        *_zero_budget(table),
        _never_falls(curves),
        *_saved_images(store, table, model, places),
        *_baselines(table),
        *check_strength(table),
    ]


def _clean_accuracy(table: Table, curves: list[Curve]) -> Check:
    correct = int(table.per_image(table.clean_correct.astype(np.int64)).sum())
    most = max(curve.robust[0].count for curve in curves)
    return Check(
        "robust accuracy never exceeds the clean accuracy on the same images",
        most <= correct,
        f"{correct} images are classified correctly when clean, {most} at the smallest budget",
    )


def _zero_budget(table: Table) -> list[Check]:
    if table.plan.epsilons[0] > 0:
        return []
    limited = [not ATTACKS[name].attack.minimal for name in table.plan.attacks]
    moved = float(table["moved_at_zero"].max())
    wanted = table["target"] if table.plan.targeted else table["label"]
    at_once = (table["clean_prediction"] == wanted) == table.plan.targeted
    met = table.distance("float") <= TOLERANCE
    wrong = int((met[limited] != at_once).sum()) if any(limited) else 0
    return [
        Check(
            "epsilon 0 leaves every image as it is, and the clean accuracy",
            moved == 0 and wrong == 0,
            f"pixels changed by at most {moved:g}; {wrong} cases differ from the clean prediction",
        )
    ]


def _never_falls(curves: list[Curve]) -> Check:
    falls = sum(
        after.count < before.count
        for curve in curves
        for before, after in zip(curve.success, curve.success[1:])
    )
    return Check(
        "success never falls when epsilon grows",
        falls == 0,
        "a goal met in a small ball is met in every larger one"
        if falls == 0
        else f"it falls {falls} times",
    )


def _saved_images(store: Store, table: Table, model: Model, places: Places) -> list[Check]:
    """Verify the 8-bit images from the bytes on disk, by code that did not make them."""
    plan, verified, wrong, longest = store.plan, 0, 0, 0.0
    names = (
        "index",
        "label",
        "target",
        "budget",
        "saved_success",
        "saved_prediction",
        "levels",
        *(f"saved_{norm}" for norm in ("linf", "l2", "l1", "l0")),
    )
    for chunk, part in zip(plan.chunks(), store.read(names)):
        loaded = places.data(plan).load(chunk.rows)
        clean = loaded.images.reshape(len(loaded.images), -1)[part["index"] - chunk.first]
        clean = clean.astype(np.float64)
        for number in range(len(plan.attacks)):
            pixels = datasets.to_float(part["levels"][number])
            logits = predict(model, pixels).astype(np.float64)
            predictions = logits.argmax(axis=1)
            length = _length(
                plan.norm.value, pixels.reshape(clean.shape).astype(np.float64) - clean
            )
            met = predictions == part["target"] if plan.targeted else predictions != part["label"]
            claimed = part["saved_success"][number]
            claimed_length = part[f"saved_{plan.norm.value}"][number]
            wrong += int(
                (claimed & ~met).sum() + (np.abs(length - claimed_length) > TOLERANCE).sum()
            )
            wrong += int((predictions != part["saved_prediction"][number]).sum())
            verified += len(predictions)
            if not ATTACKS[plan.attacks[number]].attack.minimal:
                longest = max(longest, float(length.max(initial=0)))
    budget = plan.epsilons[-1]
    return [
        Check(
            "the saved 8-bit images, read back from disk, agree with what is reported of them",
            wrong == 0,
            f"{verified} images classified again, {wrong} claims differ",
        ),
        Check(
            "no saved image leaves the largest budget",
            longest <= budget + TOLERANCE,
            f"the longest perturbation is {longest:.6g} of {budget:g}",
        ),
    ]


def _length(norm: str, difference: np.ndarray) -> np.ndarray:
    sizes = np.abs(difference)
    if norm == "linf":
        return sizes.max(axis=1)
    if norm == "l2":
        return np.sqrt((sizes**2).sum(axis=1))
    return sizes.sum(axis=1) if norm == "l1" else (sizes > 0).sum(axis=1).astype(np.float64)


def _baselines(table: Table) -> list[Check]:
    names = table.plan.attacks
    noise = [number for number, name in enumerate(names) if ATTACKS[name].baseline]
    rest = [number for number in range(len(names)) if number not in noise]
    if not noise or not rest:
        return []
    counts = {form: np.isfinite(table.distance(form)).sum(axis=1) for form in FORMS}["float"]
    best, worst = int(counts[noise].max()), int(counts[rest].min())
    weakest = names[rest[int(counts[rest].argmin())]]
    return [
        Check(
            "no attack reaches fewer goals than random noise",
            worst >= best,
            f"the weakest, {weakest}, meets {worst} goals, the strongest noise {best}",
            remedy="its gradients mislead it or vanish: look at --doctor",
        )
    ]
