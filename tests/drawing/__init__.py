"""Tests of `mnist_adv.drawing`, and of what results show of themselves."""
