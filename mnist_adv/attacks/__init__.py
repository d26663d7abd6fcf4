"""Attacks: the loop that composes gradient, step, projection, and what is built on it.

`task.py` holds what all images of a run share and evaluates the model; `base.py` says what an
attack is; `loop.py` is the loop, which `compiled_run.py` runs compiled on any number of images, and
`traced_run.py` eagerly with every iterate kept; `registry.py` is the table of named attacks;
`api.py` is the public entry point.
"""

from mnist_adv.attacks.api import attack
from mnist_adv.attacks.result import AttackResult, Trace

__all__ = ["AttackResult", "Trace", "attack"]
