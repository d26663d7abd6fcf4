"""Race baseline libraries on convolutional nets: same weights, images and settings, two threads.

    make peers            # sets the environment up in .venv-peers
    .venv-peers/bin/python -m benchmarks.conv_nets

Two nets are trained for a few seconds in Keras and copied to PyTorch: that of Keras's example, and
AttackBench's SmallCNN. Every tool runs once per round, one after the other, so that ratios are
between neighbours in time; medians of the rounds' ratios go to benchmarks/results/conv_nets.md.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting must not steal the others' time
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "2")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402  (threads are set before the libraries load)
import tensorflow as tf  # noqa: E402
import torch  # noqa: E402

from benchmarks import baseline_results, baseline_tools, keras_nets  # noqa: E402
from mnist_adv import attack  # noqa: E402
from mnist_adv.data import datasets  # noqa: E402

RESULTS = pathlib.Path(__file__).parent / "results"
EPSILON, STEP_SIZE, PGD_STEPS = 0.1, 0.01, 40
MINIMAL_STEPS, FIRST_STEPS = 300, 100
# Images of a gradient call: about the fastest for either library.
BATCH = 64
ATTACKS = ["pgd:linf", "ddn:l2", "fmn:linf", "fmn:l2"]
NORMS = {"linf": float("inf"), "l2": 2, "l1": 1, "l0": 0}

Tool = Callable[[Any, np.ndarray, np.ndarray], np.ndarray]


class Net:
    """One net as everybody wants it.

    Args:
        name: of `keras_nets.build`.
    """

    def __init__(self, name: str) -> None:
        self.keras = keras_nets.train(name)
        self.torch = to_torch(self.keras)

    def __call__(self, images: Any) -> Any:
        """Compute logits in TensorFlow."""
        return self.keras(images, training=False)


def to_torch(model: Any) -> Any:
    modules: list[Any] = []
    flattened: tuple[int, ...] = ()
    for layer in model.layers:
        kind = type(layer).__name__
        weights = [torch.tensor(np.asarray(array)) for array in layer.get_weights()]
        if kind == "Conv2D":
            modules.append(torch.nn.Conv2d(weights[0].shape[2], weights[0].shape[3], 3))
            modules[-1].weight.data = weights[0].permute(3, 2, 0, 1).contiguous()
        elif kind == "MaxPooling2D":
            modules.append(torch.nn.MaxPool2d(2))
        elif kind == "Dense":
            inputs, outputs = weights[0].shape
            modules.append(torch.nn.Linear(inputs, outputs))
            if flattened:  # with channels last, before PyTorch's flattening with channels first
                by_place = weights[0].reshape(*flattened, outputs)
                weights[0], flattened = by_place.permute(2, 0, 1, 3).reshape(inputs, outputs), ()
            modules[-1].weight.data = weights[0].T.contiguous()
        else:
            flattened = layer.input.shape[1:]
            modules.append(torch.nn.Flatten())
        if weights:
            modules[-1].bias.data = weights[1]
            if layer is not model.layers[-1]:
                modules.append(torch.nn.ReLU())
    return torch.nn.Sequential(*modules).eval()


def ours(method: str, norm: str, **settings: Any) -> Tool:
    """Make our attack.

    Args:
        method: its name.
        norm: its norm.
        **settings: of it.

    Returns:
        Net, images and labels -> adversarial images.
    """

    def run(net: Any, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return attack(net, images, labels=labels, method=method, norm=norm, **settings).adversarial

    return run


def on_torch(one: Callable[[Any, Any, Any], Any], batch: int = 500) -> Tool:
    """Make a tool of a function on PyTorch tensors.

    Args:
        one: model, images and labels -> images.
        batch: images of a call.

    Returns:
        Net, images and labels -> adversarial images.
    """

    def run(net: Any, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        found = []
        for at in range(0, len(images), batch):
            tensor = torch.tensor(images[at : at + batch].transpose(0, 3, 1, 2))
            changed = one(net.torch, tensor, torch.tensor(labels[at : at + batch]))
            found.append(changed.detach().numpy().transpose(0, 2, 3, 1))
        return np.concatenate(found)

    return run


def bare_gradients(net: Any, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Take as many gradients as PGD does, and nothing else."""

    def one(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, net(images))
        return tape.gradient(loss, images)

    gradient = net.__dict__.setdefault("gradient", tf.function(one))
    whole = len(images) // BATCH * BATCH
    for at in [*range(0, whole, BATCH), *([whole] if whole < len(images) else [])]:
        batch, classes = tf.constant(images[at : at + BATCH]), tf.constant(labels[at : at + BATCH])
        for _ in range(PGD_STEPS):
            gradient(batch, classes).numpy()
    return images


