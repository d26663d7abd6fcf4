"""Many images: attacked block by block, in the memory of what goes in and comes out."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from mnist_adv import attack
from mnist_adv.attacks import api
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.models.linear import LinearModel

ROOT = pathlib.Path(__file__).parents[2]
MODEL = LinearModel(np.random.default_rng(1).normal(size=(36, 3)), np.zeros(3))


@pytest.mark.parametrize(
    ("method", "norm", "more"),
    [
        ("pgd", "l2", {"restarts": 2, "random_start": True, "step_size": [0.1] * 10}),
        ("square", "linf", {}),
        ("ddn", "l2", {}),
        ("bisection", "l2", {}),
        ("optimum", "l2", {"num_steps": None, "epsilon": None}),
    ],
)
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 3.0)])
def test_blocks_change_no_bit(
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    norm: str,
    more: dict[str, Any],
    bounds: tuple[float, float],
) -> None:
    rng = np.random.default_rng(4)
    images = bounds[0] + (bounds[1] - bounds[0]) * rng.random((10, 6, 6, 1), np.float32)
    settings: dict[str, Any] = {
        "labels": np.asarray(MODEL(images)).argmax(axis=1),
        "epsilon": rng.uniform(0.1, 0.5, 10) if not ATTACKS[method].attack.minimal else None,
        "num_steps": rng.integers(2, 6, 10),
        "seed": np.arange(10),
        "bounds": bounds,
        **more,
    }
    seen: list[int] = []
    whole = attack(MODEL, images, method=method, norm=norm, progress=seen.append, **settings)
    monkeypatch.setattr(api, "_BLOCK_NUMBERS", 3 * 36)
    parts: list[int] = []
    blocks = attack(MODEL, images, method=method, norm=norm, progress=parts.append, **settings)
    np.testing.assert_array_equal(blocks.adversarial, whole.adversarial)
    assert blocks.success.any() and (blocks.success == whole.success).all()
    for name in ("num_steps", "num_queries", "num_gradients"):
        np.testing.assert_array_equal(getattr(blocks, name), getattr(whole, name))
    assert sum(parts) == sum(seen)


def test_images_in_the_right_form_are_not_copied() -> None:
    images = np.random.default_rng(4).random((3, 6, 6, 1), np.float32)
    before = images.copy()
    found = attack(MODEL, images, labels=0)
    assert np.shares_memory(found.images, images)
    assert not np.shares_memory(found.adversarial, images)
    np.testing.assert_array_equal(images, before)


_MEASURE = """
import re
import numpy as np
from mnist_adv import LinearModel, attack

def megabytes():
    # getrusage would count what the parent had before this program began.
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

model = LinearModel(np.random.default_rng(0).normal(0, 0.2, (784, 10)), np.zeros(10))
images = np.random.default_rng(1).random((80_000, 28, 28, 1), np.float32)
attack(model, images[:1000], labels=0, num_steps=3)
before = megabytes()
attack(model, images, labels=0, num_steps=3)
print(megabytes() - before, images.nbytes / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_an_attack_takes_little_more_memory_than_its_result() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _MEASURE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    more, result = map(float, ran.stdout.split())
    # A block's copies, and the verdict's logits and probabilities, beside the adversarial images.
    assert result < more < result + 170
