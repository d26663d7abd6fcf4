"""Tests of `mnist_adv.optimum`."""
