"""Tests of `mnist_adv.commands`."""
