"""Models and their preprocessing work for images of any shape `[n, h, w, c]`."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from keras.applications.imagenet_utils import preprocess_input

from mnist_adv.models.activation import Activation
from mnist_adv.models.linear import LinearModel, linear_parts
from mnist_adv.models.logits import check_logits
from mnist_adv.models.perceptron import layers_of, make_model
from mnist_adv.models.preprocessing import Pixels, PixelScale, Polarity, adapt
from mnist_adv.models.softmax_regression import SoftmaxRegression


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
@pytest.mark.parametrize("polarity", Polarity)
def test_scales_of_keras_applications(mode: str, polarity: Polarity) -> None:
    images = np.random.default_rng(2).random((4, 5, 6, 3), np.float32)
    ink = images if polarity is Polarity.LIGHT_ON_DARK else 1 - images
    wanted = preprocess_input(255 * ink.copy(), mode=mode)
    pixels = Pixels(PixelScale(mode), polarity)
    np.testing.assert_allclose(pixels.apply(images), wanted, atol=1e-4, rtol=1e-5)
    np.testing.assert_allclose(pixels.invert(pixels.apply(images)), images, atol=1e-6)
    W = np.random.default_rng(3).normal(0, 1, (90, 4)).astype(np.float32)
    linear = make_model([(W, np.ones(4, np.float32))], None)
    adapted = adapt(linear, pixels)
    assert isinstance(adapted, SoftmaxRegression)
    expected = wanted.reshape(4, -1) @ W + 1
    np.testing.assert_allclose(adapted(images), expected, rtol=1e-3, atol=1e-2)
    other = adapt(lambda x: linear(x), pixels)
    np.testing.assert_allclose(other(images), expected, rtol=1e-3, atol=1e-2)
    with tf.GradientTape() as tape:
        at = tf.constant(images)
        tape.watch(at)
        value = tf.reduce_sum(other(at)[:, 0])
    slope = Pixels(PixelScale(mode), polarity).apply(np.ones((1, 5, 6, 3))) - pixels.apply(
        np.zeros((1, 5, 6, 3))
    )
    weights = W[:, 0].reshape(1, 5, 6, 3)
    by_hand = (weights * slope)[..., ::-1] if mode == "caffe" else weights * slope
    np.testing.assert_allclose(tape.gradient(value, at)[:1], by_hand, rtol=1e-4)
    with pytest.raises(ValueError, match=r"of images of 3 channels\. Received: images of 1"):
        Pixels(PixelScale.TORCH).require_channels((5, 6, 1))


@pytest.mark.parametrize("shape", [(8, 8, 1), (6, 5, 3), (28, 28, 1)])
def test_models_of_any_shape(shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(1)
    images = random.random((4, *shape)).astype(np.float32)
    pixels = images.reshape(4, -1)
    W = random.normal(0, 0.1, (pixels.shape[1], 7)).astype(np.float32)
    b = random.normal(0, 1, 7).astype(np.float32)
    one = make_model([(W, b)], None)
    assert isinstance(one, SoftmaxRegression) and check_logits(one, images) == 7
    assert SoftmaxRegression(7, pixels.shape[1]).W.shape == W.shape
    np.testing.assert_allclose(one(images), pixels @ W + b, atol=1e-5)
    np.testing.assert_allclose(LinearModel(W, b)(images), pixels @ W + b, atol=1e-5)
    np.testing.assert_array_equal((linear_parts(one) or [None])[0], W)
    hidden = random.normal(0, 0.1, (7, 3)).astype(np.float32)
    two = make_model([(W, b), (hidden, b[:3])], Activation.TANH)
    by_hand = np.tanh(pixels @ W + b) @ hidden + b[:3]
    np.testing.assert_allclose(two(images), by_hand, atol=1e-5)
    assert layers_of(two)[1] is Activation.TANH
    for model, classes in ((one, 7), (two, 3)):
        adapted = adapt(model, Pixels(PixelScale.SYMMETRIC, Polarity.DARK_ON_LIGHT))
        assert isinstance(adapted, SoftmaxRegression) == (model is one)
        assert check_logits(adapted, images) == classes
        np.testing.assert_allclose(adapted(images), model(1 - 2 * images), atol=1e-4)
