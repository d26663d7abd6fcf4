"""A page to play with: draw a digit, see the gradient, take the steps, beside the optimum."""

from mnist_adv.playground.page import build_page

__all__ = ["build_page"]
