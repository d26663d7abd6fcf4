"""Save and restore models with `tf.train.Checkpoint`.

A checkpoint carries the config from which its reader rebuilds the model, as one more tensor in the
same file: the two cannot come apart, and TensorFlow's own write-then-rename covers both.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import re
from typing import Any, cast

from mnist_adv import files
from mnist_adv.arguments import as_path
from mnist_adv.errors import first_line
from mnist_adv.models import loaded
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.tensors.lazy import tf

MAX_TO_KEEP = 3

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
        os.makedirs(checkpoint_dir, exist_ok=True)
        files.require_writable(checkpoint_dir)
        self._config = config
        self._text = tf.Variable("", dtype=tf.string, name="config")
        self._manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(model=model, config=self._text),
            os.fspath(checkpoint_dir),
            max_to_keep=MAX_TO_KEEP,
        )

    def save(self, epoch: int) -> str:
        """Save the model as it is after an epoch.

        Args:
            epoch: how many epochs it has seen.

        Returns:
            The new checkpoint's prefix.
        """
        self._text.assign(json.dumps({**self._config, "epoch": epoch}, sort_keys=True))
        number = 1 + _number(self._manager.latest_checkpoint)
        return str(self._manager.save(checkpoint_number=number))


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
        if not reader.has_tensor(_CONFIG_KEY):
            raise ValueError(f"{prefix} is not a checkpoint of mnist_adv: it carries no config")
        config = json.loads(reader.get_tensor(_CONFIG_KEY))
        # Checkpoints of MNIST's shape did not say it.
        shape = tuple(config["model"].get("image_shape", (28, 28, 1)))
        model = SoftmaxRegression(config["model"]["num_classes"], math.prod(shape))
        _require_shapes(prefix, model, reader.get_variable_to_shape_map())
        status = tf.train.Checkpoint(model=model).restore(prefix)
        status.expect_partial().assert_existing_objects_matched()
        content = digest(prefix)
    except (tf.errors.OpError, RuntimeError, LookupError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{prefix} is damaged ({first_line(error)}); train again, or restore an intact copy"
        ) from error
    for name, values in (("W", model.W), ("b", model.b)):
        if not tf.reduce_all(tf.math.is_finite(values)):
            raise ValueError(f"{prefix} holds weights that are not finite: {name}; train again")
    return LoadedModel(
        model=model,
        where=prefix,
        digest=content,
        shape=shape,
        dataset=config.get("dataset", ""),
        class_names=tuple(config.get("class_names", ())),
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


def digest(prefix: str) -> str:
    """Compute what identifies a checkpoint's content.

    Args:
        prefix: the checkpoint's path without suffix.

    Returns:
        SHA-256 over its files, hexadecimal.
    """
    return loaded.digest([pathlib.Path(f"{prefix}.index"), *_shards(prefix)])


def _newest(checkpoint_dir: str | os.PathLike[str]) -> str:
    if not os.path.isdir(checkpoint_dir):
        raise FileNotFoundError(f"no folder {checkpoint_dir}; training makes it")
    prefix = tf.train.latest_checkpoint(checkpoint_dir)
    if prefix is None:
        # restore(None) would restore nothing and say nothing. A state file whose checkpoint
        # lost its index also reads as None: name what is missing.
        state = tf.train.get_checkpoint_state(checkpoint_dir)
        if state is not None and state.model_checkpoint_path:
            raise FileNotFoundError(
                f"no file {state.model_checkpoint_path}.index, which the folder's list of "
                "checkpoints names; train again, or restore an intact copy"
            )
        raise FileNotFoundError(f"no checkpoint in {checkpoint_dir}; training makes one")
    if not _shards(prefix):
        raise FileNotFoundError(
            f"no file {prefix}.data-00000-of-00001, which belongs to {prefix}.index; "
            "train again, or restore an intact copy"
        )
    return str(prefix)


def _require_shapes(prefix: str, model: SoftmaxRegression, shapes: dict[str, list[int]]) -> None:
    for name, variable in (("W", model.W), ("b", model.b)):
        found = shapes.get(f"model/{name}/.ATTRIBUTES/VARIABLE_VALUE")
        if found != variable.shape.as_list():
            raise ValueError(
                f"{prefix} must hold {name} of shape {variable.shape.as_list()}. Received: {found}"
            )


def _shards(prefix: str) -> list[pathlib.Path]:
    path = pathlib.Path(prefix)
    return sorted(path.parent.glob(f"{path.name}.data-*"))


def _number(prefix: str | None) -> int:
    found = re.search(r"-(\d+)$", prefix or "")
    return int(found.group(1)) if found else 0
