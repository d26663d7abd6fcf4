"""Tests of `mnist_adv.attacks`."""
