"""What a classifier is to this package: a function from images to logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Images `[n, h, w, c]` in [0, 1] -> logits `[n, classes]`; a tensor in, a tensor out.
Model = Callable[[Any], Any]
