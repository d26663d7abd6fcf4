"""Tests of `mnist_adv.geometry`."""