def pgd_tools() -> dict[str, Tool]:
    """List the tools that descend inside a ball.

    Returns:
        Name -> tool; ours first.
    """
    import foolbox
    import torchattacks
    from adv_lib.attacks import pgd_linf

    def with_torchattacks(model: Any, images: Any, labels: Any) -> Any:
        settings = {"eps": EPSILON, "alpha": STEP_SIZE, "steps": PGD_STEPS, "random_start": False}
        return torchattacks.PGD(model, **settings)(images, labels)

    def with_foolbox(model: Any, images: Any, labels: Any) -> Any:
        descent = foolbox.attacks.LinfProjectedGradientDescentAttack(
            abs_stepsize=STEP_SIZE, steps=PGD_STEPS, random_start=False
        )
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1))
        return descent(wrapped, images, labels, epsilons=EPSILON)[1]

    def with_advlib(model: Any, images: Any, labels: Any) -> Any:
        return pgd_linf(
            model, images, labels, EPSILON, steps=PGD_STEPS, random_init=False,
            absolute_step_size=STEP_SIZE,
        )  # fmt: skip

    settings = {"epsilon": EPSILON, "step_size": STEP_SIZE, "num_steps": PGD_STEPS}
    return {
        "mnist_adv": ours("pgd", "linf", stop_early=False, **settings),
        "its gradients alone": bare_gradients,
        **{
            f"{name}, batches of {batch}": on_torch(one, batch)
            for name, one in (
                ("torchattacks", with_torchattacks),
                ("foolbox", with_foolbox),
                ("adv-lib", with_advlib),
            )
            for batch in (BATCH, 500)
        },
    }


def minimal_tools(method: str, norm: str, steps: int) -> dict[str, Tool]:
    """List the tools that seek the smallest change.

    Args:
        method: "ddn" or "fmn".
        norm: of the distance.
        steps: of each tool.

    Returns:
        Name -> tool; ours first.
    """
    from adv_lib.attacks import ddn, fmn

    def with_advlib(model: Any, images: Any, labels: Any) -> Any:
        if method == "ddn":
            return ddn(model, images, labels, steps=steps, levels=None)
        return fmn(model, images, labels, NORMS[norm], steps=steps)

    return {
        "mnist_adv": ours(method, norm, num_steps=steps),
        "adv-lib": on_torch(with_advlib),
    }


def distance(net: Any, norm: str, images: np.ndarray, labels: np.ndarray, found: Any) -> float:
    """Measure the median distance; an image that is not adversarial counts as infinitely far."""
    away = (found.astype(np.float64) - images).reshape(len(images), -1)
    length = np.linalg.norm(away, NORMS[norm], axis=1)
    return float(np.median(np.where(np.asarray(net(found)).argmax(1) != labels, length, np.inf)))


def race(
    net: Any, tools: dict[str, Tool], count: int, rounds: int, norm: str | None
) -> list[dict[str, Any]]:
    """Run every tool in turn.

    Args:
        net: the net.
        tools: ours first.
        count: number of images.
        rounds: how often; one of them counts the first call.
        norm: of the distance; None: the share of images that are misclassified is told instead.

    Returns:
        A record of each tool.
    """
    some = datasets.load(rows=(0, count))
    seconds: dict[str, list[float]] = {name: [] for name in tools}
    reached = {}
    for _ in range(rounds):
        for name, tool in tools.items():
            began = time.perf_counter()
            found = tool(net, some.images, some.labels)
            seconds[name].append(time.perf_counter() - began)
            wrong = float((np.asarray(net(found)).argmax(1) != some.labels).mean())
            reached[name] = distance(net, norm, some.images, some.labels, found) if norm else wrong
    first = next(iter(tools))
    return [
        {
            "tool": name,
            "seconds": statistics.median(seconds[name]),
            "ratio": statistics.median(a / b for a, b in zip(seconds[name], seconds[first])),
            "reached": reached[name],
        }
        for name in tools
    ]


def main() -> None:
    """Run the races and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", nargs="+", default=["keras_example", "small_cnn"])
    parser.add_argument("--num_images", type=int, nargs="+", default=[40, 500])
    parser.add_argument("--attacks", nargs="+", default=ATTACKS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results_dir", type=pathlib.Path, default=RESULTS)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(2)
    torch.set_num_threads(2)
    baseline_tools.stand_in_for_unused_imports()
    lines = [
        "| net | attack | images | steps | tool | seconds | ratio to ours | median distance, or "
        "success |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print(*lines, sep="\n", flush=True)
    for name in arguments.nets:
        net = Net(name)
        for method, norm in (text.split(":") for text in arguments.attacks):
            plan = [(count, MINIMAL_STEPS, arguments.rounds) for count in arguments.num_images]
            if method == "pgd":
                plan = [(max(arguments.num_images), PGD_STEPS, arguments.rounds + 1)]
            else:  # tracing is part of what a person waits for
                plan.insert(0, (40, FIRST_STEPS, 1))
            for count, steps, rounds in plan:
                tools = pgd_tools() if method == "pgd" else minimal_tools(method, norm, steps)
                for found in race(net, tools, count, rounds, None if method == "pgd" else norm):
                    calls = ", first call" if rounds == 1 else ""
                    lines.append(
                        f"| {name} | {method} {norm} | {count} | {steps}{calls} "
                        f"| {found['tool']} | {found['seconds']:.2f} | {found['ratio']:.2f} "
                        f"| {found['reached']:.4g} |"
                    )
                    print(lines[-1], flush=True)
    text = [
        "# Convolutional nets",
        "",
        "From `python -m benchmarks.conv_nets`: two threads, seconds and ratios are medians of the "
        "rounds.",
        ", ".join(f"{name} {is_at}" for name, is_at in baseline_results.versions().items()) + ".",
        "",
        *lines,
        "",
    ]
    (arguments.results_dir / "conv_nets.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
