"""Which of the images that can be broken each attack breaks, where branching settles them.

    python -m benchmarks.settled --models mnist2x10.onnx mnist2x10.onnx --epsilons 0.03 0.05

certifies test images that are classified correctly, without attacks, and attacks all of them: the
networks of `branching.py`. What branching or any attack breaks can be broken. Stops with status 1
if an attack breaks what is proved. Writes `settled.md` into `--output_dir`.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from typing import Any

import numpy as np

import mnist_adv
from benchmarks.branching import networks
from mnist_adv.models.logits import predict

_ATTACKS = ("pgd", "apgd_ce", "apgd_t", "fmn", "fab_t", "autoattack", "pgd_multi_epsilon")
_ALL = "strongest"
_HEADER = ["network", "L-inf", "proved", "unsettled", "can be broken", *_ATTACKS, _ALL]


def settle(
    model: Any, images: np.ndarray, labels: np.ndarray, epsilon: float, seconds: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Certify images, and attack them.

    Args:
        model: images -> logits.
        images: `[n, h, w, c]`, classified correctly.
        labels: `[n]`.
        epsilon: the L-inf radius.
        seconds: of branching, for each image.

    Returns:
        `[n]` bool, what is proved; "branching" and each attack -> `[n]` bool, what it broke.
    """
    given: dict[str, Any] = {"epsilon": epsilon, "method": "beta_crown", "attack": False}
    found = mnist_adv.certify(model, images, labels, seconds_per_image=seconds, **given)
    broken = {"branching": found.broken}
    for name in (*_ATTACKS, _ALL):
        began = time.perf_counter()
        result = mnist_adv.attack(
            model, images, labels=labels, method=name, norm="linf", epsilon=epsilon
        )
        broken[name] = result.success
        took = time.perf_counter() - began
        print(f"{name}: {result.success.sum()} of {len(labels)} in {took:.0f} s", flush=True)
    return found.proved, broken


def main(argv: list[str] | None = None) -> int:
    """Settle, attack and write.

    Args:
        argv: the command line without its program; None: `sys.argv`.

    Returns:
        The exit status: 1 if an attack breaks what is proved.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="*", default=[], help="files of networks of MNIST")
    parser.add_argument("--epsilons", nargs="*", type=float, default=[], help="one for each")
    parser.add_argument("--num_images", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10, help="of branching, for an image")
    parser.add_argument(
        "--output_dir", type=pathlib.Path, default=pathlib.Path("benchmarks/results")
    )
    settings = parser.parse_args(argv)
    lines = [f"| {' | '.join(_HEADER)} |", "|---" * len(_HEADER) + "|"]
    for name, model, images, labels, epsilon in networks(settings.models, settings.epsilons):
        images, labels = images[: settings.num_images], labels[: settings.num_images]
        right = predict(model, images).argmax(axis=1) == labels
        proved, broken = settle(model, images[right], labels[right], epsilon, settings.seconds)
        wrong = [who for who, which in broken.items() if (which & proved).any()]
        if wrong:
            print(f"{', '.join(wrong)} broke what is proved of {name}", file=sys.stderr)
            return 1
        breakable = np.any(list(broken.values()), axis=0)
        counts = [proved.sum(), (~proved & ~breakable).sum(), breakable.sum()]
        counts += [broken[who].sum() for who in (*_ATTACKS, _ALL)]
        lines.append(f"| {name} | {epsilon:g} | {' | '.join(map(str, counts))} |")
        print(lines[-1], flush=True)
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    target = settings.output_dir / "settled.md"
    target.write_text("\n".join(lines) + "\n")
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
