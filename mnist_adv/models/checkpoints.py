"""Save and restore models with `tf.train.Checkpoint`.

A checkpoint carries the config from which its reader rebuilds the model, as one more tensor in the
same file: the two cannot come apart, and TensorFlow's own write-then-rename covers both.
"""

from __future__ import annotations

import contextlib
import glob
import json
import math
import os
import pathlib
import re
import shutil
from typing import Any, cast

from mnist_adv import files
from mnist_adv.arguments import as_path, shown, whole
from mnist_adv.data.class_names import fit_class_names
from mnist_adv.data.images import Shape, as_shape
from mnist_adv.errors import first_line
from mnist_adv.models.checkpoint_list import find_newest
from mnist_adv.models.digests import digest_layers
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.models.training_config import TrainingConfig
from mnist_adv.tensors import disk
from mnist_adv.tensors.lazy import tf

MAX_TO_KEEP = 3
# Of the checkpoints that do not say it.
MNIST_SHAPE = (28, 28, 1)

_CONFIG_KEY = "config/.ATTRIBUTES/VARIABLE_VALUE"


class Saver:
    """Save one training's checkpoints into a folder, newest last, a few kept.

    Args:
        checkpoint_dir: the folder; made if missing. Numbering goes on from what is there, so an
            earlier checkpoint is never overwritten, only rotated out.
        model: what is saved.
        config: JSON-serialisable settings that a reader needs, "model" among them.

    Raises:
        OSError: the folder cannot be made or written.
    """

    def __init__(
        self,
        checkpoint_dir: str | os.PathLike[str],
        model: SoftmaxRegression,
        config: dict[str, Any],
    ) -> None:
        folder = pathlib.Path(checkpoint_dir)
        folder.mkdir(parents=True, exist_ok=True)
        files.require_writable(folder)
        sweep(folder)
        self._config = config
        self._text = tf.Variable("", dtype=tf.string, name="config")
        self._checkpoint = tf.train.Checkpoint(model=model, config=self._text)
        self._manager = tf.train.CheckpointManager(
            self._checkpoint,
            os.fspath(folder),
            max_to_keep=MAX_TO_KEEP,
        )

    def save(self, epoch: int) -> str:
        """Save the model as it is after an epoch.

        Args:
            epoch: how many epochs it has seen.

        Returns:
            The new checkpoint's prefix.

        Raises:
            OSError: it cannot be written, and nothing of it is left.
        """
        self._text.assign(json.dumps({**self._config, "epoch": epoch}, sort_keys=True))
        number = 1 + _number(self._manager.latest_checkpoint)
        # Counted anew by every process: a resumed training would write other bytes.
        self._checkpoint.save_counter.assign(number - 1)
        folder = pathlib.Path(self._manager.directory)
        try:
            with disk.naming(folder / f"ckpt-{number}"):
                return str(self._manager.save(checkpoint_number=number))
        except OSError:
            for file in folder.glob(f"ckpt-{number}.*"):
                file.unlink(missing_ok=True)
            sweep(folder)
            raise


def load(checkpoint_dir: str | os.PathLike[str]) -> LoadedModel:
    """Restore the newest checkpoint of a folder, with its config.

    Args:
        checkpoint_dir: the folder that training saved into.

    Returns:
        A `SoftmaxRegression` with what its checkpoint says of it; `config` is what `Saver` was
        given, and `where` the checkpoint's path without suffix.

    Raises:
        FileNotFoundError: no such folder, no checkpoint in it, or one of its files missing.
        ValueError: the checkpoint is damaged, or does not hold a softmax regression of ours.
    """
    prefix = _newest(as_path(checkpoint_dir, "checkpoint_dir"))
    try:
        reader = tf.train.load_checkpoint(prefix)
        config, shape = _read_config(reader, prefix)
        num_classes = config["model"]["num_classes"]
        sizes = [math.prod(shape), num_classes]
        _require_shapes(prefix, reader.get_variable_to_shape_map(), sizes)
        model = SoftmaxRegression(num_classes, sizes[0])
        status = tf.train.Checkpoint(model=model).restore(prefix)
        status.expect_partial().assert_existing_objects_matched()
    except (tf.errors.OpError, RuntimeError, LookupError) as error:
        raise ValueError(
            f"{prefix} is damaged ({first_line(error)}); train again, or restore an intact copy"
        ) from error
    for name, values in (("W", model.W), ("b", model.b)):
        if not tf.reduce_all(tf.math.is_finite(values)):
            raise ValueError(f"{prefix} holds weights that are not finite: {name}; train again")
    return LoadedModel(
        model=model,
        where=prefix,
        digest=digest_layers(model, shape),
        shape=shape,
        dataset=config.get("dataset", ""),
        class_names=fit_class_names(config.get("class_names", ()), num_classes),
        config=config,
    )


