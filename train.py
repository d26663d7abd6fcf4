#!/usr/bin/env python3
"""Train softmax regression: `python train.py --help`."""

import sys

from mnist_adv.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
