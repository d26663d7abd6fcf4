"""Which of the images that can be broken each attack breaks, where branching settles them.

    python -m benchmarks.settled --models mnist2x10.onnx mnist2x10.onnx --epsilons 0.03 0.05

certifies test images that are classified correctly, without attacks, and attacks all of them: the
networks of `branching.py`. What branching or any attack breaks can be broken. Stops with status 1
if an attack breaks what is proved. Writes `settled.md` into `--output_dir`.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

import mnist_adv
from benchmarks.branching import make_parser, networks, write
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
    settings = make_parser(__doc__, num_images=200, seconds=10).parse_args(argv)
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
    write(lines, settings.output_dir / "settled.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
