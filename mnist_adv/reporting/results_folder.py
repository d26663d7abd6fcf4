"""The results folder of one attack.

A folder is complete or absent, and replaces only an earlier
result of the same name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mnist_adv import files
from mnist_adv.arguments import as_folder_name
from mnist_adv.attacks import Trace
from mnist_adv.drawing.canvas import png
from mnist_adv.reporting.saved_attack import SavedAttack

PICTURE, RECORD, ARRAYS = "adversarial.png", "result.json", "result.npz"


@contextlib.contextmanager
def new_folder(results_dir: str | os.PathLike[str], name: str) -> Iterator[pathlib.Path]:
    """Fill a folder under a temporary name, and give it its own when all went well.

    Args:
        results_dir: the parent folder; made if missing.
        name: the folder's name in it.

    Yields:
        The temporary folder.

    Raises:
        ValueError: `name` is not a plain folder name, or a folder of that name is there that
            holds no earlier result.
        OSError: the parent cannot be made or written.
    """
    final = pathlib.Path(results_dir) / as_folder_name(name, "name")
    with files.naming(final), files.temporary_folder(results_dir) as filling:
        if final.exists() and not (final / RECORD).exists():
            raise ValueError(f"{final} exists and holds no earlier result; choose another --name")
        yield filling
        files.replace_folder(filling, final)


def read_record(folder: pathlib.Path) -> dict[str, Any]:
    """Read what `write_record` wrote.

    Args:
        folder: of a result; there or not.

    Returns:
        The record; empty if there is none that can be read.
    """
    try:
        return dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def write_record(folder: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Write `result.json`; NaN and infinity are refused.

    Args:
        folder: where it goes.
        record: JSON-serialisable.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8")


def write_arrays(folder: pathlib.Path, saved: SavedAttack) -> None:
    """Write `result.npz`, which `np.load` reads without pickle.

    Args:
        folder: where it goes.
        saved: the attack, with or without its trace, and its saved image.
    """
    result = saved.result
    trace = {} if result.trace is None else dataclasses.asdict(result.trace)
    np.savez_compressed(
        folder / ARRAYS,
        images=result.images,
        adversarial=result.adversarial,
        saved=saved.image[np.newaxis],
        classes=result.goal.classes,
        num_steps=result.num_steps,
        **{f"trace_{name}": values for name, values in trace.items()},
    )


def write_pictures(folder: pathlib.Path, pictures: Mapping[str, np.ndarray]) -> None:
    """Write figures as PNG files.

    Args:
        folder: where they go.
        pictures: name -> `[height, width, 3]` uint8.
    """
    for name, pixels in pictures.items():
        (folder / f"{name}.png").write_bytes(png(pixels))


def write_iterates(folder: pathlib.Path, trace: Trace) -> None:
    """Write every iterate, rounded to 8 bits, as `iterates/step_000.png` and so on.

    Args:
        folder: where their folder goes.
        trace: of one image.
    """
    (folder / "iterates").mkdir()
    for step, image in enumerate(trace.images[:, 0]):
        levels = np.rint(255 * image).astype(np.uint8)
        (folder / "iterates" / f"step_{step:03d}.png").write_bytes(png(levels))
