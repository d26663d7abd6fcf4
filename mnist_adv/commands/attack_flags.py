"""The flags that say how is attacked, of every command that attacks."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from absl import flags

from mnist_adv.commands import choices, cli
from mnist_adv.geometry.norms import Norm
from mnist_adv.geometry.steps import Step
from mnist_adv.gradients.losses import LOSSES
from mnist_adv.gradients.sources import SOURCES

_SETTINGS = ("restarts", "step", "loss", "source", "difference_step")
ATTACK = (
    "num_steps",
    "max_queries",
    "step_size",
    "step",
    "restarts",
    "confidence",
    "seed",
    "settings",
    "list",
)
GRADIENT = ("loss", "source", "difference_step")


def define_flags(values: flags.FlagValues) -> None:
    """Define the flags.

    Args:
        values: where they are defined.
    """
    define = functools.partial(cli.define, values)
    define("norm", Norm, Norm.LINF, "Norm of the budget.")
    define("step_size", float, None, "Length of a step in pixel units; the attack's own if None.")
    define("num_steps", int, None, "Most steps taken; the attack's own if not given.")
    define("max_queries", int, None, "Most forward and backward passes for an image and budget.")
    define("confidence", float, None, "Go on until the new class has this probability.")
    define("restarts", int, None, "Runs, those after the first from random points.")
    define("seed", int, 0, "Of what is drawn at random.")
    define("step", Step, None, "How a gradient becomes a step; steepest, if not given.")
    define("loss", tuple(LOSSES), None, "What the gradient is of; the attack's own if not given.")
    define("source", tuple(SOURCES), None, "Where it comes from; tape, if not given.")
    define("difference_step", float, None, "e of the two differences.")
    any_setting = "Any others, with commas: momentum=0.9, or pgd.momentum=0.9 for one attack."
    define("settings", list, [], any_setting)
    choices.define_flag(values)


def settings(values: flags.FlagValues, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Take the settings of attacks from the flags, and refuse what an attack does not have.

    Args:
        values: the parsed flags.
        names: of the attacks.

    Returns:
        For each attack, name -> value as JSON has it.

    Raises:
        ValueError: an attack, norm or setting that there is not, or a value out of range.
    """
    from mnist_adv.attacks.registry import ATTACKS
    from mnist_adv.attacks.settings import configure, parse_settings, require_applicable

    rows = [ATTACKS.find(name) for name in names]
    given = {name: values[name].value for name in _SETTINGS if values[name].value is not None}
    if "step" in given:
        given["step"] = given["step"].value
    found = {
        name: {**given, **parsed} for name, parsed in parse_settings(values.settings, names).items()
    }
    for row in rows:
        try:
            attack = configure(row, found[row.name], ATTACK)
        except ValueError as error:
            if len(rows) == 1:
                raise
            raise ValueError(f"{error}; --settings NAME.setting=value is for one attack") from None
        num_steps = values.num_steps if len(rows) == 1 else None
        require_applicable(row, attack, values.norm, values.confidence, num_steps)
    return found
