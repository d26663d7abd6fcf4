"""The same attacks as other libraries offer them: one function per tool and attack.

Each takes (weights, images, classes, targeted) and returns adversarial images, NumPy arrays
`[n, 28, 28, 1]`. Batches are of 1,000 images for everybody but ourselves, who choose our own.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import torch

from mnist_adv import attack
from mnist_adv.models.softmax_regression import SoftmaxRegression

BATCH = 1000
LINF, L2 = 0.1, 1.5
LINF_STEP, L2_STEP = 0.01, 0.1
NUM_STEPS = 40
NUM_MINIMAL_STEPS = 100
SEARCHES, SEARCH_STEPS = 9, 1000
# attack -> our name for it, and the length of its steps
BUDGETED = {
    "pgd_linf": ("pgd", LINF_STEP),
    "pgd_l2": ("pgd", L2_STEP),
    "mi_fgsm": ("mi_fgsm", LINF_STEP),
}

Batch = Callable[[Any, Any, bool], Any]
Tool = Callable[[np.ndarray, np.ndarray, bool], np.ndarray]


class Models:
    """One set of weights as everybody wants it."""

    def __init__(self, weights: np.ndarray, bias: np.ndarray) -> None:
        stand_in_for_unused_imports()
        import art.estimators.classification as art
        import foolbox

        self.ours = SoftmaxRegression()
        self.ours.W.assign(weights)
        self.ours.b.assign(bias)
        linear = torch.nn.Linear(784, 10)
        linear.weight.data = torch.tensor(weights.T.copy())
        linear.bias.data = torch.tensor(bias)
        self.torch = torch.nn.Sequential(torch.nn.Flatten(), linear).eval()
        self.foolbox_tf = foolbox.TensorFlowModel(self.ours, bounds=(0, 1))
        self.foolbox_torch = foolbox.PyTorchModel(self.torch, bounds=(0, 1))
        self.art = art.TensorFlowV2Classifier(
            model=lambda images, training=False: self.ours(images),
            nb_classes=10,
            input_shape=(28, 28, 1),
            loss_object=tf.keras.losses.CategoricalCrossentropy(from_logits=True),
            clip_values=(0, 1),
        )


def stand_in_for_unused_imports() -> None:
    """Let adv-lib be imported without what none of its attacks here uses."""
    # adv-lib imports them for a distance and for live plots, neither of which is in the race.
    # torchvision brings a second, larger torch, and visdom does not build with current setuptools.
    for name in ("torchvision", "visdom"):
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            stand_in: Any = types.ModuleType(name)
            stand_in.models = None  # of torchvision
            sys.modules[name] = stand_in


def matmuls_alone(model: SoftmaxRegression, rows: int) -> Callable[[np.ndarray], None]:
    """Make the floor: the two matrix products of each of the steps alone, XLA, same batch."""

    def loop(pixels: Any) -> Any:
        for _ in tf.range(NUM_STEPS):
            pixels = tf.matmul(pixels @ model.W, model.W, transpose_b=True)
        return pixels

    products = tf.function(loop, jit_compile=True)

    def run(images: np.ndarray) -> None:
        flat = images.reshape(-1, 784)
        padded = np.pad(flat, ((0, -len(flat) % rows), (0, 0)))
        for batch in padded.reshape(-1, rows, 784):
            products(tf.constant(batch)).numpy()

    return run


def tools(models: Models) -> dict[str, dict[str, Tool]]:
    """List attack -> tool -> function; our own first."""
    return {
        "pgd_linf": {
            "mnist_adv": _ours(models, "linf", LINF, *BUDGETED["pgd_linf"]),
            **_foolbox(models, "LinfProjectedGradientDescentAttack", LINF, **_pgd(LINF_STEP)),
            "art (TensorFlow)": _art(models, np.inf, LINF, LINF_STEP),
            "cleverhans (TensorFlow)": _cleverhans(models, "pgd", np.inf, LINF, LINF_STEP),
            "torchattacks": _torchattacks(
                models, "PGD", eps=LINF, alpha=LINF_STEP, steps=NUM_STEPS, random_start=False
            ),
            "adv-lib": _advlib(
                models, "pgd_linf", LINF, NUM_STEPS, random_init=False, absolute_step_size=LINF_STEP
            ),
        },
        "pgd_l2": {
            "mnist_adv": _ours(models, "l2", L2, *BUDGETED["pgd_l2"]),
            **_foolbox(models, "L2ProjectedGradientDescentAttack", L2, **_pgd(L2_STEP)),
            "cleverhans (TensorFlow)": _cleverhans(models, "pgd", 2, L2, L2_STEP),
            "torchattacks": _torchattacks(
                models, "PGDL2", eps=L2, alpha=L2_STEP, steps=NUM_STEPS, random_start=False
            ),
        },
        "mi_fgsm": {
            "mnist_adv": _ours(models, "linf", LINF, *BUDGETED["mi_fgsm"]),
            "cleverhans (TensorFlow)": _cleverhans(models, "mim", np.inf, LINF, LINF_STEP),
            "torchattacks": _torchattacks(
                models, "MIFGSM", eps=LINF, alpha=LINF_STEP, steps=NUM_STEPS
            ),
        },
        "ddn": {
            "mnist_adv": _ours(models, "l2", None, "ddn"),
            **_foolbox(models, "DDNAttack", None, steps=NUM_MINIMAL_STEPS),
            "adv-lib": _advlib(models, "ddn", steps=NUM_MINIMAL_STEPS, levels=None),
        },
        "fmn": {
            "mnist_adv": _ours(models, "l2", None, "fmn"),
            **_foolbox(models, "L2FMNAttack", None, steps=NUM_MINIMAL_STEPS),
            "adv-lib": _advlib(models, "fmn", 2, steps=NUM_MINIMAL_STEPS),
        },
        "deepfool": {
            "mnist_adv": _ours(models, "l2", None, "deepfool"),
            **_foolbox(models, "L2DeepFoolAttack", None, steps=50, overshoot=0.02),
            "adv-lib": _advlib(models, "df", steps=50, overshoot=0.02),
        },
        "carlini_wagner": {
            "mnist_adv": _ours(models, "l2", None, "carlini_wagner"),
            **_foolbox(
                models,
                "L2CarliniWagnerAttack",
                None,
                binary_search_steps=SEARCHES,
                steps=SEARCH_STEPS,
            ),
            "adv-lib": _advlib(
                models,
                "carlini_wagner_l2",
                binary_search_steps=SEARCHES,
                max_iterations=SEARCH_STEPS,
            ),
        },
    }


def _pgd(step_size: float) -> dict[str, Any]:
    return {"abs_stepsize": step_size, "steps": NUM_STEPS, "random_start": False}


def _ours(
    models: Models, norm: str, epsilon: float | None, method: str, step: float | None = None
) -> Tool:
    settings: dict[str, Any] = {}
    if epsilon is not None:
        settings = {"epsilon": epsilon, "step_size": step, "num_steps": NUM_STEPS}
        # All steps are taken, as the others take them: nothing is won by stopping early.
        settings["stop_early"] = False

    def run(images: np.ndarray, classes: np.ndarray, targeted: bool) -> np.ndarray:
        goal: dict[str, Any] = {"targets" if targeted else "labels": classes}
        return attack(models.ours, images, method=method, norm=norm, **settings, **goal).adversarial

    return run


def _batches(to_tensors: Callable[[np.ndarray], Any], one: Batch) -> Tool:
    def run(images: np.ndarray, classes: np.ndarray, targeted: bool) -> np.ndarray:
        parts = []
        for start in range(0, len(images), BATCH):
            batch = to_tensors(images[start : start + BATCH])
            labels = to_tensors(classes[start : start + BATCH])
            found = one(batch, labels, targeted)
            parts.append(found.detach().numpy() if hasattr(found, "detach") else np.array(found))
        return np.concatenate(parts).reshape(images.shape)

    return run


def _foolbox(models: Models, name: str, epsilon: float | None, **settings: Any) -> dict[str, Tool]:
    import foolbox

    def make(model: Any) -> Batch:
        def one(images: Any, classes: Any, targeted: bool) -> Any:
            kind = foolbox.criteria.TargetedMisclassification if targeted else None
            criterion = kind(classes) if kind else foolbox.criteria.Misclassification(classes)
            attack_ = getattr(foolbox.attacks, name)(**settings)
            return attack_(model, images, criterion, epsilons=epsilon)[1]

        return one

    return {
        "foolbox (TensorFlow)": _batches(tf.constant, make(models.foolbox_tf)),
        "foolbox (PyTorch)": _batches(torch.tensor, make(models.foolbox_torch)),
    }


def _art(models: Models, norm: float, epsilon: float, step_size: float) -> Tool:
    from art.attacks.evasion import ProjectedGradientDescent

    def run(images: np.ndarray, classes: np.ndarray, targeted: bool) -> np.ndarray:
        descent = ProjectedGradientDescent(
            models.art,
            norm=norm,
            eps=epsilon,
            eps_step=step_size,
            max_iter=NUM_STEPS,
            targeted=targeted,
            num_random_init=0,
            batch_size=BATCH,
            verbose=False,
        )
        found: np.ndarray = descent.generate(images, y=np.eye(10, dtype=np.float32)[classes])
        return found

    return run


def _cleverhans(models: Models, kind: str, norm: float, epsilon: float, step_size: float) -> Tool:
    from cleverhans.tf2.attacks.momentum_iterative_method import momentum_iterative_method
    from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

    def one(images: Any, classes: Any, targeted: bool) -> Any:
        common = {"clip_min": 0.0, "clip_max": 1.0, "y": classes, "targeted": targeted}
        if kind == "mim":
            return momentum_iterative_method(
                models.ours, images, eps=epsilon, eps_iter=step_size, nb_iter=NUM_STEPS, **common
            )
        return projected_gradient_descent(
            models.ours,
            images,
            epsilon,
            step_size,
            NUM_STEPS,
            norm,
            rand_init=False,
            sanity_checks=False,
            **common,
        )

    return _batches(tf.constant, one)


def _torchattacks(models: Models, name: str, **settings: Any) -> Tool:
    import torchattacks

    def one(images: Any, classes: Any, targeted: bool) -> Any:
        attack_ = getattr(torchattacks, name)(models.torch, **settings)
        if targeted:
            attack_.set_mode_targeted_by_label(quiet=True)
        return attack_(images, classes)

    return _batches(torch.tensor, one)


def _advlib(models: Models, name: str, *settings: Any, **named: Any) -> Tool:
    import adv_lib.attacks

    def one(images: Any, classes: Any, targeted: bool) -> Any:
        function = getattr(adv_lib.attacks, name)
        if name == "pgd_linf":
            epsilon, steps = settings
            return function(
                models.torch, images, classes, epsilon, targeted=targeted, steps=steps, **named
            )
        return function(models.torch, images, classes, *settings, targeted=targeted, **named)

    return _batches(torch.tensor, one)
