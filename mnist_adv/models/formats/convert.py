"""Convert trained weights: our checkpoint, TF1's, NumPy's .npz and Keras's .keras, any to any.

What was written is read back and compared bit for bit before it gets its name.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mnist_adv.models import checkpoints
from mnist_adv.models.formats.convert_formats import Format
from mnist_adv.models.formats import arrays, keras_file, keras_layers, tf1_writer
from mnist_adv.models.activation import Activation
from mnist_adv.models.formats.open import named_arrays
from mnist_adv.models.perceptron import Perceptron, layers_of
from mnist_adv.models.softmax_regression import SoftmaxRegression

Weights = SoftmaxRegression | Perceptron


_SUFFIX = {".npz": Format.NPZ, ".keras": Format.KERAS, ".ckpt": Format.TF1}


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
    kind: Format | str | None = None,
    *,
    names: str | None = None,
    num_classes: int | None = None,
    variables: str | None = None,
    activation: Activation | str | None = None,
    dataset: str = "mnist",
    class_names: Sequence[str] = tuple("0123456789"),
    overwrite: bool = False,
) -> Converted:
    """Write the weights of one file as another kind of file.

    Args:
        source: a checkpoint of ours or of TF1, an .npz, or a .keras of Dense layers.
        destination: the new file, the prefix (TF1), or the folder (our checkpoint).
        kind: what to write; by the destination's suffix (.npz, .keras, .ckpt for TF1) if None.
        names: "W=NAME,b=NAME" of the variables in a TF1 checkpoint or .npz that is written; if
            None, what TF1 calls nameless ones (`Variable`, `Variable_1`), and W and b.
        num_classes: of the source; the number of class names if None.
        variables: "W=NAME,b=NAME" in the source, where it does not say by itself.
        activation: between layers, where the source does not say.
        dataset: that the weights were trained on, for our own checkpoint.
        class_names: in label order, for our own checkpoint.
        overwrite: whether an existing destination may be replaced.

    Returns:
        Where it is, and what was done.

    Raises:
        FileNotFoundError: no such source.
        FileExistsError: the destination exists, and `overwrite` is not set.
        ValueError: a source that is damaged, ambiguous, or more than Dense layers; a kind that
            cannot hold it; names that do not fit.
    """
    kind = _kind(destination, kind)
    activation = None if activation is None else Activation(activation)
    if num_classes is None:
        num_classes = len(class_names)
    model, notes = _read(source, num_classes, variables, activation)
    if kind is Format.CHECKPOINT:
        return _save_checkpoint(model, source, destination, dataset, class_names, notes)
    write = _WRITERS[kind]
    roles = _roles(model, names, kind)
    final = pathlib.Path(destination)
    final.parent.mkdir(parents=True, exist_ok=True)
    filling = pathlib.Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        written = write(model, filling / final.name, roles)
        again, _ = _read(
            filling / final.name,
            num_classes,
            ",".join(f"{role}={name}" for role, name in roles.items()),
            layers_of(model)[1],
        )
        _require_same(model, again, final)
        _move(written, final, overwrite)
    finally:
        shutil.rmtree(filling, ignore_errors=True)
    named = ", ".join(f"{role} as {name}" for role, name in roles.items())
    return Converted(str(final), (*notes, *([f"wrote {named}"] if named else [])))


def _kind(destination: str | os.PathLike[str], kind: Format | str | None) -> Format:
    suffix = pathlib.Path(destination).suffix
    if kind is None and suffix not in _SUFFIX:
        raise ValueError(
            f"format must be given for a destination that does not end in {', '.join(_SUFFIX)}. "
            f"Received: {destination}"
        )
    chosen = _SUFFIX[suffix] if kind is None else Format(kind)
    required = {Format.NPZ: ".npz", Format.KERAS: ".keras"}.get(chosen, suffix)
    if suffix != required:
        raise ValueError(
            f"a {chosen.value} destination must end in {required}. Received: {destination}"
        )
    return chosen


def _read(
    source: str | os.PathLike[str],
    num_classes: int,
    variables: str | None,
    activation: Activation | None,
) -> tuple[Weights, list[str]]:
    name = os.fspath(source)
    if name.endswith(".keras"):
        loaded = keras_file.load_keras(name, num_classes)
        chain = keras_layers.as_perceptron(loaded)
        if chain is None:
            raise ValueError(
                f"{name} must be Dense layers one after another, one activation between them. "
                f"Received: {', '.join(type(layer).__name__ for layer in loaded.layers)}"
            )
        return chain, [f"took the Dense layers of {loaded.name}"]
    return arrays.build(
        named_arrays(name),
        num_classes,
        variables=arrays.parse_variables(variables),
        activation=activation,
    )


def _roles(model: Weights, names: str | None, kind: Format) -> dict[str, str]:
    """Name every variable that is written; Keras names its own."""
    if kind is Format.KERAS:
        if names:
            raise ValueError(f"names are for tf1 and npz; Keras names its own. Received: {names!r}")
        return {}
    layers, _ = layers_of(model)
    numbers = [""] if len(layers) == 1 else [str(i) for i in range(1, len(layers) + 1)]
    roles = [f"{role}{number}" for number in numbers for role in "Wb"]
    if names:
        given = arrays.parse_variables(names)
        if sorted(given) != sorted(roles) or len(set(given.values())) < len(given):
            raise ValueError(
                f"names must give {', '.join(roles)} a name each. Received: {names!r}"
            )
        return {role: given[role] for role in roles}
    if kind is Format.TF1:
        return {
            role: f"Variable_{count}" if count else "Variable" for count, role in enumerate(roles)
        }
    return {role: role for role in roles}


def _arrays(model: Weights) -> list[np.ndarray]:
    return [array for layer in layers_of(model)[0] for array in layer]


def _write_npz(model: Weights, path: pathlib.Path, roles: Mapping[str, str]) -> list[pathlib.Path]:
    named: dict[str, Any] = dict(zip(roles.values(), _arrays(model)))
    np.savez(path, **named)
    return [path]


def _write_keras(model: Weights, path: pathlib.Path, _: Mapping[str, str]) -> list[pathlib.Path]:
    keras_layers.as_keras(model).save(path)
    return [path]


_Writer = Callable[[Weights, pathlib.Path, Mapping[str, str]], list[pathlib.Path]]
_WRITERS: dict[Format, _Writer] = {
    Format.TF1: tf1_writer.write,
    Format.NPZ: _write_npz,
    Format.KERAS: _write_keras,
}


def _require_same(model: Weights, again: Weights, path: pathlib.Path) -> None:
    before, after = _arrays(model), _arrays(again)
    if [array.tobytes() for array in before] != [array.tobytes() for array in after]:
        raise ValueError(f"{path} does not read back bit for bit; nothing was kept")


def _move(written: list[pathlib.Path], final: pathlib.Path, overwrite: bool) -> None:
    """Give the files their names, the last of which makes them count."""
    old = _existing(final)
    if old and not overwrite:
        raise FileExistsError(f"{old[0]} exists; give another name, or --overwrite")
    if len(written) > 1:
        # Never new weights under an old index: without its index an old checkpoint is none.
        for file in old:
            file.unlink()
    for file in written:
        os.replace(file, final.parent / file.name)


def _existing(final: pathlib.Path) -> list[pathlib.Path]:
    """List the files that bear a destination's name, index first."""
    shards = final.parent.glob(f"{glob.escape(final.name)}.data-*")
    parts = (pathlib.Path(f"{final}.index"), *shards, pathlib.Path(f"{final}.meta"))
    return [path for path in (final, *parts) if path.exists()]


def _save_checkpoint(
    model: Weights,
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    dataset: str,
    class_names: Sequence[str],
    notes: list[str],
) -> Converted:
    if not isinstance(model, SoftmaxRegression):
        raise ValueError(
            f"our own checkpoint holds softmax regression only. Received: {model}; use npz or keras"
        )
    config = {
        "model": {"type": "SoftmaxRegression", "num_classes": int(model.b.shape[0])},
        "dataset": dataset,
        "class_names": list(class_names),
        "converted_from": os.fspath(source),
    }
    prefix = checkpoints.Saver(destination, model, config).save(epoch=0)
    _require_same(model, checkpoints.load(destination).model, pathlib.Path(prefix))
    return Converted(prefix, tuple(notes))
