"""Convert weights between our checkpoint, TF1's, NumPy's and Keras's."""

from __future__ import annotations

import functools

from absl import flags

from mnist_adv.commands import cli
from mnist_adv.data.datasets import DataSource
from mnist_adv.models.activation import Activation
from mnist_adv.models.formats.registry import writable


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags.

    Args:
        values: where they are defined.
    """
    define = functools.partial(cli.define, values)
    define(
        "source", str, "checkpoints", "Checkpoint of ours or TF1, .npz, .keras, .h5 or W.npy,b.npy."
    )
    define("variables", str, None, "Which variables in it are the model: W=NAME,b=NAME")
    define("activation", Activation, None, "Between several layers.")
    define("destination", str, None, "The new file, TF1 prefix, or folder of a checkpoint of ours.")
    formats = tuple(row.name for row in writable())
    define("format", formats, None, "What to write; by .ckpt (TF1), .npz or .keras, if not given.")
    define("names", str, None, "What to call the variables in TF1 and .npz: W=NAME,b=NAME")
    of_ours = "Of the weights, for a checkpoint of ours; mnist for weights of its form."
    define("dataset", str, None, of_ours)
    define("data_dir", str, None, "Where TFDS keeps its data sets.")
    define("overwrite", bool, False, "Replace what is there.")


def _convert(values: flags.FlagValues) -> int:
    if values.destination is None:
        raise ValueError("--destination must be given: a new .npz, .keras, TF1 prefix, or folder")
    cli.load_tensorflow(values)
    from mnist_adv.models.formats.convert import convert

    data = DataSource(values.dataset or "mnist", data_dir=values.data_dir).open()
    converted = convert(
        values.source,
        values.destination,
        values.format,
        names=values.names,
        variables=values.variables,
        activation=values.activation,
        shape=data.shape,
        dataset=values.dataset,
        class_names=data.class_names if values.dataset else None,
        overwrite=values.overwrite,
    )
    output = cli.Output(values)
    output.lines(
        *(f"{values.source}: {note}" for note in converted.notes), f"saved {converted.path}"
    )
    output.record({"saved": str(converted.path), "notes": list(converted.notes)})
    return cli.DONE


main = cli.Command(
    summary="Convert weights: our checkpoint, TF1's, .npz and .keras, any to any, bit for bit.",
    define_flags=define_flags,
    groups=(
        cli.Group(
            "From",
            "--source checkpoints --destination /tmp/model.ckpt",
            ("source", "variables", "activation"),
        ),
        cli.Group(
            "To",
            "--source model.npz --destination checkpoints --format checkpoint",
            ("destination", "format", "names", "dataset", "data_dir", "overwrite"),
        ),
    ),
    body=_convert,
)
