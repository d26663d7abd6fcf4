"""Classifiers: what they are, how they are trained, saved and read."""
