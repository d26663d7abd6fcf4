"""TensorFlow's start-up lines stay away, unless a user asks for them."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

import mnist_adv

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
USE = """
import os, mnist_adv
defined = mnist_adv.SoftmaxRegression
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)  # refused once the devices are started
model, images = defined(), mnist_adv.load(rows=(0, 3)).images
if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "0":  # there the lines come before
    mnist_adv.attack(model, images, labels=[7, 2, 1], num_steps=1)
print("done")
"""


def run(code: str, level: str | None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    if level is not None:
        environment["TF_CPP_MIN_LOG_LEVEL"] = level
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_first_attack_prints_nothing() -> None:
    done = run(USE, None)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_a_user_who_asks_for_the_lines_gets_them() -> None:
    done = run(USE, "0")
    assert done.stdout == "done\n", done.stderr
    assert "oneDNN" in done.stderr


def test_an_import_that_fails_shows_what_was_withheld() -> None:
    broken = """
import os, sys
from mnist_adv.tensors import startup
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            os.write(2, b"the library is missing")
            raise ImportError("no tensorflow")
sys.meta_path.insert(0, Broken())
startup.import_tensorflow()
"""
    done = run(broken, None)
    assert done.returncode == 1
    assert "the library is missing" in done.stderr and "no tensorflow" in done.stderr


def test_dir_shows_the_public_names_alone() -> None:
    assert dir(mnist_adv) == mnist_adv.__all__


def test_every_module_leaves_the_import_to_the_one_that_is_quiet() -> None:
    for path in (ROOT / "mnist_adv").rglob("*.py"):
        if path.name != "lazy.py":
            lines = path.read_text(encoding="utf-8").splitlines()
            assert "import tensorflow as tf" not in lines, path
