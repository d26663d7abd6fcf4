"""Norms, their projections and steepest directions, and steps."""
