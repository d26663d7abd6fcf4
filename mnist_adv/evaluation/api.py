"""Public entry point of evaluations: open the model, plan, measure, analyse."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mnist_adv import files
from mnist_adv.arguments import (
    ABOVE_0,
    UINT32,
    as_path,
    choose,
    real,
    real_array,
    shown,
    whole,
    yes_or_no,
)
from mnist_adv.attacks.methods.ensemble import Ensemble
from mnist_adv.attacks.randomized import repeatable
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.attacks.settings import configure, require_applicable
from mnist_adv.certification.api import require_certifiable
from mnist_adv.certification.method import Method
from mnist_adv.data.datasets import DataSource, to_float
from mnist_adv.evaluation.in_memory import (
    ImagesInMemory,
    ModelInMemory,
    as_images,
    as_levels,
    identity,
)
from mnist_adv.evaluation.measure.chunk import Places
from mnist_adv.evaluation.measure.run import Engine, execute
from mnist_adv.evaluation.measure.store import Store
from mnist_adv.evaluation.plan import Plan, Targets, as_certify_method, parse_epsilons
from mnist_adv.evaluation.report.files import finish
from mnist_adv.evaluation.result import Evaluation
from mnist_adv.geometry.norms import GEOMETRY, Norm
from mnist_adv.gradients.goals import as_confidence
from mnist_adv.models.as_model import as_model
from mnist_adv.models.formats.shapes import MNIST_SHAPE
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.logits import check_logits
from mnist_adv.models.model_source import ModelSource, load_probes
from mnist_adv.reporting import run_card
from mnist_adv.tensors.lazy import tf

# Of a chunk: images, and numbers in them.
_FEWEST_IMAGES, _MOST_IMAGES, _MOST_NUMBERS = 10, 1000, 5_000_000
# Short attacks take more: images that are done leave their places in a batch to those that wait.
_MOST_IMAGES_OF_SHORT, _MOST_STEPS_OF_SHORT = 2500, 100


def evaluate(
    model: Any,
    images: Any = None,
    labels: Any = None,
    *,
    attacks: str | Sequence[str] = "pgd",
    norm: Norm | str = Norm.LINF,
    epsilons: Any = None,
    targets: Targets | str = Targets.UNTARGETED,
    num_steps: int | None = None,
    step_size: float | None = None,
    confidence: float | None = None,
    max_queries: int | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    certify: bool = False,
    certify_method: Method | str | None = None,
    seconds_per_image: float = 0.0,
    seed: int = 0,
    num_images: int | None = None,
    dataset: str | None = None,
    split: str | None = None,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    class_names: Sequence[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    progress: bool = True,
) -> Evaluation:
    """Measure how robust a classifier is, on a data set or on images of one's own.

    Budgets are tried from the smallest up; an image whose goal is met is not attacked again.
    Success is counted for the images as floats, and again for those rounded to 8 bits.

    Args:
        model: a path (a checkpoint of `train`, or whatever `open_model` opens), what `open_model`
            returns, or a model in memory as `attack` takes it.
        images: `[n, h, w, c]` uint8, or floats in [0, 1] that are whole levels of 255; None: those
            of `dataset`.
        labels: `[n]` integers, the classes of `images`.
        attacks: names of the registry, one or several.
        norm: "linf", "l2", "l1" or "l0", of the budgets.
        epsilons: budgets in pixel units, rising, or a text such as "0,0.02,...,0.3"; None: eleven
            from 0 to a generous one.
        targets: classes to reach: "untargeted", "random", "next", "least_likely" or "all".
        num_steps: most steps of every attack; each attack's own if None.
        step_size: length of a step in pixel units; each attack's own if None.
        confidence: the least probability of the new class, in (0, 1); None: any.
        max_queries: most forward and backward passes of each attack for an image and budget, as in
            `attack`; None: no limit.
        settings: attack -> setting -> value, for settings that are not the attack's own.
        certify: whether to prove of each image a radius within which no attack can succeed, as
            `certify_radius` does, and to set it beside what the attacks found; in linf, l2 and l1,
            for the models that `certify` takes.
        certify_method: of the bounds, as `certify` takes it; None: "crown".
        seconds_per_image: with "beta_crown", "milp" or "sdp", how long an image may be branched on;
            0: not at all, which "milp" refuses.
        seed: of random targets and of attacks that draw at random.
        num_images: the first so many are measured; all if None.
        dataset: a name that `load` takes; the model's own, or MNIST, if None.
        split: of the data set; "test" if None.
        data_dir: as in `load`.
        manual_dir: as in `load`.
        class_names: k names; those of the model or data set if None.
        folder: where results are kept, with `report.html`, the CSV and the JSON: the same call
            with the same folder goes on from what is there. None: nothing is kept.
        jobs: local processes, for a model that is given by its path.
        progress: whether to show a bar on standard error.

    Returns:
        Curves, distances, checks and costs.

    Raises:
        ValueError: an argument out of form or range; a file that is no model; a folder that holds
            something else.
        BelowRadiusError: an attack changed a class inside a certified radius: one of the two is
            wrong.
        OSError: a file cannot be read, or the folder not be written.

    Example:
        >>> import mnist_adv
        >>> found = mnist_adv.evaluate(
        ...     "checkpoints", attacks="fgsm", epsilons=[0, 0.1], num_images=100, progress=False
        ... )
        >>> [share.count for share in found.curves[0].robust]
        [96, 6]
    """
    yes_or_no(progress, "progress")
    method = as_certify_method(certify, certify_method, seconds_per_image)
    names = _texts(attacks, "attacks")
    num_steps = None if num_steps is None else int(whole(num_steps, "num_steps"))
    step_size = None if step_size is None else float(real(step_size, "step_size", ABOVE_0))
    confidence = None if confidence is None else as_confidence(confidence)
    max_queries = None if max_queries is None else int(whole(max_queries, "max_queries"))
    num_images = None if num_images is None else int(whole(num_images, "num_images"))
    class_names = None if class_names is None else _texts(class_names, "class_names")
    norm, chosen = choose(Norm, norm, "norm"), choose(Targets, targets, "targets")
    settings = _checked_settings(names, settings, norm, confidence, num_steps)
    engine = Engine(jobs=jobs)
    if (images is None) != (labels is None):
        raise ValueError("images and labels go together. Received: one of them")
    given = {"dataset": dataset, "split": split, "data_dir": data_dir, "manual_dir": manual_dir}
    if images is not None and any(value is not None for value in given.values()):
        raise ValueError("images in memory have no dataset, split or folders of files")
    source, loaded, data = _open(model, images, labels, given, class_names)
    if jobs > 1 and isinstance(source, ModelInMemory):
        raise ValueError("jobs above 1 need a model that is given by its path")
    own = data if isinstance(data, ImagesInMemory) else None
    places = Places(source, data.data_dir, data.manual_dir, loaded.shape, own)
    plan = make_plan(
        loaded,
        source.reading,
        data,
        attacks=names,
        norm=norm,
        epsilons=epsilons,
        targets=chosen,
        num_steps=num_steps,
        step_size=step_size,
        confidence=confidence,
        max_queries=max_queries,
        attack_settings=settings,
        certify_method=method,
        seconds_per_image=float(seconds_per_image),
        seed=int(whole(seed, "seed", 0, UINT32)),
        num_images=num_images,
    )
    with _folder(folder) as place, files.alone(place):
        store = Store(place, plan)
        execute(store, places, engine, quiet=not progress)
        return finish(store, places, loaded.model, loaded.class_names)


def make_plan(
    loaded: LoadedModel,
    reading: str,
    data: DataSource,
    *,
    norm: Norm,
    epsilons: Any,
    num_images: int | None,
    chunk_size: int | None = None,
    certify_method: Method | None = None,
    seconds_per_image: float = 0.0,
    **settings: Any,
) -> Plan:
    """Make the plan of an evaluation.

    Args:
        loaded: the model.
        reading: how its file is read; see `ModelSource`.
        data: the images.
        norm: of the budgets.
        epsilons: budgets, or a text of them; None: eleven from 0 to the norm's default.
        num_images: None: all.
        chunk_size: None: 2500 for single attacks of at most 100 steps, else 1000; fewer of large
            images.
        certify_method: of the bounds; None: nothing is certified.
        seconds_per_image: for branching.
        settings: the other settings of a `Plan`.

    Returns:
        The plan.

    Raises:
        ValueError: a setting out of form or range; a model or a norm that cannot be certified.
        OSError: the data cannot be read.
    """
    there = data.count()
    if num_images is not None and not num_images <= there:
        raise ValueError(f"num_images must be at most {there}. Received: {num_images}")
    if certify_method is not None:
        given: dict[str, Any] = {"method": certify_method, "seconds_per_image": seconds_per_image}
        try:
            require_certifiable(loaded.model, loaded.shape, norm=norm, **given)
        except ValueError as error:
            raise ValueError(f"no radius can be certified: {error}") from error
    plan = Plan(
        checkpoint=loaded.digest,
        reading=reading,
        num_classes=len(loaded.class_names),
        dataset=data.dataset,
        split=data.split_name(),
        num_images=there if num_images is None else num_images,
        norm=norm,
        epsilons=as_epsilons(epsilons, norm),
        chunk_size=_MOST_IMAGES if chunk_size is None else chunk_size,
        certify_method=certify_method,
        seconds_per_image=seconds_per_image,
        versions=run_card.versions(),
        **settings,
    )
    if chunk_size is None:
        # As many images as are kept in memory several times over without harm.
        fitting = _MOST_NUMBERS // math.prod(loaded.shape)
        most = _MOST_IMAGES_OF_SHORT if _is_short(plan) else _MOST_IMAGES
        plan = dataclasses.replace(plan, chunk_size=max(_FEWEST_IMAGES, min(most, fitting)))
    return plan


def _is_short(plan: Plan) -> bool:
    """Tell whether a chunk takes seconds, which is what a killed run loses."""
    attacks = [ATTACKS.find(name).attack for name in plan.attacks]
    steps = [plan.num_steps or attack.num_steps for attack in attacks]
    return not (
        plan.targets is Targets.ALL
        or plan.certify_method is not None
        or any(isinstance(attack, Ensemble) for attack in attacks)
        or max(steps) > _MOST_STEPS_OF_SHORT
    )


def as_epsilons(epsilons: Any, norm: Norm) -> tuple[float, ...]:
    """Bring budgets into one form.

    Args:
        epsilons: numbers, or a text of them; None: eleven from 0 to the norm's default.
        norm: of the budgets.

    Returns:
        The budgets.

    Raises:
        ValueError: no such numbers.
    """
    if epsilons is None:
        largest = GEOMETRY[norm].default_epsilon
        epsilons = f"0,{round(largest / 10, 12)},...,{largest}"
    if isinstance(epsilons, str):
        return parse_epsilons(epsilons)
    budgets = real_array(epsilons, "epsilons")
    if budgets.ndim > 1:
        raise ValueError(f"epsilons must be numbers in a row. Received: {shown(epsilons)}")
    return tuple(budgets.astype(np.float64).ravel().tolist())


def _texts(values: Any, name: str) -> tuple[str, ...]:
    """Check a text or several."""
    texts = (values,) if isinstance(values, str) else values
    if (
        not isinstance(texts, list | tuple)
        or not texts
        or not all(isinstance(text, str) for text in texts)
    ):
        raise ValueError(f"{name} must be texts, at least one. Received: {shown(values)}")
    return tuple(texts)


def _checked_settings(
    names: tuple[str, ...],
    settings: Mapping[str, Mapping[str, Any]] | None,
    norm: Norm,
    confidence: float | None,
    num_steps: int | None,
) -> dict[str, dict[str, Any]]:
    """Refuse before hours of work what an attack would refuse."""
    rows = [ATTACKS.find(name) for name in names]
    settings = {} if settings is None else settings
    if not isinstance(settings, Mapping) or not all(
        name in names and isinstance(each, Mapping) for name, each in settings.items()
    ):
        raise ValueError(
            f"settings must be a dict of {', '.join(names)}: a dict of settings. "
            f"Received: {shown(settings)}"
        )
    for row in rows:
        attack = configure(row, settings.get(row.name, {}))
        steps = num_steps if len(rows) == 1 else None
        require_applicable(row, attack, norm, confidence, steps)
    return {name: dict(each) for name, each in settings.items() if each}


def _open(
    model: Any,
    images: Any,
    labels: Any,
    given: Mapping[str, Any],
    names: tuple[str, ...] | None,
) -> tuple[ModelSource | ModelInMemory, LoadedModel, DataSource]:
    """Open the model and find its images."""
    levels = None if images is None else as_levels(images)
    if isinstance(model, str | os.PathLike):
        wanted = DataSource(**given) if given["dataset"] else None
        source, loaded = _open_path(as_path(model, "model"), names, wanted)
        if levels is not None:
            return source, loaded, as_images(levels, labels, loaded.class_names)
        return source, loaded, _data(given, loaded)
    if levels is not None:
        probes = to_float(levels)
    else:
        name = given["dataset"] or "mnist"
        data = DataSource(**{**given, "dataset": name})
        if isinstance(model, LoadedModel):
            data = _data(given, model)
        loaded_probes = load_probes(data)
        probes, names = loaded_probes.images, names or loaded_probes.class_names
    if not isinstance(model, LoadedModel):
        shape = probes.shape[1:]
        model = LoadedModel(as_model(model, probes), type(model).__name__, "", shape)
    count = check_logits(model.model, tf.constant(probes[:2]))
    names = names or model.class_names or tuple(map(str, range(count)))
    if len(names) != count:
        raise ValueError(
            f"class_names must be {count}, one for each class of the model. Received: {len(names)}"
        )
    if levels is not None:
        data = as_images(levels, labels, names)
    with repeatable(model.model, probes, 0):
        digest = identity(model.model, probes)
    loaded = dataclasses.replace(model, digest=digest, class_names=names)
    return ModelInMemory(loaded), loaded, data


def _data(given: Mapping[str, Any], loaded: LoadedModel) -> DataSource:
    is_mnist = (loaded.shape, len(loaded.class_names)) == (MNIST_SHAPE, 10)
    dataset = given["dataset"] or loaded.dataset or ("mnist" if is_mnist else None)
    if dataset is None:
        raise ValueError(
            f"{loaded.where} does not say its data set; name it (dataset=), or give images and "
            "labels"
        )
    return DataSource(**{**given, "dataset": dataset, "shape": loaded.shape})


def _open_path(
    where: str, names: tuple[str, ...] | None, data: DataSource | None
) -> tuple[ModelSource, LoadedModel]:
    """Open a checkpoint of `train`, or any other file."""
    source = ModelSource(where, class_names=names).with_absolute_path()
    if os.path.isdir(where):
        with contextlib.suppress(ValueError, FileNotFoundError):
            return source, source.open()
    source = dataclasses.replace(source, ours=False)
    return source, source.open(data)


@contextlib.contextmanager
def _folder(folder: str | os.PathLike[str] | None) -> Iterator[pathlib.Path]:
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield pathlib.Path(temporary)
        return
    place = pathlib.Path(as_path(folder, "folder"))
    place.mkdir(parents=True, exist_ok=True)
    yield place
