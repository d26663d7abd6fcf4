"""Restore a model, take one image, and change it until the model predicts what is wanted."""

from __future__ import annotations

import dataclasses
import enum
import functools
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from mnist_adv.commands import attack_flags, choices, cli, image_flags, model_flags
from mnist_adv.data.class_names import find_class
from mnist_adv.data.images import as_classes
from mnist_adv.models.model_source import load_probes

if TYPE_CHECKING:
    from mnist_adv.attacks import AttackResult
    from mnist_adv.commands.image_flags import Chosen
    from mnist_adv.models.loaded import LoadedModel
    from mnist_adv.reporting.saved_attack import SavedAttack


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags.

    Args:
        values: where they are defined.
    """
    define = functools.partial(cli.define, values)
    define("target", str, None, "Class to reach, number or name; without it: away from the label.")
    image_flags.define_flags(values)
    define("attack", str, "pgd", "A name of --list; optimum: the smallest change, with its proof.")
    define("epsilon", float, None, "Budget, in pixel units; 0.3 for linf, 3 for l2, if not given.")
    attack_flags.define_flags(values)
    define("check_gradient", bool, False, "Compare all sources on the chosen image.")
    model_flags.define_flags(values)
    define("results_dir", str, "results", "The result's folder is made here.")
    define("name", str, None, "The folder's name; from image and goal if not given.")
    define("logdir", str, "logs", "Where TensorBoard's files go.")
    define("save_iterates", bool, False, "Save every iterate as PNG.")
    define("animation", bool, False, "Save the image changing as GIF.")


def _attack(values: flags.FlagValues) -> int:
    output = cli.Output(values)
    if values.list:
        return choices.show(values)
    cli.require_destinations(values)
    _require_possible(values)
    cli.load_tensorflow(values)
    from mnist_adv.drawing import canvas
    from mnist_adv.reporting import words

    loaded = model_flags.open_model(values)
    chosen = image_flags.choose(values, loaded)
    output.lines(*(f"{loaded.where}: {note}" for note in loaded.notes), *chosen.notes)
    findings = _examine(values, loaded)
    label = _predict(loaded, chosen) if chosen.label is None else chosen.label
    result = _run_attack(values, loaded, chosen, label)
    class_names = loaded.class_names
    labelled = "" if chosen.label is None else f", labelled {class_names[label]}"
    before = canvas.seen(result.verdict.clean_probabilities[0], class_names)
    output.lines(
        f"{chosen.name}{labelled}: the model sees {before}",
        f"goal: {result.goal.describe(class_names)}, {words.budget(result)}",
    )
    return _report(values, loaded, chosen, result, findings)


def _require_possible(values: flags.FlagValues) -> None:
    """Refuse at once what needs no TensorFlow to be refused."""
    attack_flags.settings(values, [values.attack])
    known = model_flags.require_there(values).known_class_names()
    if values.target is not None and known:
        as_classes(find_class(values.target, known), 1, len(known), "targets")
    if values.image is not None and not pathlib.Path(values.image).exists():
        raise FileNotFoundError(f"no file {values.image}")


def _run_attack(
    values: flags.FlagValues, loaded: LoadedModel, chosen: Chosen, label: int
) -> AttackResult:
    from tqdm import tqdm

    from mnist_adv import attacks
    from mnist_adv.attacks.progress import Bar
    from mnist_adv.attacks.registry import ATTACKS

    given = attack_flags.settings(values, [values.attack])[values.attack]
    if ATTACKS.find(values.attack).attack.needs_donors:
        given["donors"] = model_flags.data_source(values, loaded).load_donors()
    with tqdm(desc="attacking", unit="step", delay=2, leave=False, disable=None) as bar:
        return attacks.attack(
            loaded.model,
            chosen.image,
            targets=None
            if values.target is None
            else find_class(values.target, loaded.class_names),
            labels=label,
            method=values.attack,
            norm=values.norm,
            epsilon=values.epsilon,
            num_steps=values.num_steps,
            max_queries=values.max_queries,
            step_size=values.step_size,
            confidence=values.confidence,
            seed=values.seed,
            trace=True,
            progress=Bar(bar, of_images=False, tell=cli.Output(values).lines),
            **given,
        )


def _predict(loaded: LoadedModel, chosen: Chosen) -> int:
    return int(np.asarray(loaded.model(chosen.image[None])).argmax())


def _examine(values: flags.FlagValues, loaded: LoadedModel) -> list[str]:
    own = values.dataset or loaded.dataset
    if own != "mnist" and values.image is not None and not values.doctor:
        return []  # its images are not at hand, and fetching them could take minutes
    known = load_probes(model_flags.data_source(values, loaded))
    return model_flags.examine(values, loaded, known)


def _report(
    values: flags.FlagValues,
    loaded: LoadedModel,
    chosen: Chosen,
    result: AttackResult,
    findings: list[str],
) -> int:
    from mnist_adv.reporting import results_folder, saved_attack, tensorboard

    goal = result.goal.describe(loaded.class_names).replace(" ", "-")
    name = values.name or f"{chosen.name}-{goal}"
    earlier = results_folder.read_record(pathlib.Path(values.results_dir) / name)
    with (
        tensorboard.new_run(values.logdir, f"attack-{name}") as run,
        results_folder.new_folder(values.results_dir, name) as folder,
    ):
        saved = saved_attack.save(folder / results_folder.PICTURE, loaded.model, result)
        report = _describe(values, loaded, chosen, saved, findings)
        _write_folder(values, folder, saved, report)
        _write_summaries(values, run, saved, report)
    folder = pathlib.Path(values.results_dir) / name
    output = cli.Output(values)
    output.outcome(report.lines[0], good=saved.success)
    output.lines(
        *report.lines[1:],
        *_replaced(earlier, report.record),
        f"to look at it: {tensorboard.tensorboard_line(values.logdir)}",
        f"picture: {folder / 'figure.png'}",
    )
    output.record({**report.record, "folder": str(folder)})
    return cli.DONE if saved.success and report.gradients_agree else cli.NOT_REACHED


def _replaced(earlier: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """Say what result was there under the same name, if it was of another model or request."""
    kept = ("checkpoint", "flags")
    if not earlier or all(earlier.get(name) == record[name] for name in kept):
        return []
    there = earlier.get("checkpoint")
    digest = str(there.get("sha256"))[:8] if isinstance(there, dict) else "?"
    return [f"this replaced the result of: {earlier.get('command')} (model {digest})"]


@dataclasses.dataclass
class _Report:
    """What is printed, stored and drawn of an attack."""

    lines: list[str]
    record: dict[str, Any]
    pictures: dict[str, np.ndarray]
    gradients_agree: bool = True


def _describe(
    values: flags.FlagValues,
    loaded: LoadedModel,
    chosen: Chosen,
    saved: SavedAttack,
    findings: list[str],
) -> _Report:
    from mnist_adv.reporting import figures, run_card, words
    from mnist_adv.verdict.beside_optimum import set_beside

    comparison = set_beside(loaded.model, saved.as_result())
    names = loaded.class_names
    report = _Report(
        lines=[
            *words.outcome(saved, names),
            *words.optimum_lines(comparison, saved.result.certificate),
            *saved.result.part_lines(),
        ],
        record={
            "command": cli.command_line(values),
            "flags": {flag: _plain(value) for flag, value in cli.settings(values).items()},
            "versions": run_card.versions(),
            "checkpoint": {"prefix": loaded.where, "sha256": loaded.digest},
            "taken": list(loaded.notes),
            "findings": findings,
            "image": chosen.origin,
            **words.record(saved),
            "optimum": None if comparison is None else words.optimum_record(comparison),
        },
        pictures={
            "figure": figures.attack_figure(saved, names),
            "film_strip": figures.film_strip(saved.trace, names),
        },
    )
    if values.check_gradient:
        agreed, table, curves = _check_gradient(values, loaded, chosen, saved.result)
        report.gradients_agree = agreed
        report.lines += table
        report.pictures["gradient_check"] = curves
    return report


def _write_folder(
    values: flags.FlagValues, folder: pathlib.Path, saved: SavedAttack, report: _Report
) -> None:
    from mnist_adv.reporting import figures, results_folder

    results_folder.write_record(folder, report.record)
    results_folder.write_arrays(folder, saved)
    results_folder.write_pictures(folder, report.pictures)
    if values.save_iterates:
        results_folder.write_iterates(folder, saved.trace)
    if values.animation:
        (folder / "animation.gif").write_bytes(figures.animation(saved.trace))


def _write_summaries(
    values: flags.FlagValues, run: pathlib.Path, saved: SavedAttack, report: _Report
) -> None:
    from mnist_adv.reporting import run_card, tensorboard

    findings = [f"doctor: {finding}" for finding in report.record["findings"]]
    tensorboard.write_hparams(run, _hparams(values, report.record))
    card = run_card.card(report.record, [*findings, *report.lines], run_card.READ_ATTACK)
    tensorboard.write_attack(run, saved, report.pictures, card)


def _check_gradient(
    values: flags.FlagValues, loaded: LoadedModel, chosen: Chosen, result: AttackResult
) -> tuple[bool, list[str], np.ndarray]:
    from mnist_adv.gradients import check
    from mnist_adv.reporting import figures, words

    loss = values.loss or "cross_entropy"
    question = (loaded.model, chosen.image, int(result.goal.classes[0]))
    errors = check.check_gradient(*question, loss=loss, difference_step=values.difference_step)
    dtype, worst, agreed = check.disagreement(errors)
    verdict = "agree" if agreed else "DISAGREE"
    lines = [
        f"gradient of {loss} for {question[2]}, against the tape in {dtype}:",
        *words.gradient_table(errors),
        f"the sources {verdict}: they differ by {worst:.1e} at most in {dtype}",
    ]
    curves, defaults = check.difference_errors(*question, loss=loss)
    return agreed, lines, figures.difference_error(curves, defaults)


def _hparams(values: flags.FlagValues, record: dict[str, Any]) -> dict[str, Any]:
    goal = record["goal"]
    return {
        "command": "attack",
        "goal": f"{goal['kind']} {goal['class']}",
        "attack": values.attack,
        "steps_taken": record["num_steps"],
        **{name: record["threat"][name] for name in ("norm", "epsilon")},
        **{name: _plain(values[name].value) for name in ("loss", "step_size", "num_steps", "step")},
    }


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value


main = cli.Command(
    summary="Change one image, within a budget, until the model sees another class in it.",
    define_flags=define_flags,
    groups=(
        cli.Group("Goal", "--target 2 --confidence 0.9", ("target",)),
        image_flags.GROUP,
        model_flags.GROUP,
        cli.Group(
            "Attack",
            "--target 2 --attack ddn --norm l2",
            ("attack", "norm", "epsilon", *attack_flags.ATTACK),
        ),
        cli.Group(
            "Gradient",
            "--target 2 --check_gradient",
            (*attack_flags.GRADIENT, "check_gradient"),
        ),
        cli.Group(
            "Files",
            "--target 2 --name my_two --animation",
            ("results_dir", "name", "logdir", "save_iterates", "animation"),
        ),
    ),
    body=_attack,
)
