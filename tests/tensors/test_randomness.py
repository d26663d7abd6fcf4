"""Random numbers per image: the published test vectors, and the moments."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from mnist_adv.tensors import randomness


def test_threefry_gives_the_published_vectors() -> None:
    # Random123's kat_vectors, threefry2x32 with 20 rounds, key and counter 0
    zero = randomness.bits(tf.zeros([1, 2], tf.uint32), tf.zeros([1], tf.int32), 2).numpy()
    assert [hex(word) for word in zero[0]] == ["0x6b200159", "0x99ba4efe"]


def test_numbers_belong_to_the_image_and_the_seed() -> None:
    images = np.random.default_rng(0).uniform(size=(3, 28, 28, 1)).astype(np.float32)
    keys = randomness.keys_of(images, 5)
    np.testing.assert_array_equal(keys[1:2], randomness.keys_of(images[1:2], 5))
    assert len({tuple(key) for key in keys}) == 3
    stream = tf.zeros([3], tf.int32)
    together = randomness.uniform(keys, stream, (7,)).numpy()
    alone = randomness.uniform(keys[1:2], stream[:1], (7,)).numpy()
    np.testing.assert_array_equal(together[1:2], alone)
    other = randomness.uniform(randomness.keys_of(images, 6), stream, (7,)).numpy()
    assert (other != together).all()
    assert (randomness.uniform(keys, stream + 1, (7,)).numpy() != together).all()


def test_moments() -> None:
    keys, stream, count = np.array([[1, 2]], np.uint32), tf.zeros([1], tf.int32), 100_000
    even = randomness.uniform(keys, stream, (count,)).numpy()
    assert abs(even.mean() - 0.5) < 0.005 and abs(even.var() - 1 / 12) < 0.001
    assert even.min() >= 0 and even.max() < 1
    bell = randomness.normal(keys, stream, (count,)).numpy()
    assert abs(bell.mean()) < 0.02 and abs(bell.var() - 1) < 0.02
    assert abs((bell**4).mean() - 3) < 0.15
    assert abs(randomness.exponential(keys, stream, (count,)).numpy().mean() - 1) < 0.02
    flips = randomness.signs(keys, stream, (count,)).numpy()
    assert set(np.unique(flips)) == {-1, 1} and abs(flips.mean()) < 0.02
