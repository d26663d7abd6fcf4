"""The settings of an attack, by name."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mnist_adv.arguments import choose, near, shown, yes_or_no
from mnist_adv.attacks.base import Attack
from mnist_adv.attacks.registry import NamedAttack, require_norm
from mnist_adv.geometry.norms import Norm
from mnist_adv.gradients.losses import LOSSES
from mnist_adv.gradients.sources import SOURCES, GradientSource


def configure(
    row: NamedAttack, settings: Mapping[str, Any], arguments: Iterable[str] = ()
) -> Attack:
    """Give an attack settings of the user's own.

    Args:
        row: the attack.
        settings: name -> value; what is None is left as it is.
        arguments: other names, which a user may have meant by one that is not known.

    Returns:
        The attack with them.

    Raises:
        ValueError: a setting that the attack does not have, or a value out of range.
    """
    chosen = row.attack
    wanted = {key: value for key, value in settings.items() if value is not None}
    difference_step = wanted.pop("difference_step", None)
    if "source" in wanted and not isinstance(wanted["source"], GradientSource):
        wanted["source"] = GradientSource(SOURCES.find(wanted["source"]))
    if "loss" in wanted:
        wanted["loss"] = LOSSES.find(wanted["loss"])
    if difference_step is not None:
        source = wanted.get("source", getattr(chosen, "source", GradientSource()))
        wanted["source"] = dataclasses.replace(source, difference_step=difference_step)
    known = {field.name for field in dataclasses.fields(chosen)} - {"num_steps"}
    unknown = [key for key in wanted if key not in known]
    if unknown:
        close = near(unknown[0], {*known, *arguments} - set(unknown))
        raise ValueError(
            f"settings of {row.name} are {', '.join(sorted(known)) or 'none'}. "
            f"Received: {', '.join(unknown)}{close}"
        )
    for key, value in wanted.items():
        there = getattr(chosen, key)
        if isinstance(there, enum.Enum):
            wanted[key] = choose(type(there), value, key)
        elif isinstance(there, bool):
            yes_or_no(value, key)
        elif isinstance(there, Attack) and not isinstance(value, Attack):
            raise ValueError(f"{key} must be an Attack. Received: {shown(value)}")
    return dataclasses.replace(chosen, **wanted)


def require_applicable(
    row: NamedAttack, attack: Attack, norm: Norm, confidence: float | None, num_steps: Any
) -> None:
    """Refuse what an attack does not have.

    Args:
        row: the attack by name.
        attack: with its settings.
        norm: of the perturbation.
        confidence: that is wanted; None: none.
        num_steps: that are wanted; None: its own.

    Raises:
        ValueError: a norm, confidence or steps that the attack does not have.
    """
    require_norm(dataclasses.replace(row, attack=attack), norm)
    if confidence is not None and attack.minimal:
        raise ValueError(
            f"confidence is for attacks with a budget. Received: {confidence} for {row.name}, "
            "which seeks the smallest change"
        )
    if num_steps is not None and not attack.takes_steps:
        raise ValueError(f"{row.name} takes no steps. Received: num_steps {num_steps}")


def parse_settings(
    items: Iterable[str], names: Sequence[str]
) -> dict[str, dict[str, int | float | bool | str]]:
    """Read settings as a person types them: "momentum=0.9", "pgd.restarts=10".

    Args:
        items: each of one setting, of all attacks or of the one that is named.
        names: of the attacks.

    Returns:
        For each attack, name -> value: a number or true or false where it reads as one, else text.

    Raises:
        ValueError: no "name=value", or an attack that is not among the names.
    """
    found: dict[str, dict[str, int | float | bool | str]] = {name: {} for name in names}
    for item in items:
        place, equals, text = item.partition("=")
        attack, dot, setting = place.strip().rpartition(".")
        if not (equals and setting and text.strip()):
            raise ValueError(
                "settings must be name=value or attack.name=value, with commas. "
                f"Received: {shown(item)}"
            )
        if dot and attack not in found:
            raise ValueError(
                f"settings must be of {', '.join(names)}. Received: {shown(item)}"
                f"{near(attack, names)}"
            )
        for name in [attack] if dot else names:
            found[name][setting] = _value(text.strip())
    return found


def _value(text: str) -> int | float | bool | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
