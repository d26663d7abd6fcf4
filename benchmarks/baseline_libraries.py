"""Race baseline libraries: same weights, images and settings, two threads each, in one process.

    make peers            # sets the environment up in .venv-peers and runs a short race
    .venv-peers/bin/python -m benchmarks.baseline_libraries

Every round runs every tool once, so that ratios are between neighbours in time; medians of the
rounds' ratios go into benchmarks/results/ as Markdown, JSON and a plot.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pathlib
import platform
import sys
import time
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting must not steal the others' time
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "2")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402  (threads are set before the libraries load)
import tensorflow as tf  # noqa: E402

RESULTS = pathlib.Path(__file__).parent / "results"
UNTARGETED = ("deepfool",)  # the baselines' DeepFool has no other mode
FEWER = {"carlini_wagner": 500}  # 9,000 steps each
WARM_UP = {"carlini_wagner": 10}  # none of the tools in that race compiles for a number of images


def main() -> None:
    """Run the race and write its results."""
    arguments = _arguments()
    tf.config.threading.set_intra_op_parallelism_threads(2)
    import torch

    torch.set_num_threads(2)
    from benchmarks import baseline_results, baseline_tools, baseline_verdicts
    from mnist_adv.data import datasets
    from mnist_adv.models import checkpoints

    model = checkpoints.restore(arguments.checkpoint_dir)
    weights, bias = model.W.numpy(), model.b.numpy()
    models = baseline_tools.Models(weights, bias)
    test = datasets.load("mnist", "test")
    record: dict[str, Any] = {
        "machine": {"processor": platform.processor() or platform.machine(), "threads": 2},
        "versions": baseline_results.versions(),
        "weights_sha256": hashlib.sha256(weights.tobytes() + bias.tobytes()).hexdigest(),
        "settings": {
            "targets": "(label + 1) mod 10; deepfool untargeted",
            "linf": [baseline_tools.LINF, baseline_tools.LINF_STEP, baseline_tools.NUM_STEPS],
            "l2": [baseline_tools.L2, baseline_tools.L2_STEP, baseline_tools.NUM_STEPS],
            "minimal_steps": baseline_tools.NUM_MINIMAL_STEPS,
            "carlini_wagner": [baseline_tools.SEARCHES, baseline_tools.SEARCH_STEPS],
        },
        "attacks": {},
    }
    failed = []
    for attack, offered in baseline_tools.tools(models).items():
        if arguments.attacks and attack not in arguments.attacks:
            continue
        count = min(arguments.num_images, FEWER.get(attack, arguments.num_images))
        images, labels = test.images[:count], test.labels[:count]
        targeted = attack not in UNTARGETED
        classes = (labels + 1) % 10 if targeted else labels
        chosen: dict[str, Any] = dict(offered)
        if attack == "pgd_linf":
            products = baseline_tools.matmuls_alone(models.ours, min(1000, count))
            chosen["matmuls alone"] = lambda x, _classes, _targeted: products(x)
        outcome = _race(attack, chosen, images, classes, targeted, arguments.rounds)
        record["attacks"][attack] = {"num_images": count, "targeted": targeted, "tools": outcome}
        baseline_verdicts.add(record["attacks"][attack], attack, models.ours, images, classes)
        baseline_results.write(arguments.results_dir, record)
        print(baseline_results.table(record, attack), flush=True)
        failed += [f"{tool} in {attack}" for tool in outcome if "failed" in outcome[tool]]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Race baseline libraries on the same weights and images."
    )
    parser.add_argument("--checkpoint_dir", default="checkpoints")
    parser.add_argument("--num_images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--attacks", nargs="*", help="some of them only")
    parser.add_argument("--results_dir", type=pathlib.Path, default=RESULTS)
    return parser.parse_args()


def _race(
    attack: str,
    offered: dict[str, Any],
    images: np.ndarray,
    classes: np.ndarray,
    targeted: bool,
    rounds: int,
) -> dict[str, Any]:
    outcome: dict[str, Any] = {}
    for tool, run in offered.items():
        try:  # a warm-up of the shapes that will be timed: compiling is not what is raced
            few = WARM_UP.get(attack, 1000)
            run(images[:few], classes[:few], targeted)
            outcome[tool] = {"seconds": []}
        except Exception as error:  # a library's own failure is a result: it is said, not hidden
            outcome[tool] = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
    for number in range(rounds):
        for tool, run in offered.items():
            if "failed" in outcome[tool]:
                continue
            start = time.perf_counter()
            found = run(images, classes, targeted)
            outcome[tool]["seconds"].append(time.perf_counter() - start)
            outcome[tool]["adversarial"] = found
            print(f"{attack} {number + 1}/{rounds} {tool}: {outcome[tool]['seconds'][-1]:.2f} s")
    return outcome


if __name__ == "__main__":
    main()
