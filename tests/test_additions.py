"""One addition in one place: a row is found by flags, --list, attack() and evaluate.py."""

from __future__ import annotations

import importlib
import pathlib
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from mnist_adv import attack, compute_gradient
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.commands import attack as attack_command
from mnist_adv.commands import evaluate as evaluate_command
from mnist_adv.gradients.losses import LOSSES
from mnist_adv.gradients.sources import SOURCES
from mnist_adv.models.formats.registry import FORMATS
from mnist_adv.models.softmax_regression import SoftmaxRegression

pytestmark = pytest.mark.slow

ADDITIONS = '''
import dataclasses
import pathlib

import numpy as np
import tensorflow as tf

from mnist_adv.attacks.base import Attack
from mnist_adv.attacks.registry import ATTACKS, NamedAttack
from mnist_adv.gradients.losses import LOSSES, Loss
from mnist_adv.gradients.sources import SOURCES, Source
from mnist_adv.models.formats.registry import FORMATS, Format
from mnist_adv.models.linear import LinearModel
from mnist_adv.models.digests import digest_files
from mnist_adv.models.loaded import LoadedModel


def half_logit(logits, classes):
    return tf.gather(logits, classes, axis=1, batch_dims=1) / 2


def half_logit_upstream(logits, classes):
    return tf.one_hot(classes, tf.shape(logits)[1]) / 2


LOSSES.add(Loss("half_logit", half_logit, half_logit_upstream, falls=False))


def twice_the_tape(query, settings):
    logits, gradients = SOURCES["tape"].compute(query, settings)
    return logits, 2 * gradients


SOURCES.add(Source("twice_the_tape", twice_the_tape, lambda _, __: (1, 1)))


@dataclasses.dataclass(frozen=True)
class Whiten(Attack):
    """Turn pixels a little whiter, step by step."""

    num_steps: int = 10

    def evaluate(self, task, inputs, state):
        return task.evaluate(LOSSES["margin"], inputs, state["image"])

    def take_step(self, task, inputs, state):
        return {"image": task.project(inputs, state["image"] + 0.1)}


ATTACKS.add(NamedAttack("whiten", Whiten(), "nobody"))


def read(path, request):
    weights = np.loadtxt(path, delimiter=",")
    model = LinearModel(weights[:-1], weights[-1])
    file = pathlib.Path(path)
    content = digest_files([file], "table")
    return LoadedModel(model, str(path), content, (28, 28, 1), ("took a table",))


FORMATS.add(Format("csv", "a table of numbers", read, suffix=".csv"))
'''


@pytest.fixture
def additions(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Import a module that adds one row to each table; take the rows out again."""
    for table in (LOSSES, SOURCES, ATTACKS, FORMATS):
        monkeypatch.setattr(table, "_rows", dict(table))
    (tmp_path / "additions_of_a_test.py").write_text(ADDITIONS)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("additions_of_a_test")
    yield
    del sys.modules["additions_of_a_test"]


def test_what_is_added_is_found_everywhere(
    additions: None,
    trained: SoftmaxRegression,
    seven: np.ndarray,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("half_logit", "twice_the_tape", "whiten", "csv")
    assert attack_command.main(["attack.py", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in names)
    assert attack_command.main(["attack.py", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "half_logit" in shown and "twice_the_tape" in shown

    whitened = attack(trained, seven, labels=7, method="whiten", epsilon=0.4)
    assert whitened.method == "whiten" and whitened.success.all()
    driven = attack(trained, seven, targets=2, loss="half_logit", source="twice_the_tape")
    assert driven.success.all()
    once = compute_gradient(trained, seven, 2, loss="half_logit")
    twice = compute_gradient(trained, seven, 2, loss="half_logit", source="twice_the_tape")
    np.testing.assert_allclose(twice, 2 * once)
    closed = compute_gradient(trained, seven, 2, loss="half_logit", source="closed_form")
    np.testing.assert_allclose(closed, once, atol=1e-6)

    table = np.vstack([trained.W.numpy(), trained.b.numpy()])
    np.savetxt(tmp_path / "weights.csv", table, delimiter=",")
    flags = ["--loss=half_logit", "--source=twice_the_tape", "--model=weights.csv"]
    assert attack_command.main(["attack.py", "--target=2", *flags]) == 0
    assert "took a table" in capsys.readouterr().out
    measured = ["--attack=whiten", "--num_images=5", "--epsilons=0,0.3", "--model=weights.csv"]
    assert evaluate_command.main(["evaluate.py", *measured]) == 0
    assert "whiten" in capsys.readouterr().out
