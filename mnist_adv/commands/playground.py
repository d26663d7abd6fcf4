"""Write the page to play with."""

from __future__ import annotations

import functools
import pathlib

from absl import flags

from mnist_adv import files
from mnist_adv.commands import cli, model_flags
from mnist_adv.models.model_source import ModelSource


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
    robust = "Folder of checkpoints of a second model, trained with --defend, to compare."
    define("robust_checkpoint_dir", str, None, robust)
    define("output", str, "playground.html", "The page; replaced if it is there.")


def _write(values: flags.FlagValues) -> int:
    model_flags.require_there(values)
    second = None
    if values.robust_checkpoint_dir is not None:
        second = ModelSource(values.robust_checkpoint_dir)
        second.require_there()
    cli.load_tensorflow(values)
    from mnist_adv.playground import build_page

    output, path = cli.Output(values), pathlib.Path(values.output)
    loaded = model_flags.open_model(values)
    output.lines(*(f"{loaded.where}: {note}" for note in loaded.notes))
    test_set = model_flags.data_source(values, loaded).load()
    with cli.stage("proving the smallest changes"):
        page = build_page(loaded, test_set, None if second is None else second.open())
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, page.encode())
    output.lines(f"saved {path}", f"to play: open {path.resolve().as_uri()}")
    output.record({"page": str(path), "checkpoint": {"sha256": loaded.digest}})
    return cli.DONE


main = cli.Command(
    summary="Write a page to play with: draw a digit, and make the model see another one.",
    define_flags=define_flags,
    groups=(
        cli.Group("Page", "--output playground.html", ("output", "robust_checkpoint_dir")),
        model_flags.ALONE,
        cli.Group("Images", "--dataset fashion_mnist", ("dataset", "data_dir", "manual_dir")),
    ),
    body=_write,
)
