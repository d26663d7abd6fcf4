"""Where the gradient of an image's objective with respect to its pixels comes from.

Back propagation gives the derivative of the loss for every weight; carried one step further, past
the weights, it gives one for every pixel. All sources answer the same question, so they check one
another: reverse and forward mode are exact by calculus, the closed form is derived by hand (linear
models only), two differences move one pixel at a time, and two estimates move all pixels at once in
random directions. A source is one row of `SOURCES`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mnist_adv.arguments import ABOVE_0, real, whole
from mnist_adv.gradients.losses import Objective
from mnist_adv.models.linear import is_linear
from mnist_adv.registry import Registry
from mnist_adv.tensors.lazy import tf
from mnist_adv.tensors.randomness import normal, signs

if TYPE_CHECKING:
    from mnist_adv.models.model import Model

# |F| / |f''| in the docstring of default_difference_step
_ROUNDING_OVER_CURVATURE = 4096


class NoGradientError(ValueError):
    """A model through which no gradient flows."""


@dataclasses.dataclass(frozen=True)
class Query:
    """What a source is asked: the gradient of an objective at some images.

    Attributes:
        model: images `[n, h, w, c]` -> logits `[n, k]`.
        objective: the signed loss, one number per image.
        images: tensor `[n, h, w, c]`, float32 or float64.
        classes: tensor `[n]` int64.
        keys: `[n, 2]` uint32, see `tensors.randomness`; None for sources that draw nothing.
        stream: `[n]` int32, the number of the draw; another number, other directions.
    """

    model: Model
    objective: Objective
    images: Any
    classes: Any
    keys: Any = None
    stream: Any = None

    @property
    def num_pixels(self) -> int:
        """Pixels of one image, all channels counted."""
        return math.prod(self.images.shape[1:])


def _every_model(model: Model) -> bool:
    return True


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a gradient comes from; the rows of `SOURCES` stand at the end of this file.

    Attributes:
        name: by which it is found.
        compute: query, settings -> logits `[n, k]` and gradients `[n, h, w, c]`.
        cost: settings, pixels -> model queries, and gradients among them, for one image (the
            logits' own included).
        estimates: whether it draws at random, and so is right in expectation only.
        order: of the truncation error in e, of sources that use differences.
        applies: whether it can differentiate a model.
    """

    name: str
    compute: Callable[[Query, GradientSource], tuple[Any, Any]]
    cost: Callable[[GradientSource, int], tuple[int, int]]
    estimates: bool = False
    order: int = 2
    applies: Callable[[Model], bool] = _every_model

    TAPE: ClassVar[Source]
    FORWARD_MODE: ClassVar[Source]
    FORWARD_DIFFERENCE: ClassVar[Source]
    CENTRAL_DIFFERENCE: ClassVar[Source]
    CLOSED_FORM: ClassVar[Source]
    SPSA: ClassVar[Source]
    NES: ClassVar[Source]

    def __repr__(self) -> str:
        return f"Source({self.name!r})"


SOURCES: Registry[Source] = Registry("source")


def default_difference_step(source: Source, dtype: Any) -> float:
    """Choose e so that truncation and rounding errors are of one size.

    With u the spacing of floats at 1, the forward difference errs by about `e/2 |f''| + u/e |F|`,
    where F is what f rounds like: least near `e = sqrt(u |F| / |f''|)`. The central difference
    errs by `e^2` times the third derivative instead, and is least near the cube root. For a
    classifier of 784 pixels the quotient is near 4096: f is summed from hundreds of products, and
    one pixel alone changes its slope little. `attack.py --check_gradient` draws both errors
    against e.

    Args:
        source: any; its `order` counts.
        dtype: float32 or float64.

    Returns:
        e in pixel units: 0.022 and 0.079 in float32, 9.5e-7 and 9.7e-5 in float64.
    """
    spacing = float(np.finfo(tf.as_dtype(dtype).as_numpy_dtype).eps)
    return float((_ROUNDING_OVER_CURVATURE * spacing) ** (1 / (source.order + 1)))


