"""Tests of `mnist_adv.gradients.sources`."""
