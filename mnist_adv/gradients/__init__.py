"""Losses, goals, and the gradient of a loss with respect to the pixels."""
