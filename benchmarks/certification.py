"""What is proved of a network, by each method, and how long it takes.

    python -m benchmarks.certification --model PATH --activation relu --epsilon 0.1

certifies every hundredth test image by each method in turn, branching included, and writes
`certification_NAME.md` into `--output_dir`. Without a model a 784-256-256-10 net is trained for an
epoch, and intervals and backward bounds of all test images are timed, without an attack.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from typing import Any

import numpy as np

import mnist_adv
from mnist_adv.certification.method import BRANCHING, Method
from mnist_adv.data.datasets import Dataset, load

_WIDTHS = (256, 256)


def certify_by_each(
    model: Any,
    digits: Dataset,
    epsilon: float,
    methods: list[str],
    seconds: float,
    stride: int,
    attack: bool,
) -> list[str]:
    """Certify images by each method, and set the results side by side.

    Args:
        model: images -> logits.
        digits: the images.
        epsilon: the L-inf radius.
        methods: names; beyond the first, a row has all before it too.
        seconds: for branching on an image, after the last method.
        stride: of the images in the test set.
        attack: whether what is left before the last row's branching is attacked.

    Returns:
        Lines of a table.
    """
    lines = [
        "| bounds | proved | broken | unresolved | median margin | seconds | of processors |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = [(Method(name), 0.0) for name in methods]
    if rows[-1][0] in BRANCHING:
        rows.append((rows[-1][0], seconds))
    for number, (method, limit) in enumerate(rows, 1):
        started, spent = time.perf_counter(), time.process_time()
        found = mnist_adv.certify(
            model,
            digits.images,
            digits.labels,
            epsilon=epsilon,
            method=method,
            seconds_per_image=limit,
            attack=attack and number == len(rows),
        )
        took, spent = time.perf_counter() - started, time.process_time() - spent
        proved, broken = int(found.proved.sum()), int(found.broken.sum())
        # Those that branch stop at a margin above 0.
        median = np.median(found.margin[np.isfinite(found.margin)])
        lines.append(
            f"| {method.value}{', and branching' if limit else ''} | {proved} | {broken} | "
            f"{len(found.labels) - proved - broken} | "
            f"{'' if method in BRANCHING else f'{median:.3f}'} | {took:.0f} | {spent:.0f} |"
        )
        print(lines[-1], flush=True)
    left = np.flatnonzero(~found.proved & ~found.broken)
    named = [f"{stride * image} (margin at least {found.margin[image]:.3f})" for image in left[:20]]
    rest = f" and {len(left) - 20:,} others" if len(left) > 20 else ""
    return [
        *lines,
        "",
        f"Unresolved at last, by place in the test set: {', '.join(named) or 'none'}{rest}.",
    ]


def trained_net(train: Dataset, widths: tuple[int, ...] = _WIDTHS, num_epochs: int = 1) -> Any:
    """Train a net of dense layers.

    Args:
        train: images and labels.
        widths: of the hidden layers.
        num_epochs: over the images.

    Returns:
        The model: images -> logits.
    """
    import keras

    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(width, activation="relu") for width in widths]
    model = keras.Sequential([
        keras.Input((28, 28, 1)),
        keras.layers.Flatten(),
        *hidden,
        keras.layers.Dense(10),
    ])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(train.images, train.labels, batch_size=100, epochs=num_epochs, verbose=0)
    return model


def main(argv: list[str] | None = None) -> int:
    """Certify, measure and write.

    Args:
        argv: the command line without its program; None: `sys.argv`.

    Returns:
        The exit status, 0.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="a file or a folder; a net is trained if not given")
    parser.add_argument("--activation", help="of a file that does not say it")
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--stride", type=int, help="every so many-th test image: 100, or 1")
    parser.add_argument("--methods", nargs="+", default=["ibp", "crown", "alpha_crown", "sdp"])
    parser.add_argument("--seconds", type=float, default=60, help="for branching on one image")
    parser.add_argument(
        "--output_dir", type=pathlib.Path, default=pathlib.Path("benchmarks/results")
    )
    settings = parser.parse_args(argv)
    test = load("mnist", "test")
    if settings.model:
        loaded = mnist_adv.open_model(settings.model, activation=settings.activation)
        model, name, methods = loaded.model, pathlib.Path(settings.model).name, settings.methods
    else:
        model, name, methods = (
            trained_net(load("mnist", "train")),
            "784-256-256-10",
            ["ibp", "crown"],
        )
    stride = settings.stride or (100 if settings.model else 1)
    digits = Dataset(test.images[::stride], test.labels[::stride], test.class_names)
    lines = [
        f"# {name}, L-inf {settings.epsilon:g}, {len(digits.labels)} test images",
        "",
        *certify_by_each(
            model,
            digits,
            settings.epsilon,
            methods,
            settings.seconds,
            stride,
            bool(settings.model),
        ),
    ]
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    target = settings.output_dir / f"certification_{name}.md"
    target.write_text("\n".join(lines) + "\n")
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
