"""Hand a model the pixels that it was trained on: another scale, another polarity."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.data.images import UNIT, Bounds
from mnist_adv.models.linear import LinearModel, linear_parts
from mnist_adv.tensors.lazy import tf

if TYPE_CHECKING:
    from mnist_adv.models.softmax_regression import Model


class PixelScale(enum.Enum):
    """The range that the model expects: 0..1, 0..255 or -1..1."""

    UNIT = "unit"
    BYTES = "bytes"
    SYMMETRIC = "symmetric"


class Polarity(enum.Enum):
    """Which is the ink: MNIST's digits are light on dark, scanned ones dark on light."""

    LIGHT_ON_DARK = "light_on_dark"
    DARK_ON_LIGHT = "dark_on_light"


_RANGE = {PixelScale.UNIT: (0, 1), PixelScale.BYTES: (0, 255), PixelScale.SYMMETRIC: (-1, 1)}


@dataclasses.dataclass(frozen=True)
class Pixels:
    """A way to present images that lie in [0, 1], light on dark.

    Attributes:
        scale: the range that the model expects.
        polarity: its ink.
    """

    scale: PixelScale = PixelScale.UNIT
    polarity: Polarity = Polarity.LIGHT_ON_DARK

    @property
    def factor(self) -> float:
        """What a pixel is multiplied by."""
        low, high = _RANGE[self.scale]
        return high - low if self.polarity is Polarity.LIGHT_ON_DARK else low - high

    @property
    def offset(self) -> float:
        """What is added then."""
        low, high = _RANGE[self.scale]
        return low if self.polarity is Polarity.LIGHT_ON_DARK else high

    @property
    def plain(self) -> bool:
        """Whether images are handed on as they are."""
        return self == Pixels()

    def __str__(self) -> str:
        return f"--pixel_scale={self.scale.value} --polarity={self.polarity.value}"


def adapt(model: Model, pixels: Pixels) -> Model:
    """Put a model behind a change of scale and polarity.

    Gradients pass through: attacks and budgets stay in units of [0, 1].

    Args:
        model: images as it was trained on them -> logits.
        pixels: how it expects them.

    Returns:
        images in [0, 1], light on dark -> logits. Softmax regression stays softmax regression
        (the change goes into its weights, with one rounding to float32), so that the closed forms
        go on holding.
    """
    if pixels.plain:
        return model
    from mnist_adv.models.softmax_regression import SoftmaxRegression  # imports TensorFlow, as this module does not

    if isinstance(model, SoftmaxRegression):
        weights = tf.cast(model.W, tf.float64)
        bias = tf.cast(model.b, tf.float64) + pixels.offset * tf.reduce_sum(weights, axis=0)
        folded = SoftmaxRegression(model.b.shape[0])
        folded.W.assign(tf.cast(pixels.factor * weights, tf.float32))
        folded.b.assign(tf.cast(bias, tf.float32))
        return folded
    return Rescaled(model, pixels.factor, pixels.offset)


def in_unit_box(model: Model, bounds: Bounds) -> Model:
    """Put a model of images inside any bounds behind a change to [0, 1].

    Args:
        model: images inside the bounds -> logits.
        bounds: the least and the largest value of a pixel.

    Returns:
        Images in [0, 1] -> logits: the model itself if its bounds are these; a linear model stays
        one, with the change in its weights.
    """
    if bounds == UNIT:
        return model
    low, high = bounds
    parts = linear_parts(model)
    if parts is not None:
        weights, bias = (part.astype(np.float64) for part in parts)
        return LinearModel((high - low) * weights, bias + low * weights.sum(axis=0))
    return Rescaled(model, factor=high - low, offset=low)


@dataclasses.dataclass(frozen=True)
class Rescaled:
    """A model behind a linear change of its pixels; call it as any other.

    Attributes:
        model: is given the changed images.
        factor: what a pixel is multiplied by.
        offset: what is added then.
    """

    model: Model
    factor: float
    offset: float

    def __call__(self, images: Any) -> Any:
        """Compute logits of the changed images."""
        return self.model(tf.convert_to_tensor(images) * self.factor + self.offset)
