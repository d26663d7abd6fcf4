"""Every argument of every public function, given what it cannot be."""

from __future__ import annotations

import inspect
import pathlib
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mnist_adv as library
from mnist_adv.arguments import real, shown, whole
from mnist_adv.attacks.methods.pgd import PGD
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.certification.method import Method
from mnist_adv.certification.result import Arithmetic
from mnist_adv.gradients.goals import Goal
from mnist_adv.models.linear import LinearModel
from tests.faults.oddities import JUNK

IMAGES = np.random.default_rng(0).random((2, 6, 6, 1), np.float32)
MODEL = LinearModel(np.random.default_rng(1).normal(size=(36, 3)), np.zeros(3))
CERTIFIED = library.Certification(
    *(IMAGES, np.array([1, 1]), library.Norm.LINF, (0.0, 1.0), np.full(2, 0.01), np.full(2, -1.0)),
    *(np.full(2, np.inf), IMAGES, np.full(2, -1.0), Arithmetic.FLOAT32, Method.CROWN),
)
# Calls that succeed, but for files that are not there.
CALLS: dict[str, dict[str, Any]] = {
    "LinearModel": {"W": np.ones((4, 2)), "b": np.ones(2)},
    "Pixels": {"scale": "bytes", "polarity": "dark_on_light"},
    "SoftmaxRegression": {"num_classes": 3, "num_pixels": 4},
    "TrainingConfig": {
        "num_epochs": 1,
        "batch_size": 2,
        "learning_rate": 0.1,
        "seed": 0,
        "defend": "l2",
        "epsilon": 0.5,
    },
    "attack": {
        "model": MODEL,
        "images": IMAGES,
        "targets": 1,
        "labels": 0,
        "method": "pgd",
        "norm": "linf",
        "epsilon": 0.1,
        "step_size": 0.1,
        "num_steps": 2,
        "step": "sign",
        "loss": "margin",
        "source": "spsa",
        "difference_step": 0.1,
        "seed": 0,
        "trace": False,
        "bounds": (0, 1),
        "confidence": 0.5,
        "restarts": 1,
        "momentum": 0.0,
        "random_start": False,
        "step_fraction": 0.1,
    },
    "certify": {
        "model": MODEL,
        "images": IMAGES,
        "labels": [1, 1],
        "norm": "linf",
        "epsilon": 0.01,
        "method": "crown",
        "seconds_per_image": 0.1,
        "attack": False,
        "arithmetic": "float32",
        "bounds": (0, 1),
        "seed": 0,
    },
    "certify_radius": {
        "model": MODEL,
        "images": IMAGES,
        "labels": [1, 1],
        "norm": "linf",
        "method": "ibp",
        "epsilons": [0.01],
        "num_steps": 1,
        "seconds_per_image": 0.1,
        "attack": False,
        "arithmetic": "float32",
        "bounds": (0, 1),
        "seed": 0,
        "progress": None,
    },
    "check_gradient": {"model": MODEL, "image": IMAGES[0], "intended_label": 1, "loss": "margin"},
    "compute_gradient": {
        "model": MODEL,
        "images": IMAGES,
        "intended_labels": 1,
        "loss": "margin",
        "source": "nes",
        "difference_step": 0.1,
        "dtype": "float32",
        "num_samples": 2,
        "seed": 0,
    },
    "convert": {
        "source": "none.npz",
        "destination": "made.npz",
        "kind": "npz",
        "names": "W=a,b=b",
        "num_classes": 3,
        "shape": (6, 6, 1),
        "variables": "W=a,b=b",
        "activation": "relu",
        "dataset": "mnist",
        "class_names": ("a",),
        "overwrite": False,
    },
    "examine": {
        "model": MODEL,
        "images": IMAGES,
        "labels": [0, 1],
        "pixels": library.Pixels(),
        "thorough": False,
    },
    "from_numpy": {"function": lambda a: a.reshape(len(a), -1)[:, :3], "image_shape": (6, 6, 1)},
    "from_sklearn": {"estimator": MODEL, "scale": 1.0},
    "judge": {
        "model": MODEL,
        "images": IMAGES,
        "adversarial": IMAGES,
        "labels": 1,
        "norm": "l2",
        "epsilon": 1,
        "confidence": 0.5,
        "bounds": (0, 1),
    },
    "evaluate": {
        "model": MODEL,
        "images": (255 * IMAGES).astype(np.uint8),
        "labels": [1, 1],
        "attacks": "fgsm",
        "norm": "linf",
        "epsilons": [0.1],
        "targets": "untargeted",
        "num_steps": 1,
        "step_size": 0.1,
        "confidence": 0.5,
        "settings": {},
        "seed": 0,
        "num_images": 1,
        "class_names": None,
        "folder": None,
        "jobs": 1,
        "progress": False,
    },
    "load": {
        "name": "mnist",
        "split": "test",
        "data_dir": None,
        "manual_dir": None,
        "rows": (0, 2),
        "shape": (28, 28, 1),
    },
    "load_result": {"path": "none.npz"},
    "open_model": {
        "spec": "none.npz",
        "num_classes": 3,
        "variables": "W=a,b=b",
        "activation": "relu",
        "pixels": library.Pixels(),
        "shape": (6, 6, 1),
    },
    "read_digit": {"path": "none.png"},
    "restore": {"checkpoint_dir": "none"},
    "smallest_perturbation": {
        "W": MODEL.W,
        "b": MODEL.b,
        "images": IMAGES,
        "labels": [1, 1],
        "norm": "linf",
        "margin": 0.0,
        "lower": 0.0,
        "upper": 1.0,
        "seconds_per_image": 1.0,
        "one_by_one": False,
        "progress": False,
    },
    "to_levels": {
        "model": MODEL,
        "images": IMAGES,
        "adversarial": IMAGES,
        "norm": "l2",
        "epsilon": 1,
        "goal": Goal(np.array([1, 1]), targeted=False),
        "max_rounds": 3,
        "bounds": (0, 1),
    },
    "write_proofs": {
        "folder": "proofs",
        "model": MODEL,
        "found": CERTIFIED,
        "seconds_per_image": 0.1,
    },
    "train": {
        "model": library.SoftmaxRegression(3, 36),
        "train_set": None,
        "test_set": None,
        "config": library.TrainingConfig(),
        "first_epoch": 0,
    },
}
# Records, which are made by the functions above, and enumerations, which are Python's.
NO_CALLS = {
    *(
        "Activation",
        "AttackResult",
        "Certification",
        "Evaluation",
        "Finding",
        "LoadedModel",
        "Loss",
        "Norm",
        "OpenedModel",
    ),
    *("Optimum", "PixelScale", "Polarity", "Source", "Step", "Verdict"),
}


