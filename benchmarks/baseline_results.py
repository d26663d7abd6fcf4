"""Write what the race found: JSON, a Markdown table, a plot."""

from __future__ import annotations

import importlib.metadata
import json
import pathlib
from typing import Any

_PACKAGES = {
    "tensorflow": "tensorflow",
    "torch": "torch",
    "foolbox": "foolbox",
    "art": "adversarial-robustness-toolbox",
    "cleverhans": "cleverhans",
    "torchattacks": "torchattacks",
    "adv-lib": "adv-lib",
}


def versions() -> dict[str, str]:
    """Tell the version of every library in the race."""
    return {name: importlib.metadata.version(package) for name, package in _PACKAGES.items()}


def write(folder: pathlib.Path, record: dict[str, Any]) -> None:
    """Write the results as JSON, Markdown and a plot, merged with earlier runs of other attacks."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "baseline_libraries.json"
    if path.exists():
        earlier = json.loads(path.read_text())
        if earlier["weights_sha256"] == record["weights_sha256"]:
            record["attacks"] = {**earlier["attacks"], **record["attacks"]}
    path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    tables = "\n".join(table(record, attack) for attack in record["attacks"])
    told = ", ".join(f"{name} {version}" for name, version in sorted(record["versions"].items()))
    (folder / "baseline_libraries.md").write_text(
        f"{tables}\nVersions: {told}. Two threads each.\n"
    )
    _plot(folder / "baseline_libraries.png", record)


def table(record: dict[str, Any], attack: str) -> str:
    """Make one attack's table in Markdown."""
    entry = record["attacks"][attack]
    minimal = entry["epsilon"] is None
    kind = "targeted" if entry["targeted"] else "untargeted"
    measures = ["success", "median_distance", "median_over_optimum"]
    titles = ["success", "median distance", "median over optimum"]
    if not minimal:
        measures, titles = ["success", "share_found"], ["success", "share of what exists"]
    head = ["tool", "seconds", "times ours", *titles]
    lines = [f"**{attack}**, {kind}, {entry['num_images']:,} images", "", _row(head)]
    lines.append("|" + "---|" * len(head))
    for tool, result in _ranked(entry["tools"]):
        if "failed" in result:
            lines.append(_row([tool, f"failed: {result['failed'][:80]}", *[""] * len(head[2:])]))
            continue
        seconds = sorted(result["seconds"])[len(result["seconds"]) // 2]
        values = [f"{result[name]:.4f}" if name in result else "" for name in measures]
        lines.append(_row([tool, f"{seconds:.2f}", f"{result['times_ours']:.2f}", *values]))
    if not minimal:
        lines += [
            "",
            f"A change within the budget exists for {entry['exists']:.4f} of the images. Our last "
            f"iterates, which is what tools return that do not keep the best, reach "
            f"{entry['last_iterate']:.4f}.",
        ]
    differ = ", ".join(entry["disagree"])
    kept = "" if minimal else ", with our best or our last iterates"
    agree = f"All reach the same success within 0.2 points{kept}."
    lines += ["", f"Success differs by more than 0.2 points: {differ}." if differ else agree]
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ranked(tools: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(tools.items(), key=lambda item: item[1].get("times_ours", float("inf")))


def _plot(path: pathlib.Path, record: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    attacks = record["attacks"]
    sizes = [2 + len(entry["tools"]) for entry in attacks.values()]
    figure = Figure(figsize=(9, 1 + 0.26 * sum(sizes)), layout="constrained")
    axes = figure.subplots(len(attacks), squeeze=False, height_ratios=sizes)[:, 0]
    for axis, (attack, entry) in zip(axes, attacks.items()):
        ranked = [(t, r) for t, r in _ranked(entry["tools"]) if "times_ours" in r][::-1]
        names, ratios = [t for t, _ in ranked], [r["times_ours"] for _, r in ranked]
        colours = ["tab:orange" if name == "mnist_adv" else "tab:gray" for name in names]
        bars = axis.barh(names, ratios, color=colours)
        axis.bar_label(bars, fmt="%.1f", padding=3)
        axis.set_xscale("log")
        axis.set_title(attack, loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.12)
    axes[-1].set_xlabel("time over mnist_adv's, median of paired ratios (log scale)")
    figure.savefig(path, dpi=110)
