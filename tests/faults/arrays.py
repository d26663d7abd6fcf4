"""Arrays and numbers given to the API, right ones in every form and wrong ones of every kind."""

from __future__ import annotations

import functools
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

import mnist_adv
from mnist_adv.gradients.goals import Goal
from mnist_adv.models.as_model import as_model
from mnist_adv.models.linear import LinearModel
from mnist_adv.models.logits import check_logits
from tests.faults.campaign import Campaign, Ended, Outcome
from tests.faults.oddities import FORMS, JUNK, read_only

SHAPE, CLASSES = (6, 6, 1), 3
NORMS = ("linf", "l2", "l1", "l0")
BUDGET = {"linf": 0.2, "l2": 0.8, "l1": 3.0, "l0": 5.0}
# Logits nearer to one another than this may change places by rounding.
_TIE = 1e-4
_METHODS = {
    "linf": ("pgd", "fgsm", "square", "fmn"),
    "l2": ("pgd", "ddn", "deepfool"),
    "l1": ("pgd", "apgd_ce"),
    "l0": ("jsma", "salt_and_pepper"),
}
Arguments = dict[str, Any]


class UserError(Exception):
    """What a user's own model raises."""


@functools.cache
def _model() -> LinearModel:
    generator = np.random.default_rng(5)
    return LinearModel(generator.normal(0, 1, (36, CLASSES)), generator.normal(0, 0.1, CLASSES))


def _logits(images: np.ndarray) -> np.ndarray:
    rows = np.asarray(images, np.float64).reshape(-1, 36)
    found: np.ndarray = rows @ _model().W.astype(np.float64) + _model().b
    return found


def _fails(images: Any) -> Any:
    raise UserError("of the user's own")


# Models that return no logits, of which a result would mean nothing.
_NO_MODELS: tuple[Callable[[], Any], ...] = (
    lambda: lambda images: tf.reduce_sum(_model()(images), axis=0, keepdims=True)[:, :1],
    lambda: lambda images: _model()(images)[..., tf.newaxis],
    lambda: lambda images: tf.argmax(_model()(images), axis=1),
    lambda: lambda images: None,
    lambda: lambda images: "seven",
    lambda: lambda images: tf.cast(_model()(images), tf.int32),
    lambda: _fails,
    lambda: LinearModel(np.zeros([35, 3]), np.zeros(3)),
    lambda: None,
    lambda: LinearModel,
    *JUNK[:10],
)


def _question(rng: np.random.Generator) -> Arguments:
    """Make a question that can be answered."""
    count = int(rng.integers(1, 5))
    images = rng.random((count, *SHAPE), np.float32)
    labels = _logits(images).argmax(axis=1)
    norm = str(rng.choice(NORMS))
    moved = np.clip(images + rng.uniform(-0.1, 0.1, images.shape), 0, 1).astype(np.float32)
    return {
        "model": _model(),
        "images": images,
        "labels": labels,
        "targets": (labels + rng.integers(1, CLASSES, count)) % CLASSES,
        "norm": norm,
        "epsilon": BUDGET[norm] * rng.uniform(0.2, 1.5),
        "num_steps": int(rng.integers(1, 6)),
        "seed": int(rng.integers(0, 2**32)),
        "adversarial": moved,
        "method": str(rng.choice(_METHODS[norm])),
    }


def _wrong(name: str, right: Any, rng: np.random.Generator) -> Any:
    """Make a value that the argument must not be."""
    some: dict[str, tuple[Callable[[], Any], ...]] = {
        "model": _NO_MODELS,
        "images": (
            lambda: 255 * right,
            lambda: (255 * right).astype(np.uint8),
            lambda: right - 1,
            lambda: np.where(right > 0.5, np.nan, right),
            lambda: right + np.float32(np.inf),
            lambda: right[..., 0, 0],
            lambda: right[:, :5],
            lambda: right[np.newaxis],
            lambda: right > 0.5,
            lambda: right.astype(np.complex64),
            lambda: right.astype(str),
            lambda: right.astype(object),
            lambda: np.ma.masked_less(right, 0.5),
            lambda: None,
        ),
        "labels": (
            *(lambda wrong=wrong: wrong for wrong in (99, CLASSES, -1, 2**63, 3.5, "2", None)),
            lambda: np.append(right, 0),
            lambda: right + 0.5,
            lambda: right[:, np.newaxis] if len(right) > 1 else [[[0]]],
            lambda: right == 0,
        ),
        "epsilon": (
            *(lambda wrong=wrong: wrong for wrong in (1e39, "0.3", -0.1, [0.1] * 9, [[0.1]])),
        ),
        "num_steps": (
            *(lambda wrong=wrong: wrong for wrong in (0, 2**31, 2**32 + 3, 2**64 + 1, 1.0, "3")),
        ),
        "seed": (*(lambda wrong=wrong: wrong for wrong in (2**32, 2**32 + 3, -1, 0.0, "3", None)),),
        "norm": (*(lambda wrong=wrong: wrong for wrong in ("l3", "L2", None, 2, np.inf)),),
    }
    some["adversarial"] = some["images"][:2] + some["images"][3:]
    some["adversarial"] += (lambda: right[:, :5],)
    some["targets"] = some["labels"]
    own = some.get(name, ())
    made = [*own, *JUNK] if name != "model" else list(own)
    return made[int(rng.integers(len(made)))]()


