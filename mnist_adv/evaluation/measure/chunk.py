"""Measure one chunk: from its number to the bytes of its result file.

Budgets are tried from the smallest up. An image whose goal is met, in floats and in 8 bits, is
not attacked again: a small ball lies in every larger one, so success never falls as epsilon grows.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from typing import TYPE_CHECKING

import numpy as np

from mnist_adv.arguments import FLOAT32
from mnist_adv.attacks import attack
from mnist_adv.attacks.progress import Progress
from mnist_adv.attacks.randomized import repeatable
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.attacks.result import AttackResult
from mnist_adv.certification.api import certify_radius
from mnist_adv.certification.method import Method
from mnist_adv.data import datasets
from mnist_adv.data.images import Shape
from mnist_adv.evaluation.in_memory import ImagesInMemory, ModelInMemory
from mnist_adv.evaluation.measure.store import Timing, pack
from mnist_adv.evaluation.plan import Chunk, Plan, list_cases
from mnist_adv.geometry.norms import GEOMETRY
from mnist_adv.gradients.goals import Goal
from mnist_adv.models.logits import predict
from mnist_adv.models.model_source import ModelSource
from mnist_adv.quantize.levels import to_levels
from mnist_adv.verdict.judge import FinalVerdict, judge_final
from mnist_adv.verdict.radii import require_outside

if TYPE_CHECKING:
    from mnist_adv.models.model import Model

NORMS = ("linf", "l2", "l1", "l0")
FORMS = ("float", "saved")
# Of the search of certified radii: those above the largest budget, and steps between two of them.
_ABOVE, _BISECTIONS = 2.0 ** np.arange(1, 5), 8
# Forward and backward passes of the model, over all budgets, at which distances are recorded.
MARKS = (10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)


@dataclasses.dataclass(frozen=True)
class Places:
    """Where a worker finds the model and the data; not part of the plan.

    Attributes:
        model: how any process opens the model.
        data_dir: as in `data.load`.
        manual_dir: as in `data.load`.
        shape: of the model's images, `(h, w, c)`; those of the data set are brought into it.
        images: a data set in memory, in the place of the plan's.
    """

    model: ModelSource | ModelInMemory
    data_dir: str | None = None
    manual_dir: str | None = None
    shape: Shape | None = None
    images: ImagesInMemory | None = None

    def data(self, plan: Plan) -> datasets.DataSource:
        """Name the source of a plan's images.

        Args:
            plan: the settings.

        Returns:
            The plan's split, to be loaded from these folders.
        """
        if self.images is not None:
            return self.images
        folders = (self.data_dir, self.manual_dir)
        return datasets.DataSource(plan.dataset, plan.split, *folders, self.shape)


def compute(
    plan: Plan, places: Places, number: int, progress: Progress | None = None
) -> tuple[bytes, Timing]:
    """Measure a chunk.

    Args:
        plan: the settings.
        places: where model and data are.
        number: of the chunk.
        progress: as in `attack`; its `begin` is called before each attack too.

    Returns:
        The bytes of its result file: for each case `index`, `label`, `target` (-1: none) and
        `clean_prediction`, `[r]` int64; for each attack and case, `[attacks, r]`, for the float
        image and for the one of 8 bits (`float_`, `saved_`): `success`, `prediction`, the four
        norms, `escape` (the smallest norm of an image that is misclassified, infinite if
        none was found); `num_steps` and `budget` (infinite for attacks without one);
        `num_queries` and `num_gradients`, over all budgets; `made_by`, the number of an ensemble's
        part that met the goal in floats (0 of other attacks, -1 where it was missed);
        `distance_at_10` and so on for all `MARKS`, the smallest distance found with at most so
        many passes, of float images, infinite where nothing was found;
        `proved_radius`, `[r]`, up to which the label is proved, -1 where it is not even that of the
        clean image, if the plan asks for it;
        `moved_at_zero`, the largest change of a pixel within budget 0; `levels`, uint8
        `[attacks, r, h, w, c]`; and `parts_0` and so on for each attack that is an ensemble, the
        names of its parts. And how long each attack and each part took, which is no result.

    Raises:
        ValueError: the model is not the plan's.
        OSError: model or data cannot be read.
        BelowRadiusError: an attack changed a class inside a radius in which it is proved.
    """
    model = _open_model(places, places.data(plan), plan.checkpoint)
    chunk = plan.chunks()[number]
    loaded = places.data(plan).load(chunk.rows)
    with repeatable(model, loaded.images, plan.seed):
        return _measure(plan, places, chunk, model, loaded, progress)


def _measure(
    plan: Plan,
    places: Places,
    chunk: Chunk,
    model: Model,
    loaded: datasets.Dataset,
    progress: Progress | None,
) -> tuple[bytes, Timing]:
    logits = predict(model, loaded.images)
    images, targets = list_cases(plan, chunk, loaded.labels, logits)
    cases = datasets.Dataset(loaded.images[images], loaded.labels[images], loaded.class_names)
    timing: Timing = {}
    records = []
    donors = None
    if any(ATTACKS.find(name).attack.needs_donors for name in plan.attacks):
        donors = places.data(plan).load_donors()
    parts: dict[str, np.ndarray] = {}
    for number, name in enumerate(plan.attacks):
        record, spent = _run_attack(plan, model, name, cases, targets, donors, progress)
        records.append(record)
        timing |= spent
        names = [key.removeprefix(f"{name}/") for key in spent if key != name]
        if names:
            parts[f"parts_{number}"] = np.array(names)
    index = chunk.first + images
    measured = {name: np.stack([record[name] for record in records]) for name in records[0]}
    if plan.certify_method is not None:
        proved = _prove(plan, plan.certify_method, model, loaded, progress)[images]
        for form in FORMS:
            escapes = measured[f"{form}_escape"]
            require_outside(proved, escapes, plan.attacks, index, plan.norm.value)
        measured["proved_radius"] = proved
    content = pack(
        {
            "index": index,
            "label": cases.labels,
            "target": targets,
            "clean_prediction": logits.argmax(axis=1)[images],
            **measured,
            **parts,
        },
        plan.chunk_digest(chunk),
    )
    return content, timing


@functools.lru_cache(maxsize=1)
def _open_model(places: Places, data: datasets.DataSource, digest: str) -> Model:
    loaded = places.model.open(data)
    if loaded.digest != digest:
        raise ValueError(
            f"{places.model.where} is not the model that this evaluation began with: its SHA-256 "
            f"is {loaded.digest[:16]}..., not {digest[:16]}..."
        )
    return loaded.model


def _prove(
    plan: Plan,
    method: Method,
    model: Model,
    loaded: datasets.Dataset,
    progress: Progress | None,
) -> np.ndarray:
    """Find each image's certified radius, whatever attacks found."""
    largest = plan.epsilons[-1] or GEOMETRY[plan.norm].default_epsilon
    begin = getattr(progress, "begin", None)
    if begin is not None:
        begin(f"certify {method.value}", len(loaded.images))
    return certify_radius(
        model,
        loaded.images,
        loaded.labels,
        norm=plan.norm,
        method=method,
        epsilons=np.minimum([*plan.epsilons, *largest * _ABOVE], FLOAT32),
        num_steps=_BISECTIONS,
        seconds_per_image=plan.seconds_per_image,
        attack=False,
        progress=progress,
    ).proved_radius


