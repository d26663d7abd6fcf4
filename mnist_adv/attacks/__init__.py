"""Attacks: the loop that composes gradient, step, projection, and what is built on it.

`state.py` holds what an attack carries from step to step and the one judge of every iterate;
`engine.py` runs it compiled on any number of images, `traced.py` eagerly with every iterate kept;
`registry.py` is the table of named attacks; `api.py` is the public entry point.
"""

from mnist_adv.attacks.api import attack
from mnist_adv.attacks.result import AttackResult, Trace

__all__ = ["AttackResult", "Trace", "attack"]
