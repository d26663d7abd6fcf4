"""TensorFlow's errors of writing files, as Python has them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from mnist_adv import files
from mnist_adv.errors import first_line
from mnist_adv.tensors.lazy import tf


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name what cannot be written in the errors of writing it, whoever raises them.

    Args:
        path: of the file or folder.

    Yields:
        Nothing.

    Raises:
        OSError: with the file's name; that the disk is full, where TensorFlow says so.
    """
    try:
        with files.naming(path):
            yield
    except tf.errors.ResourceExhaustedError as error:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path)) from error
    except tf.errors.OpError as error:
        raise OSError(f"{os.fspath(path)} cannot be written ({first_line(error)})") from error