def _run_attack(
    plan: Plan,
    model: Model,
    name: str,
    cases: datasets.Dataset,
    targets: np.ndarray,
    donors: tuple[np.ndarray, np.ndarray] | None,
    progress: Progress | None = None,
) -> tuple[dict[str, np.ndarray], Timing]:
    all_began = time.perf_counter()
    wanted = Goal(targets if plan.targeted else cases.labels, plan.targeted, plan.confidence)
    record = _blank(cases.images.shape)
    spent: Timing = {name: dict.fromkeys(("images", "attack", "all"), 0.0)}
    chosen = ATTACKS.find(name).attack
    settings = dict(plan.attack_settings.get(name, {}))
    if chosen.needs_donors:
        settings["donors"] = donors
    budgets = (math.inf,) if chosen.minimal else plan.epsilons
    for epsilon in budgets:
        active = np.flatnonzero(~(record["float_success"] & record["saved_success"]))
        if not len(active):
            break
        images, labels = cases.images[active], cases.labels[active]
        goal = dataclasses.replace(wanted, classes=wanted.classes[active])
        if progress is not None and hasattr(progress, "begin"):
            progress.begin(name, len(active))
        began = time.perf_counter()
        result = attack(
            model,
            images,
            method=name,
            targets=goal.classes if plan.targeted else None,
            labels=labels,
            norm=plan.norm,
            epsilon=epsilon,
            num_steps=plan.num_steps if chosen.takes_steps else None,
            step_size=plan.step_size,
            max_queries=plan.max_queries,
            confidence=plan.confidence,
            seed=plan.seed,
            record_at=MARKS if chosen.minimal else None,
            progress=progress,
            **settings,
        )
        _add(spent[name], len(active), time.perf_counter() - began)
        for part in result.parts:
            kept = spent.setdefault(f"{name}/{part.name}", dict.fromkeys(spent[name], 0.0))
            _add(kept, part.num_images, part.seconds)
        record["num_queries"][active] += result.num_queries
        record["num_gradients"][active] += result.num_gradients
        _record_distances(record, active, result)
        verdict = result.verdict
        escaped = _escaped(verdict, labels)
        better = _record_better(record, active, "float", verdict, escaped, plan.norm.value)
        record["num_steps"][active[better]] = result.num_steps[better]
        record["budget"][active[better]] = epsilon
        made_by = np.where(verdict.success, result.made_by, -1)
        record["made_by"][active[better]] = made_by[better]
        if epsilon == 0:
            record["moved_at_zero"][active] = verdict.norms["linf"]
        levels = to_levels(model, images, result.adversarial, goal, norm=plan.norm, epsilon=epsilon)
        saved = judge_final(
            model, images, datasets.to_float(levels), goal, norm=plan.norm, epsilon=epsilon
        )
        # What rounding alone has reached, no attack has.
        saved = dataclasses.replace(saved, success=saved.success & verdict.success)
        escaped &= _escaped(saved, labels)
        better = _record_better(record, active, "saved", saved, escaped, plan.norm.value)
        record["levels"][active[better]] = levels[better]
    spent[name]["all"] = time.perf_counter() - all_began
    return record, spent