def _other_form(name: str, right: Any, rng: np.random.Generator) -> Any:
    """Say the same in another way."""
    if name in ("images", "adversarial"):
        forms: tuple[Callable[[np.ndarray], Any], ...] = (*FORMS[:1], *FORMS[2:], read_only)
        return forms[int(rng.integers(len(forms)))](right)
    if name in ("labels", "targets"):
        return FORMS[int(rng.integers(len(FORMS)))](np.asarray(right))
    if name == "epsilon":
        return FORMS[int(rng.integers(len(FORMS)))](np.asarray(right, np.float64))
    if name == "num_steps":
        return FORMS[int(rng.integers(len(FORMS)))](np.asarray(right))
    return right


def _norms(images: np.ndarray, changed: np.ndarray) -> dict[str, np.ndarray]:
    away = (changed.astype(np.float64) - images).reshape(len(images), -1)
    return {
        "linf": np.abs(away).max(axis=1),
        "l2": np.linalg.norm(away, axis=1),
        "l1": np.abs(away).sum(axis=1),
        "l0": (away != 0).sum(axis=1),
    }


def _met(changed: np.ndarray, classes: Any, *, targeted: bool) -> tuple[np.ndarray, np.ndarray]:
    """Classify again; which images meet the goal, and of which that is beyond rounding."""
    logits = _logits(changed)
    two = np.sort(logits, axis=1)[:, -2:]
    return (logits.argmax(axis=1) == classes) == targeted, two[:, 1] - two[:, 0] > _TIE


def _check_attack(given: Arguments, result: Any) -> bool:
    length = _norms(given["images"], result.adversarial)[given["norm"]]
    met, sure = _met(result.adversarial, given["targets"], targeted=True)
    inside = (length <= given["epsilon"] + 1e-5) & np.isfinite(length)
    in_box = (result.adversarial >= 0).all() and (result.adversarial <= 1).all()
    claims = (result.success == (met & inside)) | ~sure
    steps = (result.num_steps <= given["num_steps"]).all()
    return bool(in_box and claims.all() and steps and (result.images == given["images"]).all())


def _check_judge(given: Arguments, verdict: Any) -> bool:
    length = _norms(given["images"], given["adversarial"])[given["norm"]]
    met, sure = _met(given["adversarial"], given["labels"], targeted=False)
    border = np.abs(length - given["epsilon"]) < 2e-6
    claims = verdict.success == (met & (length <= given["epsilon"]))
    return bool((claims | ~sure | border).all())


def _check_levels(given: Arguments, levels: Any) -> bool:
    nearest = np.abs(levels - 255.0 * given["adversarial"]) <= 0.5001
    pixels = (levels / np.float32(255)).astype(np.float32)
    length = _norms(given["images"], pixels)[given["norm"]]
    met, sure = _met(given["adversarial"], given["labels"], targeted=False)
    before = _norms(given["images"], given["adversarial"])[given["norm"]]
    inside = length <= given["epsilon"] + 1e-5
    # Images between the levels cannot be kept nearer than their own rounding.
    rounding = {"linf": 0.5 / 255, "l2": 3 / 255, "l1": 18 / 255, "l0": 36}[given["norm"]]
    near = length <= np.maximum(before, given["epsilon"]) + rounding + 1e-5
    kept = nearest.reshape(len(levels), -1).all(axis=1) | inside
    return bool(levels.dtype == np.uint8 and near.all() and (kept | met | ~sure | near).all())


