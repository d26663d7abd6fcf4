"""Small networks are bounded before programs for them would be compiled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tensorflow as tf


@pytest.fixture
def eagerly() -> Iterator[None]:
    """Run operations one by one."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
