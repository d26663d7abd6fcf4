"""Measure the certified optimum: time, gaps, and HiGHS on the same problems; write the table.

    python -m benchmarks.optimum                    # the whole test set, about five minutes
    python -m benchmarks.optimum --num_images=200   # a quick look
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import sys
import time
from typing import Any

import numpy as np
from tqdm import tqdm

from mnist_adv import checkpoints, data
from mnist_adv.models import SoftmaxRegression
from mnist_adv.optimum import check, smallest_perturbation
from mnist_adv.training import train
from tests.optimum_oracles import dual_quadratic, highs

RESULTS = pathlib.Path(__file__).parent / "results"
NORMS = ("linf", "l2", "l1", "l0")


@dataclasses.dataclass
class Row:
    """One line of the table."""

    what: str
    problems: int
    seconds: float
    cpu_seconds: float
    check_seconds: float
    median: float
    largest_gap: float
    accepted: int
    statuses: str
    iterations: str


def main(argv: list[str] | None = None) -> int:
    """Run everything and write `optimum.md` and `optimum.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num_images", type=int, default=10_000, help="test images to solve for")
    parser.add_argument("--num_oracle", type=int, default=200, help="pairs solved by HiGHS too")
    parser.add_argument("--num_l0", type=int, default=500, help="pairs solved for targeted L0")
    parser.add_argument("--checkpoint_dir", help="of train.py; None trains with the defaults")
    parser.add_argument("--output_dir", type=pathlib.Path, default=RESULTS)
    settings = parser.parse_args(argv)
    model, test_set = _model(settings.checkpoint_dir)
    W, b = model.W.numpy(), model.b.numpy()
    images = test_set.images[: settings.num_images].reshape(-1, 784)
    labels = test_set.labels[: settings.num_images]
    # The first call loads libraries and warms memory; it is nobody's measurement.
    for norm in NORMS[:3]:
        smallest_perturbation(W, b, images[:64], (labels[:64] + 1) % 10, norm=norm)
    oracles = [_oracle(norm, W, b, images, labels, settings.num_oracle) for norm in NORMS[:3]]
    targeted = [_targeted(norm, W, b, images, labels, range(1, 10)) for norm in NORMS[:3]]
    few = slice(0, settings.num_l0)
    targeted.append(_targeted("l0", W, b, images[few], labels[few], [1]))
    untargeted = [_untargeted(norm, W, b, images, labels) for norm in NORMS]
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    report = _report(targeted, untargeted, oracles)
    (settings.output_dir / "optimum.md").write_text(report)
    content = {
        "machine": _machine(),
        "targeted": [dataclasses.asdict(row) for row in targeted],
        "untargeted": [dataclasses.asdict(row) for row in untargeted],
        "oracles": oracles,
    }
    (settings.output_dir / "optimum.json").write_text(json.dumps(content, indent=2) + "\n")
    print(report)
    rows = targeted[:3] + untargeted
    return 0 if all(row.accepted == row.problems for row in rows) else 1


def _model(checkpoint_dir: str | None) -> tuple[SoftmaxRegression, data.Dataset]:
    model, test_set = SoftmaxRegression(), data.load("mnist", "test")
    if checkpoint_dir:
        return checkpoints.restore(checkpoint_dir), test_set
    for _ in train(model, data.load("mnist", "train"), test_set):
        pass
    return model, test_set


def _targeted(
    norm: str, W: np.ndarray, b: np.ndarray, images: np.ndarray, labels: np.ndarray, shifts: Any
) -> Row:
    parts, checks, check_seconds, cpu = [], [], 0.0, 0.0
    for shift in tqdm(shifts, desc=f"targeted {norm}", file=sys.stderr):
        targets = (labels + shift) % 10
        cpu_started = time.process_time()
        optimum = smallest_perturbation(W, b, images, targets, norm=norm, progress=False)
        cpu += time.process_time() - cpu_started
        started = time.perf_counter()
        certificate = check(
            W,
            b,
            images,
            optimum.adversarial,
            norm=norm,
            targets=targets,
            multipliers=optimum.multipliers,
            claimed_lower=optimum.lower_bound,
            claimed_upper=optimum.upper_bound,
        )
        check_seconds += time.perf_counter() - started
        # Bounds and multipliers are small; the images are dropped here to bound memory.
        nothing = np.empty(0)
        parts.append(dataclasses.replace(optimum, images=nothing, adversarial=nothing))
        checks.append(certificate.accepted)
    return _row(f"targeted {norm}", parts, checks, (cpu, check_seconds))


def _untargeted(
    norm: str, W: np.ndarray, b: np.ndarray, images: np.ndarray, labels: np.ndarray
) -> Row:
    cpu_started = time.process_time()
    optimum = smallest_perturbation(W, b, images, labels=labels, norm=norm, progress=False)
    cpu = time.process_time() - cpu_started
    started = time.perf_counter()
    certificate = check(
        W,
        b,
        images,
        optimum.adversarial,
        norm=norm,
        labels=labels,
        claimed_lower=optimum.lower_bound,
        claimed_upper=optimum.upper_bound,
    )
    seconds = time.perf_counter() - started
    return _row(f"untargeted {norm}", [optimum], [certificate.accepted], (cpu, seconds))


def _row(
    what: str, parts: list[Any], checks: list[np.ndarray], times: tuple[float, float]
) -> Row:
    upper = np.concatenate([part.upper_bound for part in parts])
    gaps = np.concatenate([part.gap for part in parts])
    iterations = np.concatenate([part.iterations for part in parts])
    names, counts = np.unique(
        [status.name.lower() for part in parts for status in part.status], return_counts=True
    )
    return Row(
        what=what,
        problems=len(upper),
        seconds=sum(part.seconds for part in parts),
        cpu_seconds=times[0],
        check_seconds=times[1],
        median=float(np.median(upper[upper > 0])) if (upper > 0).any() else 0.0,
        largest_gap=float(gaps.max(initial=0)),
        accepted=int(np.concatenate(checks).sum()),
        statuses=", ".join(f"{count} {name}" for name, count in zip(names, counts)),
        iterations=f"{iterations.mean():.1f} (most {iterations.max(initial=0)})",
    )


def _oracle(
    norm: str, W: np.ndarray, b: np.ndarray, images: np.ndarray, labels: np.ndarray, count: int
) -> dict[str, Any]:
    """Solve random pairs by an independent solver too; time both, the oracle one by one."""
    generator = np.random.default_rng(0)
    chosen = generator.choice(len(images), min(count, len(images)), replace=False)
    targets = (labels[chosen] + generator.integers(1, 10, len(chosen))) % 10
    weights, bias = W.astype(np.float64), b.astype(np.float64)
    optimum = smallest_perturbation(W, b, images[chosen], targets, norm=norm, progress=False)
    differences, seconds, cpu = [], 0.0, 0.0
    for i in tqdm(range(len(chosen)), desc=f"oracle {norm}", file=sys.stderr):
        image, target = images[chosen[i]].astype(np.float64), targets[i]
        others = [k for k in range(weights.shape[1]) if k != target]
        rows = (weights[:, [target]] - weights[:, others]).T
        logits = image @ weights + bias
        needs = logits[others] - logits[target]
        if (needs <= 0).all():
            differences.append(abs(float(optimum.upper_bound[i])))
            continue
        started, cpu_started = time.perf_counter(), time.process_time()
        if norm == "l2":
            expected = dual_quadratic(rows, needs, 1 - image, image)
        else:
            expected = highs(norm, rows, needs, 1 - image, image)
        seconds += time.perf_counter() - started
        cpu += time.process_time() - cpu_started
        differences.append(abs(float(optimum.upper_bound[i]) - expected) / expected)
    return {
        "norm": norm,
        "solver": "L-BFGS-B on the dual (SciPy)" if norm == "l2" else "HiGHS (SciPy)",
        "pairs": len(chosen),
        "largest_difference": max(differences),
        "seconds_per_pair": seconds / len(chosen),
        "cpu_seconds_per_pair": cpu / len(chosen),
    }


def _machine() -> dict[str, Any]:
    return {
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def _report(targeted: list[Row], untargeted: list[Row], oracles: list[dict[str, Any]]) -> str:
    machine = _machine()
    lines = [
        "# Certified smallest perturbations of softmax regression",
        "",
        "MNIST test images, softmax regression trained with the defaults, box [0, 1], margin 0. "
        "Written by `python -m benchmarks.optimum` in one run "
        f"({machine['cores']} cores, Python {machine['python']}, NumPy {machine['numpy']}; load "
        f"average at the end {machine['load']}: on a machine with other work, CPU seconds say "
        "more than seconds).",
        "",
        "*Proved* counts answers that the separate checker accepts: smallest within a relative gap "
        "of 1e-6. Medians are over images that have to change.",
        "",
        "| problem | pairs | seconds | CPU seconds | ms each | median | largest gap | proved "
        "| status | iterations | check, seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in targeted + untargeted:
        lines.append(
            f"| {row.what} | {row.problems} | {row.seconds:.1f} | {row.cpu_seconds:.1f} "
            f"| {1e3 * row.seconds / row.problems:.3f} | {row.median:.5g} | {row.largest_gap:.1e} "
            f"| {row.accepted} | {row.statuses} | {row.iterations} | {row.check_seconds:.1f} |"
        )
    total = sum(row.seconds for row in untargeted)
    lines += [
        "",
        f"Untargeted, four norms together: {total:.1f} s.",
        "",
        "Against independent solvers, on random pairs of the same images:",
        "",
        "| norm | solver | pairs | largest relative difference | solver, ms per pair "
        "| ours, ms per pair | ratio | ratio of CPU times |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for oracle, row in zip(oracles, targeted):
        ours = 1e3 * row.seconds / row.problems
        theirs = 1e3 * oracle["seconds_per_pair"]
        cpu = oracle["cpu_seconds_per_pair"] * row.problems / row.cpu_seconds
        lines.append(
            f"| {oracle['norm']} | {oracle['solver']} | {oracle['pairs']} "
            f"| {oracle['largest_difference']:.1e} | {theirs:.1f} | {ours:.3f} "
            f"| {theirs / ours:.0f} | {cpu:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
