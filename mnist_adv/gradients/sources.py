"""The gradient of an image's objective with respect to its pixels, from independent sources.

Back propagation gives the derivative of the loss for every weight; carried one step further, past
the weights, it gives one for every pixel. All sources answer the same question, so they check one
another: two are exact by calculus (reverse and forward mode), one by hand (softmax regression
only), two by nudging every pixel and looking, two by nudging all pixels at once in random
directions.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.tensors.lazy import tf
from mnist_adv.tensors.compilation import compiled
from mnist_adv.data.datasets import IMAGE_SHAPE
from mnist_adv.data.images import as_batch, as_classes
from mnist_adv.gradients.losses import Loss, Objective
from mnist_adv.tensors.randomness import keys_of, normal, signs

if TYPE_CHECKING:
    from mnist_adv.models.softmax_regression import Model

_NUM_PIXELS = int(np.prod(IMAGE_SHAPE))
# |F| / |f''| in the docstring of default_difference_step
_ROUNDING_TO_BENDING = 4096
_BLOCK = 64  # images


class Source(enum.Enum):
    """Where a gradient comes from.

    TAPE: reverse mode, `tf.GradientTape`; one forward and one backward pass.
    FORWARD_MODE: `tf.autodiff.ForwardAccumulator`; one pass per pixel, exact.
    FORWARD_DIFFERENCE: `(f(x + e) - f(x)) / e` per pixel; error O(e) + O(rounding / e).
    CENTRAL_DIFFERENCE: `(f(x + e) - f(x - e)) / 2e` per pixel; error O(e^2) + O(rounding / e).
    CLOSED_FORM: `W (dloss/dlogits)`, which for cross-entropy is `W (p - onehot(class))`; for
        softmax regression.
    SPSA: the mean of `(f(x + e v) - f(x - e v)) / 2e v` over random signs v (Spall, 1992).
    NES: the same over normal v (Ilyas et al., 2018). Both are right in expectation only.
    """

    TAPE = "tape"
    FORWARD_MODE = "forward_mode"
    FORWARD_DIFFERENCE = "forward_difference"
    CENTRAL_DIFFERENCE = "central_difference"
    CLOSED_FORM = "closed_form"
    SPSA = "spsa"
    NES = "nes"

    @property
    def estimates(self) -> bool:
        """Whether it draws at random, and so is right in expectation only."""
        return self in (Source.SPSA, Source.NES)


@dataclasses.dataclass(frozen=True)
class GradientSource:
    """A source with its settings: call it with a model, an objective, images and classes.

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
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be at least 1. Received: {self.num_samples}")
        if self.difference_step is not None and not 0 < self.difference_step <= 1:
            raise ValueError(
                f"difference_step must lie in (0, 1]. Received: {self.difference_step}"
            )

    @property
    def cost(self) -> tuple[int, int]:
        """Model queries, and gradients among them, for one image (the logits' own included)."""
        return {
            Source.TAPE: (1, 1),
            Source.CLOSED_FORM: (1, 1),
            Source.FORWARD_MODE: (1 + _NUM_PIXELS, _NUM_PIXELS),
            Source.FORWARD_DIFFERENCE: (2 + _NUM_PIXELS, 0),
            Source.CENTRAL_DIFFERENCE: (1 + 2 * _NUM_PIXELS, 0),
            Source.SPSA: (1 + 2 * self.num_samples, 0),
            Source.NES: (1 + 2 * self.num_samples, 0),
        }[self.source]

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
            model: images -> logits.
            objective: the signed loss, one number per image.
            images: tensor `[n, 28, 28, 1]`, float32 or float64.
            classes: tensor `[n]` int64.
            keys: `[n, 2]` uint32, see `randomness`; only SPSA and NES need them.
            stream: `[n]` int32, which draw; another number, other directions.

        Returns:
            Logits `[n, k]` at the images, gradients `[n, 28, 28, 1]`.

        Raises:
            ValueError: CLOSED_FORM of a model that is not softmax regression.
        """
        if self.source is Source.TAPE:
            return _tape(model, objective, images, classes)
        if self.source is Source.CLOSED_FORM:
            return _closed_form(model, objective, images, classes)
        if self.source is Source.FORWARD_MODE:
            return model(images), _forward_mode(model, objective, images, classes)
        step = self.difference_step or default_difference_step(self.source, images.dtype)
        if self.source.estimates:
            draw = signs if self.source is Source.SPSA else normal
            directions = draw(keys, stream, (self.num_samples, *IMAGE_SHAPE))
            return _along(model, objective, images, classes, step, directions)
        central = self.source is Source.CENTRAL_DIFFERENCE
        return _differences(model, objective, images, classes, step, central=central)


def default_difference_step(source: Source, dtype: Any) -> float:
    """Choose e so that truncation and rounding errors are of one size.

    With u the spacing of floats at 1, the forward difference errs by about `e/2 |f''| + u/e |F|`,
    where F is what f rounds like: least near `e = sqrt(u |F| / |f''|)`. The central difference
    errs by `e^2` times the third derivative instead, and is least near the cube root. For a
    classifier of 784 pixels the quotient is near 4096: f is summed from hundreds of products, and
    one pixel alone bends it little. `attack.py --check_gradient` draws both errors against e.

    Args:
        source: FORWARD_DIFFERENCE, or one of the others, which are central.
        dtype: float32 or float64.

    Returns:
        e in pixel units: 0.022 and 0.079 in float32, 9.5e-7 and 9.7e-5 in float64.
    """
    spacing = float(np.finfo(tf.as_dtype(dtype).as_numpy_dtype).eps)
    power = 1 / 2 if source is Source.FORWARD_DIFFERENCE else 1 / 3
    return float((_ROUNDING_TO_BENDING * spacing) ** power)


def compute_gradient(
    model: Model,
    images: Any,
    intended_labels: Any,
    *,
    loss: Loss | str = Loss.CROSS_ENTROPY,
    source: Source | str = Source.TAPE,
    difference_step: float | None = None,
    dtype: str | None = None,
    num_samples: int = 32,
    seed: int = 0,
) -> np.ndarray:
    """Compute the derivative of the loss for the intended label with respect to every pixel.

    Step against it and the loss for that label falls: the image looks more like it to the model.
    (With `loss="probability"` step along it: that loss is the probability itself.)

    Args:
        model: images `[n, 28, 28, 1]` -> logits `[n, k]`; any callable.
        images: one image (`[28, 28]`, `[784]` or `[28, 28, 1]`) or a batch, floats in [0, 1].
        intended_labels: one integer, or one per image.
        loss: "cross_entropy" (`-log p[intended]`) or "probability" (`p[intended]`, whose
            upstream gradient at the softmax is the one-hot vector).
        source: "tape", "forward_mode", "forward_difference", "central_difference",
            "closed_form", "spsa" or "nes".
        difference_step: e of the differences; a step suited to the dtype if None.
        dtype: "float32" or "float64", to compute in; that of the images if None.
        num_samples: directions that SPSA and NES draw.
        seed: of these directions.

    Returns:
        The gradient, in the shape of `images`: one number per pixel.

    Raises:
        ValueError: images or labels out of form or range, an unknown loss or source,
            `closed_form` of a model that is not softmax regression, or a model without gradient.

    Example:
        >>> import mnist_adv
        >>> model = mnist_adv.restore("checkpoints")
        >>> seven = mnist_adv.load("mnist", "test").images[0]
        >>> gradient = mnist_adv.compute_gradient(model, seven, 2)
        >>> gradient.shape
        (28, 28, 1)
        >>> by_hand = mnist_adv.compute_gradient(model, seven, 2, source="closed_form")
        >>> bool(abs(gradient - by_hand).max() < 1e-5)
        True
    """
    batch = as_batch(images)
    pixels = tf.constant(batch.astype(dtype or batch.dtype))
    num_classes = check_logits(model, pixels)
    classes = tf.constant(as_classes(intended_labels, len(batch), num_classes, "intended_labels"))
    compute = GradientSource(Source(source), difference_step, num_samples)
    keys = tf.constant(keys_of(batch, seed))
    objective = Objective(Loss(loss))

    def gradients(pixels: Any, classes: Any, keys: Any) -> Any:
        stream = tf.zeros([pixels.shape[0]], tf.int32)
        return compute(model, objective, pixels, classes, keys=keys, stream=stream)[1]

    one_query = compute.cost[0] == 1
    found = (gradients if one_query else _in_blocks(gradients))(pixels, classes, keys)
    return np.asarray(found).reshape(np.shape(images))


def _in_blocks(gradients: Any) -> Any:
    # Hundreds of queries per image: a block bounds the memory, and many are worth compiling, which
    # is done anew in every call, as nobody says that the model is still the same.
    def run(*whole: Any) -> Any:
        count = whole[0].shape[0]
        if count < _BLOCK:
            return gradients(*whole)
        function, parts = compiled(gradients), []
        for start in range(0, count, _BLOCK):
            first = min(start, count - _BLOCK)  # the last block overlaps: one shape, one program
            block = function(*(part[first : first + _BLOCK] for part in whole))
            parts.append(block[start - first :])
        return tf.concat(parts, axis=0)

    return run


def check_logits(model: Model, images: Any) -> int:
    """Run the model once and check the form of what it returns.

    Args:
        model: images -> logits.
        images: tensor `[n, 28, 28, 1]`.

    Returns:
        The number of classes k.

    Raises:
        ValueError: the model does not return `[n, k]` with k at least 2.
    """
    shape = tuple(model(images[:1]).shape)
    if len(shape) != 2 or shape[0] != 1 or shape[1] < 2:
        raise ValueError(
            "model must map images [n, 28, 28, 1] to logits [n, classes]. "
            f"Received: {list(shape)} for n = 1"
        )
    return int(shape[1])


def is_softmax_regression(model: Model) -> bool:
    """Say whether the closed form applies.

    Args:
        model: any.

    Returns:
        Whether it is a `SoftmaxRegression`.
    """
    from mnist_adv.models.softmax_regression import SoftmaxRegression  # imports TensorFlow, as this module does not

    return isinstance(model, SoftmaxRegression)


def _tape(model: Model, objective: Objective, images: Any, classes: Any) -> tuple[Any, Any]:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)  # a tape watches variables, not plain tensors
        logits = model(images)
        # A sum, not a mean: an image's gradient must not depend on its neighbours.
        total = tf.reduce_sum(objective(logits, classes))
    try:
        gradients = tape.gradient(total, images)
    except LookupError:  # an operation on the way has no gradient at all
        gradients = None
    if gradients is None:
        raise ValueError(
            "model must be differentiable TensorFlow code from images to logits. Received: "
            f"{model!r}, through which no gradient flows"
        )
    return logits, gradients


def _closed_form(model: Model, objective: Objective, images: Any, classes: Any) -> tuple[Any, Any]:
    if not is_softmax_regression(model):
        raise ValueError(
            f"source closed_form needs a SoftmaxRegression. Received: {type(model).__name__}"
        )
    weights: Any = model
    logits = model(images)
    upstream = objective.upstream(logits, classes)
    pixels = tf.matmul(upstream, tf.cast(weights.W, images.dtype), transpose_b=True)
    return logits, tf.reshape(pixels, tf.shape(images))


def _basis(dtype: Any) -> Any:
    return tf.reshape(tf.eye(_NUM_PIXELS, dtype=dtype), [_NUM_PIXELS, *IMAGE_SHAPE])


def _each_image(one: Any, images: Any, classes: Any) -> Any:
    # One image is already 784 rows for the model: a batch of them at once would only leave cache.
    return tf.map_fn(
        lambda pair: one(*pair),
        (images, classes),
        fn_output_signature=tf.TensorSpec([_NUM_PIXELS], images.dtype),
    )


def _forward_mode(model: Model, objective: Objective, images: Any, classes: Any) -> Any:
    def one(image: Any, label: Any) -> Any:
        copies = tf.tile(image[tf.newaxis], [_NUM_PIXELS, 1, 1, 1])
        with tf.autodiff.ForwardAccumulator(copies, _basis(images.dtype)) as accumulator:
            values = objective(model(copies), tf.repeat(label, _NUM_PIXELS))
        return accumulator.jvp(values)

    return tf.reshape(_each_image(one, images, classes), tf.shape(images))


def _differences(
    model: Model, objective: Objective, images: Any, classes: Any, step: float, *, central: bool
) -> tuple[Any, Any]:
    nudges = tf.cast(step, images.dtype) * _basis(images.dtype)

    def one(image: Any, label: Any) -> Any:
        def values(copies: Any) -> Any:
            return objective(model(copies), tf.repeat(label, tf.shape(copies)[0]))

        above = image + nudges
        below = image - nudges if central else image[tf.newaxis]
        # x + e is rounded: divide by the distance that the pixel really moved.
        moved = tf.reduce_sum(above - below, axis=[1, 2, 3])
        return (values(above) - values(below)) / moved

    return model(images), tf.reshape(_each_image(one, images, classes), tf.shape(images))


def _along(
    model: Model, objective: Objective, images: Any, classes: Any, step: float, directions: Any
) -> tuple[Any, Any]:
    # directions [n, m, 28, 28, 1]
    directions = tf.cast(directions, images.dtype)
    size = tf.cast(step, images.dtype)
    num_samples = directions.shape[1]

    def values(sign: int) -> Any:
        points = images[:, tf.newaxis] + sign * size * directions
        flat = tf.reshape(points, [-1, *IMAGE_SHAPE])
        rises = objective(model(flat), tf.repeat(classes, num_samples))
        return tf.reshape(rises, [-1, num_samples, 1, 1, 1])

    slopes = (values(1) - values(-1)) / (2 * size)
    return model(images), tf.reduce_mean(slopes * directions, axis=1)
