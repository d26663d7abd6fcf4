"""Our attacks beside what other libraries reached on the same weights.

benchmarks/baseline_figures.py stored the figures and the weights; no library is needed here.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest

from mnist_adv import LinearModel, attack
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.tensors import compilation

RESULTS = pathlib.Path(__file__).parents[2] / "benchmarks" / "results"
STORED = json.loads((RESULTS / "baseline_figures.json").read_text())
FIGURES = STORED["figures"]
COUNT = STORED["settings"]["num_images"]
SETTINGS: dict[tuple[str, str], dict[str, Any]] = {
    ("pgd", "linf"): {"step_size": 0.01},
    ("pgd", "l2"): {"step_size": 0.1},
    ("alma", "l2"): {"num_steps": 200, "memory": 0.9},
    ("alma", "l1"): {"num_steps": 200, "memory": 0.9},
}
COMMON: dict[str, dict[str, Any]] = {
    "square": {"num_steps": STORED["settings"]["queries"]},
    "carlini_wagner": {"num_searches": 6, "num_steps": 300},
    "ead": {"num_searches": 6, "num_steps": 300},
}
# Random or heuristic, on both sides: so many points of success may lie between.
LOOSE = {"square": 0.04, "apgd_ce": 0.01, "apgd_dlr": 0.015}
# Where another's median distance may be the shorter one, by no more than this factor: Foolbox's C&W
# gets 1.4 % further in as few steps as these; in 9 times 1,000 the two are equal.
LONGER = {("carlini_wagner", "l2"): 1.016}


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("many_lanes")]


@pytest.fixture(scope="module")
def model() -> LinearModel:
    """The weights on which the others were asked, not another training's."""
    with np.load(RESULTS / "baseline_weights.npz") as weights:
        return LinearModel(weights["W"], weights["b"])


def goal(figure: dict[str, Any], labels: np.ndarray) -> dict[str, Any]:
    """Name the goal of a figure."""
    return {"targets": (labels + 1) % 10} if figure["targeted"] else {"labels": labels}


def name_of(figure: dict[str, Any]) -> str:
    """Name a figure in pytest's list."""
    mode = "targeted" if figure["targeted"] else "untargeted"
    return "-".join([figure["attack"], figure["norm"], mode, figure["tool"]])


def figures_to_reach() -> list[dict[str, Any]]:
    """Every targeted figure, and of quick attacks the untargeted one of the first norm.

    What the goal changes is the loss, which does not know the norm.
    """
    targeted = {figure["attack"] for figure in FIGURES if figure["targeted"]}
    return [
        figure
        for figure in FIGURES
        if figure["targeted"]
        or figure["attack"] not in targeted
        or (
            figure["norm"] == ATTACKS[figure["attack"]].attack.norms[0].value
            and figure["attack"] not in COMMON  # hundreds of steps
        )
    ]


@pytest.mark.parametrize("figure", figures_to_reach(), ids=name_of)
def test_we_reach_what_others_reach(
    model: LinearModel, test_set: Any, figure: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Hundreds of steps are worth compiling, a few dozen are not.
    monkeypatch.setattr(compilation, "XLA", figure["attack"] in COMMON)
    name, norm = figure["attack"], figure["norm"]
    images, labels = test_set.images[:COUNT], test_set.labels[:COUNT]
    result = attack(
        model,
        images,
        method=name,
        norm=norm,
        epsilon=figure["epsilon"],
        **COMMON.get(name, {}),
        **SETTINGS.get((name, norm), {}),
        **goal(figure, labels),
    )
    ours, theirs = result.success.mean(), figure["success"]
    if figure["epsilon"] is None:
        assert ours >= theirs
        factor = LONGER.get((name, norm), 1.002)
        assert np.median(result.distances) <= factor * figure["median_distance"]
    else:
        assert ours >= theirs - LOOSE.get(name, 0.0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("targeted", [True, False])
def test_the_last_iterate_of_pgd_is_that_of_others(
    model: LinearModel, test_set: Any, norm: str, targeted: bool
) -> None:
    # Others hand back the last iterate; ours keeps the best, and is above them by that alone.
    (figure,) = [
        figure
        for figure in FIGURES
        if (figure["attack"], figure["norm"], figure["targeted"]) == ("pgd", norm, targeted)
    ]
    images, labels = test_set.images[:COUNT], test_set.labels[:COUNT]
    result = attack(
        model,
        images,
        method="pgd",
        norm=norm,
        epsilon=figure["epsilon"],
        stop_early=False,
        trace=True,
        **SETTINGS["pgd", norm],
        **goal(figure, labels),
    )
    assert result.trace is not None
    last = result.trace.logits[-1].argmax(axis=1)
    reached = last == (labels + 1) % 10 if targeted else last != labels
    assert abs(reached.mean() - figure["success"]) <= 1 / COUNT + 1e-9  # one image, at a border
    assert result.success.mean() >= reached.mean()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_deepfool_as_in_the_paper_is_that_of_others(
    model: LinearModel, test_set: Any, norm: str
) -> None:
    (figure,) = [f for f in FIGURES if (f["attack"], f["norm"]) == ("deepfool", norm)]
    images, labels = test_set.images[:COUNT], test_set.labels[:COUNT]
    asked: dict[str, Any] = {"method": "deepfool", "norm": norm, "labels": labels}
    paper = attack(model, images, boxed=False, overshoot=0.02, **asked)
    assert np.median(paper.distances) == pytest.approx(figure["median_distance"], rel=0.005)
    # Minding the box is what saves steps; the way is no longer for it.
    boxed = attack(model, images, **asked)
    assert boxed.num_queries.mean() < paper.num_queries.mean() / 2
    assert np.median(boxed.distances) <= 1.001 * np.median(paper.distances)


def test_every_attack_is_compared_but_those_that_nobody_else_has() -> None:
    compared = {(figure["attack"], figure["norm"]) for figure in FIGURES}
    baselines = {"uniform_noise", "gaussian_noise", "salt_and_pepper", "blend"}
    # The article's loop and bisection are ours; the baselines' JSMA changes pairs of pixels, their
    # SPSA and NES descend the estimate in other ways.
    alone = {"optimum", "sign_until_flip", "bisection", "jsma", "spsa", "nes"}
    # Newer than the figures; what they reach is held against closed forms and the optimum alone.
    newer = {
        *("apgd_t", "fab", "fab_t", "autoattack", "autoattack_plus", "autoattack_rand"),
        *(
            "pgd_multi_epsilon",
            "strongest",
            "sigma_zero",
            "pdgd",
            "pdpgd",
            "apgd_minimal",
            "boundary",
            "hop_skip_jump",
        ),
    }
    assert {name for name, _ in compared} == set(ATTACKS) - baselines - alone - newer
    assert len(FIGURES) >= 40
