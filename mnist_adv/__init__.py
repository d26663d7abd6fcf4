"""Compute, check, explain and measure adversarial images on MNIST-size classifiers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_adv.attacks import AttackResult as AttackResult
    from mnist_adv.attacks import attack as attack
    from mnist_adv.checkpoints import restore as restore
    from mnist_adv.conversion import convert as convert
    from mnist_adv.data import load as load
    from mnist_adv.digits import read_digit as read_digit
    from mnist_adv.doctor import examine as examine
    from mnist_adv.doctor.finding import Finding as Finding
    from mnist_adv.foreign.activation import Activation as Activation
    from mnist_adv.foreign.open import OpenedModel as OpenedModel
    from mnist_adv.foreign.open import open_model as open_model
    from mnist_adv.foreign.pixels import PixelScale as PixelScale
    from mnist_adv.foreign.pixels import Pixels as Pixels
    from mnist_adv.foreign.pixels import Polarity as Polarity
    from mnist_adv.gradient_check import check_gradient as check_gradient
    from mnist_adv.gradients import Source as Source
    from mnist_adv.gradients import compute_gradient as compute_gradient
    from mnist_adv.levels import to_levels as to_levels
    from mnist_adv.linear import LinearModel as LinearModel
    from mnist_adv.losses import Loss as Loss
    from mnist_adv.models import SoftmaxRegression as SoftmaxRegression
    from mnist_adv.norms import Norm as Norm
    from mnist_adv.optimum import Optimum as Optimum
    from mnist_adv.optimum import smallest_perturbation as smallest_perturbation
    from mnist_adv.steps import Step as Step
    from mnist_adv.training import train as train
    from mnist_adv.training_config import TrainingConfig as TrainingConfig
    from mnist_adv.verdict import Verdict as Verdict
    from mnist_adv.verdict import judge as judge

__version__ = "0.1.0"

_HOME = {
    "Activation": "foreign.activation",
    "AttackResult": "attacks",
    "Finding": "doctor.finding",
    "LinearModel": "linear",
    "Loss": "losses",
    "Norm": "norms",
    "OpenedModel": "foreign.open",
    "Optimum": "optimum",
    "PixelScale": "foreign.pixels",
    "Pixels": "foreign.pixels",
    "Polarity": "foreign.pixels",
    "SoftmaxRegression": "models",
    "Source": "gradients",
    "Step": "steps",
    "TrainingConfig": "training_config",
    "Verdict": "verdict",
    "attack": "attacks",
    "check_gradient": "gradient_check",
    "compute_gradient": "gradients",
    "convert": "conversion",
    "examine": "doctor",
    "judge": "verdict",
    "load": "data",
    "open_model": "foreign.open",
    "read_digit": "digits",
    "restore": "checkpoints",
    "smallest_perturbation": "optimum",
    "to_levels": "levels",
    "train": "training",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *_HOME})
