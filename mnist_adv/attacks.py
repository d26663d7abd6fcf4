"""The loop: gradient, step, projection onto the ball, clip to [0, 1], again."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv._lazy import tf
from mnist_adv.goals import Goal, make_goal
from mnist_adv.gradients import GradientSource, Source, check_logits
from mnist_adv.images import as_batch
from mnist_adv.losses import Loss, Objective
from mnist_adv.norms import GEOMETRY, Norm
from mnist_adv.steps import Step, default_step_size, direction
from mnist_adv.verdict import Verdict, judge_goal

if TYPE_CHECKING:
    from mnist_adv.models import Model


@dataclasses.dataclass(frozen=True)
class Trace:
    """Every iterate of an attack; index 0 is the clean image, the last is judged too.

    Attributes:
        images: `[steps + 1, n, 28, 28, 1]` float32.
        logits: `[steps + 1, n, k]`.
        objective: `[steps + 1, n]`, what the attack descends.
        gradients: `[steps, n, 28, 28, 1]`, of the objective; none is taken at the last iterate.
    """

    images: np.ndarray
    logits: np.ndarray
    objective: np.ndarray
    gradients: np.ndarray


@dataclasses.dataclass(frozen=True)
class AttackResult:
    """What an attack found, best iterate per image, and an independent verdict on it.

    Attributes:
        images: clean, `[n, 28, 28, 1]` float32 in [0, 1].
        adversarial: the same shape; where the goal was not reached, the nearest miss.
        goal: the classes and whether they are targets.
        norm: of the budget.
        epsilon: the budget.
        num_steps: `[n]` int64, steps taken to the returned iterate.
        verdict: derived again from the arrays above.
        trace: all iterates, if asked for.
    """

    images: np.ndarray
    adversarial: np.ndarray
    goal: Goal
    norm: Norm
    epsilon: float
    num_steps: np.ndarray
    verdict: Verdict
    trace: Trace | None = None

    @property
    def perturbation(self) -> np.ndarray:
        """The adversarial minus the clean images, `[n, 28, 28, 1]`."""
        return self.adversarial - self.images

    @property
    def success(self) -> np.ndarray:
        """Per image, `[n]` bool: goal reached, inside the budget and inside [0, 1]."""
        return self.verdict.success

    def __repr__(self) -> str:
        kind = "targeted" if self.goal.targeted else "untargeted"
        return (
            f"AttackResult({kind}, {self.norm.value} <= {self.epsilon:g}: "
            f"{int(self.success.sum())} of {len(self.images)} succeed)"
        )


def attack(
    model: Model,
    images: Any,
    *,
    targets: Any = None,
    labels: Any = None,
    norm: Norm | str = Norm.LINF,
    epsilon: float | None = None,
    step_size: float | None = None,
    num_steps: int = 40,
    step: Step | str = Step.STEEPEST,
    loss: Loss | str = Loss.CROSS_ENTROPY,
    source: Source | str = Source.TAPE,
    difference_step: float | None = None,
    confidence: float | None = None,
    trace: bool = False,
) -> AttackResult:
    """Move images, inside a budget, until the model sees what is wanted.

    Each step: the gradient of the objective, a step against it, projection onto the norm ball
    around the clean image, clip to [0, 1]. An image stops as soon as its goal is met. This is
    the basic iterative method (Kurakin et al., 2017) in its projected form (Madry et al., 2018);
    one step of size epsilon is the fast gradient method (Goodfellow et al., 2015).

    Args:
        model: images `[n, 28, 28, 1]` -> logits `[n, k]`; any callable.
        images: one image or a batch, floats in [0, 1].
        targets: the class to reach, one integer or `[n]`.
        labels: the class to leave, one integer or `[n]`; beside targets only a check that the
            two differ.
        norm: "linf" or "l2".
        epsilon: largest allowed norm of the perturbation, in pixel units; a generous default
            per norm if None.
        step_size: length of a step in pixel units; epsilon / 30 for rules of unit length if None.
        num_steps: most steps taken.
        step: "steepest", "sign", "unit" or "raw".
        loss: "cross_entropy" or "probability".
        source: where gradients come from; see `compute_gradient`.
        difference_step: e of the numerical sources.
        confidence: go on until the new prediction has this probability, in (0, 1).
        trace: whether to keep every iterate.

    Returns:
        The best iterate of each image (the clean image and the last iterate count too) with an
        independent verdict.

    Raises:
        ValueError: an argument out of form or range; a target that is the label; a model without
            gradient.

    Example:
        >>> import mnist_adv
        >>> model = mnist_adv.restore("checkpoints")
        >>> seven = mnist_adv.load("mnist", "test").images[0]
        >>> mnist_adv.attack(model, seven, targets=2, labels=7, epsilon=0.15)
        AttackResult(targeted, linf <= 0.15: 1 of 1 succeed)

    References:
        Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples", 2015.
        Kurakin, Goodfellow, Bengio, "Adversarial Examples in the Physical World", 2017.
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018.
    """
    norm, step, loss = Norm(norm), Step(step), Loss(loss)
    epsilon = GEOMETRY[norm].default_epsilon if epsilon is None else epsilon
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be a finite number, at least 0. Received: {epsilon}")
    step_size = default_step_size(step, norm, epsilon) if step_size is None else step_size
    if not (math.isfinite(step_size) and step_size >= 0):
        raise ValueError(f"step_size must be a finite number, at least 0. Received: {step_size}")
    if num_steps < 0:
        raise ValueError(f"num_steps must be at least 0. Received: {num_steps}")
    clean = as_batch(images).astype(np.float32)
    start = tf.constant(clean)
    num_classes = check_logits(model, start)
    goal = make_goal(len(clean), num_classes, targets=targets, labels=labels, confidence=confidence)
    settings = _Settings(
        model=model,
        goal=goal,
        objective=Objective.to_descend(loss, targeted=goal.targeted),
        gradient=GradientSource(Source(source), difference_step),
        norm=norm,
        step=step,
        epsilon=tf.fill([len(clean)], tf.constant(epsilon, tf.float32)),
        step_size=step_size,
    )
    state, history = _run(settings, start, num_steps, keep=trace)
    adversarial = state.best.numpy()
    return AttackResult(
        images=clean,
        adversarial=adversarial,
        goal=goal,
        norm=norm,
        epsilon=epsilon,
        num_steps=state.best_step.numpy(),
        verdict=judge_goal(model, clean, adversarial, goal, norm=norm, epsilon=epsilon),
        trace=history,
    )


@dataclasses.dataclass(frozen=True)
class _Settings:
    model: Model
    goal: Goal
    objective: Objective
    gradient: GradientSource
    norm: Norm
    step: Step
    epsilon: Any  # [n]
    step_size: float


@dataclasses.dataclass(frozen=True)
class _State:
    current: Any  # [n, 28, 28, 1]
    best: Any  # [n, 28, 28, 1]
    best_rank: Any  # [n] int32: 0 missed, 1 reached, 2 reached with the wanted confidence
    best_objective: Any  # [n]
    best_step: Any  # [n] int64

    @property
    def done(self) -> Any:
        return self.best_rank == 2


def _run(
    settings: _Settings, clean: Any, num_steps: int, *, keep: bool
) -> tuple[_State, Trace | None]:
    classes = tf.constant(settings.goal.classes)
    count = [clean.shape[0]]
    state = _State(
        current=clean,
        best=clean,
        best_rank=tf.fill(count, -1),
        best_objective=tf.fill(count, np.float32(np.inf)),
        best_step=tf.zeros(count, tf.int64),
    )
    kept: list[tuple[Any, Any, Any]] = []
    gradients: list[Any] = []
    for number in range(num_steps):
        logits, gradient = settings.gradient(
            settings.model, settings.objective, state.current, classes
        )
        state, objective = _keep_best(settings, state, logits, classes, number)
        if keep:
            kept.append((state.current, logits, objective))
        if tf.reduce_all(state.done):
            return state, _stack(kept, gradients) if keep else None
        if keep:
            gradients.append(gradient)
        state = _advance(settings, state, clean, gradient)
    logits = settings.model(state.current)
    state, objective = _keep_best(settings, state, logits, classes, num_steps)
    if keep:
        kept.append((state.current, logits, objective))
    return state, _stack(kept, gradients) if keep else None


def _advance(settings: _Settings, state: _State, clean: Any, gradient: Any) -> _State:
    moved = state.current - settings.step_size * direction(settings.step, settings.norm, gradient)
    inside = clean + GEOMETRY[settings.norm].project(moved - clean, settings.epsilon)
    following = tf.clip_by_value(inside, 0, 1)
    stay = tf.reshape(state.done, [-1, 1, 1, 1])
    return dataclasses.replace(state, current=tf.where(stay, state.current, following))


def _keep_best(
    settings: _Settings, state: _State, logits: Any, classes: Any, number: int
) -> tuple[_State, Any]:
    objective = settings.objective(logits, classes)
    rank = tf.cast(settings.goal.reached(logits, classes), tf.int32) + tf.cast(
        settings.goal.satisfied(logits, classes), tf.int32
    )
    better = (rank > state.best_rank) | (
        (rank == state.best_rank) & (objective < state.best_objective)
    )
    better &= ~state.done
    pixels = tf.reshape(better, [-1, 1, 1, 1])
    return (
        dataclasses.replace(
            state,
            best=tf.where(pixels, state.current, state.best),
            best_rank=tf.where(better, rank, state.best_rank),
            best_objective=tf.where(better, objective, state.best_objective),
            best_step=tf.where(better, tf.constant(number, tf.int64), state.best_step),
        ),
        objective,
    )


def _stack(kept: list[tuple[Any, Any, Any]], gradients: list[Any]) -> Trace:
    images, logits, objective = (np.stack([part.numpy() for part in parts]) for parts in zip(*kept))
    shape = images.shape[1:]
    return Trace(
        images=images,
        logits=logits,
        objective=objective,
        gradients=np.stack([g.numpy() for g in gradients]) if gradients else np.empty((0, *shape)),
    )
