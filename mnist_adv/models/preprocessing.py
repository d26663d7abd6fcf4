"""Hand a model the pixels that it was trained on: another scale, another polarity."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any

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
    return Adapted(model, pixels)


@dataclasses.dataclass(frozen=True)
class Adapted:
    """A model behind a change of scale and polarity; call it as any other.

    Attributes:
        model: sees the changed images.
        pixels: the change.
    """

    model: Model
    pixels: Pixels

    def __call__(self, images: Any) -> Any:
        """Compute logits of images in [0, 1], light on dark."""
        images = tf.convert_to_tensor(images)
        return self.model(images * self.pixels.factor + self.pixels.offset)
