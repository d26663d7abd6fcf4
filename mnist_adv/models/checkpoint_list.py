"""The file `checkpoint` of a folder, in which TensorFlow lists checkpoints and names the newest."""

from __future__ import annotations

import pathlib

from mnist_adv.errors import first_line
from mnist_adv.tensors.lazy import tf


def find_newest(folder: pathlib.Path) -> pathlib.Path | None:
    """Find the checkpoint that a folder's list names as the newest.

    Args:
        folder: of checkpoints.

    Returns:
        Its prefix, in this folder if it is there; None if the folder has no list.

    Raises:
        FileNotFoundError: the checkpoint is not there.
        ValueError: the list is damaged.
    """
    path = folder / "checkpoint"
    if not path.exists():
        return None
    why = "it names no checkpoint"
    try:
        state = tf.train.get_checkpoint_state(str(folder))
    except ValueError as error:  # bytes that are no text; what is no list gives None
        state, why = None, first_line(error)
    if state is None or not state.model_checkpoint_path:
        raise ValueError(
            f"{path} is no list of checkpoints ({why}); restore an intact copy of it, or name a "
            "checkpoint by its prefix"
        )
    named = pathlib.Path(state.model_checkpoint_path)
    # The list may keep the absolute path of the machine that wrote it.
    for prefix in (folder / named.name, named):
        if prefix.is_file() or pathlib.Path(f"{prefix}.index").exists():
            return prefix
    raise FileNotFoundError(
        f"no file {folder / named.name}.index, which {path} names; restore an intact copy"
    )
