"""Tests of `mnist_adv.verdict.judge`."""
