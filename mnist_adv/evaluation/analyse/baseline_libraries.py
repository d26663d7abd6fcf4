"""What the benchmark found of other tools, for the very weights that are evaluated.

`benchmarks/baseline_libraries.py` stores it beside the package's source; an installed package has none.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mnist_adv.models.linear import linear_parts
from mnist_adv.geometry.norms import Norm

_FILE = pathlib.Path(__file__).parents[2] / "benchmarks" / "results" / "baseline_libraries.json"
# A named attack of the benchmark is one of ours in one norm.
_ATTACKS = {
    "pgd_linf": ("pgd", Norm.LINF),
    "pgd_l2": ("pgd", Norm.L2),
    "mi_fgsm": ("mi_fgsm", Norm.LINF),
    "ddn": ("ddn", Norm.L2),
    "fmn": ("fmn", Norm.L2),
    "deepfool": ("deepfool", Norm.L2),
    "carlini_wagner": ("carlini_wagner", Norm.L2),
}


def quote(
    model: Any, attacks: Sequence[str], norm: Norm, file: pathlib.Path = _FILE
) -> tuple[list[dict[str, Any]], str]:
    """Look up what the benchmark found of other tools.

    Args:
        model: images -> logits.
        attacks: the names that are evaluated.
        norm: of the budgets.
        file: `baseline_libraries.json`.

    Returns:
        One record per attack and tool, `name`, `rate` and, where they were measured,
        `over_optimum` and `share_found`; and a sentence on where they come from. Nothing if there
        is no file, or if it is about other weights.
    """
    parts = linear_parts(model)
    if parts is None or not file.exists():
        return [], ""
    record = json.loads(file.read_text())
    content = b"".join(np.asarray(part, np.float32).tobytes() for part in parts)
    if record.get("weights_sha256") != hashlib.sha256(content).hexdigest():
        return [], ""
    quoted = []
    for name, found in record["attacks"].items():
        attack, its_norm = _ATTACKS.get(name, (name, None))
        if attack not in attacks or its_norm is not norm:
            continue
        for tool, measured in found["tools"].items():
            if tool != "mnist_adv" and "success" in measured:
                quoted.append(_record(attack, tool, measured, found["num_images"]))
    targets = record.get("settings", {}).get("targets", "its own targets")
    source = f"other tools, from the benchmark of the same weights (targets {targets})"
    return quoted, source if quoted else ""


def _record(attack: str, tool: str, measured: Mapping[str, Any], num_images: int) -> dict[str, Any]:
    return {
        "name": f"{attack}, {tool}",
        "over_optimum": measured.get("median_over_optimum"),
        "share_found": measured.get("share_found"),
        "rate": num_images / statistics.median(measured["seconds"]),
    }