def _add(spent: dict[str, float], images: int, seconds: float) -> None:
    spent["images"] += images
    spent["attack"] += seconds
    spent["all"] += seconds


def _blank(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    count = shape[0]
    blank: dict[str, np.ndarray] = {}
    for form in FORMS:
        blank[f"{form}_success"] = np.zeros(count, bool)
        blank[f"{form}_prediction"] = np.full(count, -1)
        blank |= {f"{form}_{norm}": np.zeros(count) for norm in NORMS}
        blank[f"{form}_escape"] = np.full(count, np.inf)
    for name in ("num_steps", "num_queries", "num_gradients"):
        blank[name] = np.zeros(count, np.int64)
    blank |= {f"distance_at_{mark}": np.full(count, np.inf) for mark in MARKS}
    blank["budget"] = np.full(count, np.nan)
    blank["made_by"] = np.full(count, -1)
    blank["moved_at_zero"] = np.zeros(count)
    blank["levels"] = np.zeros(shape, np.uint8)
    return blank


def _record_distances(
    record: dict[str, np.ndarray], numbers: np.ndarray, result: AttackResult
) -> None:
    """Take over the smallest distance with as many passes as each mark says."""
    spent = record["num_queries"][numbers] + record["num_gradients"][numbers]
    for place, mark in enumerate(MARKS):
        found = np.where(spent <= mark, result.distances, np.inf)
        if result.distances_at.size:
            found = np.minimum(found, result.distances_at[:, place])
        column = record[f"distance_at_{mark}"]
        column[numbers] = np.minimum(column[numbers], found)


def _escaped(verdict: FinalVerdict, labels: np.ndarray) -> np.ndarray:
    """Tell which images are misclassified, whatever their goal was."""
    return verdict.in_range & verdict.in_budget & (verdict.predictions != labels)


def _record_better(
    record: dict[str, np.ndarray],
    numbers: np.ndarray,
    form: str,
    verdict: FinalVerdict,
    escaped: np.ndarray,
    norm: str,
) -> np.ndarray:
    """Record what is better than before: success, then the smaller norm, else the latest miss."""
    lengths, already = verdict.norms[norm], record[f"{form}_success"][numbers]
    better = ~already | (verdict.success & (lengths < record[f"{form}_{norm}"][numbers]))
    chosen = numbers[better]
    record[f"{form}_success"][chosen] = verdict.success[better]
    record[f"{form}_prediction"][chosen] = verdict.predictions[better]
    for name in NORMS:
        record[f"{form}_{name}"][chosen] = verdict.norms[name][better]
    escape = np.where(escaped, lengths, np.inf)
    record[f"{form}_escape"][numbers] = np.minimum(record[f"{form}_escape"][numbers], escape)
    return better
