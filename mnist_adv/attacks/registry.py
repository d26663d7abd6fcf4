"""The named attacks: one row each. Add an attack by adding a row."""

from __future__ import annotations

import dataclasses

from mnist_adv.attacks.descent import Descent
from mnist_adv.attacks.state import Method
from mnist_adv.steps import Step


@dataclasses.dataclass(frozen=True)
class Entry:
    """A named attack.

    Attributes:
        method: its settings.
        paper: authors and year.
        epsilon: its own default budget; None: the norm's.
    """

    method: Method
    paper: str
    epsilon: float | None = None


REGISTRY = {
    "fgsm": Entry(Descent(num_steps=1, step_fraction=1.0), "Goodfellow et al., 2015"),
    "bim": Entry(Descent(num_steps=10, step_fraction=0.1), "Kurakin et al., 2017"),
    "pgd": Entry(Descent(), "Madry et al., 2018"),
    "mi_fgsm": Entry(
        Descent(num_steps=10, step_fraction=0.1, momentum=1.0), "Dong et al., 2018"
    ),
    "sign_until_flip": Entry(
        Descent(num_steps=100, step=Step.SIGN, step_fraction=0.01), "Evans, 2016", epsilon=1.0
    ),
}


def find(name: str) -> Entry:
    """Look a named attack up.

    Args:
        name: a key of `REGISTRY`.

    Returns:
        Its row.

    Raises:
        ValueError: no such name.
    """
    if name not in REGISTRY:
        raise ValueError(f"method must be one of {', '.join(REGISTRY)}. Received: {name!r}")
    return REGISTRY[name]


def name_of(method: Method) -> str:
    """Name a method by its row, or by its class if its settings are nobody's.

    Args:
        method: any.

    Returns:
        The name.
    """
    for name, entry in REGISTRY.items():
        if entry.method == method:
            return name
    return type(method).__name__