def restore(checkpoint_dir: str | os.PathLike[str]) -> SoftmaxRegression:
    """Restore the model of a folder's newest checkpoint.

    Args:
        checkpoint_dir: the folder that training saved into.

    Returns:
        The model: images `[n, h, w, c]` -> logits `[n, k]`.

    Raises:
        FileNotFoundError: no such folder, no checkpoint in it, or one of its files missing.
        ValueError: the checkpoint is damaged, or does not hold a softmax regression of ours.

    Example:
        >>> import mnist_adv
        >>> mnist_adv.restore("checkpoints")
        SoftmaxRegression(num_classes=10)
    """
    return cast(SoftmaxRegression, load(checkpoint_dir).model)


def sweep(checkpoint_dir: str | os.PathLike[str]) -> None:
    """Remove what a killed training left: files not finished, and checkpoints more than are kept.

    Args:
        checkpoint_dir: the folder that training saves into, and nobody else now.
    """
    folder = pathlib.Path(checkpoint_dir)
    for path in folder.glob("ckpt-*_temp"):
        shutil.rmtree(path, ignore_errors=True)
    for path in (*folder.glob("ckpt-*.tempstate*"), *folder.glob("checkpoint.tmp*")):
        path.unlink(missing_ok=True)
    with contextlib.suppress(ValueError):  # a damaged list tells nothing
        _finish_rotation(folder)


def _finish_rotation(folder: pathlib.Path) -> None:
    """Remove the oldest checkpoints of a list that is too long, as `CheckpointManager` does."""
    state = tf.train.get_checkpoint_state(os.fspath(folder))
    listed = list(state.all_model_checkpoint_paths) if state else []
    if len(listed) <= MAX_TO_KEEP:
        return
    for prefix in listed[:-MAX_TO_KEEP]:
        for path in folder.glob(f"{glob.escape(pathlib.Path(prefix).name)}.*"):
            path.unlink(missing_ok=True)
    tf.compat.v1.train.update_checkpoint_state(
        os.fspath(folder),
        state.model_checkpoint_path,
        listed[-MAX_TO_KEEP:],
        all_model_checkpoint_timestamps=list(state.all_model_checkpoint_timestamps)[-MAX_TO_KEEP:],
        last_preserved_timestamp=state.last_preserved_timestamp,
    )


def _newest(checkpoint_dir: str | os.PathLike[str]) -> str:
    if not os.path.isdir(checkpoint_dir):
        raise FileNotFoundError(f"no folder {checkpoint_dir}; training makes it")
    prefix = find_newest(pathlib.Path(checkpoint_dir))
    if prefix is None:
        # restore(None) would restore nothing and say nothing.
        raise FileNotFoundError(f"no checkpoint in {checkpoint_dir}; training makes one")
    if not _shards(prefix):
        raise FileNotFoundError(
            f"no file {prefix}.data-00000-of-00001, which belongs to {prefix}.index; "
            "train again, or restore an intact copy"
        )
    return str(prefix)


def _read_config(reader: Any, prefix: str) -> tuple[dict[str, Any], Shape]:
    """Read what `Saver` was given, and the shape of the model's images."""
    if not reader.has_tensor(_CONFIG_KEY):
        raise ValueError(f"{prefix} is not a checkpoint of mnist_adv: it carries no config")
    try:
        config = dict(json.loads(reader.get_tensor(_CONFIG_KEY)))
        num_classes = int(whole(config["model"]["num_classes"], "num_classes"))
        shape = as_shape(config["model"].get("image_shape", MNIST_SHAPE), "image_shape")
        names = config.get("class_names", [])
        fit_class_names(names, 0)  # their kind alone: no memory for what is not there
        if len(names) not in (0, num_classes):
            raise ValueError(f"it names {len(names)} classes of {num_classes}")
        if not isinstance(config.get("dataset", ""), str):
            raise ValueError(f"dataset must be a text. Received: {shown(config['dataset'])}")
        whole(config["epoch"], "epoch", 0)
        if "training" in config:
            TrainingConfig(**config["training"])
    except KeyError as error:
        raise _config_error(prefix, f"it has no {error}") from error
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise _config_error(prefix, first_line(error)) from error
    return config, shape


def _config_error(prefix: str, why: str) -> ValueError:
    return ValueError(
        f"{prefix} carries a config that is none of mnist_adv ({why}); train again, or restore an "
        "intact copy"
    )


def _require_shapes(prefix: str, shapes: dict[str, list[int]], wanted: list[int]) -> None:
    """Compare before memory is taken."""
    for name, shape in (("W", wanted), ("b", wanted[1:])):
        found = shapes.get(f"model/{name}/.ATTRIBUTES/VARIABLE_VALUE")
        if found != shape:
            raise ValueError(f"{prefix} must hold {name} of shape {shape}. Received: {found}")


def _shards(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path.parent.glob(f"{glob.escape(path.name)}.data-*"))


def _number(prefix: str | None) -> int:
    found = re.search(r"-(\d+)$", prefix or "")
    return int(found.group(1)) if found else 0
