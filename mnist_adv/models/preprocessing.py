"""Preprocessing of the pixels: the scale and polarity that a model was trained on."""

from __future__ import annotations

import dataclasses
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.arguments import NamedChoice, choose
from mnist_adv.data.images import Bounds, Shape
from mnist_adv.models.linear import LinearModel, linear_parts
from mnist_adv.tensors.lazy import tf

if TYPE_CHECKING:
    from mnist_adv.models.model import Model


class PixelScale(NamedChoice):
    """The numbers that the model expects for a pixel.

    0..1, 0..255, -1..1; or what the models of `keras.applications` were trained on: "tf" is -1..1,
    "torch" 0..1 less ImageNet's mean and over its deviation per channel, "caffe" 0..255 less its
    mean per channel, in the order blue, green, red.
    """

    UNIT = "unit"
    BYTES = "bytes"
    SYMMETRIC = "symmetric"
    TF = "tf"
    TORCH = "torch"
    CAFFE = "caffe"


class Polarity(NamedChoice):
    """Whether ink is light or dark: MNIST's digits are light on dark, scanned ones not."""

    LIGHT_ON_DARK = "light_on_dark"
    DARK_ON_LIGHT = "dark_on_light"


Numbers = float | tuple[float, ...]  # one, or one per channel

_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
_BLUE_GREEN_RED = (103.939, 116.779, 123.68)
# What a pixel in 0..1 is multiplied by, and what is added then.
_SCALES: dict[PixelScale, tuple[Numbers, Numbers]] = {
    PixelScale.UNIT: (1, 0),
    PixelScale.BYTES: (255, 0),
    PixelScale.SYMMETRIC: (2, -1),
    PixelScale.TF: (2, -1),
    PixelScale.TORCH: (tuple(1 / _DEVIATION), tuple(-_MEAN / _DEVIATION)),
    PixelScale.CAFFE: ((255.0,) * 3, tuple(-mean for mean in _BLUE_GREEN_RED)),
}


