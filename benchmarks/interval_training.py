"""Train a small convolutional net by interval bounds, and count what is proved.

    python -m benchmarks.interval_training

trains Gowal et al.'s small net (two convolutions, one hidden layer; 2018) with
`mnist_adv.keras.IntervalBoundTraining`, and writes `interval_training.md` into `--output_dir`:
clean and certified accuracy on all test images, beside the accuracy under attack.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time

import keras

from mnist_adv.data import datasets
from mnist_adv.keras import IntervalBoundTraining, RobustAccuracy

EPSILON = 0.1
_BATCH = 100


def small_net() -> keras.Model:
    """Make the net, untrained.

    Returns:
        The model: images `[n, 28, 28, 1]` -> logits `[n, 10]`.
    """
    return keras.Sequential([
        keras.Input((28, 28, 1)),
        keras.layers.Conv2D(16, 4, strides=2, activation="relu"),
        keras.layers.Conv2D(32, 4, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(100, activation="relu"),
        keras.layers.Dense(10),
    ])


def main(argv: list[str] | None = None) -> int:
    """Train, measure and write.

    Args:
        argv: the command line without its program; None: `sys.argv`.

    Returns:
        The exit status, 0.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num_epochs", type=int, default=15)
    parser.add_argument("--epsilon", type=float, default=0.15, help="that is trained for")
    parser.add_argument("--num_images", type=int, help="to train on; all if not given")
    parser.add_argument("--num_test", type=int, help="to measure on; all if not given")
    parser.add_argument(
        "--output_dir", type=pathlib.Path, default=pathlib.Path("benchmarks/results")
    )
    parser.add_argument("--save", type=pathlib.Path, help="where the model is saved, as .keras")
    settings = parser.parse_args(argv)
    keras.utils.set_random_seed(0)
    count, num_test = settings.num_images, settings.num_test
    train_set, test_set = datasets.load("mnist", "train"), datasets.load("mnist", "test")
    images, labels = train_set.images[:count], train_set.labels[:count]
    steps = len(images) // _BATCH
    model = small_net()
    wrapper = IntervalBoundTraining(
        model,
        epsilon=settings.epsilon,
        certified_epsilon=EPSILON,
        warmup_steps=steps,
        ramp_steps=max(1, steps * settings.num_epochs // 3),
    )
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps * settings.num_epochs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    wrapper.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    started = time.perf_counter()
    wrapper.fit(
        images[: steps * _BATCH],
        labels[: steps * _BATCH],
        batch_size=_BATCH,
        epochs=settings.num_epochs,
        verbose=2,
    )
    seconds = time.perf_counter() - started
    shown, classes = test_set.images[:num_test], test_set.labels[:num_test]
    measured = wrapper.evaluate(shown, classes, batch_size=500, return_dict=True, verbose=0)
    attack = RobustAccuracy(shown, classes, epsilon=EPSILON)
    attack.set_model(model)
    row = {
        "clean": measured["accuracy"],
        "under PGD with 40 steps": attack.measure(),
        "certified": measured["certified_accuracy"],
    }
    lines = [
        f"# A small convolutional net trained by interval bounds, L-inf {EPSILON:g}",
        "",
        f"{len(classes)} test images, per cent; {settings.num_epochs} epochs at epsilon "
        f"{settings.epsilon:g}, {seconds / 60:.1f} minutes on this machine (an indication).",
        "",
        f"| {' | '.join(row)} |",
        "|---" * len(row) + "|",
        f"| {' | '.join(f'{100 * share:.2f}' for share in row.values())} |",
    ]
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    (settings.output_dir / "interval_training.md").write_text("\n".join(lines) + "\n")
    if settings.save is not None:
        wrapper.save(settings.save)
    print(*lines, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
