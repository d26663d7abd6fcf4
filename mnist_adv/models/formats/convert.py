"""Convert trained weights: our checkpoint, TF1's, NumPy's .npz and Keras's .keras, any to any.

What was written is read back and compared bit for bit before it gets its name.
"""

from __future__ import annotations

import dataclasses
import errno
import glob
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from mnist_adv import files
from mnist_adv.arguments import as_path, as_text, choose, whole, yes_or_no
from mnist_adv.data.class_names import fit_class_names
from mnist_adv.data.images import Shape, as_shape
from mnist_adv.models.activation import Activation
from mnist_adv.models.formats import arrays
from mnist_adv.models.formats.registry import (
    FORMATS,
    Format,
    ReadRequest,
    WriteRequest,
    find_format,
    writable,
)
from mnist_adv.models.formats.shapes import MNIST_SHAPE
from mnist_adv.models.perceptron import Perceptron, layers_of
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.tensors import disk

_NUM_PROBES = 32

Weights = SoftmaxRegression | Perceptron


@dataclasses.dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        path: the new file, or the new checkpoint's prefix.
        notes: what was taken and how it was written, one sentence each.
    """

    path: str
    notes: tuple[str, ...]


def convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    kind: str | None = None,
    *,
    names: str | None = None,
    num_classes: int | None = None,
    shape: Shape | None = None,
    variables: str | None = None,
    activation: Activation | str | None = None,
    dataset: str | None = None,
    class_names: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Converted:
    """Write the weights of one file as another kind of file.

    Args:
        source: a checkpoint of ours or of TF1, an .npz, or a .keras of Dense layers.
        destination: the new file, the prefix (TF1), or the folder (our checkpoint).
        kind: "checkpoint" (ours), "tf1", "npz" or "keras"; by the destination's suffix (.npz,
            .keras, .ckpt for TF1) if None.
        names: "W=NAME,b=NAME" of the variables in a TF1 checkpoint or .npz that is written; if
            None, what TF1 calls nameless ones (`Variable`, `Variable_1`), and W and b.
        num_classes: of the source, where it leaves a choice.
        shape: of its images, `(h, w, c)`, where it leaves a choice.
        variables: "W=NAME,b=NAME" in the source, where it does not say by itself.
        activation: between layers, where the source does not say.
        dataset: that the weights were trained on, for our own checkpoint; "mnist" if None, for
            weights of its form.
        class_names: in label order, for our own checkpoint; the first are taken, and classes
            beyond them are called by their number.
        overwrite: whether an existing destination may be replaced.

    Returns:
        Where it is, and what was done.

    Raises:
        FileNotFoundError: no such source.
        FileExistsError: the destination exists, and `overwrite` is not set.
        ValueError: a source that is damaged, ambiguous, or more than Dense layers; a kind that
            cannot hold it; names that do not fit.
    """
    name, destination = as_path(source, "source"), as_path(destination, "destination")
    for argument, text in {"names": names, "variables": variables, "dataset": dataset}.items():
        as_text(text, argument)
    yes_or_no(overwrite, "overwrite")
    row = _find_writer(destination, kind)
    request = ReadRequest(
        images=lambda shape: np.random.default_rng(0).random((_NUM_PROBES, *shape), np.float32),
        shape=None if shape is None else as_shape(shape, "shape"),
        num_classes=None if num_classes is None else int(whole(num_classes, "num_classes")),
        variables=variables,
        activation=None if activation is None else choose(Activation, activation, "activation"),
    )
    model, found, notes = _read(find_format(name), name, request)
    num_found = layers_of(model)[0][-1][1].size
    if dataset is None:
        dataset = "mnist" if (found, num_found) == (MNIST_SHAPE, 10) else ""
    named = _name_variables(model, names, row)
    wanted = WriteRequest(
        named, found, name, dataset, fit_class_names(class_names or (), num_found)
    )
    back = dataclasses.replace(
        request,
        variables=",".join(f"{role}={name}" for role, name in named.items()) or None,
        activation=layers_of(model)[1],
        shape=found,
    )
    final = pathlib.Path(destination)
    if row.writes_folder:
        path = _write(model, row, final, wanted, back)[-1]
    else:
        path = final
        with (
            disk.naming(final),
            files.temporary_folder(final.parent) as filling,
            files.alone(final.parent),
        ):
            index = pathlib.Path(f"{final}.index")
            wanted = dataclasses.replace(wanted, replaces=index if index.exists() else None)
            _move(_write(model, row, filling / final.name, wanted, back), final, overwrite)
    said = ", ".join(f"{role} as {name}" for role, name in named.items())
    return Converted(str(path), (*notes, *([f"wrote {said}"] if said else [])))


def _find_writer(path: str, kind: str | None) -> Format:
    choices = writable()
    if kind is None:
        by_suffix = [row for row in choices if row.suffix == pathlib.Path(path).suffix != ""]
        if not by_suffix:
            suffixes = ", ".join(row.suffix for row in choices if row.suffix)
            names = ", ".join(row.name for row in choices)
            raise ValueError(
                f"format must be given ({names}) for a destination that does not end in "
                f"{suffixes}. Received: {path}"
            )
        return by_suffix[-1]
    row = FORMATS.find(kind)
    if row not in choices:
        raise ValueError(
            f"format must be one of {', '.join(row.name for row in choices)}. Received: {kind!r}"
        )
    if row.is_one_file and not path.endswith(row.suffix):
        raise ValueError(f"a {row.name} destination must end in {row.suffix}. Received: {path}")
    return row


def _read(row: Format, name: str, request: ReadRequest) -> tuple[Weights, Shape, tuple[str, ...]]:
    loaded = row.read(name, request)
    if not isinstance(loaded.model, SoftmaxRegression | Perceptron):
        raise ValueError(
            f"{name} must be Dense layers one after another, one activation between them. "
            f"Received: {'; '.join(loaded.notes) or loaded.model}"
        )
    return loaded.model, loaded.shape, loaded.notes


def _write(
    model: Weights, row: Format, path: pathlib.Path, wanted: WriteRequest, back: ReadRequest
) -> list[pathlib.Path]:
    """Write the weights, and compare what reads back bit for bit."""
    if row.write is None:
        raise ValueError(f"{row.name} is only read")
    written = row.write(model, path, wanted)
    again, *_ = _read(row, str(path), back)
    before, after = (
        [part for layer in layers_of(each)[0] for part in layer] for each in (model, again)
    )
    if [part.tobytes() for part in before] != [part.tobytes() for part in after]:
        raise ValueError(f"{path.name} does not read back bit for bit; it must not be used")
    return written


def _name_variables(model: Weights, names: str | None, row: Format) -> dict[str, str]:
    """Name every variable that is written, unless the format names its own."""
    if row.variable_name is None:
        if names:
            takers = " and ".join(each.name for each in writable() if each.variable_name)
            raise ValueError(
                f"names are for {takers}; {row.name} names its own. Received: {names!r}"
            )
        return {}
    count = len(layers_of(model)[0])
    numbers = [""] if count == 1 else [str(i) for i in range(1, count + 1)]
    roles = [f"{role}{number}" for number in numbers for role in "Wb"]
    if names:
        given = arrays.parse_variables(names, "names")
        if sorted(given) != sorted(roles) or len(set(given.values())) < len(given):
            raise ValueError(f"names must give {', '.join(roles)} a name each. Received: {names!r}")
        return {role: given[role] for role in roles}
    return {role: row.variable_name(role, number) for number, role in enumerate(roles)}


def _move(written: list[pathlib.Path], final: pathlib.Path, overwrite: bool) -> None:
    """Give the files their names; the last one decides, in one step, that they are read."""
    if final.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(final))
    targets = [final.parent / file.name for file in written]
    old = [path for path in {final, targets[-1]} if path.exists()]
    in_the_way = [
        target
        for file, target in zip(written, targets)
        # Of a run that was killed before its last file, the others are as this one's.
        if target.exists() and target.read_bytes() != file.read_bytes()
    ]
    if (old or in_the_way) and not overwrite:
        raise FileExistsError(f"{(old or in_the_way)[0]} exists; give another name, or --overwrite")
    if len(written) > 1:
        if targets[0] in in_the_way:
            targets[0].unlink()  # no weights beside another graph, with another activation
        if old:
            written, targets = ([*each[1:], each[0]] for each in (written, targets))
    for file, target in zip(written, targets):
        files.move(file, target)
    if len(written) > 1 and overwrite:
        data = final.parent.glob(f"{glob.escape(final.name)}.data-*")
        for file in {final, *data} - set(targets):
            file.unlink(missing_ok=True)
