"""Check claimed optima, blind to the solvers."""
