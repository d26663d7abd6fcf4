"""The first layer of a model, followed as few pixels change, or to points between known ones.

Either costs much less than a pass of the model, most of whose time the first layer takes.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

from mnist_adv.attacks.methods.windows import Windows
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.tensors.lazy import tf

if TYPE_CHECKING:
    from mnist_adv.models.perceptron import Perceptron

# Windows of at most this share of the pixels are followed.
_SHARE = 1 / 8
# Pixels in one turn of the compiled loop.
_TOGETHER = 4
# Steps after which rounding is cleared by a whole pass.
_EVERY = 100


def is_followed(task: Task) -> bool:
    """Tell whether a model's first layer can be followed.

    Args:
        task: holds the model.

    Returns:
        Whether the model says what comes after a first layer that is affine in the pixels.
    """
    from mnist_adv.models.perceptron import Perceptron  # imports TensorFlow

    return isinstance(task.model, Perceptron)


def first_values(task: Task, images: Any) -> Any:
    """Evaluate the first layer.

    Args:
        task: holds the model.
        images: `[n, *flat]`.

    Returns:
        `[n, 1, 1, m]`, before the activation; the images where no first layer can be followed.
    """
    if not is_followed(task):
        return images
    model = cast("Perceptron", task.model)
    pixels = tf.reshape(images, [-1, task.num_pixels])
    return (pixels @ model.weights[0] + model.biases[0])[:, tf.newaxis, tf.newaxis]


def after_first(task: Task) -> Task:
    """Make a task of what comes after the first layer.

    Args:
        task: holds the model.

    Returns:
        The task whose images are what `first_values` gives.
    """
    if not is_followed(task):
        return task
    model = cast("Perceptron", task.model)
    width = model.weights[0].shape[1]

    def rest(values: Any) -> Any:
        return model.after_first_layer(tf.reshape(values, [-1, width]))

    return dataclasses.replace(task, model=rest, shape=(1, 1, width))


def to_pixels(task: Task, gradient: Any) -> Any:
    """Carry a gradient with respect to what `first_values` gives on to the pixels.

    Args:
        task: holds the model.
        gradient: `[n, 1, 1, m]`.

    Returns:
        `[n, *flat]`.
    """
    if not is_followed(task):
        return gradient
    weights = cast("Perceptron", task.model).weights[0]
    pixels = tf.matmul(gradient[:, 0, 0], weights, transpose_b=True)
    return tf.reshape(pixels, [-1, *task.flat])


def begin(task: Task, image: Any) -> State:
    """Make the entries of the state that `follow` carries.

    Args:
        task: what all images share.
        image: `[n, *flat]`, of the start.

    Returns:
        Zeros: the start is evaluated by a whole pass.
    """
    nothing = tf.zeros_like(image[:, 0, 0, 0])
    model = cast("Perceptron", task.model)
    values = tf.zeros([image.shape[0], model.weights[0].shape[1]])
    window = {"row": nothing, "column": nothing, "side": nothing}
    return {"values": values, "kept_values": values, **window}


def follow(task: Task, inputs: Inputs, state: State, windows: Windows) -> tuple[Any, Any]:
    """Evaluate the model at images that differ from others in a window alone.

    Args:
        task: what all images share.
        inputs: "classes" and "done" among them.
        state: "image", "kept" and "kept_values", the first layer's at the latter; "row", "column"
            and "side" of the window; "number".
        windows: of the images.

    Returns:
        The first layer's values `[n, m]` and the logits `[n, k]`. They come from a whole pass for
        large windows, every hundredth step, and where the goal seems to be met: of a success, no
        other rounding than the model's own has a say. No image depends on another.
    """
    model = cast("Perceptron", task.model)
    weights = model.weights[0]
    image, kept = (tf.reshape(state[name], [-1, task.num_pixels]) for name in ("image", "kept"))
    place = state["row"], state["column"], state["side"]
    count = tf.cast(state["side"] ** 2, tf.int32) * task.shape[2]
    whole = (count > int(_SHARE * task.num_pixels)) | (state["number"] % _EVERY == 0)
    count = tf.where(whole | inputs["done"], 0, count)

    def body(first: Any, values: Any) -> tuple[Any, Any]:
        for number in range(_TOGETHER):
            pixel = windows.pixel(*place, first + number)
            change = _at(image, pixel) - _at(kept, pixel)
            change = tf.where(first + number < count, change, 0.0)
            values += change[:, tf.newaxis] * tf.gather(weights, pixel)
        return first + _TOGETHER, values

    most = tf.reduce_max(count)
    _, values = tf.while_loop(
        lambda first, _: first < most, body, (tf.constant(0), state["kept_values"])
    )

    def passed(chosen: Any, values: Any) -> Any:
        chosen &= ~inputs["done"]
        return tf.cond(
            tf.reduce_any(chosen),
            lambda: tf.where(chosen[:, tf.newaxis], first_values(task, image)[:, 0, 0], values),
            lambda: values,
        )

    values = passed(whole, values)
    logits = model.after_first_layer(values)
    met = task.goal.reached(logits, inputs["classes"])
    values = passed(met, values)
    return values, tf.cond(
        tf.reduce_any(met & ~inputs["done"]),
        lambda: model.after_first_layer(values),
        lambda: logits,
    )


def _at(images: Any, pixel: Any) -> Any:
    return tf.gather(images, pixel, batch_dims=1)
