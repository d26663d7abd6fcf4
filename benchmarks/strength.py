"""Measure how small the changes are that each attack finds, under one budget of queries.

    make .venv-peers/installed
    .venv-peers/bin/python -m benchmarks.strength

Untargeted, on two nets: the softmax regression of benchmarks/results/baseline_weights.npz, beside
the certified optimum, and that of Keras's example, trained for a few seconds, beside the smallest
change that any of the attacks found of each image. Ours and those of adv-lib, Foolbox and
torchattacks, on the same weights and images. The budget is of forward and backward passes for each
image, counted by a wrapper around the model; every attack takes as many steps as it pays. What an
attack returns is judged by mnist_adv/verdict. An attack of another library that raises an error is
a line that says so. Times are of one thread, and of a second call: the first one of ours compiles,
and has a column of its own. Writes benchmarks/results/strength_NET.md, and the tables of all nets
into docs/attacks.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import os
import pathlib
import sys
import time
from collections.abc import Callable
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
NUM_IMAGES = {"softmax_regression": 100, "keras_example": 100}
BUDGETS = [200]  # passes for each image
# Of the first call: it pays the start of every attack, and a step of each of its runs.
FIRST_BUDGET = 60
# Steps beyond what any budget pays: the budget alone says where an attack ends.
MANY_STEPS = 10**6
LONGEST = 100  # characters that are told of an error
PACKAGES = {"adv-lib": "adv_lib", "foolbox": "foolbox", "torchattacks": "torchattacks"}

# model, images, labels, norm, budget -> distances `[n]`, infinite where missed, and seconds
Measure = Callable[[Any, np.ndarray, np.ndarray, str, int], tuple[np.ndarray, float]]


@dataclasses.dataclass(frozen=True)
class Row:
    """What one attack found in one norm.

    Attributes:
        found: budget -> distances `[n]`, infinite where nothing was found, and seconds.
        first_call: seconds of a call on one image before; None: of other libraries.
        failure: the error that another library raised; "" where it raised none.
    """

    found: dict[int, tuple[np.ndarray, float]]
    first_call: float | None = None
    failure: str = ""


Rows = dict[tuple[str, str], Row]  # (norm, attack) -> what it found


def attacks_of(norm: Norm) -> list[str]:
    """List our attacks that seek the smallest change in a norm.

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


def attacks(tools: list[str], norms: list[Norm], donors: Any) -> dict[tuple[str, str], Measure]:
    """List the attacks that are compared.

    Args:
        tools: "mnist_adv" and names of `PACKAGES`.
        norms: of the distances.
        donors: images and labels, for the attacks that begin with one of them.

    Returns:
        (norm, attack) -> what measures it; those of one norm are neighbours.
    """
    peers: dict[tuple[str, str], Measure] = {}
    if set(tools) & set(PACKAGES):
        from benchmarks import strength_peers

        peers = {
            (norm, name): functools.partial(strength_peers.measure, run)
            for (norm, name), run in strength_peers.attacks(tools).items()
        }
    found: dict[tuple[str, str], Measure] = {}
    for norm in norms:
        for name in attacks_of(norm) if "mnist_adv" in tools else ():
            found[norm.value, name] = functools.partial(_ours, name, donors)
        found |= {key: each for key, each in peers.items() if key[0] == norm.value}
    return found


def measure(
    plan: dict[tuple[str, str], Measure],
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    budgets: list[int],
) -> Rows:
    """Attack with every attack under every budget.

    Args:
        plan: from `attacks`.
        model: images -> logits.
        images: `[n, h, w, c]` in [0, 1].
        labels: `[n]`.
        budgets: of passes for each image, the smallest first.

    Returns:
        Distances and seconds.
    """
    found: Rows = {}
    for (norm, name), run in tqdm(plan.items(), disable=None):
        row = found[norm, name] = _row(name, run, model, images, labels, norm, budgets)
        told = row.failure or ", ".join(
            f"{np.median(distances):.4f} in {seconds:.1f} s"
            for distances, seconds in row.found.values()
        )
        tqdm.write(f"{norm} {name}: {told}", file=sys.stderr)
    return found


def _row(
    name: str,
    run: Measure,
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    norm: str,
    budgets: list[int],
) -> Row:
    if name in ATTACKS:
        first_call = run(model, images[:1], labels[:1], norm, FIRST_BUDGET)[1]
        return Row({most: run(model, images, labels, norm, most) for most in budgets}, first_call)
    try:
        return Row({most: run(model, images, labels, norm, most) for most in budgets})
    except Exception as error:  # whatever another library raises: the others go on
        return Row({}, failure=f"failed: {type(error).__name__}: {error}")


def _ours(
    name: str,
    donors: Any,
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    norm: str,
    most: int,
) -> tuple[np.ndarray, float]:
    settings = {"donors": donors} if ATTACKS[name].attack.needs_donors else {}
    began = time.perf_counter()
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
    return result.distances, time.perf_counter() - began


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
    norms = dict.fromkeys(norm for norm, _ in found)
    if isinstance(model, SoftmaxRegression):
        weights = model.W.numpy(), model.b.numpy()
        return {
            norm: smallest_perturbation(
                *weights, images, labels=labels, norm=norm, progress=False
            ).upper_bound
            for norm in norms
        }
    return {
        norm: np.min(
            [
                np.full(len(labels), np.inf),
                *(
                    distances
                    for (of, _), row in found.items()
                    if of == norm
                    for distances, _ in row.found.values()
                ),
            ],
            axis=0,
        )
        for norm in norms
    }


