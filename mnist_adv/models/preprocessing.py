"""Preprocessing of the pixels: the scale and polarity that a model was trained on."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.data.images import Bounds
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
        A model from images `[n, h, w, c]` in [0, 1], light on dark, to logits `[n, k]`; see
        `rescale`.
    """
    return rescale(model, pixels.factor, pixels.offset)


def in_unit_box(model: Model, bounds: Bounds) -> Model:
    """Make a model of images in [0, 1] of a model of images inside any bounds.

    Args:
        model: images inside the bounds -> logits.
        bounds: the least and the largest value of a pixel.

    Returns:
        A model from images in [0, 1] to logits; see `rescale`.
    """
    low, high = bounds
    return rescale(model, high - low, low)


def rescale(model: Model, factor: float, offset: float) -> Model:
    """Apply `factor x + offset` to every pixel before a model sees it.

    Args:
        model: changed images `[n, h, w, c]` -> logits `[n, k]`.
        factor: by which a pixel is multiplied.
        offset: that is added then.

    Returns:
        Unchanged images -> logits: the model itself where nothing changes. A linear model stays
        linear, of the same class (the change goes into its weights, with one rounding to float32),
        so that the closed forms still hold.
    """
    if (factor, offset) == (1, 0):
        return model
    parts = linear_parts(model)
    if parts is None:
        return Rescaled(model, factor, offset)
    weights, bias = (part.astype(np.float64) for part in parts)
    weights, bias = factor * weights, bias + offset * weights.sum(axis=0)
    if isinstance(model, LinearModel):
        return LinearModel(weights, bias)
    # Imports TensorFlow, as this module does not.
    from mnist_adv.models.perceptron import make_model

    return make_model([(weights.astype(np.float32), bias.astype(np.float32))], None)


@dataclasses.dataclass(frozen=True)
class Rescaled:
    """A model whose pixels change to `factor x + offset` first.

    Attributes:
        model: changed images -> logits.
        factor: by which a pixel is multiplied.
        offset: that is added then.
    """

    model: Model
    factor: float
    offset: float

    def __call__(self, images: Any) -> Any:
        """Compute logits.

        Args:
            images: `[n, h, w, c]` before the change, float32 or float64.

        Returns:
            What the model returns for the changed images, `[n, k]`.
        """
        return self.model(tf.convert_to_tensor(images) * self.factor + self.offset)
