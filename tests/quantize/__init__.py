"""Tests of `mnist_adv.quantize`."""
