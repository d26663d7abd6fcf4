"""`python -m mnist_adv`: the same as `mnist-adv`."""

import sys

from mnist_adv.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
