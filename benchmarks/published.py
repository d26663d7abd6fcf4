"""Attack a certified network beside the figures that are published of it.

    python -m benchmarks.published --checkpoint FOLDER [--attacks pgd,apgd_ce,apgd_t,deepfool,fmn]

FOLDER holds W1.npy, B1.npy, W2.npy, B2.npy of RSL18a, a 784-500-10 network with certified training
(Raghunathan et al., 2018), from github.com/vtjeng/MIPVerify_data. MIPVerify (Tjeng, Xiao, Tedrake,
2019) settled most of the 10,000 test images at L-infinity 0.1. Stops with exit status 1 if an
attack breaks fewer images than are misclassified when clean, or more than can be; an image that an
attack claims is classified again by the verdict. Writes benchmarks/results/published.md.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import numpy as np
from tqdm import tqdm

from mnist_adv.attacks import AttackResult, attack
from mnist_adv.data.datasets import DataSource
from mnist_adv.models.activation import Activation
from mnist_adv.models.logits import predict
from mnist_adv.models.model_source import ModelSource

RESULTS = pathlib.Path(__file__).parent / "results"
EPSILON = 0.1
ALL = 10_000
# Of the 10,000 test images, from MIPVerify.jl's README: misclassified when clean; broken by the PGD
# of Raghunathan et al.; with a witness by mixed-integer programming; not proved robust.
CLEAN, PUBLISHED_PGD, WITNESSES, UPPER = 418, 1151, 1436, 3081


def leaves_bounds(broken: int, clean: int) -> bool:
    """Tell whether a count of broken images is impossible.

    Args:
        broken: images that an attack breaks, misclassified ones counted.
        clean: of the same images, those that are misclassified when clean.

    Returns:
        Whether it is below the clean errors, or above what verification leaves open.
    """
    return not clean <= broken <= UPPER


def row(name: str, broken: int, count: int, extra: str = "") -> str:
    """Write a line of the table.

    Args:
        name: of what is told.
        broken: how many images.
        count: of how many.
        extra: a last cell.

    Returns:
        The line.
    """
    return f"| {name} | {broken} | {broken / count:.2%} | {extra} |"


def main() -> int:
    """Attack, print the table, write it if all images were attacked.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(description="Attack RSL18a beside its published figures.")
    parser.add_argument("--checkpoint", required=True, help="folder of its four .npy files")
    parser.add_argument("--attacks", default="pgd,apgd_ce,deepfool,fmn,apgd_t,pgd_multi_epsilon")
    parser.add_argument("--num_images", type=int, default=ALL)
    arguments = parser.parse_args()
    data = DataSource("mnist", "test")
    source = ModelSource(arguments.checkpoint, ours=False, activation=Activation.RELU)
    model = source.open(data).model
    test = data.load((0, arguments.num_images))
    count = len(test.images)
    wrong = predict(model, test.images).argmax(axis=1) != test.labels
    clean, union = int(wrong.sum()), wrong.copy()
    if count == ALL and clean != CLEAN:
        print(f"not RSL18a: {clean} of {ALL} images are misclassified, and {CLEAN} should be")
        return 1
    lines = [
        f"RSL18a (784-500-10), {count:,} test images, L-infinity {EPSILON:g}.",
        "",
        "| | broken | error | queries per image |",
        "|---|---|---|---|",
        row("clean", clean, count),
    ]
    outside = []
    for name in tqdm(arguments.attacks.split(","), disable=None):
        result = attack(
            model,
            test.images,
            labels=test.labels,
            method=name,
            epsilon=EPSILON,
            progress=sys.stderr.isatty(),
        )
        union |= result.success
        broken = int(result.success.sum())
        lines.append(row(name, broken, count, f"{result.num_queries.mean():.0f}"))
        lines += parts(result)
        if leaves_bounds(broken, clean):
            outside.append(f"{name} breaks {broken} images, outside {clean} to {UPPER}")
    lines.append(row("any of these attacks", int(union.sum()), count))
    lines += [
        row("published: PGD", PUBLISHED_PGD, ALL),
        row("published: witnesses by mixed-integer programming", WITNESSES, ALL),
        row("published: not proved robust", UPPER, ALL),
    ]
    table = "\n".join(lines)
    print(table, *outside, sep="\n")
    if count == ALL and not outside:
        (RESULTS / "published.md").write_text(table + "\n", encoding="utf-8")
    return int(bool(outside))


def parts(result: AttackResult) -> list[str]:
    """Tabulate what the parts of an ensemble broke.

    Args:
        result: of any attack.

    Returns:
        A line per part; none of other attacks.
    """
    counts = np.bincount(result.made_by[result.success], minlength=len(result.parts))
    return [
        row(f"of these by {part.name}", int(broken), len(result.images))
        for part, broken in zip(result.parts, counts)
    ]


if __name__ == "__main__":
    sys.exit(main())