# Programs are compiled for one object.
_in_unit_box: weakref.WeakKeyDictionary[Any, dict[Bounds, Any]] = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class Pixels:
    """An affine change of pixels from [0, 1], light on dark, to what a model was trained on.

    Attributes:
        scale: the numbers that the model expects.
        polarity: whether ink is light or dark in the images that it expects.
    """

    scale: PixelScale = PixelScale.UNIT
    polarity: Polarity = Polarity.LIGHT_ON_DARK

    def __post_init__(self) -> None:
        """Take the names of a scale and a polarity for them."""
        object.__setattr__(self, "scale", choose(PixelScale, self.scale, "scale"))
        object.__setattr__(self, "polarity", choose(Polarity, self.polarity, "polarity"))

    @property
    def factor(self) -> Numbers:
        """The factor by which a pixel is multiplied, or one for each channel."""
        factor, _ = _SCALES[self.scale]
        if self.polarity is Polarity.LIGHT_ON_DARK:
            return factor
        return tuple(-part for part in factor) if isinstance(factor, tuple) else -factor

    @property
    def offset(self) -> Numbers:
        """The offset that is added after the multiplication, or one for each channel."""
        factor, offset = _SCALES[self.scale]
        if self.polarity is Polarity.LIGHT_ON_DARK:
            return offset
        if isinstance(factor, tuple) and isinstance(offset, tuple):
            return tuple(part + more for part, more in zip(factor, offset))
        return np.add(factor, offset).item()

    @property
    def reverses_channels(self) -> bool:
        """Whether channels come in the order blue, green, red; before they are multiplied."""
        return self.scale is PixelScale.CAFFE

    @property
    def plain(self) -> bool:
        """Whether images stay as they are."""
        return self == Pixels()

    def require_channels(self, shape: Shape) -> None:
        """Refuse images that have no numbers of their own for each channel.

        Args:
            shape: of the images, `(h, w, c)`.

        Raises:
            ValueError: the scale is of three channels, and the images have another number.
        """
        if isinstance(self.factor, tuple) and shape[2] != len(self.factor):
            raise ValueError(
                f"pixel_scale {self.scale.value} is of images of {len(self.factor)} channels. "
                f"Received: images of {shape[2]}"
            )

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Change images to what the model was trained on.

        Args:
            images: `[n, h, w, c]` floats in [0, 1], light on dark.

        Returns:
            The same shape and dtype.
        """
        images = images[..., ::-1] if self.reverses_channels else images
        dtype = images.dtype
        return images * np.asarray(self.factor, dtype) + np.asarray(self.offset, dtype)

    def invert(self, images: np.ndarray) -> np.ndarray:
        """Change images back; the inverse of `apply`.

        Args:
            images: `[n, h, w, c]` floats as the model was trained on.

        Returns:
            The same shape and dtype.
        """
        dtype = images.dtype
        images = (images - np.asarray(self.offset, dtype)) / np.asarray(self.factor, dtype)
        return images[..., ::-1] if self.reverses_channels else images

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
    return rescale(model, pixels.factor, pixels.offset, pixels.reverses_channels)


def in_unit_box(model: Model, bounds: Bounds) -> Model:
    """Make a model of images in [0, 1] of a model of images inside any bounds.

    Args:
        model: images inside the bounds -> logits.
        bounds: the least and the largest value of a pixel.

    Returns:
        A model from images in [0, 1] to logits; see `rescale`. Of a linear model with variables it
        is the same one each time, with the weights of the moment.
    """
    low, high = bounds
    fresh = rescale(model, high - low, low)
    if fresh is model or not hasattr(fresh, "variables"):
        return fresh
    kept = _in_unit_box.setdefault(model, {}).setdefault((low, high), fresh)
    for variable, value in zip(kept.variables, fresh.variables):
        variable.assign(value)
    return kept


def rescale(
    model: Model, factor: Numbers, offset: Numbers, reverses_channels: bool = False
) -> Model:
    """Apply `factor x + offset` to every pixel before a model sees it.

    Args:
        model: changed images `[n, h, w, c]` -> logits `[n, k]`.
        factor: by which a pixel is multiplied, one number or one for each channel.
        offset: that is added then, one number or one for each channel.
        reverses_channels: whether the order of the channels is reversed first.

    Returns:
        Unchanged images -> logits: the model itself where nothing changes. A linear model stays
        linear, of the same class (the change goes into its weights, with one rounding to float32),
        so that the closed forms still hold.
    """
    if (factor, offset, reverses_channels) == (1, 0, False):
        return model
    parts = linear_parts(model)
    if parts is None:
        return Rescaled(model, factor, offset, reverses_channels)
    weights, bias = (part.astype(np.float64) for part in parts)
    # `[pixels, channels, k]`
    by_channel = weights.reshape(-1, np.size(factor), weights.shape[1])
    scaled = by_channel * np.reshape(factor, (-1, 1))
    bias = bias + (by_channel * np.reshape(offset, (-1, 1))).sum(axis=(0, 1))
    weights = (scaled[:, ::-1] if reverses_channels else scaled).reshape(weights.shape)
    if isinstance(model, LinearModel):
        return LinearModel(weights, bias)
    # Imports TensorFlow, as this module does not.
    from mnist_adv.models.perceptron import make_model

    return make_model([(weights.astype(np.float32), bias.astype(np.float32))], None)


def identity(model: Model) -> Any:
    """Tell what a program is compiled for: one object, behind one change of its pixels.

    Args:
        model: any, which must live as long as what is returned.

    Returns:
        What can be hashed, and is equal for the same model alone.
    """
    if isinstance(model, Rescaled):
        return identity(model.model), model.factor, model.offset, model.reverses_channels
    return id(model)


@dataclasses.dataclass(frozen=True)
class Rescaled:
    """A model whose pixels change to `factor x + offset` first.

    Attributes:
        model: changed images -> logits.
        factor: by which a pixel is multiplied, one number or one for each channel.
        offset: that is added then, one number or one for each channel.
        reverses_channels: whether the order of the channels is reversed first.
    """

    model: Model
    factor: Numbers
    offset: Numbers
    reverses_channels: bool = False

    def __call__(self, images: Any) -> Any:
        """Compute logits.

        Args:
            images: `[n, h, w, c]` before the change, float32 or float64.

        Returns:
            What the model returns for the changed images, `[n, k]`.
        """
        images = tf.convert_to_tensor(images)
        if self.reverses_channels:
            images = tf.reverse(images, [-1])
        return self.model(images * self.factor + self.offset)
