"""Checks by attack: the one that may do nothing, and the one that must not be weaker."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mnist_adv.attacks import AttackResult, attack
from mnist_adv.diagnostics.finding import Finding, Patient, Severity

_NUM_IMAGES = 100
_EPSILON = 0.1
_MANY = 20


def nothing_changes(patient: Patient) -> Iterator[Finding]:
    """Attack with epsilon 0: the accuracy must be the clean one."""
    images, labels = patient.images[:_NUM_IMAGES], patient.labels[:_NUM_IMAGES]
    clean = np.count_nonzero(patient.outputs[: len(images)].argmax(axis=1) == labels)
    result = attack(patient.model, images, labels=labels, epsilon=0, num_steps=3)
    left = np.count_nonzero(result.verdict.predictions == labels)
    if left != clean or not np.array_equal(result.adversarial, images):
        yield Finding(
            "epsilon_0",
            Severity.SEVERE,
            f"an attack with epsilon 0 leaves {left} of {len(images)} images right, and {clean} "
            "were right before it",
            "the model changes while it is used; make its outputs a function of the image alone",
        )


def steps(patient: Patient) -> Iterator[Finding]:
    """Attack in many small steps and in one large one: many must not be weaker."""
    many = _attack(patient, _MANY, 2.5 * _EPSILON / _MANY).success
    one = _attack(patient, 1, _EPSILON).success
    lead = np.count_nonzero(one & ~many) - np.count_nonzero(many & ~one)
    if lead > max(2, 0.05 * len(one)):
        yield Finding(
            "steps",
            Severity.SEVERE,
            f"{_MANY} small steps change {many.mean():.0%} of the predictions, one large step "
            f"{one.mean():.0%} (linf {_EPSILON:g})",
            "gradient masking: the slope at the image misleads; compare with random starts and "
            "attacks without gradients before calling it robust",
        )


def _attack(patient: Patient, num_steps: int, step_size: float) -> AttackResult:
    return attack(
        patient.model,
        patient.images[:_NUM_IMAGES],
        labels=patient.labels[:_NUM_IMAGES],
        epsilon=_EPSILON,
        step_size=step_size,
        num_steps=num_steps,
    )
