"""Tests of `mnist_adv.diagnostics`."""
