"""Hold what a Keras model asks for to a size, before memory is taken.

A config of a few bytes can ask for any number of weights, or enlarge an image without limit. So the
model is built once where tensors have shapes and no values.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mnist_adv.models.formats.graph_cost import require_quick
from mnist_adv.models.formats.shapes import Layout
from mnist_adv.sizes import require_bytes
from mnist_adv.tensors.lazy import tf

# Of one image, in numbers; residual nets of fifty layers for photographs need a third.
LARGEST_SUM = 2**28
# Layers, with their types and initial values; the largest published nets have 7,000.
_MOST_CALLS = 30_000


@contextlib.contextmanager
def shapes_alone(build: Callable[[], Any]) -> Iterator[Any]:
    """Build a Keras model whose weights take no memory.

    Args:
        build: makes the model.

    Yields:
        The model; called inside the context, it computes shapes alone.
    """
    import keras

    with tf.Graph().as_default():
        with keras.StatelessScope():
            model = build()
        yield model


def require_few_calls(config: Any, path: str) -> None:
    """Refuse a config of models in models whose parts are called more often than is built in time.

    A model that is called twice by one that is called twice takes few bytes and much work.

    Args:
        config: of the model.
        path: of the file, for the message.

    Raises:
        ValueError: its parts are called more than 30,000 times.
    """
    calls = _calls(config)
    if calls > _MOST_CALLS:
        raise ValueError(
            f"{path} must describe at most {_MOST_CALLS:,} parts, those of a model counted as "
            f"often as it is called. Received: {calls:,}"
        )


def _calls(config: Any) -> int:
    if isinstance(config, list):
        return sum(map(_calls, config))
    if not isinstance(config, dict):
        return 0
    if "class_name" not in config:
        return sum(map(_calls, config.values()))
    nodes = config.get("inbound_nodes")
    times = max(1, len(nodes)) if isinstance(nodes, list) else 1
    return times * (1 + _calls(config.get("config")))


def require_weights(model: Any, held: Iterable[tuple[int, ...]], path: str) -> None:
    """Refuse a config that asks for weights that are not in the file.

    Args:
        model: as its config builds it.
        held: the shapes of the arrays in the file.
        path: of the file, for the message.

    Raises:
        ValueError: it asks for others.
    """
    there = collections.Counter(held)
    missing = collections.Counter(tuple(weight.shape) for weight in model.weights) - there
    if missing:
        wanted = next(iter(missing))
        near = sorted(shape for shape in there if len(shape) == len(wanted))[:5]
        raise ValueError(
            f"{path} is damaged (its config asks for weights {list(wanted)}, and it holds "
            f"{', '.join(str(list(shape)) for shape in near) or 'none of as many dimensions'}); "
            "use an intact copy"
        )


def require_room(model: Any, layout: Layout, path: str) -> None:
    """Refuse a model that needs more memory for an image than any real one.

    Args:
        model: from `shapes_alone`, inside its context.
        layout: how images become its inputs.
        path: of the file, for the message.

    Raises:
        ValueError: it needs more than 2**28 numbers or 2**35 multiplications for one image.
    """
    graph = tf.compat.v1.get_default_graph()
    before = len(graph.get_operations())
    pixels = tf.compat.v1.placeholder(tf.float32, [1, *layout.inputs])
    try:
        model(pixels, training=False)
    except tf.errors.OpError as error:  # a size beyond what TensorFlow counts in
        raise ValueError(f"{path} cannot be built ({type(error).__name__})") from error
    made = graph.get_operations()[before:]
    sizes = [tensor.shape.num_elements() or 0 for op in made for tensor in op.outputs]
    if sum(sizes) > LARGEST_SUM:
        raise ValueError(
            f"{path} must need at most {LARGEST_SUM:,} numbers for one image. Received: "
            f"{sum(sizes):,}, of which {max(sizes):,} in one tensor"
        )
    require_quick(made, 1, path)


def require_whole(array: Any, name: str, path: str) -> None:
    """Refuse an HDF5 array whose bytes are not in its file.

    Args:
        array: the data set.
        name: of the array, for the message.
        path: of the file, for the message.

    Raises:
        ValueError: it lies in another file, or is larger than its bytes can be.
    """
    if array.external is not None or array.is_virtual:
        raise ValueError(f"{path} holds {name} as a reference to another file, which is not opened")
    require_bytes(array.nbytes, array.id.get_storage_size(), name, path)


def stored_shapes(file: Any, path: str) -> list[tuple[int, ...]]:
    """List the shapes of all arrays of an HDF5 file.

    Args:
        file: open.
        path: of the file, for the messages.

    Returns:
        The shapes.

    Raises:
        ValueError: it holds links, or arrays whose bytes are not in it.
    """
    import h5py

    shapes: list[tuple[int, ...]] = []

    def look(name: str, held: Any) -> None:
        if isinstance(held, h5py.Dataset):
            require_whole(held, name, path)
            shapes.append(tuple(held.shape))
            return
        for child in held:
            if not isinstance(held.get(child, getlink=True), h5py.HardLink):
                raise ValueError(f"{path} holds {child} as a link, which is not followed")

    look("/", file)
    file.visititems(look)
    return shapes