def table(
    found: Rows, smallest: dict[str, np.ndarray], budgets: list[int], certified: bool
) -> list[str]:
    """Tabulate the median distances.

    Args:
        found: from `measure`.
        smallest: from `smallest_known`.
        budgets: of passes for each image.
        certified: whether the smallest are certified.

    Returns:
        Lines of Markdown; in each norm the attack of the smallest median first, under the last
        budget.
    """
    of_what = "optimum" if certified else "best known"
    heads = [f"{most:,} passes" for most in budgets]
    lines = [
        f"| norm | attack | {' | '.join(heads)} | over {of_what} | found | ms per image | "
        "first call, s |",
        "|---|---|" + "---|" * (len(budgets) + 4),
    ]
    for norm, best in smallest.items():
        medians = [f"**{np.median(best):.4g}**"] * len(budgets)
        lines.append(f"| {norm} | {of_what} | {' | '.join(medians)} | 1 | | | |")
        rows = {name: row for (of, name), row in found.items() if of == norm}
        ended = {name: row.found[budgets[-1]] for name, row in rows.items() if not row.failure}
        for name in sorted(ended, key=lambda name: (np.median(ended[name][0]), name)):
            last, seconds = ended[name]
            # An image that is misclassified when clean is at distance 0, whatever is compared.
            ratio = np.divide(last, best, out=np.ones_like(last), where=best > 0)
            cells = [_told(float(np.median(rows[name].found[most][0]))) for most in budgets]
            share = f"{np.isfinite(last).mean():.0%}"
            factor = _told(float(np.median(ratio)), 3)
            first = rows[name].first_call
            cells += [factor, share, f"{1000 * seconds / len(last):.2f}"]
            cells.append("" if first is None else f"{first:.1f}")
            lines.append(f"| {norm} | {name} | {' | '.join(cells)} |")
        for name, row in rows.items():
            if row.failure:
                said = " ".join(row.failure.split()).replace("|", "\\|")
                said = said if len(said) <= LONGEST else f"{said[:LONGEST]}..."
                lines.append(f"| {norm} | {name} | {said} |" + " |" * (len(budgets) + 3))
    return lines


def _told(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "most missed"


def publish(name: str, text: str) -> None:
    """Write a net's table, and that of every net where they are published.

    Args:
        name: of the net.
        text: Markdown.

    Raises:
        ValueError: the page has no place for them.
    """
    page = PAGE.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE.name} must hold {BEGIN.strip()!r} and {END!r}")
    results_of(name).write_text(text, encoding="utf-8")
    tables = [results_of(net) for net in NUM_IMAGES]
    whole = "\n".join(each.read_text(encoding="utf-8") for each in tables if each.exists())
    PAGE.write_text(f"{before}{begin}{whole}\n{end}{after}", encoding="utf-8")


def results_of(name: str) -> pathlib.Path:
    """Say where a net's table is kept.

    Args:
        name: of the net.

    Returns:
        The path.
    """
    return RESULTS / f"strength_{name}.md"


def main() -> None:
    """Attack, print the tables, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", nargs="+", choices=NUM_IMAGES, default=list(NUM_IMAGES))
    parser.add_argument("--budgets", nargs="+", type=int, default=BUDGETS)
    tools = ["mnist_adv", *PACKAGES]
    parser.add_argument("--tools", nargs="+", choices=tools, default=tools)
    parser.add_argument("--norms", nargs="+", choices=[norm.value for norm in Norm])
    parser.add_argument("--num_images", type=int)
    arguments = parser.parse_args()
    missing = [
        tool
        for tool in arguments.tools
        if tool in PACKAGES and importlib.util.find_spec(PACKAGES[tool]) is None
    ]
    if missing:
        sys.exit(
            f"{', '.join(missing)} must be installed: `make .venv-peers/installed`, then "
            "`.venv-peers/bin/python -m benchmarks.strength`; or choose others by --tools"
        )
    budgets = sorted(arguments.budgets)
    is_trial = (
        arguments.num_images
        or arguments.norms
        or budgets != BUDGETS
        or set(arguments.tools) != set(tools)
    )
    norms = [Norm(norm) for norm in arguments.norms or Norm]
    train = datasets.load("mnist", "train", rows=(0, 2000))
    for name in arguments.nets:
        count = arguments.num_images or NUM_IMAGES[name]
        model, test = make_net(name), datasets.load("mnist", "test", rows=(0, count))
        plan = attacks(arguments.tools, norms, (train.images, train.labels))
        found = measure(plan, model, test.images, test.labels, budgets)
        smallest = smallest_known(model, test.images, test.labels, found)
        lines = table(found, smallest, budgets, isinstance(model, SoftmaxRegression))
        said = f"{name.replace('_', ' ')}, the first {count} test images, untargeted:"
        text = "\n".join([said, "", *lines, ""])
        print(text, flush=True)
        if not is_trial:
            publish(name, text)
    if is_trial:
        print("a trial of a part: nothing was written")


if __name__ == "__main__":
    # One thread each, so that seconds compare the arithmetic; set before the libraries load.
    for _variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[_variable] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
