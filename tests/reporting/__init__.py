"""Tests of `mnist_adv.reporting`."""
