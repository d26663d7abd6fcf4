#!/usr/bin/env python3
"""Measure a model on a whole data set: `python evaluate.py`, or `--help`."""

import sys

from mnist_adv.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
