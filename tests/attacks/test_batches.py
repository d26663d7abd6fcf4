"""Every attack, in two of its norms: a batch gives, bit for bit, what its images give alone."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

from mnist_adv import attack
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.geometry.norms import Norm
from mnist_adv.models import checkpoints
from mnist_adv.tensors import compilation

pytestmark = pytest.mark.slow

BUDGET = {Norm.LINF: 0.08, Norm.L2: 1.0, Norm.L1: 8.0, Norm.L0: 15.0}
SEARCHED = ("carlini_wagner", "ead", "bisection", "apgd_minimal")
# One of each algorithm gets more images than lanes, so that lanes are taken again.
REFILLED = {
    ("pgd", Norm.LINF),
    ("mi_fgsm", Norm.L2),
    ("apgd_ce", Norm.L1),
    ("square", Norm.L2),
    ("square", Norm.L1),
    ("deepfool", Norm.LINF),
    ("fab", Norm.L2),
    ("ddn", Norm.L2),
    ("fmn", Norm.L0),
    ("alma", Norm.L2),
    ("carlini_wagner", Norm.L2),
    ("ead", Norm.L1),
    ("jsma", Norm.L0),
    ("sigma_zero", Norm.L0),
    ("pdpgd", Norm.L2),
    ("boundary", Norm.L2),
    ("hop_skip_jump", Norm.LINF),
    ("blend", Norm.L1),
    ("optimum", Norm.LINF),
}


# Settings of PGD or AutoPGD that another row tries in every norm: one norm each will do.
SETTINGS_ALONE = {
    "fgsm": Norm.L1,
    "bim": Norm.L2,
    "sign_until_flip": Norm.LINF,
    "apgd_dlr": Norm.L2,
    "apgd_t": Norm.LINF,
    "fab_t": Norm.L1,
    "autoattack_plus": Norm.L2,
    "autoattack_rand": Norm.LINF,
    "spsa": Norm.LINF,
    "nes": Norm.L1,
}


def cases() -> list[Any]:
    """Norms of each algorithm, the goals in turn; both goals of an attack with one norm."""
    found = []
    for name, row in ATTACKS.items():
        norms = (SETTINGS_ALONE[name],) if name in SETTINGS_ALONE else row.attack.norms
        if name in SETTINGS_ALONE:
            found.append(pytest.param(name, norms[0], "labels", id=f"{name}-{norms[0].value}"))
            continue
        # Two norms of each: the others differ in arithmetic that tests/geometry tries.
        every = name == "autoattack"  # whose parts are not the same in all of them
        norms = tuple(n for n in norms if every or (name, n) in REFILLED or n in norms[:2])
        for number, norm in enumerate(norms if len(norms) > 1 else 2 * norms):
            goal = ("targets", "labels")[number % 2]
            found.append(pytest.param(name, norm, goal, id=f"{name}-{norm.value}-{goal}"))
    return found


@pytest.mark.parametrize(("name", "norm", "goal"), cases())
def test_a_batch_is_its_images_one_by_one(
    workshop: pathlib.Path,
    test_set: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    norm: Norm,
    goal: str,
) -> None:
    method = ATTACKS[name].attack
    count = 8
    if (name, norm) in REFILLED and not (len(method.norms) == 1 and goal == "labels"):
        count = 24
    # XLA's programs for one of each algorithm, plain graphs for the rest: three times as quick.
    monkeypatch.setattr(compilation, "XLA", count > 8)
    own_model = checkpoints.restore(workshop / "checkpoints")  # no programs of other tests
    chosen = [0, 1, count // 2, count - 3, count - 2, count - 1]
    labels = test_set.labels[:count]
    classes = (labels + 1) % 10 if goal == "targets" else labels
    options: dict[str, Any] = {"method": name, "norm": norm}
    own: dict[str, Any] = {"epsilon": np.full(count, np.inf)}
    if name in SEARCHED:
        options["num_searches"] = 3
    if name in ("carlini_wagner", "ead"):
        options["first_constant"] = 10.0  # few steps lead somewhere
    if name == "hop_skip_jump":
        options["first_samples"] = 5  # few queries come to a jump
    if method.needs_donors:
        options["donors"] = (test_set.images[500:700], test_set.labels[500:700])
    if not method.minimal:
        own["epsilon"] = BUDGET[norm] * (0.5 + np.arange(count) % 4 / 4)
    if method.takes_steps:
        own["num_steps"] = 2 + np.arange(count) % 7  # lanes become free one after the other
    if name in ("boundary", "hop_skip_jump"):
        own["num_steps"] += 50  # of one query each
    together = attack(
        own_model,
        test_set.images[:count],
        **{goal: classes},
        **own,
        **options,
    )
    assert np.any(together.perturbation)
    for index in chosen:
        alone = attack(
            own_model,
            test_set.images[index],
            **{goal: classes[index]},
            **{setting: values[index] for setting, values in own.items()},
            **options,
        )
        np.testing.assert_array_equal(alone.adversarial[0], together.adversarial[index])
        for counted in ("num_steps", "num_queries", "num_gradients"):
            assert getattr(alone, counted)[0] == getattr(together, counted)[index], counted
