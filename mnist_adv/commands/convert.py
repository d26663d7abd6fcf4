"""Convert weights between our checkpoint, TF1's, NumPy's and Keras's."""

from __future__ import annotations

from typing import Any

from absl import flags

from mnist_adv.commands import cli
from mnist_adv.data.datasets import DataSource
from mnist_adv.models.formats.convert_formats import Format
from mnist_adv.models.activation import Activation


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""

    def text(name: str, default: str | None, help_text: str) -> None:
        flags.DEFINE_string(name, default, help_text, flag_values=values)

    def choice(name: str, kind: Any, help_text: str) -> None:
        flags.DEFINE_enum_class(name, None, kind, help_text, flag_values=values)

    text("source", "checkpoints", "A checkpoint of ours or of TF1, an .npz, a .keras.")
    text("variables", None, "Which variables in it are the model: W=NAME,b=NAME")
    choice("activation", Activation, "Between several layers.")
    text("destination", None, "The new file, TF1 prefix, or folder of a checkpoint of ours.")
    choice("format", Format, "What to write; by .ckpt (TF1), .npz or .keras, if not given.")
    text("names", None, "What to call the variables in TF1 and .npz: W=NAME,b=NAME")
    text("dataset", "mnist", "Data set of the weights, for a checkpoint of ours.")
    text("data_dir", None, "Where TFDS keeps its data sets.")
    flags.DEFINE_boolean("overwrite", False, "Replace what is there.", flag_values=values)


def _convert(values: flags.FlagValues) -> int:
    if values.destination is None:
        raise ValueError("--destination must be given: a new .npz, .keras, TF1 prefix, or folder")
    cli.load_tensorflow(values)
    from mnist_adv.models.formats.convert import convert

    class_names = DataSource(values.dataset, data_dir=values.data_dir).load().class_names
    converted = convert(
        values.source,
        values.destination,
        values.format,
        names=values.names,
        variables=values.variables,
        activation=values.activation,
        dataset=values.dataset,
        class_names=class_names,
        overwrite=values.overwrite,
    )
    voice = cli.Voice(values)
    voice.say(*(f"{values.source}: {note}" for note in converted.notes), f"saved {converted.path}")
    voice.answer({"saved": str(converted.path), "notes": list(converted.notes)})
    return cli.DONE


main = cli.Command(
    summary="Convert weights: our checkpoint, TF1's, .npz and .keras, any to any, bit for bit.",
    define_flags=define_flags,
    groups=(
        cli.Group(
            "From",
            "python convert.py --source checkpoints --destination /tmp/model.ckpt",
            ("source", "variables", "activation"),
        ),
        cli.Group(
            "To",
            "python convert.py --source model.npz --destination checkpoints --format checkpoint",
            ("destination", "format", "names", "dataset", "data_dir", "overwrite"),
        ),
    ),
    body=_convert,
)