def _tape(query: Query, _: GradientSource) -> tuple[Any, Any]:
    images = query.images
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)  # a tape watches variables, not plain tensors
        logits = query.model(images)
        # A sum, not a mean: an image's gradient must not depend on its neighbours.
        total = tf.reduce_sum(query.objective(logits, query.classes))
    try:
        gradients = tape.gradient(total, images)
    except LookupError:  # an operation on the way has no gradient at all
        gradients = None
    return logits, _flowing(gradients, query)


def _flowing(gradients: Any, query: Query) -> Any:
    """Refuse what TensorFlow returns where it cannot differentiate: None."""
    if gradients is None:
        queried = [name for name, row in SOURCES.items() if not GradientSource(row).cost(1)[1]]
        raise NoGradientError(
            "model must be differentiable TensorFlow code from images to logits. Received: "
            f"{query.model!r}, through which no gradient flows; the sources "
            f"{', '.join(queried)} only query it"
        )
    return gradients


def _closed_form(query: Query, _: GradientSource) -> tuple[Any, Any]:
    if not is_linear(query.model):
        raise ValueError(
            "source closed_form needs a SoftmaxRegression or a LinearModel. Received: "
            f"{type(query.model).__name__}"
        )
    model: Any = query.model
    images = query.images
    logits = model(images)
    upstream = query.objective.upstream(logits, query.classes)
    pixels = tf.matmul(upstream, tf.cast(model.W, images.dtype), transpose_b=True)
    return logits, tf.reshape(pixels, tf.shape(images))


def _basis(query: Query) -> Any:
    count = query.num_pixels
    return tf.reshape(tf.eye(count, dtype=query.images.dtype), [count, *query.images.shape[1:]])


def _each_image(one: Callable[[Any, Any], Any], query: Query) -> Any:
    # One image is already hundreds of images for the model: a batch of them would only leave cache.
    found = tf.map_fn(
        lambda pair: one(*pair),
        (query.images, query.classes),
        fn_output_signature=tf.TensorSpec([query.num_pixels], query.images.dtype),
    )
    return tf.reshape(found, tf.shape(query.images))


def _forward_mode(query: Query, _: GradientSource) -> tuple[Any, Any]:
    count = query.num_pixels

    def one(image: Any, label: Any) -> Any:
        copies = tf.tile(image[tf.newaxis], [count, 1, 1, 1])
        with tf.autodiff.ForwardAccumulator(copies, _basis(query)) as accumulator:
            values = query.objective(query.model(copies), tf.repeat(label, count))
        return _flowing(accumulator.jvp(values), query)

    return query.model(query.images), _each_image(one, query)


def _differences(query: Query, step: float, *, central: bool) -> tuple[Any, Any]:
    shifts = tf.cast(step, query.images.dtype) * _basis(query)

    def one(image: Any, label: Any) -> Any:
        def values(copies: Any) -> Any:
            return query.objective(query.model(copies), tf.repeat(label, tf.shape(copies)[0]))

        above = image + shifts
        below = image - shifts if central else image[tf.newaxis]
        # x + e is rounded: divide by the distance that the pixel really moved.
        moved = tf.reduce_sum(above - below, axis=[1, 2, 3])
        return (values(above) - values(below)) / moved

    return query.model(query.images), _each_image(one, query)


def _forward_difference(query: Query, settings: GradientSource) -> tuple[Any, Any]:
    return _differences(query, settings.step(query.images.dtype), central=False)


def _central_difference(query: Query, settings: GradientSource) -> tuple[Any, Any]:
    return _differences(query, settings.step(query.images.dtype), central=True)


def _estimate(query: Query, settings: GradientSource, draw: Callable[..., Any]) -> tuple[Any, Any]:
    images, num_samples = query.images, settings.num_samples
    shape = images.shape[1:]
    directions = tf.cast(draw(query.keys, query.stream, (num_samples, *shape)), images.dtype)
    size = tf.cast(settings.step(images.dtype), images.dtype)

    def values(sign: int) -> Any:
        points = images[:, tf.newaxis] + sign * size * directions
        flat = tf.reshape(points, [-1, *shape])
        found = query.objective(query.model(flat), tf.repeat(query.classes, num_samples))
        return tf.reshape(found, [-1, num_samples, 1, 1, 1])

    slopes = (values(1) - values(-1)) / (2 * size)
    return query.model(images), tf.reduce_mean(slopes * directions, axis=1)