def test_every_public_name_is_tried() -> None:
    assert set(library.__all__) == set(CALLS) | NO_CALLS


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CALLS))
def test_whatever_comes_is_answered_or_refused_in_one_line(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    function: Callable[..., Any] = getattr(library, name)
    refused = 0
    for argument in CALLS[name]:
        for make in JUNK:
            value = make()
            if callable(value) and argument in ("model", "function", "progress"):
                continue  # its own errors are the user's
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    result = function(**{**CALLS[name], argument: value})
                    if inspect.isgenerator(result):
                        next(result)
            except (ValueError, OSError) as error:
                assert str(error) and "\n" not in str(error), (argument, shown(value), error)
                refused += 1
            except Exception as error:
                pytest.fail(f"{argument}={shown(value)}: {type(error).__name__}: {error}")
    assert refused > 0.5 * len(CALLS[name]) * len(JUNK)


ENUMERATIONS = ("Activation", "Norm", "PixelScale", "Polarity", "Step")


@pytest.mark.parametrize("name", ENUMERATIONS)
def test_no_member_of_an_enumeration_is_made_of_anything_else(name: str) -> None:
    kind: Any = getattr(library, name)
    for member in kind:
        assert kind(member) is kind(member.value) is pickle.loads(pickle.dumps(member)) is member
    for make in JUNK:
        with pytest.raises(ValueError, match=f"^{name} must be one of .*{member.value}") as caught:
            kind(make())
        assert "\n" not in str(caught.value)


WRAPPING: list[tuple[str, str, Any]] = [
    *(("attack", "num_steps", value) for value in (0, 2**31, 2**32 + 3, 2**64, 3.0, True)),
    *(("attack", "seed", value) for value in (-1, 2**32, 2**32 + 3, 2**64, 0.0)),
    *(("attack", "epsilon", value) for value in (1e39, 1e300, 10**400, -1e-9, np.nan, np.inf)),
    *(("attack", "step_size", value) for value in (1e39, 1e-50, 0, -1, np.nan, np.inf)),
    *(("attack", "restarts", value) for value in (0, 2**32 + 1, 2**31)),
    *(("attack", "momentum", value) for value in (1e39, -0.1, 1.1, np.nan)),
    *(("attack", "step_fraction", value) for value in (1e39, -1, np.nan)),
    *(("attack", "bounds", value) for value in ((0, 1e39), (0, 1e-50), (1e8, 1e8 + 1), (0, 0))),
    *(("compute_gradient", "seed", value) for value in (-1, 2**32, 2**32 + 3)),
    *(("compute_gradient", "num_samples", value) for value in (0, 2**31, 2**32 + 1)),
    *(("compute_gradient", "difference_step", value) for value in (0, 1e-50, 2, 1e39, np.nan)),
    *(("judge", "epsilon", value) for value in (1e39, -1, np.nan)),
    *(("to_levels", "epsilon", value) for value in (1e39, -1, np.nan)),
    *(("to_levels", "max_rounds", value) for value in (-1, 2**31, 2**32 + 1)),
    *(("SoftmaxRegression", "num_pixels", value) for value in (0, 2**31)),
    *(("TrainingConfig", "num_epochs", value) for value in (0, 2**31, 2**32 + 1)),
    *(("TrainingConfig", "batch_size", value) for value in (0, 2**31, 2**32 + 1)),
    *(("TrainingConfig", "learning_rate", value) for value in (0, 1e39, 1e-50, np.nan)),
    *(("TrainingConfig", "seed", value) for value in (-1, 2**32)),
    *(("TrainingConfig", "epsilon", value) for value in (0, 1e39, np.nan)),
]


@pytest.mark.parametrize(("name", "argument", "value"), WRAPPING)
def test_numbers_that_no_tensor_holds_are_refused(name: str, argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{argument} must .* Received: ") as caught:
        getattr(library, name)(**{**CALLS[name], argument: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 2**31}, "num_steps must be an integer in 0..2147483647"),
        ({"momentum": np.nan}, "momentum must be a finite number"),
        ({"random_start": "no"}, "random_start must be True or False. Received: 'no'"),
        ({"loss": "margin"}, "loss must be a Loss. Received: 'margin'"),
        ({"restarts": 2**21}, "restarts must be an integer in 1..1048576"),
    ],
)
def test_settings_of_an_attack_are_checked_when_it_is_made(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PGD(**settings)


@pytest.mark.slow
def test_a_budget_at_the_end_of_float32_is_no_limit() -> None:
    labels = np.asarray(MODEL(IMAGES)).argmax(axis=1)
    for name, row in ATTACKS.items():
        if row.attack.needs_donors or row.attack.minimal or name.startswith("autoattack_"):
            continue
        for norm in row.attack.norms:
            found = library.attack(
                MODEL, IMAGES, labels=labels, method=name, norm=norm, epsilon=3e38, num_steps=20
            )
            assert np.isfinite(found.adversarial).all()
            assert found.success.any(), (name, norm)


def test_a_model_of_nan_has_no_gradient_and_is_never_fooled() -> None:
    broken = LinearModel(np.full([36, 3], np.nan), np.zeros(3))
    with pytest.raises(ValueError, match="Received: NaN or infinity for 2 of 2"):
        library.compute_gradient(broken, IMAGES, 1)
    with pytest.raises(ValueError, match="finite gradient"):
        library.check_gradient(broken, IMAGES[0], 1)
    found = library.attack(broken, IMAGES, labels=1)
    assert not found.success.any() and np.isfinite(found.adversarial).all()


def test_one_number_or_one_for_each_image() -> None:
    assert whole(np.uint8(3), "n").dtype == np.int64
    assert whole([1, 2], "n", count=2).tolist() == [1, 2]
    assert real(1, "x").dtype == np.float64
    assert real([0, np.inf], "x", 0, count=2, infinite=True).tolist() == [0, np.inf]
    with pytest.raises(ValueError, match=r"n must be one number\. Received: shape \[2\]"):
        whole([1, 2], "n")
    with pytest.raises(ValueError, match=r"n must be an integer in 1\.\.5\. Received: 6"):
        whole([1, 6], "n", 1, 5, count=2)


def test_what_is_shown_of_a_value_is_one_short_line() -> None:
    for make in JUNK:
        text = shown(make())
        assert text and "\n" not in text and len(text) < 200
