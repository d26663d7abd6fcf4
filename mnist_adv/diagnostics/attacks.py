"""Checks by attacks whose outcome is known: budget zero, and many steps against one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mnist_adv.attacks import AttackResult, attack
from mnist_adv.diagnostics.finding import Finding, ModelUnderTest, Severity

_NUM_IMAGES = 100
_EPSILON = 0.1
_MANY = 20


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


def _attack(tested: ModelUnderTest, num_steps: int, step_size: float) -> AttackResult:
    return attack(
        tested.model,
        tested.images[:_NUM_IMAGES],
        labels=tested.labels[:_NUM_IMAGES],
        epsilon=_EPSILON,
        step_size=step_size,
        num_steps=num_steps,
    )
