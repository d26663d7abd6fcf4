"""Restore a model, attack a whole data set, and report how robust the model is."""

from __future__ import annotations

import functools
import json
import pathlib
from typing import TYPE_CHECKING

from absl import flags

from mnist_adv import files
from mnist_adv.certification.method import Method
from mnist_adv.commands import attack_flags, choices, cli, model_flags
from mnist_adv.data.datasets import DataSource
from mnist_adv.evaluation.plan import Plan, Targets, as_certify_method, parse_epsilons
from mnist_adv.models.model_source import load_probes

if TYPE_CHECKING:
    from mnist_adv.models.loaded import LoadedModel
    from mnist_adv.models.model_source import ModelSource


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags.

    Args:
        values: where they are defined.
    """
    define = functools.partial(cli.define, values)
    define("attack", list, ["pgd"], "Attacks, with commas.")
    define("epsilons", str, None, "Budgets, such as 0,0.02,...,0.3; eleven if not given.")
    define("targets", Targets, Targets.UNTARGETED, "Classes to reach.")
    attack_flags.define_flags(values)
    define("certify", bool, False, "Prove each image's radius, and draw the band up to the broken.")
    methods = tuple(method.value for method in Method)
    define("certify_method", methods, None, "Of its bounds; crown, if not given.")
    define(
        "seconds_per_image",
        float,
        0.0,
        "With beta_crown, milp or sdp: how long an image may be branched on; milp needs it.",
    )
    define("num_images", int, None, "The first so many of the split; all if not given.")
    define("split", str, None, "Of the data set; test, if not given.")
    define("dataset", str, None, "mnist, a TFDS name or a folder; the model's own, if not given.")
    define("data_dir", str, None, "Where TFDS keeps its data sets.")
    define("manual_dir", str, None, "Folder of the data set's original files.")
    define("jobs", int, 1, "Local processes; 1 is this one.")
    define("backend", ("local", "dask"), "local", "Where the processes are.")
    define("scheduler", str, None, "Dask's, tcp://host:port; trusted: it can run code here.")
    define("chunk_size", int, None, "Images per result file; 2500 or fewer if not given.")
    define("results_dir", str, "results", "The folder of results is made here, or resumed.")
    define("name", str, None, "Its name; from the settings if not given.")
    define("logdir", str, "logs", "Where TensorBoard's files go.")
    model_flags.define_flags(values)


def _evaluate(values: flags.FlagValues) -> int:
    if values.list:
        return choices.show(values)
    output = cli.Output(values)
    if values.epsilons is not None:
        parse_epsilons(values.epsilons)
    method = as_certify_method(values.certify, values.certify_method, values.seconds_per_image)
    cli.require_destinations(values)
    attack_flags.settings(values, values.attack)
    model_flags.require_there(values)
    cli.load_tensorflow(values)
    from mnist_adv.evaluation.measure import run
    from mnist_adv.evaluation.measure.chunk import Places
    from mnist_adv.evaluation.measure.store import Store
    from mnist_adv.evaluation.report import page, summaries
    from mnist_adv.evaluation.report.files import finish
    from mnist_adv.reporting import tensorboard

    engine = run.Engine(run.Backend(values.backend), values.jobs, values.scheduler)
    loaded = model_flags.open_model(values)
    output.lines(*(f"{loaded.where}: {note}" for note in loaded.notes))
    source = model_flags.model_source(values).with_absolute_path()
    data = model_flags.data_source(values, loaded)
    places = Places(source, values.data_dir, data.manual_dir, loaded.shape)
    model_flags.examine(values, loaded, load_probes(data))
    plan = _plan(values, loaded, source, data, method)
    name = values.name or _name(plan)
    cli.require_name(values, name)
    folder = pathlib.Path(values.results_dir) / name
    folder.mkdir(parents=True, exist_ok=True)
    with files.alone(folder):
        store = Store(folder, plan)
        output.lines(*store.notes)
        computed = run.execute(store, places, engine)
        resumed = len(plan.chunks()) - computed
        if resumed:
            output.lines(f"{resumed} of {len(plan.chunks())} chunks were there already")
        if store.damaged:
            output.lines(f"{len(store.damaged)} chunks were damaged and have been measured again")
        evaluation = finish(store, places, loaded.model, loaded.class_names)
        with tensorboard.new_run(values.logdir, f"evaluate-{name}") as events:
            tensorboard.write_hparams(events, summaries.hparams(plan))
            summaries.write(events, evaluation)
    output.lines(
        *page.lines(evaluation),
        f"to look at it: {tensorboard.tensorboard_line(values.logdir)}",
        f"report: {folder / 'report.html'}",
    )
    output.record(json.loads((folder / "summary.json").read_bytes()))
    return cli.DONE if evaluation.sound else cli.NOT_REACHED


def _plan(
    values: flags.FlagValues,
    loaded: LoadedModel,
    source: ModelSource,
    data: DataSource,
    method: Method | None,
) -> Plan:
    from mnist_adv.evaluation.api import make_plan

    settings = attack_flags.settings(values, values.attack)
    return make_plan(
        loaded,
        source.reading,
        data,
        attacks=tuple(values.attack),
        norm=values.norm,
        epsilons=values.epsilons,
        targets=values.targets,
        num_steps=values.num_steps,
        max_queries=values.max_queries,
        step_size=values.step_size,
        seed=values.seed,
        num_images=values.num_images,
        chunk_size=values.chunk_size,
        attack_settings={name: given for name, given in settings.items() if given},
        confidence=values.confidence,
        certify_method=method,
        seconds_per_image=values.seconds_per_image,
    )


def _name(plan: Plan) -> str:
    parts = (plan.dataset.replace("/", "-"), plan.split, "-".join(plan.attacks))
    return "-".join(("evaluate", *parts, plan.norm.value, plan.targets.value, plan.series[:8]))


main = cli.Command(
    summary="Attack a whole data set and measure robustness; the same command resumes.",
    define_flags=define_flags,
    groups=(
        cli.Group(
            "Attacks",
            "--attack pgd --epsilons 0,0.02,...,0.3",
            ("attack", "norm", "epsilons", "targets", *attack_flags.ATTACK),
        ),
        cli.Group(
            "Proofs",
            "--certify --certify_method alpha_crown",
            ("certify", "certify_method", "seconds_per_image"),
        ),
        cli.Group("Gradient", "--loss margin", attack_flags.GRADIENT),
        cli.Group(
            "Images",
            "--num_images 1000 --targets all",
            ("num_images", "split", "dataset", "data_dir", "manual_dir"),
        ),
        cli.Group(
            "Engine",
            "--jobs 2",
            ("jobs", "backend", "scheduler", "chunk_size"),
        ),
        cli.Group(
            "Files",
            "--name my_run",
            ("results_dir", "name", "logdir"),
        ),
        cli.Group(
            model_flags.GROUP.title,
            "--checkpoint /tmp/model.ckpt",
            model_flags.GROUP.names,
        ),
    ),
    body=_evaluate,
    interrupted="the same command goes on from what is measured",
)
