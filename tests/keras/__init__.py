"""Tests of mnist_adv.keras."""
