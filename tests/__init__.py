"""Tests: oracles first, then the commands as a user runs them."""
