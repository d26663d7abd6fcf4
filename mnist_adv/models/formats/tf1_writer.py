"""Write a name-based checkpoint by TensorFlow 1's own `Saver`, with the graph beside it."""

from __future__ import annotations

import contextlib
import pathlib

from mnist_adv.models.formats import tf1
from mnist_adv.models.formats.registry import WriteRequest
from mnist_adv.models.perceptron import Perceptron, activate, layers_of
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.tensors.lazy import tf

v1 = tf.compat.v1


def write(
    model: SoftmaxRegression | Perceptron, prefix: pathlib.Path, request: WriteRequest
) -> list[pathlib.Path]:
    """Write a checkpoint that `tf.compat.v1.train.Saver` restores.

    Beside the variables, `.meta` holds the graph, for `import_meta_graph`: placeholder `x`
    `[None, pixels]`, the activations, `logits`, and `pred`, their softmax.

    Args:
        model: whose weights.
        prefix: of the new files; nothing is there yet.
        request: the variables' names.

    Returns:
        The files, the index last: it completes the checkpoint.

    Raises:
        ValueError: a name that TensorFlow does not take as it is.
    """
    layers, activation = layers_of(model)
    names = iter(request.names.values())
    with tf.Graph().as_default():
        variables = [[_variable(next(names), array.shape) for array in layer] for layer in layers]
        values = v1.placeholder(tf.float32, [None, layers[0][0].shape[0]], name="x")
        for number, (weights, bias) in enumerate(variables):
            values = activate(activation, values) if number and activation else values
            values = tf.matmul(values, weights) + bias
        tf.nn.softmax(tf.identity(values, name="logits"), name="pred")
        saver = v1.train.Saver()
        with v1.Session() as session:
            for pair, layer in zip(variables, layers):
                for variable, array in zip(pair, layer):
                    session.run(variable.initializer, feed_dict={variable.initial_value: array})
            # Old readers do not know the attributes that newer operations have by default.
            saver.save(session, str(prefix), strip_default_attrs=True)
    with contextlib.suppress(ValueError):  # a damaged checkpoint is replaced as if it were none
        if request.replaces is not None and tf1.count_shards(request.replaces) == 1:
            _split(prefix)
    index, *shards = tf1.files(str(prefix))
    return [pathlib.Path(f"{prefix}.meta"), *shards, index]


def _split(prefix: pathlib.Path) -> None:
    """Spread a checkpoint over two files of values, whose names a checkpoint of one lacks."""
    reader = tf.train.load_checkpoint(str(prefix))
    names = sorted(reader.get_variable_to_shape_map())
    _, old = tf1.files(str(prefix))
    parts = [str(prefix.with_name(f"{prefix.name}-part{number}")) for number in range(2)]
    for part, chosen in zip(parts, (names[:1], names[1:])):
        tensors = [reader.get_tensor(name) for name in chosen]
        tf.raw_ops.SaveV2(
            prefix=part,
            tensor_names=chosen,
            shape_and_slices=[""] * len(chosen),
            tensors=tensors,
        )
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=parts, destination_prefix=str(prefix), delete_old_dirs=False
    )
    old.unlink()


def _variable(name: str, shape: tuple[int, ...]) -> tf.Variable:
    variable = v1.Variable(tf.zeros(shape), name=name, use_resource=False)
    if variable.op.name != name:
        raise ValueError(f"names must be plain and differ. Received: {name!r}")
    return variable
