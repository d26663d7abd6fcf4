"""Write proofs to a folder, one file for the network and one for each image, for the checker."""

from __future__ import annotations

import io
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from mnist_adv import files
from mnist_adv.arguments import as_path, real, shown
from mnist_adv.certification.bounds import Bounder, margin_rows
from mnist_adv.certification.branching import Cases, Whole
from mnist_adv.certification.method import Method
from mnist_adv.certification.network import Network
from mnist_adv.certification.propagation import UNITS, Propagation, Slopes
from mnist_adv.certification.prover import compiled_bounder
from mnist_adv.certification.read_model import read_network
from mnist_adv.certification.region import Ball
from mnist_adv.certification.result import Certification
from mnist_adv.certification.semidefinite import Leaf, as_hidden, make_margin
from mnist_adv.certification.semidefinite import search as search_leaves
from mnist_adv.models.as_model import as_model

if TYPE_CHECKING:
    from mnist_adv.models.model import Model


def write_proofs(
    folder: str | os.PathLike[str],
    model: Model,
    found: Certification,
    *,
    seconds_per_image: float = 60.0,
) -> int:
    """Write a proof of every image that is proved, which a program of its own can check.

    `python -m mnist_adv.certification.checker FOLDER` checks them with NumPy and SciPy's sparse
    matrices alone: it needs neither TensorFlow nor the solver, nor the model's own file.

    Args:
        folder: where `network.npz` and `proof_00000.npz`, ... are written, by the images' places;
            made if it is not there; proofs that are there are removed.
        model: the one that was certified.
        found: what `certify` or `certify_radius` returned.
        seconds_per_image: how long an image may be branched on to find its proof again.

    Returns:
        How many proofs were written; an image has none if its bounds were not reached again.

    Raises:
        ValueError: an argument out of form or range; a model that is no chain.
        OSError: a file cannot be written.
    """
    where = pathlib.Path(as_path(folder, "folder"))
    seconds = float(real(seconds_per_image, "seconds_per_image", 0))
    if not isinstance(found, Certification):
        raise ValueError(f"found must be a Certification. Received: {shown(found)}")
    shape = found.images.shape[1:]
    network = read_network(as_model(model, found.images), (shape[0], shape[1], shape[2]))
    ball = Ball(found.norm, *found.bounds)
    bounder = compiled_bounder(Propagation(network, ball, UNITS[found.arithmetic]))
    where.mkdir(parents=True, exist_ok=True)
    for old in where.glob("proof_*.npz"):
        old.unlink()
    _write(where / "network.npz", _network_arrays(network))
    count = 0
    for number in tqdm(np.flatnonzero(found.proved), "proofs", leave=False, disable=None):
        arrays = _proof_arrays(bounder, network, found, int(number), seconds)
        if arrays is not None:
            _write(where / f"proof_{number:05d}.npz", arrays)
            count += 1
    return count


def _network_arrays(network: Network) -> dict[str, np.ndarray]:
    arrays = {
        "kinds": np.array(network.kinds, "U16"),
        "windows": np.array(network.windows, np.int64),
    }
    counts = []
    for i, segment in enumerate(network.segments):
        matrices = segment.matrices()
        counts.append(len(matrices))
        for j, (matrix, shift, terms) in enumerate(matrices):
            parts = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
            parts |= {"shape": np.array(matrix.shape), "shift": shift, "terms": np.array(terms)}
            arrays |= {f"{i}.{j}.{name}": part for name, part in parts.items()}
    return {**arrays, "steps": np.array(counts)}


def _proof_arrays(
    bounder: Bounder, network: Network, found: Certification, number: int, seconds: float
) -> dict[str, np.ndarray] | None:
    """Find an image's proof again, and write it as arrays; None if time does not suffice."""
    until = time.monotonic() + seconds
    pixels, label = found.images[number].reshape(-1), int(found.labels[number])
    epsilon = float(found.epsilon[number])
    margins, shared, slopes = bounder.lines(pixels.astype(np.float64), label, epsilon)
    arrays: dict[str, Any] = {
        "image": pixels,
        "label": label,
        "norm": found.norm.value,
        "epsilon": epsilon,
        "bounds": found.bounds,
        "arithmetic": found.arithmetic.value,
    }
    others = np.delete(np.arange(network.num_classes), label)
    left = np.flatnonzero(margins <= 0)
    semidefinite = found.method is Method.SDP
    if len(left) and not semidefinite and set(network.kinds) <= {"relu", "maximum"}:
        whole = bounder.refine(pixels.astype(np.float64), epsilon)
        rows = margin_rows(np.array([label]), network.num_classes)[0][0]
        search = bounder.brancher.search(whole, rows, seconds, keep=True)
        margins, shared = search.bounds, list(whole.slopes)
        if search.cases is not None:
            arrays |= _case_arrays(whole, search.cases, network, others)
    arrays |= _line_arrays("shared.", shared) | _line_arrays("", slopes)
    if len(left) and semidefinite:
        hidden = as_hidden(network)
        region, intervals = bounder.intervals(pixels[np.newaxis], np.array([epsilon]))
        margins = margins.copy()
        for missing in left:
            margin = make_margin(hidden, region, intervals, label, int(others[missing]))
            leaves, margins[missing] = search_leaves(margin, until - time.monotonic())
            arrays |= _leaf_arrays(f"leaves{others[missing]}", leaves)
    if not (margins > 0).all():
        return None
    return {name: np.asarray(value) for name, value in {**arrays, "margins": margins}.items()}


def _line_arrays(prefix: str, slopes: Sequence[Slopes]) -> dict[str, Any]:
    arrays = {}
    for place, pair in enumerate(slopes):
        for name, values in zip(("lower", "upper"), pair):
            values = np.asarray(values)[0]
            arrays[f"{prefix}{name}.{place}"] = values.reshape(len(values), -1)
    return arrays


def _case_arrays(
    whole: Whole, cases: Cases, network: Network, others: np.ndarray
) -> dict[str, Any]:
    relu = [place for place, kind in enumerate(network.kinds) if kind == "relu"]
    arrays: dict[str, Any] = {}
    for number, (neurons, slopes) in enumerate(whole.hidden):
        arrays[f"hidden{number}.neurons"] = neurons
        for place in set(relu) & set(range(len(slopes))):
            arrays[f"hidden{number}.lower.{place}"] = slopes[place][..., 0]
    for row, other in enumerate(others):
        some = cases.take(cases.rows == row)
        for place in range(len(network.kinds)):
            arrays[f"cases{other}.signs.{place}"] = some.signs[place]
            arrays[f"cases{other}.multipliers.{place}"] = some.multipliers[place]
        for place in relu:
            arrays[f"cases{other}.lower.{place}"] = some.slopes[place][:, 0, :, 0]
    return arrays


def _leaf_arrays(name: str, leaves: list[Leaf]) -> dict[str, Any]:
    arrays: dict[str, Any] = {f"{name}.leaves": len(leaves)}
    for number, leaf in enumerate(leaves):
        for part in ("neurons", "active", "slopes", "diagonal"):
            arrays[f"{name}.{number}.{part}"] = getattr(leaf, part)
    return arrays


def _write(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    files.write(path, content.getvalue())
