"""Preprocessing of the pixels: the scale and polarity that a model was trained on."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.data.images import UNIT, Bounds
from mnist_adv.models.linear import LinearModel, linear_parts
from mnist_adv.tensors.lazy import tf

if TYPE_CHECKING:
    from mnist_adv.models.model import Model


class PixelScale(enum.Enum):
    """The range that the model expects: 0..1, 0..255 or -1..1."""

    UNIT = "unit"
    BYTES = "bytes"
    SYMMETRIC = "symmetric"


class Polarity(enum.Enum):
    """Whether ink is light or dark: MNIST's digits are light on dark, scanned ones not."""

    LIGHT_ON_DARK = "light_on_dark"
    DARK_ON_LIGHT = "dark_on_light"


_RANGE = {PixelScale.UNIT: (0, 1), PixelScale.BYTES: (0, 255), PixelScale.SYMMETRIC: (-1, 1)}


@dataclasses.dataclass(frozen=True)
class Pixels:
    """An affine change of pixels from [0, 1], light on dark, to what a model was trained on.

    Attributes:
        scale: the range that the model expects.
        polarity: whether ink is light or dark in the images that it expects.
    """

    scale: PixelScale = PixelScale.UNIT
    polarity: Polarity = Polarity.LIGHT_ON_DARK

    @property
    def factor(self) -> float:
        """The factor by which a pixel is multiplied."""
        low, high = _RANGE[self.scale]
        return high - low if self.polarity is Polarity.LIGHT_ON_DARK else low - high

    @property
    def offset(self) -> float:
        """The offset that is added after the multiplication."""
        low, high = _RANGE[self.scale]
        return low if self.polarity is Polarity.LIGHT_ON_DARK else high

    @property
    def plain(self) -> bool:
        """Whether images stay as they are."""
        return self == Pixels()

    def __str__(self) -> str:
        return f"--pixel_scale={self.scale.value} --polarity={self.polarity.value}"


def adapt(model: Model, pixels: Pixels) -> Model:
    """Apply a change of scale and polarity to the images before a model sees them.

    Gradients pass through: attacks and budgets stay in units of [0, 1].

    Args:
        model: images `[n, h, w, c]` in its own scale and polarity -> logits `[n, k]`.
        pixels: its scale and polarity.

    Returns:
        A model from images `[n, h, w, c]` in [0, 1], light on dark, to logits `[n, k]`. Softmax
        regression stays softmax regression (the change goes into its weights, with one rounding
        to float32), so that the closed forms still hold.
    """
    if pixels.plain:
        return model
    # Imports TensorFlow, as this module does not.
    from mnist_adv.models.softmax_regression import SoftmaxRegression

    if isinstance(model, SoftmaxRegression):
        weights = tf.cast(model.W, tf.float64)
        bias = tf.cast(model.b, tf.float64) + pixels.offset * tf.reduce_sum(weights, axis=0)
        folded = SoftmaxRegression(model.W.shape[1], model.W.shape[0])
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
        """Compute logits.

        Args:
            images: `[n, h, w, c]`, float32 or float64.

        Returns:
            What the model returns for the changed images, `[n, k]`.
        """
        return self.model(tf.convert_to_tensor(images) * self.factor + self.offset)
