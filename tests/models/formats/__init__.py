"""Tests of `mnist_adv.models.softmax_regression.formats`."""
