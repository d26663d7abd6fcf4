"""Measurements that anyone can repeat: ratios, side by side, in one run."""
