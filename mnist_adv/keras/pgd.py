"""Projected gradient descent as a part of a training step's graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from mnist_adv.data.images import Bounds
from mnist_adv.geometry.norms import GEOMETRY, Norm, l1_project_in_box
from mnist_adv.geometry.random_point import random_point
from mnist_adv.geometry.steps import Step, apply_step
from mnist_adv.tensors.lazy import tf


def perturb(
    objective: Callable[[Any], Any],
    images: Any,
    start: Any,
    *,
    norm: Norm,
    epsilon: float,
    step_size: float,
    num_steps: int,
    bounds: Bounds,
) -> Any:
    """Descend an objective inside ball and box for a fixed number of steps.

    Args:
        objective: images -> a number to lower, to which every image contributes by itself.
        images: `[n, ...]` floats, their shape known but for n.
        start: of the same shape, the perturbation to start from, of any size.
        norm: of the ball.
        epsilon: its radius, in units of the pixels.
        step_size: in the same unit.
        num_steps: at least 1.
        bounds: of the pixels. What lies outside stays, but moves no further out.

    Returns:
        The last iterate, of the shape of the images.
    """
    flat = [-1, math.prod(images.shape[1:]), 1, 1]
    width = bounds[1] - bounds[0]
    clean = (tf.reshape(images, flat) - bounds[0]) / width
    low, high = tf.minimum(clean, 0), tf.maximum(clean, 1)
    radius = tf.fill([tf.shape(clean)[0]], tf.constant(epsilon / width, clean.dtype))
    size = tf.fill([tf.shape(clean)[0]], tf.constant(step_size / width, clean.dtype))

    def shaped(unit: Any) -> Any:
        return tf.reshape(unit * width + bounds[0], tf.shape(images))

    def project(moved: Any) -> Any:
        if norm is Norm.L1:
            return clean + l1_project_in_box(clean, moved - clean, radius)
        return tf.clip_by_value(clean + GEOMETRY[norm].project(moved - clean, radius), low, high)

    def step(number: Any, current: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(current)
            value = objective(shaped(current))
        gradient = tape.gradient(value, current)
        if gradient is None:
            raise ValueError("model must have a gradient with respect to its images")
        return number + 1, project(apply_step(Step.STEEPEST, norm, current, gradient, size))

    first = project(clean + tf.reshape(start, flat) / width)
    _, last = tf.while_loop(lambda number, _: number < num_steps, step, (tf.constant(0), first))
    # Where no pixel changed, nothing was rounded either.
    moved = tf.reshape(last - clean, tf.shape(images)) * width
    return tf.stop_gradient(images + moved)


def random_start(norm: Norm, images: Any, epsilon: float, *, seed: int, number: Any) -> Any:
    """Draw perturbations from the ball, the same with XLA and without.

    Args:
        norm: of the ball.
        images: `[n, ...]` floats, their shape known but for n.
        epsilon: the radius.
        seed: 0 to 2**32 - 1.
        number: integer tensor, of the step; each has perturbations of its own.

    Returns:
        `[n, D, 1, 1]`, uniform in the ball, in the dtype of the images.
    """
    places = tf.range(tf.shape(images)[0])
    seeds = tf.fill(tf.shape(places), tf.constant(seed, tf.uint32))
    keys = tf.stack([seeds, tf.cast(places, tf.uint32)], axis=1)
    # One draw takes three streams.
    stream = tf.fill(tf.shape(places), 2 + 3 * tf.cast(number, tf.int32))
    point = random_point(norm, keys, stream, (math.prod(images.shape[1:]), 1, 1))
    return epsilon * tf.cast(point, images.dtype)
