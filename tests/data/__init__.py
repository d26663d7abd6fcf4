"""Tests of `mnist_adv.data.datasets`."""