def _check_gradient(given: Arguments, gradient: Any) -> bool:
    logits = _logits(given["images"])
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    upstream = powers / powers.sum(axis=1, keepdims=True)
    upstream[np.arange(len(logits)), given["labels"]] -= 1
    wanted = (upstream @ _model().W.T.astype(np.float64)).reshape(given["images"].shape)
    return bool(np.allclose(gradient, wanted, atol=1e-4))


def _check_agreement(_: Arguments, errors: Any) -> bool:
    return all(0 <= error < 0.5 for each in errors.values() for error in each.values())


def _check_model(given: Arguments, model: Any) -> bool:
    images = given["images"]
    return bool(np.allclose(model(tf.constant(images)), _logits(images), atol=1e-4))


def _as_model(model: Any, images: Any) -> Any:
    model = as_model(model, images)
    check_logits(model, tf.constant(images, tf.float32))
    return model


def _to_levels(model: Any, images: Any, adversarial: Any, labels: Any, **threat: Any) -> Any:
    goal = Goal(labels, targeted=False)
    return mnist_adv.to_levels(model, images, adversarial, goal, **threat)


# Function, its arguments, and what holds of its result.
_CALLS: tuple[tuple[Callable[..., Any], tuple[str, ...], Callable[[Arguments, Any], bool]], ...] = (
    (
        mnist_adv.attack,
        ("model", "images", "targets", "norm", "epsilon", "num_steps", "seed", "method"),
        _check_attack,
    ),
    (
        mnist_adv.judge,
        ("model", "images", "adversarial", "labels", "norm", "epsilon"),
        _check_judge,
    ),
    (_to_levels, ("model", "images", "adversarial", "labels", "norm", "epsilon"), _check_levels),
    (mnist_adv.compute_gradient, ("model", "images", "labels", "seed"), _check_gradient),
    (mnist_adv.check_gradient, ("model", "images", "labels"), _check_agreement),
    (_as_model, ("model", "images"), _check_model),
)
_POSITIONAL = {"compute_gradient": 3, "check_gradient": 3}


def _call(function: Callable[..., Any], names: tuple[str, ...], given: Arguments) -> Any:
    first = _POSITIONAL.get(function.__name__, 2)
    rest = {name: given[name] for name in names[first:]}
    return function(*(given[name] for name in names[:first]), **rest)


def _trial(number: int, _: pathlib.Path, __: pathlib.Path) -> Ended:
    rng = np.random.default_rng([11, number])
    function, names, check = _CALLS[number % len(_CALLS)]
    right = _question(rng)
    if function is mnist_adv.check_gradient:  # of one image
        right |= {"images": right["images"][:1], "labels": right["labels"][:1]}
    given = {name: _other_form(name, right[name], rng) for name in names}
    # `as_model` is given images by functions that have checked them.
    may_be_wrong = ["model"] if function is _as_model else [n for n in names if n != "method"]
    faulty = str(rng.choice(may_be_wrong))
    is_wrong = bool(rng.random() < 0.7)
    if is_wrong:
        given[faulty] = _wrong(faulty, right[faulty], rng)
    fault = f"{function.__name__}: {faulty}={_told(given[faulty])}" if is_wrong else "none"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = _call(function, names, given)
    except UserError:
        return Ended(Outcome.REFUSED, f"{fault}: the user's own error comes as it is")
    except ValueError as error:
        if "\n" in str(error) or not str(error) or len(str(error)) > 500:
            return Ended(Outcome.TRACEBACK, f"{fault}: not one line: {str(error)[:600]!r}")
        # Nothing is said wrongly where a form of what is right is refused, but it is a defect.
        outcome = Outcome.REFUSED if is_wrong else Outcome.TRACEBACK
        return Ended(outcome, f"{fault}: {function.__name__}: {error}")
    except Exception as error:
        return Ended(Outcome.TRACEBACK, f"{fault}: {type(error).__name__}: {str(error)[:300]}")
    if is_wrong:
        return Ended(Outcome.SILENT, f"{fault}: taken")
    outcome = Outcome.UNHARMED if check(right, result) else Outcome.SILENT
    return Ended(outcome, f"{function.__name__}: {result!r}"[:300])


def _told(value: Any) -> str:
    try:
        return repr(value)[:200]
    except Exception:
        return type(value).__name__


def _prepare(_: pathlib.Path) -> None:
    _model()


CAMPAIGN = Campaign(
    name="arrays given to the API",
    promise="What is wrong is refused in one line, and what is right is answered rightly.",
    count=2000,
    prepare=_prepare,
    trial=_trial,
    quick=120,
)