def _spsa(query: Query, settings: GradientSource) -> tuple[Any, Any]:
    return _estimate(query, settings, signs)


def _nes(query: Query, settings: GradientSource) -> tuple[Any, Any]:
    return _estimate(query, settings, normal)


def _one_gradient(_: GradientSource, __: int) -> tuple[int, int]:
    return 1, 1


def _two_per_sample(settings: GradientSource, _: int) -> tuple[int, int]:
    return 1 + 2 * settings.num_samples, 0


# Reverse mode: one forward and one backward pass.
Source.TAPE = SOURCES.add(Source("tape", _tape, _one_gradient))
# One pass per pixel, exact.
Source.FORWARD_MODE = SOURCES.add(
    Source("forward_mode", _forward_mode, lambda _, pixels: (1 + pixels, pixels))
)
# (f(x + e) - f(x)) / e per pixel; error O(e) + O(rounding / e).
Source.FORWARD_DIFFERENCE = SOURCES.add(
    Source("forward_difference", _forward_difference, lambda _, pixels: (2 + pixels, 0), order=1)
)
# (f(x + e) - f(x - e)) / 2e per pixel; error O(e^2) + O(rounding / e).
Source.CENTRAL_DIFFERENCE = SOURCES.add(
    Source("central_difference", _central_difference, lambda _, pixels: (1 + 2 * pixels, 0))
)
# W (dloss / dlogits), which for cross-entropy is W (p - onehot(class)).
Source.CLOSED_FORM = SOURCES.add(
    Source("closed_form", _closed_form, _one_gradient, applies=is_linear)
)
# The mean of (f(x + e v) - f(x - e v)) / 2e v over random signs v (Spall, 1992).
Source.SPSA = SOURCES.add(Source("spsa", _spsa, _two_per_sample, estimates=True))
# The same over normal v (Ilyas et al., 2018).
Source.NES = SOURCES.add(Source("nes", _nes, _two_per_sample, estimates=True))


@dataclasses.dataclass(frozen=True)
class GradientSource:
    """A source with its settings; call it to differentiate.

    Attributes:
        source: which.
        difference_step: the e of the numerical sources, in pixel units; None chooses it by
            `default_difference_step`.
        num_samples: how many directions SPSA and NES draw, two queries each.
    """

    source: Source = Source.TAPE
    difference_step: float | None = None
    num_samples: int = 32

    def __post_init__(self) -> None:
        """Refuse settings that move nothing."""
        whole(self.num_samples, "num_samples")
        if self.difference_step is not None:
            real(self.difference_step, "difference_step", ABOVE_0, 1)

    def cost(self, num_pixels: int) -> tuple[int, int]:
        """Count what one image costs.

        Args:
            num_pixels: of one image, all channels counted.

        Returns:
            Model queries, and gradients among them (the logits' own included).
        """
        return self.source.cost(self, num_pixels)

    def step(self, dtype: Any) -> float:
        """Choose the e of the numerical sources.

        Args:
            dtype: of the images, float32 or float64.

        Returns:
            e in pixel units.
        """
        return self.difference_step or default_difference_step(self.source, dtype)

    def __call__(
        self,
        model: Model,
        objective: Objective,
        images: Any,
        classes: Any,
        *,
        keys: Any = None,
        stream: Any = None,
    ) -> tuple[Any, Any]:
        """Compute logits and input gradients.

        Args:
            model: images `[n, h, w, c]` -> logits `[n, k]`.
            objective: the signed loss, one number per image.
            images: tensor `[n, h, w, c]`, float32 or float64.
            classes: tensor `[n]` int64.
            keys: `[n, 2]` uint32, see `tensors.randomness`; only SPSA and NES need them.
            stream: `[n]` int32, the number of the draw; another number, other directions.

        Returns:
            Logits `[n, k]` at the images, gradients `[n, h, w, c]`.

        Raises:
            ValueError: the source does not apply to the model (the closed form of a model that is
                not linear), or no gradient flows through it.
        """
        return self.source.compute(Query(model, objective, images, classes, keys, stream), self)
