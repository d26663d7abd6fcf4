"""Tests of `mnist_adv.evaluation`."""
