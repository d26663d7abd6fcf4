"""Load a model from an ONNX file: what its graph computes, built anew in TensorFlow."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from mnist_adv.errors import first_line
from mnist_adv.models.digests import digest_parts
from mnist_adv.models.formats.onnx_chain import find_chain
from mnist_adv.models.formats.onnx_graph import OnnxGraph, OnnxModel
from mnist_adv.models.formats.registry import ReadRequest
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.logits import as_logits, note_blank, require_finite
from mnist_adv.tensors.lazy import tf

_NUM_TRIED = 3


def load(path: str, request: ReadRequest) -> LoadedModel:
    """Load an ONNX file as a model that returns logits.

    Args:
        path: the file.
        request: images on which the outputs are tested, and their shape.

    Returns:
        The model, and what was changed. A chain of plain layers becomes a model of ours, which can
        be converted and for which the closed forms hold.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the package onnx is not installed; the file is damaged, holds an operator that
            is not read, refers to other files, or is no classifier of images; it returns neither
            logits nor probabilities.
    """
    parsed = _parse(path)
    # Without who wrote it and when.
    content = digest_parts([parsed.graph.SerializeToString(deterministic=True)], [])
    graph = OnnxGraph(path, parsed, request)
    layout, images = graph.layout, request.images(graph.layout.shape)
    notes = [f"took {' -> '.join(graph.kinds())}"]
    taken_off = graph.without_softmax()
    whole = OnnxModel(graph)
    _require_each_alone(whole, images, path)
    chain = find_chain(graph)
    model: Any = chain if chain is not None and _agree(chain, whole, images) else whole
    if taken_off:
        require_finite(model(images), path)
        notes.append("its last softmax was taken off: the outputs are logits")
    else:
        model, said = as_logits(model, images, path)
        notes += said
    notes += note_blank(model, images)
    return LoadedModel(model, path, content, layout.shape, tuple(notes))


def _parse(path: str) -> Any:
    try:
        import onnx
    except ImportError:
        raise ValueError(
            f"{path} is an ONNX file, which the package onnx reads: pip install 'mnist_adv[onnx]'"
        ) from None
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except Exception as error:  # protobuf's DecodeError, whichever implementation runs
        raise ValueError(f"{path} is damaged ({first_line(error)}); use an intact copy") from error
    if not model.graph.node:
        raise ValueError(f"{path} is damaged (it holds no graph); use an intact copy")
    return model


def _require_each_alone(model: OnnxModel, images: np.ndarray, path: str) -> None:
    """Refuse a graph in which the images of a batch influence one another."""
    some = images[:_NUM_TRIED]
    try:
        together = np.asarray(model(some))
        alone = np.concatenate([np.asarray(model(some[at : at + 1])) for at in range(len(some))])
    except tf.errors.OpError as error:
        raise ValueError(
            f"{path} fails on {len(some)} images ({first_line(error)}); export it with a free "
            "batch size (dynamic_axes or dynamic_shapes)"
        ) from error
    if not np.allclose(together, alone, rtol=1e-3, atol=1e-3, equal_nan=True):
        raise ValueError(
            f"{path} computes other outputs for images together than for each alone; export it "
            "in eval mode and with a free batch size"
        )


def _agree(chain: Any, whole: OnnxModel, images: np.ndarray) -> bool:
    """Compare outputs, as layers say nothing of what lies between images."""
    noise = np.random.default_rng(0).random(images.shape, np.float32)
    return all(
        np.allclose(chain(some), whole(some), rtol=1e-3, atol=1e-3) for some in (images, noise)
    )
