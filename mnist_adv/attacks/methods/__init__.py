"""The attacks, one module per algorithm."""
