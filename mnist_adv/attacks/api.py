"""The door: check what was asked, run it, judge what came out."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.tensors.lazy import tf
from mnist_adv.attacks import compiled_run, registry
from mnist_adv.attacks.result import AttackResult
from mnist_adv.attacks.base import ROW, Method, Outcome, Rows, Task
from mnist_adv.attacks.traced_run import Recorder
from mnist_adv.gradients.goals import Goal, make_goal
from mnist_adv.gradients.sources import SOURCES, GradientSource, Source
from mnist_adv.models.logits import check_logits
from mnist_adv.data.images import as_batch
from mnist_adv.gradients.losses import LOSSES, Loss
from mnist_adv.geometry.norms import GEOMETRY, Norm
from mnist_adv.tensors.randomness import keys_of
from mnist_adv.geometry.steps import Step
from mnist_adv.verdict.judge import judge_goal

if TYPE_CHECKING:
    from mnist_adv.models.model import Model

# Projections are exact but for rounding: a share of the radius, and in L1 the sum over all pixels
# of half a unit in the last place of a pixel near 1.
_SLACK = 1e-6
_L1_SLACK = 784 * 2.0**-25


def attack(
    model: Model,
    images: Any,
    *,
    targets: Any = None,
    labels: Any = None,
    method: str | Method = "pgd",
    norm: Norm | str = Norm.LINF,
    epsilon: Any = None,
    step_size: Any = None,
    num_steps: Any = None,
    step: Step | str | None = None,
    loss: Loss | str | None = None,
    source: Source | str | GradientSource | None = None,
    difference_step: float | None = None,
    confidence: float | None = None,
    seed: Any = 0,
    trace: bool = False,
    progress: compiled_run.Progress | None = None,
    **settings: Any,
) -> AttackResult:
    """Move images, inside a budget or as little as possible, until the model sees what is wanted.

    The default is projected gradient descent. Each step: the gradient of the objective, a step
    against it, projection onto the norm ball around the clean image, clip to [0, 1]; an image
    stops as soon as its goal is met. `method` names others; see `mnist_adv.attacks.registry`.

    Without `trace` the attack is compiled, in one padded batch shape: results are the same, bit
    for bit, for any number of images at once. With it, it runs eagerly on all images together
    and agrees within rounding.

    Args:
        model: images `[n, 28, 28, 1]` -> logits `[n, k]`; any callable. Compiled once for each
            method: its variables may change afterwards, what it does with them may not.
        images: one image or a batch, floats in [0, 1].
        targets: the class to reach, one integer or `[n]`.
        labels: the class to leave, one integer or `[n]`; beside targets only a check that the
            two differ.
        method: a name of the registry, or a method with settings of your own.
        norm: "linf", "l2", "l1" or "l0"; each method knows some of them.
        epsilon: largest allowed norm of the perturbation, in pixel units, one number or `[n]`. If
            None, a generous default per norm; no limit for methods that seek the smallest change.
        step_size: length of a step in pixel units, above 0, one number or `[n]`; the method's own
            if None.
        num_steps: most steps taken, at least 1, one number or `[n]`; the method's own if None.
        step: "steepest", "sign", "unit" or "raw", for descent.
        loss: "cross_entropy", "probability", "margin", "dlr" or "targeted_dlr".
        source: where gradients come from; see `compute_gradient`.
        difference_step: e of the numerical sources.
        confidence: go on until the new prediction has this probability, in (0, 1); for methods
            with a budget.
        seed: of what is drawn at random, one integer or `[n]`.
        trace: whether to keep every iterate.
        progress: called with the number of images just finished, when compiled.
        **settings: other settings of the method by name, `restarts=10` or `momentum=0.9`.

    Returns:
        The best iterate of each image (the clean image and the last iterate count too) with an
        independent verdict.

    Raises:
        ValueError: an argument out of form or range; a target that is the label; a norm or
            setting that the method does not have; a model without gradient.

    Example:
        >>> import mnist_adv
        >>> model = mnist_adv.restore("checkpoints")
        >>> seven = mnist_adv.load("mnist", "test").images[0]
        >>> mnist_adv.attack(model, seven, targets=2, labels=7, epsilon=0.15)
        AttackResult(pgd, targeted, linf <= 0.15: 1 of 1 succeed)

    References:
        Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples", 2015.
        Kurakin, Goodfellow, Bengio, "Adversarial Examples in the Physical World", 2017.
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018.
    """
    norm = Norm(norm)
    entry = registry.find(method) if isinstance(method, str) else registry.Entry(method, "")
    name = method if isinstance(method, str) else registry.name_of(method)
    given = {"step": step, "loss": loss, "source": source, "difference_step": difference_step}
    chosen = _configure(entry.method, name, {**given, **settings})
    if norm not in chosen.norms:
        allowed = ", ".join(known.value for known in chosen.norms)
        raise ValueError(f"norm of {name} must be one of {allowed}. Received: {norm.value!r}")
    if confidence is not None and chosen.minimal:
        raise ValueError(
            f"confidence is for attacks with a budget. Received: {confidence} for {name}, which "
            "seeks the smallest change"
        )
    clean = as_batch(images).astype(np.float32, copy=False)
    epsilon = _budget(entry, norm, epsilon, len(clean))
    num_classes = check_logits(model, tf.constant(clean[:1]))
    goal = make_goal(len(clean), num_classes, targets=targets, labels=labels, confidence=confidence)
    task = Task(model, goal.targeted, norm, num_classes, confidence)
    rows = _rows(clean, goal, norm, epsilon, _steps(chosen, num_steps, len(clean)), seed)
    rows = chosen.prepare(task, rows, _checked_size(step_size, len(clean)))
    recorder = Recorder()

    def compiled(task: Task, method: Method, rows: Rows) -> Outcome:
        return compiled_run.run(task, method, rows, progress)

    outcome = chosen.solve(task, rows, recorder if trace else compiled)
    adversarial = outcome.image.reshape(clean.shape)
    queries, gradients = chosen.cost(task)
    return AttackResult(
        images=clean,
        adversarial=adversarial,
        goal=goal,
        norm=norm,
        epsilon=epsilon,
        num_steps=outcome.number.astype(np.int64),
        num_queries=outcome.steps * queries,
        num_gradients=outcome.steps * gradients,
        verdict=judge_goal(model, clean, adversarial, goal, norm=norm, epsilon=epsilon),
        method=name,
        trace=recorder.trace,
    )


def _configure(method: Method, name: str, settings: dict[str, Any]) -> Method:
    wanted = {key: value for key, value in settings.items() if value is not None}
    difference_step = wanted.pop("difference_step", None)
    if "source" in wanted and not isinstance(wanted["source"], GradientSource):
        wanted["source"] = GradientSource(SOURCES.find(wanted["source"]))
    if "loss" in wanted:
        wanted["loss"] = LOSSES.find(wanted["loss"])
    if difference_step is not None:
        source = wanted.get("source", getattr(method, "source", GradientSource()))
        wanted["source"] = dataclasses.replace(source, difference_step=difference_step)
    known = {field.name for field in dataclasses.fields(method)} - {"num_steps"}
    unknown = [key for key in wanted if key not in known]
    if unknown:
        raise ValueError(
            f"settings of {name} are {', '.join(sorted(known)) or 'none'}. "
            f"Received: {', '.join(unknown)}"
        )
    for key, value in wanted.items():
        kind = type(getattr(method, key))
        wanted[key] = kind(value) if issubclass(kind, enum.Enum) else value
    return dataclasses.replace(method, **wanted)


def _budget(entry: registry.Entry, norm: Norm, epsilon: Any, count: int) -> Any:
    if epsilon is None and entry.method.minimal:
        return math.inf
    if epsilon is None:
        return GEOMETRY[norm].default_epsilon if entry.epsilon is None else entry.epsilon
    values = np.asarray(epsilon, np.float64)
    finite = np.isfinite(values) | (entry.method.minimal & (values > 0))
    if not (finite.all() and (values >= 0).all()):
        raise ValueError(f"epsilon must be a finite number, at least 0. Received: {epsilon}")
    _check_shape("epsilon", values, count)
    return float(values) if values.ndim == 0 else values


def _checked_size(step_size: Any, count: int) -> Any:
    if step_size is None:
        return None
    values, limits = np.asarray(step_size, np.float64), np.finfo(np.float32)
    if not ((values >= limits.tiny) & (values <= limits.max)).all():
        raise ValueError(
            f"step_size must be a finite number above 0 in float32. Received: {step_size}"
        )
    _check_shape("step_size", values, count)
    return values


def _steps(method: Method, num_steps: Any, count: int) -> np.ndarray:
    values = np.asarray(method.num_steps if num_steps is None else num_steps)
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"num_steps must be an integer. Received: {num_steps!r}")
    most = np.iinfo(np.int32).max
    if ((values < 1) | (values > most)).any():
        raise ValueError(f"num_steps must lie in 1..{most}. Received: {values.tolist()}")
    _check_shape("num_steps", values, count)
    return np.broadcast_to(values.astype(np.int32), (count,))


def _check_shape(name: str, values: np.ndarray, count: int) -> None:
    if values.shape not in ((), (count,)):
        raise ValueError(
            f"{name} must be one number or one for each of the {count} images. "
            f"Received: shape {list(values.shape)}"
        )


def _rows(
    clean: np.ndarray, goal: Goal, norm: Norm, epsilon: Any, num_steps: np.ndarray, seed: Any
) -> Rows:
    shrunk = epsilon * (1 - _SLACK if norm in (Norm.L2, Norm.L1) else 1)
    if norm is Norm.L1:
        shrunk = np.maximum(shrunk - _L1_SLACK, 0)
    budgets = np.broadcast_to(np.asarray(shrunk, np.float32), (len(clean),))
    seeds = np.asarray(seed)
    if not np.issubdtype(seeds.dtype, np.integer) or (seeds < 0).any():
        raise ValueError(f"seed must be an integer, at least 0. Received: {seed!r}")
    _check_shape("seed", seeds, len(clean))
    return {
        "clean": clean.reshape(-1, *ROW),
        "classes": goal.classes,
        "epsilon": budgets,
        "num_steps": num_steps,
        "keys": keys_of(clean, seeds),
    }
