"""Measure a plan chunk by chunk."""
