"""Tests of `mnist_adv.tensors`."""
