#!/usr/bin/env python3
"""Convert weights between our checkpoint, TF1's, .npz and .keras: `python convert.py --help`."""

import sys

from mnist_adv.commands.convert import main

if __name__ == "__main__":
    sys.exit(main())
