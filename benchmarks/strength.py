"""Measure how small the changes are that each attack finds, under one budget of queries.

    python -m benchmarks.strength [--nets softmax_regression keras_example] [--budgets 200 2000]

Untargeted, on two nets: the softmax regression of benchmarks/results/baseline_weights.npz, beside
the certified optimum, and that of Keras's example, trained for a few seconds, beside the smallest
change that any of the attacks found of each image. The budget is of forward and backward passes for
each image, counted by a wrapper around the model; every attack takes as many steps as it pays. What
Foolbox found on the same weights and images with as many passes is read from
benchmarks/results/baseline_figures.json. Writes benchmarks/results/strength.md, and the same tables
into docs/attacks.md.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

import numpy as np
from tqdm import tqdm

from mnist_adv import attack, smallest_perturbation
from mnist_adv.attacks.methods.ensemble import Ensemble
from mnist_adv.attacks.methods.optimum import OptimumAttack
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.data import datasets
from mnist_adv.geometry.norms import Norm
from mnist_adv.models.softmax_regression import SoftmaxRegression

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "attacks.md"
BEGIN, END = "<!-- strength: begin -->\n", "<!-- strength: end -->"
NUM_IMAGES = {"softmax_regression": 300, "keras_example": 40}
# Forward and backward passes of 100 steps, which is what Foolbox's stored figures are of.
STORED_BUDGET, STORED = 200, ("ddn", "fmn")
# Steps beyond what any budget pays: the budget alone says where an attack ends.
MANY_STEPS = 10**6

Rows = dict[tuple[str, str], dict[int, np.ndarray]]


def attacks_of(norm: Norm) -> list[str]:
    """List the attacks that seek the smallest change in a norm.

    Args:
        norm: of the distance.

    Returns:
        Names of the registry, but for ensembles of them and the optimum itself.
    """
    return [
        name
        for name, row in ATTACKS.items()
        if row.attack.minimal
        and norm in row.attack.norms
        and not isinstance(row.attack, Ensemble | OptimumAttack)
    ]


def make_net(name: str) -> Any:
    """Make a net.

    Args:
        name: "softmax_regression", or a name of `keras_nets.build`.

    Returns:
        A model.
    """
    if name != "softmax_regression":
        from benchmarks import keras_nets

        return keras_nets.train(name)
    with np.load(RESULTS / "baseline_weights.npz") as weights:
        model = SoftmaxRegression()
        model.W.assign(weights["W"])
        model.b.assign(weights["b"])
    return model


def measure(
    model: Any, images: np.ndarray, labels: np.ndarray, budgets: list[int], donors: Any
) -> Rows:
    """Attack with every attack, in every norm, under every budget.

    Args:
        model: images -> logits.
        images: `[n, h, w, c]` in [0, 1].
        labels: `[n]`.
        budgets: of passes for each image.
        donors: images and labels, for the attacks that begin with one of them.

    Returns:
        (norm, attack) -> budget -> distances `[n]`, infinite where nothing was found.
    """
    plan = [(norm, name, most) for norm in Norm for name in attacks_of(norm) for most in budgets]
    found: Rows = {}
    for norm, name, most in tqdm(plan, disable=None):
        settings = {"donors": donors} if ATTACKS[name].attack.needs_donors else {}
        result = attack(
            model,
            images,
            labels=labels,
            method=name,
            norm=norm,
            num_steps=MANY_STEPS,
            max_queries=most,
            **settings,
        )
        found.setdefault((norm.value, name), {})[most] = result.distances
    return found


def smallest_known(
    model: Any, images: np.ndarray, labels: np.ndarray, found: Rows
) -> dict[str, np.ndarray]:
    """Find what distances are compared with.

    Args:
        model: a `SoftmaxRegression`, whose certified optimum is taken, or any other.
        images: `[n, h, w, c]` in [0, 1].
        labels: `[n]`.
        found: from `measure`.

    Returns:
        Norm -> `[n]`.
    """
    if isinstance(model, SoftmaxRegression):
        weights = model.W.numpy(), model.b.numpy()
        return {
            norm.value: smallest_perturbation(
                *weights, images, labels=labels, norm=norm, progress=False
            ).upper_bound
            for norm in Norm
        }
    return {
        norm.value: np.min(
            [each for (of, _), by in found.items() if of == norm.value for each in by.values()], 0
        )
        for norm in Norm
    }


def table(
    found: Rows, smallest: dict[str, np.ndarray], budgets: list[int], certified: bool
) -> list[str]:
    """Tabulate the median distances.

    Args:
        found: from `measure`.
        smallest: from `smallest_known`.
        budgets: of passes for each image.
        certified: whether the smallest are certified, and stored figures are of the same weights.

    Returns:
        Lines of Markdown; in each norm the attack of the smallest median first, under the last
        budget.
    """
    of_what = "optimum" if certified else "best known"
    heads = [f"{most:,} passes" for most in budgets]
    lines = [
        f"| norm | attack | {' | '.join(heads)} | over {of_what} | found |",
        "|---|---|" + "---|" * (len(budgets) + 2),
    ]
    for norm, best in smallest.items():
        medians = [f"**{np.median(best):.4g}**"] * len(budgets)
        lines.append(f"| {norm} | {of_what} | {' | '.join(medians)} | 1 | |")
        rows = [(name, by) for (of, name), by in found.items() if of == norm]
        rows.sort(key=lambda row: (np.median(row[1][budgets[-1]]), row[0]))
        for name, by in rows:
            last = by[budgets[-1]]
            # An image that is misclassified when clean is at distance 0, whatever is compared.
            ratio = np.divide(last, best, out=np.ones_like(last), where=best > 0)
            cells = [_told(float(np.median(by[most]))) for most in budgets]
            share = f"{np.isfinite(last).mean():.0%}"
            factor = _told(float(np.median(ratio)), 3)
            lines.append(f"| {norm} | {name} | {' | '.join(cells)} | {factor} | {share} |")
        if certified and STORED_BUDGET in budgets:
            lines += _stored(norm, budgets)
    return lines


def _stored(norm: str, budgets: list[int]) -> list[str]:
    figures = json.loads((RESULTS / "baseline_figures.json").read_text())
    lines = []
    for each in figures["figures"]:
        if each["norm"] != norm or each["attack"] not in STORED or each["targeted"]:
            continue
        told = f"{each['median_distance']:.4g}"
        cells = [told if most == STORED_BUDGET else "" for most in budgets]
        tool = f"{each['attack']} of {each['tool'].capitalize()}"
        lines.append(f"| {norm} | {tool} | {' | '.join(cells)} | | {each['success']:.0%} |")
    return lines


def _told(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "most missed"


def publish(text: str) -> None:
    """Write the tables where they are published.

    Args:
        text: Markdown.

    Raises:
        ValueError: the page has no place for them.
    """
    (RESULTS / "strength.md").write_text(f"# Strength\n\n{text}", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE.name} must hold {BEGIN.strip()!r} and {END!r}")
    PAGE.write_text(before + begin + text + end + after, encoding="utf-8")


def main() -> None:
    """Attack, print the tables, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", nargs="+", choices=NUM_IMAGES, default=list(NUM_IMAGES))
    parser.add_argument("--budgets", nargs="+", type=int, default=[200, 2000])
    parser.add_argument("--num_images", type=int, help="fewer, to try it: nothing is written")
    arguments = parser.parse_args()
    budgets = sorted(arguments.budgets)
    train = datasets.load("mnist", "train", rows=(0, 2000))
    text = ""
    for name in arguments.nets:
        count = arguments.num_images or NUM_IMAGES[name]
        model, test = make_net(name), datasets.load("mnist", "test", rows=(0, count))
        donors = (train.images, train.labels)
        found = measure(model, test.images, test.labels, budgets, donors)
        smallest = smallest_known(model, test.images, test.labels, found)
        lines = table(found, smallest, budgets, isinstance(model, SoftmaxRegression))
        said = f"{name.replace('_', ' ')}, the first {count} test images, untargeted:"
        text += "\n".join([said, "", *lines, "", ""])
        print(said, *lines, sep="\n", flush=True)
    if arguments.num_images is None and arguments.nets == list(NUM_IMAGES):
        publish(text)


if __name__ == "__main__":
    main()
