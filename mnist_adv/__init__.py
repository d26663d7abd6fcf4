"""Compute, check, explain and measure adversarial images on MNIST-size classifiers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_adv.attacks import AttackResult as AttackResult
    from mnist_adv.attacks import attack as attack
    from mnist_adv.certification.api import certify as certify
    from mnist_adv.certification.api import certify_radius as certify_radius
    from mnist_adv.certification.proofs import write_proofs as write_proofs
    from mnist_adv.certification.result import Certification as Certification
    from mnist_adv.data.datasets import load as load
    from mnist_adv.data.handwriting import read_digit as read_digit
    from mnist_adv.diagnostics import examine as examine
    from mnist_adv.diagnostics.finding import Finding as Finding
    from mnist_adv.evaluation.api import evaluate as evaluate
    from mnist_adv.evaluation.load_result import load_result as load_result
    from mnist_adv.evaluation.result import Evaluation as Evaluation
    from mnist_adv.geometry.norms import Norm as Norm
    from mnist_adv.geometry.steps import Step as Step
    from mnist_adv.gradients.api import compute_gradient as compute_gradient
    from mnist_adv.gradients.check import check_gradient as check_gradient
    from mnist_adv.gradients.losses import Loss as Loss
    from mnist_adv.gradients.sources import Source as Source
    from mnist_adv.models.activation import Activation as Activation
    from mnist_adv.models.checkpoints import restore as restore
    from mnist_adv.models.formats.convert import convert as convert
    from mnist_adv.models.formats.open import OpenedModel as OpenedModel
    from mnist_adv.models.formats.open import open_model as open_model
    from mnist_adv.models.from_python import from_numpy as from_numpy
    from mnist_adv.models.from_python import from_sklearn as from_sklearn
    from mnist_adv.models.linear import LinearModel as LinearModel
    from mnist_adv.models.loaded import LoadedModel as LoadedModel
    from mnist_adv.models.preprocessing import Pixels as Pixels
    from mnist_adv.models.preprocessing import PixelScale as PixelScale
    from mnist_adv.models.preprocessing import Polarity as Polarity
    from mnist_adv.models.softmax_regression import SoftmaxRegression as SoftmaxRegression
    from mnist_adv.models.training import train as train
    from mnist_adv.models.training_config import TrainingConfig as TrainingConfig
    from mnist_adv.optimum import Optimum as Optimum
    from mnist_adv.optimum import smallest_perturbation as smallest_perturbation
    from mnist_adv.quantize.levels import to_levels as to_levels
    from mnist_adv.verdict.judge import Verdict as Verdict
    from mnist_adv.verdict.judge import judge as judge

__version__ = "0.1.0"

_HOME = {
    "Activation": "models.activation",
    "AttackResult": "attacks",
    "Evaluation": "evaluation.result",
    "Certification": "certification.result",
    "Finding": "diagnostics.finding",
    "LinearModel": "models.linear",
    "LoadedModel": "models.loaded",
    "Loss": "gradients.losses",
    "Norm": "geometry.norms",
    "OpenedModel": "models.formats.open",
    "Optimum": "optimum",
    "PixelScale": "models.preprocessing",
    "Pixels": "models.preprocessing",
    "Polarity": "models.preprocessing",
    "SoftmaxRegression": "models.softmax_regression",
    "Source": "gradients.sources",
    "Step": "geometry.steps",
    "TrainingConfig": "models.training_config",
    "Verdict": "verdict.judge",
    "attack": "attacks",
    "certify": "certification.api",
    "certify_radius": "certification.api",
    "check_gradient": "gradients.check",
    "compute_gradient": "gradients.api",
    "convert": "models.formats.convert",
    "evaluate": "evaluation.api",
    "examine": "diagnostics",
    "from_numpy": "models.from_python",
    "from_sklearn": "models.from_python",
    "judge": "verdict.judge",
    "load": "data.datasets",
    "load_result": "evaluation.load_result",
    "open_model": "models.formats.open",
    "read_digit": "data.handwriting",
    "restore": "models.checkpoints",
    "smallest_perturbation": "optimum",
    "to_levels": "quantize.levels",
    "train": "models.training",
    "write_proofs": "certification.proofs",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    # A public name is imported from its module when it is first asked for, and so is the package
    # for Keras, which `mnist_adv.keras.AdversarialTraining` may find without an import of its own.
    if name == "keras":
        return importlib.import_module(f"{__name__}.keras")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
