"""Checks by attacks: budget zero, many steps against one, and what changed images are given."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from mnist_adv.attacks import AttackResult, attack
from mnist_adv.diagnostics.finding import Finding, ModelUnderTest, Severity
from mnist_adv.tensors.lazy import tf

_NUM_IMAGES = 100
_EPSILON = 0.1
_MANY = 20
_MOST_ALIKE = 0.05  # share of the images


def nothing_changes(tested: ModelUnderTest) -> Iterator[Finding]:
    """Find a change under an attack with epsilon 0, which must leave the clean accuracy.

    Args:
        tested: the model and its images.

    Yields:
        The finding, if there is one.
    """
    images, labels = tested.images[:_NUM_IMAGES], tested.labels[:_NUM_IMAGES]
    clean = np.count_nonzero(tested.outputs[: len(images)].argmax(axis=1) == labels)
    try:
        result = attack(tested.model, images, labels=labels, epsilon=0, num_steps=3)
    except ValueError:
        return  # no gradient, which the check of the gradient reports
    left = np.count_nonzero(result.verdict.predictions == labels)
    if left != clean or not np.array_equal(result.adversarial, images):
        yield Finding(
            "epsilon_0",
            Severity.SEVERE,
            f"an attack with epsilon 0 leaves {left} of {len(images)} images right, and {clean} "
            "were right before it",
            "the model changes while it is used; make its outputs a function of the image alone",
        )


def steps(tested: ModelUnderTest) -> Iterator[Finding]:
    """Find an attack in many small steps that is weaker than one large step.

    Args:
        tested: the model and its images.

    Yields:
        The finding, if there is one.
    """
    try:
        many = _attack(tested, _MANY, 2.5 * _EPSILON / _MANY).success
    except ValueError:
        return  # no gradient, which the check of the gradient reports
    one = _attack(tested, 1, _EPSILON).success
    fewer = np.count_nonzero(one & ~many) - np.count_nonzero(many & ~one)
    if fewer > max(2, 0.05 * len(one)):
        yield Finding(
            "steps",
            Severity.SEVERE,
            f"{_MANY} small steps change {many.mean():.0%} of the predictions, one large step "
            f"{one.mean():.0%} (linf {_EPSILON:g})",
            "gradient masking: the gradient at the image points away from success; compare with "
            "random starts and attacks without gradients before calling it robust",
            stops=False,  # a weak model is overshot by one large step too
        )


def same_outputs(tested: ModelUnderTest) -> Iterator[Finding]:
    """Find outputs that are the same for many images once noise or a step has changed them.

    Args:
        tested: the model and its images.

    Yields:
        The finding, if there is one.
    """
    images = tested.images[:_NUM_IMAGES]
    if _alike(tested.outputs[: len(images)]) > _MOST_ALIKE * len(images):
        return  # it does not work on clean images, which the check of the accuracy reports
    signs = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), images.shape)
    changed = {"noise": np.clip(images + np.float32(_EPSILON) * signs, 0, 1)}
    with contextlib.suppress(ValueError):  # no gradient, which the check of the gradient reports
        changed["one large step"] = _attack(tested, 1, _EPSILON).adversarial
    outputs = {name: np.asarray(tested.model(tf.constant(at))) for name, at in changed.items()}
    counts = {name: _alike(values) for name, values in outputs.items()}
    name = max(counts, key=lambda name: counts[name])
    if counts[name] > _MOST_ALIKE * len(images):
        yield Finding(
            "same_outputs",
            Severity.SEVERE,
            f"{counts[name]} of {len(images)} images get exactly the same outputs after {name} "
            f"(linf {_EPSILON:g})",
            "a detector that refuses images, or saturation, answers in place of the model: attacks "
            "see no slope there, and a refusal counts as leaving the class; attack the model "
            "without it too, and with --target towards classes that are no refusal",
            stops=False,  # what is found without a target is what it says
        )


def _alike(outputs: np.ndarray) -> int:
    """Count the images that share the commonest outputs."""
    return int(np.unique(outputs, axis=0, return_counts=True)[1].max())


def _attack(tested: ModelUnderTest, num_steps: int, step_size: float) -> AttackResult:
    return attack(
        tested.model,
        tested.images[:_NUM_IMAGES],
        labels=tested.labels[:_NUM_IMAGES],
        epsilon=_EPSILON,
        step_size=step_size,
        num_steps=num_steps,
    )
