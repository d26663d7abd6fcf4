"""Read weights from several .npy files: named in order, or all that a folder holds."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from mnist_adv import archives
from mnist_adv.errors import first_line
from mnist_adv.models.formats import content
from mnist_adv.models.formats.arrays import NamedArrays, build
from mnist_adv.models.formats.find_layers import is_matrix
from mnist_adv.models.formats.registry import ReadRequest, split_files
from mnist_adv.models.loaded import LoadedModel


def load(spec: str, request: ReadRequest) -> LoadedModel:
    """Build the model whose weights .npy files hold.

    Args:
        spec: "W1.npy,b1.npy,W2.npy,b2.npy", in the order of the layers; one file; or a folder, in
            which shapes and names decide, as in an .npz.
        request: how to read them.

    Returns:
        The model, and what was taken.

    Raises:
        FileNotFoundError: a file is missing; it is named.
        ValueError: a file is damaged, of another kind or holds no floats; biases stand before
            their weights; see `build`.
    """
    folder = pathlib.Path(spec)
    if folder.is_dir():
        stored = {path: _open(path) for path in sorted(folder.glob("*.npy"))}
        floats = {path: array for path, array in stored.items() if array.dtype.kind == "f"}
        return build(_named(spec, floats), request)
    arrays: dict[pathlib.Path, np.ndarray] = {}
    for name in split_files(spec):
        path = pathlib.Path(name)
        if path in arrays:
            raise ValueError(f"each file must be given once. Received: {name} twice")
        arrays[path] = _open(path)
        if arrays[path].dtype.kind != "f":
            raise ValueError(f"{name} must hold floats. Received: {arrays[path].dtype}")
    named = _named(spec, arrays)
    if request.variables is None:
        request = dataclasses.replace(request, variables=_in_order(named.shapes, spec))
    return build(named, request)


def _open(path: pathlib.Path) -> np.ndarray:
    """Open an array without reading it: what its header asks for must be in the file."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    content.require(path, {"npy"})
    try:
        array: np.memmap = np.load(path, mmap_mode="r", allow_pickle=False)
    except (*archives.HEADER_DAMAGE, EOFError) as error:
        if "Python objects" in str(error):
            raise ValueError(f"{path} {content.PICKLED}") from error
        raise ValueError(f"{path} is damaged ({first_line(error)}); use an intact copy") from error
    more = path.stat().st_size - array.offset - array.nbytes
    if more:
        raise ValueError(
            f"{path} is damaged ({more:,} bytes follow the array of shape {list(array.shape)} that "
            "its header names); use an intact copy"
        )
    return array


def _named(spec: str, arrays: Mapping[pathlib.Path, np.ndarray]) -> NamedArrays:
    """Name arrays by their files, without folders where that is enough."""
    stems = [path.stem for path in arrays]
    names = stems if len(set(stems)) == len(stems) else [str(path) for path in arrays]
    by_name = dict(zip(names, arrays.values()))
    return NamedArrays(
        where=spec,
        shapes={name: list(array.shape) for name, array in by_name.items()},
        read=by_name.__getitem__,
        files=list(arrays),
    )


def _in_order(shapes: Mapping[str, Sequence[int]], spec: str) -> str:
    """Give each array its role: every matrix begins a layer, a vector is the bias of the last."""
    roles: list[tuple[str, str]] = []
    layer = 0
    for name, shape in shapes.items():
        layer += is_matrix(shape)
        roles.append((f"{'W' if is_matrix(shape) else 'b'}{layer}", name))
    if not layer or roles[0][0] == "b0" or len(dict(roles)) < len(roles):
        listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise ValueError(
            f"{spec} must name weights, then their bias, layer after layer. Received: {listed}"
        )
    return ",".join(f"{role}={name}" for role, name in roles)
