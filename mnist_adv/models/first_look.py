"""What can be said of a model before TensorFlow is imported, which takes seconds."""

from __future__ import annotations

import glob
import json
import os
import pathlib
import re

from mnist_adv.models.formats.registry import find_format

# Of the data file of a checkpoint of ours: more is no softmax regression of small images.
_MOST_BYTES = 2**26


def require_checkpoint(folder: str) -> None:
    """Refuse a folder without a checkpoint of ours.

    Args:
        folder: that training saved into.

    Raises:
        FileNotFoundError: no such folder, or no checkpoint in it.
        PermissionError: the folder cannot be read.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"no folder {folder}")
    try:
        os.stat(os.path.join(folder, "checkpoint"))
    except FileNotFoundError:
        raise FileNotFoundError(f"no checkpoint in {folder}") from None


def require_file(where: str) -> None:
    """Refuse a model that is not there, or that is of no kind that is read.

    Args:
        where: as in `open_model`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is of no kind that is read.
        OSError: it cannot be read.
    """
    if find_format(where).name == "tf1" and not glob.glob(
        glob.escape(os.path.expanduser(where)) + "*"
    ):
        raise FileNotFoundError(f"no checkpoint {where}: neither {where}.index nor a file {where}")


def class_names(folder: str) -> tuple[str, ...]:
    """Look for the classes of the newest checkpoint in a folder, without reading the checkpoint.

    The config is a text that stands in the data file as it is. Only what would be refused in any
    case may rest on this: the reader of checkpoints proves the file's checksums, this does not.

    Args:
        folder: that training saved into.

    Returns:
        The names in label order; empty if they are not found in this way.
    """
    try:
        state = pathlib.Path(folder, "checkpoint").read_text("utf-8")
        newest = re.match(r'model_checkpoint_path: "([^"\n]+)"', state)
        name = newest[1] if newest else ""
        (data,) = pathlib.Path(folder).glob(f"{glob.escape(name)}.data-*")
        if data.stat().st_size > _MOST_BYTES:
            return ()
        text = data.read_bytes().partition(b'{"class_names": ')[2].decode("utf-8", "replace")
        names, _ = json.JSONDecoder().raw_decode(text)
    except (OSError, ValueError, RecursionError, NotImplementedError):
        return ()
    plain = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if plain else ()
