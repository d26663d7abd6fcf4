"""Public entry point: validate what was asked, run the attack, verify the result."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.arguments import UINT32, choose, shown, whole, yes_or_no
from mnist_adv.attacks import compiled_run, traced_run
from mnist_adv.attacks.base import Attack, Outcome, Run, joined
from mnist_adv.attacks.numbers import (
    epsilon_of,
    inside,
    max_queries_of,
    num_steps_of,
    record_at_of,
    step_size_of,
)
from mnist_adv.attacks.progress import Progress, Runner, listening
from mnist_adv.attacks.queries import Budget
from mnist_adv.attacks.randomized import MeanOfDraws, repeatable
from mnist_adv.attacks.registry import ATTACKS, NamedAttack, name_of
from mnist_adv.attacks.result import AttackResult, Trace
from mnist_adv.attacks.settings import configure, require_applicable
from mnist_adv.attacks.task import Inputs, Task
from mnist_adv.data.images import UNIT, Bounds, as_batch, checked_bounds, from_unit, to_unit
from mnist_adv.geometry.norms import Norm
from mnist_adv.geometry.steps import Step
from mnist_adv.gradients.goals import make_goal
from mnist_adv.gradients.losses import Loss
from mnist_adv.gradients.sources import GradientSource, NoGradientError, Source
from mnist_adv.models.as_model import as_model
from mnist_adv.models.from_python import as_raised
from mnist_adv.models.logits import check_logits
from mnist_adv.models.preprocessing import in_unit_box
from mnist_adv.tensors.lazy import tf
from mnist_adv.tensors.randomness import keys_of
from mnist_adv.verdict.judge import judge_goal

if TYPE_CHECKING:
    from mnist_adv.models.model import Model

# Of the images attacked in one go: 64 MB, of which runs and searches keep several.
_BLOCK_NUMBERS = 2**24
_MOST_SAMPLES = 10_000  # draws per query


def attack(
    model: Model,
    images: Any,
    *,
    targets: Any = None,
    labels: Any = None,
    method: str | Attack = "pgd",
    norm: Norm | str = Norm.LINF,
    epsilon: Any = None,
    step_size: Any = None,
    num_steps: Any = None,
    step: Step | str | None = None,
    loss: Loss | str | None = None,
    source: Source | str | GradientSource | None = None,
    difference_step: float | None = None,
    confidence: float | None = None,
    num_eot_samples: int | None = None,
    max_queries: Any = None,
    record_at: Any = None,
    seed: Any = 0,
    trace: bool = False,
    bounds: Bounds = UNIT,
    progress: bool | Progress | None = None,
    **settings: Any,
) -> AttackResult:
    """Move images, inside a budget or as little as possible, until the model sees what is wanted.

    The default is projected gradient descent. Each step: the gradient of the objective, a step
    against it, projection onto the norm ball around the clean image, clip to the bounds; an image
    stops as soon as its goal is met. `method` names others; see `mnist_adv.attacks.registry`.

    Without `trace` the attack is compiled, in one padded batch shape: results are the same, bit
    for bit, for any number of images at once. With it, it runs eagerly on all images together
    and agrees within rounding.

    Args:
        model: images `[n, h, w, c]` -> logits `[n, k]`; any callable, of NumPy arrays too for
            attacks that take no gradient; a Keras model, a softmax at whose end is left out; or a
            fitted estimator, see `from_sklearn`. Compiled once for each attack: its variables may
            change afterwards, what it does with them may not.
        images: one image `[h, w, c]` or a batch `[n, h, w, c]`, floats inside the bounds.
        targets: the class to reach, one integer or `[n]`.
        labels: the class to leave, one integer or `[n]`; beside targets only a check that the
            two differ.
        method: a name of the registry, or an `Attack` with settings of your own.
        norm: "linf", "l2", "l1" or "l0"; each attack knows some of them.
        epsilon: largest allowed norm of the perturbation, in pixel units, one number or `[n]`. If
            None, a generous default per norm; no limit for attacks that seek the smallest change.
        step_size: length of a step in pixel units, above 0, one number or `[n]`; the method's own
            if None.
        num_steps: most steps taken, at least 1, one number or `[n]`; the attack's own if None.
        step: "steepest", "sign", "unit" or "raw", for PGD and its relatives.
        loss: a name of `LOSSES`, for attacks that take one.
        source: where gradients come from; see `compute_gradient`.
        difference_step: e of the numerical sources.
        confidence: go on until the new prediction has this probability, in (0, 1); for attacks
            with a budget.
        num_eot_samples: for a model that draws at random: every query is the mean of so many draws,
            and so is the verdict; the same call gives the same result, for one batch: what an
            image draws depends on the others. TensorFlow's global seed is set. None: the row's
            own, 20 for autoattack_rand; else the model is taken as it is.
        max_queries: most forward and backward passes of the model for each image, one number or
            `[n]`, counted by a wrapper around the model; steps are chosen so that they suffice.
            What checks the model before and verifies the result is not counted. None: no limit.
        record_at: numbers of passes, `[p]` or `[n, p]`, at which the smallest distance found until
            then is recorded in the result's `distances_at`; None: none.
        seed: of what is drawn at random, one integer from 0 to 2**32 - 1 or `[n]`.
        trace: whether to keep every iterate of the run that makes the result.
        bounds: the least and the largest value of a pixel; epsilon and step_size are in the same
            unit.
        progress: True shows a bar on standard error, of images, or of steps with `trace`; a
            function is called with the number just finished, and its `begin(name, total)`, if it
            has one, before each part of an ensemble; its `expect(count, seconds)`, if it has one,
            before the first, with how long an ensemble takes for so many images at most, from a
            few timed steps of each part.
        **settings: other settings of the attack by name, `restarts=10` or `momentum=0.9`.

    Returns:
        The best iterate of each image (the clean image and the last iterate count too) with an
        independent verdict.

    Raises:
        ValueError: an argument out of form or range; a target that is the label; a norm or
            setting that the attack does not have; a model without the gradient that it takes.

    Example:
        >>> import mnist_adv
        >>> model = mnist_adv.restore("checkpoints")
        >>> seven = mnist_adv.load("mnist", "test").images[0]
        >>> mnist_adv.attack(model, seven, targets=2, labels=7, epsilon=0.15)
        AttackResult(pgd, targeted, linf <= 0.15: 1 of 1 image 28 x 28 x 1 succeeds, linf 0.09)

    References:
        Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples", 2015.
        Kurakin, Goodfellow, Bengio, "Adversarial Examples in the Physical World", 2017.
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018.
    """
    norm, bounds = choose(Norm, norm, "norm"), checked_bounds(bounds)
    yes_or_no(trace, "trace")
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise ValueError(
            f"progress must be True, False or a function of a number. Received: {shown(progress)}"
        )
    row = (
        NamedAttack(name_of(method), method, "")
        if isinstance(method, Attack)
        else ATTACKS.find(method)
    )
    given = {"step": step, "loss": loss, "source": source, "difference_step": difference_step}
    chosen = configure(row, {**given, **settings}, inspect.signature(attack).parameters)
    require_applicable(row, chosen, norm, confidence, num_steps)
    clean = as_batch(images, bounds).astype(np.float32, copy=False)
    model, count = as_model(model, clean), len(clean)
    scale = 1.0 if norm is Norm.L0 else bounds[1] - bounds[0]
    epsilon = epsilon_of(row, norm, epsilon, count, scale)
    samples = row.num_eot_samples
    if num_eot_samples is not None:
        samples = int(whole(num_eot_samples, "num_eot_samples", 1, _MOST_SAMPLES))
    most, marks = max_queries_of(max_queries, count), record_at_of(record_at, count)
    distances_at = np.full(marks.shape, np.inf)
    seeds = np.broadcast_to(whole(seed, "seed", 0, UINT32, count), (count,))
    with contextlib.ExitStack() as stack:
        if samples is not None:
            stack.enter_context(repeatable(model, clean, zlib.crc32(seeds.tobytes())))
            model = MeanOfDraws(model, samples)
        num_classes = check_logits(model, tf.constant(clean[[0, -1]] if count else clean))
        goal = make_goal(count, num_classes, targets=targets, labels=labels, confidence=confidence)
        task = Task(
            in_unit_box(model, bounds),
            goal.targeted,
            norm,
            num_classes,
            clean.shape[1:],
            confidence,
            bounds,
            randomized=samples is not None,
        )
        per_image = {
            "classes": goal.classes,
            "epsilon": inside(task, epsilon / scale, count),
            "num_steps": num_steps_of(chosen, num_steps, count),
            "seed": seeds,
        }
        step_size = step_size_of(step_size, count, bounds[1] - bounds[0])
        runner: Any = traced_run.run if trace else compiled_run.run
        adversarial, counts = np.empty_like(clean), np.empty((3, count), np.int64)
        made_by, reports = np.zeros(count, np.int64), []
        with listening(progress, count, trace) as report:
            for block in _blocks(chosen, clean, trace):
                part = {name: values[block] for name, values in per_image.items()}
                unit = to_unit(clean[block], bounds)
                limit = None if most is None else most[block]
                budget = Budget(limit, marks[block], samples or 1)
                if most is not None or marks.size:
                    part["index"] = np.arange(len(unit), dtype=np.int32)
                run = Runner(runner, report, budget if "index" in part else None)
                with as_raised(model):
                    inputs, outcome = _solve(task, chosen, unit, part, _of(step_size, block), run)
                adversarial[block] = from_unit(
                    outcome.image.reshape(unit.shape), unit, clean[block], bounds
                )
                counts[:, block] = outcome.number, outcome.queries, outcome.gradients
                distances_at[block] = budget.distances_at * scale
                made_by[block] = 0 if outcome.made_by is None else outcome.made_by
                reports.append(outcome.parts)
        verdict = judge_goal(
            model, clean, adversarial, goal, norm=norm, epsilon=epsilon, bounds=bounds
        )
        spent = (counts[1] + counts[2]) * (samples or 1)
        attained = np.where(verdict.success, verdict.norms[norm.value], np.inf)
        ended = np.where(spent[:, np.newaxis] <= marks, attained[:, np.newaxis], np.inf)
        return AttackResult(
            images=clean,
            adversarial=adversarial,
            goal=goal,
            norm=norm,
            epsilon=epsilon,
            num_steps=counts[0],
            num_queries=counts[1] * (samples or 1),
            num_gradients=counts[2] * (samples or 1),
            verdict=verdict,
            method=row.name,
            bounds=bounds,
            trace=_trace(task, inputs, outcome, clean, bounds) if trace else None,
            certificate=outcome.certificate,
            parts=joined(reports),
            made_by=made_by,
            distances_at=np.minimum(distances_at, ended),
        )


def _blocks(attack: Attack, clean: np.ndarray, trace: bool) -> list[slice]:
    """Cut many images into blocks: what an attack works on besides them stays of one size."""
    count = max(1, _BLOCK_NUMBERS // clean[0].size)
    if trace or not attack.takes_steps:  # their iterates, or their proofs, are one result
        count = len(clean)
    return [slice(first, first + count) for first in range(0, len(clean), count)]


def _of(values: Any, block: slice) -> Any:
    return values[block] if np.ndim(values) else values


def _solve(
    task: Task,
    attack: Attack,
    unit: np.ndarray,
    per_image: dict[str, np.ndarray],
    step_size: Any,
    run: Run,
) -> tuple[Inputs, Outcome]:
    inputs: Inputs = {
        "clean": unit.reshape(-1, *task.flat),
        **{name: values for name, values in per_image.items() if name != "seed"},
    }
    if attack.draws:
        inputs["keys"] = keys_of(unit, per_image["seed"])
    inputs = attack.prepare(task, inputs, step_size)
    try:
        return inputs, attack.solve(task, inputs, run)
    except Exception:
        _require_gradient(task, attack, inputs)
        raise


def _trace(
    task: Task, inputs: Inputs, outcome: Outcome, clean: np.ndarray, bounds: Bounds
) -> Trace:
    paths = outcome.paths or traced_run.start_and_end(task, inputs, outcome.image)
    trace = traced_run.as_trace(paths, task.shape)
    unit = to_unit(clean, bounds)
    return dataclasses.replace(
        trace,
        images=from_unit(trace.images, unit, clean, bounds),
        gradients=trace.gradients / np.float32(bounds[1] - bounds[0]),
    )


def _require_gradient(task: Task, attack: Attack, inputs: Inputs) -> None:
    """Name what only queries a model, if the attack asks for a gradient that the model lacks."""
    if not attack.cost(task)[1]:
        return
    first = {name: tf.constant(values[:1]) for name, values in inputs.items()}
    try:
        task.differentiate(Loss.CROSS_ENTROPY, first, first["clean"], GradientSource())
    except NoGradientError as error:
        costs = ((name, row.attack.cost(task)) for name, row in ATTACKS.items())
        names = [name for name, (queries, gradients) in costs if queries and not gradients]
        raise ValueError(f"{error}, and so do the attacks {', '.join(names)}") from None
