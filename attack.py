#!/usr/bin/env python3
"""Make an adversarial image: `python attack.py --target 2`, or `--help`."""

import sys

from mnist_adv.commands.attack import main

if __name__ == "__main__":
    sys.exit(main())
