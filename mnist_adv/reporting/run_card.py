"""The card that TensorBoard shows beside a run: command, settings, model, versions, outcome."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Any

_SMOOTHED = """TensorBoard smooths curves until Smoothing is set to 0, or
`?smoothing=0#timeseries` is put behind the address."""
READ_ATTACK = f"""How to read the rest: under Images, `attack/figure` summarises the attack,
`attack/film_strip` shows the image changing, and `attack/iterate` and `attack/gradient_image` have
a slider for the steps. Under Scalars, the objective is what every step lowers; the probabilities
cross where the prediction changes; the last step of success and distance is the saved image.
{_SMOOTHED} Under Histograms, `attack/gradient` narrows as the objective flattens."""
READ_TRAINING = f"""How to read the rest: under Scalars, `loss` and `accuracy` of the runs `train`
and `test` overlay: a gap between them would be overfitting. {_SMOOTHED} Under Images, `templates`
has the weights of each class as a picture, one slider for the epochs: bright pixels raise the
class's logit, dark ones lower it. Under Graphs, the compiled epoch."""

_PACKAGES = ("mnist_adv", "tensorflow", "numpy")


def versions() -> dict[str, str]:
    """List the versions that a result depends on.

    Returns:
        Name -> version, Python's among them.
    """
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout, not installed
            from mnist_adv import __version__

            found[package] = __version__
    return found


def card(record: Mapping[str, Any], lines: Sequence[str], how_to_read: str) -> str:
    """Write the card.

    Args:
        record: the run's record: command, flags, checkpoint, versions.
        lines: what was printed.
        how_to_read: where to look for what.

    Returns:
        Markdown.
    """
    given = {name: value for name, value in record["flags"].items() if value is not None}
    facts = {
        "command": f"`{record['command']}`",
        "settings": ", ".join(f"{name} {value}" for name, value in given.items()),
        "checkpoint": f"`{record['checkpoint']['prefix']}`, SHA-256 "
        f"`{record['checkpoint']['sha256'][:16]}...`",
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    printed = "\n".join(f"    {line}" for line in lines)
    return f"| run | |\n|---|---|\n{table}\n\n{printed}\n\n{how_to_read}\n"
