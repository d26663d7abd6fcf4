"""Signs that the attacks of an evaluation were weaker than they could be, each with its remedy.

Croce and Hein's AutoAttack ("Reliable Evaluation of Adversarial Robustness", 2020) and Carlini et
al. ("On Evaluating Adversarial Robustness", 2019) ask for them. They make no result wrong: robust
accuracy is an upper bound, and they say that it may be far from what a better attack finds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from mnist_adv.attacks.methods.pgd import PGD
from mnist_adv.attacks.registry import ATTACKS, NamedAttack
from mnist_adv.attacks.task import Task
from mnist_adv.evaluation.analyse.check import Check
from mnist_adv.evaluation.analyse.table import Table
from mnist_adv.verdict.judge import TOLERANCE

_MASKED = (
    "gradients may be masked: look at --doctor, and attack with more steps, restarts, another loss "
    "(apgd_t), or gradients from --source nes"
)
_NAMED = 5  # images named in a line
_MOST_NOISE = 0.05  # share of the correctly classified that noise may break
_MOST_MISSED = 0.1  # share of all cases that an attack may miss beside another


def check_strength(table: Table) -> Iterator[Check]:
    """Look for signs of weak attacks at the largest budget.

    Args:
        table: all cases.

    Yields:
        A check for each sign that these attacks can show; none is decisive.
    """
    rows = [ATTACKS[name] for name in table.plan.attacks]
    met = table.distance("float") <= table.plan.epsilons[-1] + TOLERANCE
    yield from _black_box(table, rows, met)
    yield from _parts(table, met)
    yield from _noise(table, rows, met)
    yield from _more_steps(table, rows, met)
    yield from _weaker(table, rows, met)


def _black_box(table: Table, rows: list[NamedAttack], met: np.ndarray) -> Iterator[Check]:
    asked, differentiated = table["num_queries"].any(axis=1), table["num_gradients"].any(axis=1)
    noise = np.array([row.baseline for row in rows])
    black, white = asked & ~differentiated & ~noise, differentiated
    if not black.any() or not white.any():
        return
    alone = np.logical_and(met[black].any(axis=0), ~met[white].any(axis=0))
    yield Check(
        "no attack without gradients meets a goal that all attacks with gradients miss",
        not alone.any(),
        f"{int(alone.sum())} goals{_images(table, alone)}",
        remedy=_MASKED,
        decisive=False,
    )


def _parts(table: Table, met: np.ndarray) -> Iterator[Check]:
    # Which attacks ask for gradients does not depend on the model, and no cost calls it.
    task = Task(_no_model, table.plan.targeted, table.plan.norm, 2, (1, 1, 1))
    compared, alone = [], []
    for number, (name, parts) in enumerate(zip(table.plan.attacks, table.parts)):
        blind = [part for part in parts if not ATTACKS[part].attack.cost(task)[1]]
        blind = [part for part in blind if not ATTACKS[part].baseline]
        if not blind or len(blind) == len(parts) or ATTACKS[name].attack.minimal:
            continue  # a later part of a minimal one looks for less than an earlier one found
        compared.append(name)
        makers = table.makers()[number]
        for part in blind:
            found = met[number] & (makers == part)
            if found.any():
                count = int(found.sum())
                goals = f"{count} goal{'s' * (count != 1)} that the parts before it missed"
                alone.append(f"{part} of {name} meets {goals}{_images(table, found)}")
    if compared:
        yield Check(
            "no part without gradients meets a goal that the parts with gradients before it missed",
            not alone,
            "; ".join(alone) or f"of {', '.join(compared)}",
            remedy=_MASKED,
            decisive=False,
        )


def _no_model(images: Any) -> Any:
    raise NotImplementedError("only the number of its passes is asked for")


def _noise(table: Table, rows: list[NamedAttack], met: np.ndarray) -> Iterator[Check]:
    noise = np.array([row.baseline for row in rows])
    correct = table.clean_correct
    if not noise.any() or not correct.any():
        return
    share = met[noise].any(axis=0)[correct].mean()
    yield Check(
        f"random noise meets at most {_MOST_NOISE:.0%} of the goals of correctly classified images",
        bool(share <= _MOST_NOISE),
        f"it meets {share:.2%} of them",
        remedy="no attack is needed at this budget: report a smaller epsilon too, and train with "
        "noise first",
        decisive=False,
    )


def _more_steps(table: Table, rows: list[NamedAttack], met: np.ndarray) -> Iterator[Check]:
    if table.plan.num_steps is not None:
        return  # all take the same number
    descents = [
        (row.attack.num_steps, row.name, number)
        for number, row in enumerate(rows)
        if isinstance(row.attack, PGD) and table["num_gradients"][number].any()
    ]
    pairs = [
        (few, many) for few, many in itertools.combinations(sorted(descents), 2) if few[0] < many[0]
    ]
    if not pairs:
        return
    less = [
        f"{many[1]} in {many[0]} steps meets {met[many[2]].sum()} goals, "
        f"{few[1]} in {few[0]} meets {met[few[2]].sum()}"
        for few, many in pairs
        if met[many[2]].sum() < met[few[2]].sum()
    ]
    yield Check(
        "descents in more steps meet no fewer goals",
        not less,
        "; ".join(less) or f"{len(pairs)} pairs of attacks compared",
        remedy="gradients may be masked, or steps too small to cross the ball: set --step_size to "
        "2.5 epsilon / steps, and look at --doctor",
        decisive=False,
    )


def _weaker(table: Table, rows: list[NamedAttack], met: np.ndarray) -> Iterator[Check]:
    attacks = [number for number, row in enumerate(rows) if not row.baseline]
    if len(attacks) < 2:
        return
    weak = []
    for number in attacks:
        missed = (met & ~met[number]).sum(axis=1)
        best = int(missed.argmax())
        if missed[best] > _MOST_MISSED * met.shape[1]:
            seen = met[best] & ~met[number]
            weak.append(
                f"{rows[number].name} misses {missed[best]} goals that {rows[best].name} meets"
                f"{_images(table, seen)}"
            )
    yield Check(
        f"no attack misses more than {_MOST_MISSED:.0%} of the goals where another meets them",
        not weak,
        "; ".join(weak) or f"{len(attacks)} attacks compared",
        remedy="never report the weaker alone: give it more --num_steps, a larger --step_size or "
        "restarts, or leave it out",
        decisive=False,
    )


def _images(table: Table, chosen: np.ndarray) -> str:
    """Name the first few images of the chosen cases."""
    index = np.unique(table["index"][chosen])
    named = ", ".join(map(str, index[:_NAMED].tolist()))
    more = ", ..." if len(index) > _NAMED else ""
    return f" (images {named}{more})" if len(index) else ""
