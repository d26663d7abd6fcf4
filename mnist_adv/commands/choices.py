"""List what flags take: attacks, losses, gradient sources, norms, steps, formats, data sets."""

from __future__ import annotations

from absl import flags

from mnist_adv.certification.method import Method
from mnist_adv.commands import cli
from mnist_adv.geometry.norms import Norm
from mnist_adv.geometry.steps import Step
from mnist_adv.gradients.losses import LOSSES
from mnist_adv.gradients.sources import SOURCES
from mnist_adv.models.formats.registry import FORMATS

_DATA_SETS = (
    "mnist",
    "a folder of pictures by class",
    "a folder of four IDX files",
    "fashion_mnist, emnist/letters, cifar10, ... (through TFDS)",
)


def define_flag(values: flags.FlagValues) -> None:
    """Define `--list`.

    Args:
        values: where it is defined.
    """
    cli.define(
        values,
        *("list", bool, False),
        "List attacks, losses, gradient sources, norms, steps, data sets.",
    )


def show(values: flags.FlagValues) -> int:
    """Print what there is to choose from.

    Args:
        values: the parsed flags.

    Returns:
        The exit status.
    """
    from mnist_adv.attacks.registry import ATTACKS

    kinds: dict[str, list[str]] = {
        "attacks": list(ATTACKS),
        "losses": list(LOSSES),
        "gradient sources": list(SOURCES),
        "norms": [norm.value for norm in Norm],
        "steps": [step.value for step in Step],
        "certify methods": [method.value for method in Method],
        "model formats": list(FORMATS),
        "data sets": list(_DATA_SETS),
    }
    attacks = {
        name: {"norms": [norm.value for norm in row.attack.norms], "paper": row.paper}
        for name, row in ATTACKS.items()
    }
    output = cli.Output(values)
    output.lines(*(f"{kind + ':':<18}{', '.join(names)}" for kind, names in kinds.items()), "")
    output.lines(
        f"{'attack':<18}{'norms':<16}after",
        *(f"{name:<18}{' '.join(row['norms']):<16}{row['paper']}" for name, row in attacks.items()),
    )
    output.record({**kinds, "attacks": attacks})
    return cli.DONE


main = cli.Command(
    summary="List attacks, losses, gradient sources, norms, steps, formats and data sets.",
    define_flags=lambda values: None,
    groups=(),
    body=show,
)
