"""Run every check of a model."""

from __future__ import annotations

import functools

from absl import flags

from mnist_adv.commands import cli, model_flags
from mnist_adv.models.model_source import load_probes

_DATA = ("dataset", "data_dir", "manual_dir")


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags.

    Args:
        values: where they are defined.
    """
    model_flags.define_alone(values)
    define = functools.partial(cli.define, values)
    define("dataset", str, None, "mnist, a TFDS name or a folder; the model's own, if not given.")
    define("data_dir", str, None, "Where TFDS keeps its data sets.")
    define("manual_dir", str, None, "Folder of the data set's original files.")


def _examine(values: flags.FlagValues) -> int:
    output = cli.Output(values)
    model_flags.require_there(values)
    cli.load_tensorflow(values)
    loaded = model_flags.open_model(values)
    output.lines(*(f"{loaded.where}: {note}" for note in loaded.notes))
    known = load_probes(model_flags.data_source(values, loaded))
    found = model_flags.find(loaded, known, thorough=True)
    output.lines(*(map(str, found) if found else ["nothing found"]))
    output.record({
        "checkpoint": {"prefix": loaded.where, "sha256": loaded.digest},
        "taken": list(loaded.notes),
        "findings": list(map(str, found)),
    })
    return cli.NOT_REACHED if any(finding.severe for finding in found) else cli.DONE


main = cli.Command(
    summary="Run every check of a model; exit status 1 if results for it would not be valid.",
    define_flags=define_flags,
    groups=(model_flags.ALONE, cli.Group("Images", "--dataset photos/", _DATA)),
    body=_examine,
)
