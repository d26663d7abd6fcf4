"""Solvers of the smallest perturbation, one module per norm."""
