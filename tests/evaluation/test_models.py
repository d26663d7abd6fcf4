"""Evaluations of models that others trained: opened again by every worker, known by their bytes."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv.commands import evaluate as command
from mnist_adv.data import datasets
from mnist_adv.data.datasets import DataSource
from mnist_adv.models.model_source import ModelSource
from mnist_adv.models.preprocessing import Pixels, PixelScale
from mnist_adv.models.softmax_regression import SoftmaxRegression
from tests.evaluation.support import contents

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]

_MODULE = """
import numpy as np
import tensorflow as tf
with np.load("weights.npz") as arrays:
    W, b = (tf.constant(arrays[name]) for name in ("W", "b"))
def logits(images):
    return tf.reshape(images, [-1, 784]) @ W + b
"""


@pytest.fixture
def folder(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, trained: SoftmaxRegression
) -> pathlib.Path:
    """An empty folder with the trained weights in every form."""
    weights, bias = trained.W.numpy(), trained.b.numpy()
    monkeypatch.chdir(tmp_path)
    np.savez("weights.npz", W=weights, b=bias)
    np.savez("bytes.npz", W=weights / 255, b=bias)
    (tmp_path / "my_own_model.py").write_text(_MODULE)
    tf.raw_ops.SaveV2(
        prefix="model.ckpt",
        tensor_names=["Variable", "Variable_1"],
        shape_and_slices=["", ""],
        tensors=[weights, bias],
    )
    keras = tf.keras.Sequential([
        tf.keras.Input((28, 28, 1)),
        tf.keras.layers.Flatten(),
        tf.keras.layers.Dense(10),
    ])
    keras.set_weights([weights, bias])
    keras.save("model.keras")
    keras.export("saved", verbose=False)
    return tmp_path


def evaluate(*flags: str) -> int:
    small = ("--num_images=6", "--chunk_size=3", "--num_steps=3", "--epsilons=0,0.1,0.2")
    return command.main(["evaluate.py", *small, *flags])


def curves(folder: pathlib.Path, name: str) -> object:
    return json.loads((folder / "results" / name / "summary.json").read_text())["curves"]


def test_a_source_opens_every_kind_of_model(
    folder: pathlib.Path, workshop: pathlib.Path, test_set: datasets.Dataset
) -> None:
    ours = ModelSource(str(workshop / "checkpoints")).open()
    assert (ours.dataset, ours.class_names) == ("mnist", test_set.class_names)
    images = test_set.images[:20]
    digests = {}
    sources = [
        ModelSource(where, ours=False)
        for where in ("model.ckpt", "weights.npz", "model.keras", "saved", "my_own_model:logits")
    ]
    sources.append(ModelSource("bytes.npz", ours=False, pixels=Pixels(PixelScale.BYTES)))
    for source in sources:
        absolute = source.with_absolute_path()
        is_function = ":" in source.where
        where = source.where if is_function else str(folder / source.where)
        assert absolute.where == where
        loaded = absolute.open(DataSource("mnist"))
        np.testing.assert_allclose(loaded.model(images), ours.model(images), atol=2e-5)
        assert len(loaded.digest) == 64
        assert (loaded.dataset, loaded.class_names) == ("mnist", test_set.class_names)
        assert loaded.preprocessing == source.pixels
        digests[source.where] = loaded.digest
    # Files of the same weights hold the same model; a graph and a function are others.
    assert {name for name, found in digests.items() if found == ours.digest} == {
        "model.ckpt",
        "weights.npz",
        "model.keras",
    }
    assert len(set(digests.values())) == 4


def test_every_kind_of_model_is_measured_alike(
    folder: pathlib.Path, workshop: pathlib.Path, capsys: Capture
) -> None:
    ours = f"--checkpoint_dir={workshop / 'checkpoints'}"
    digests = {}
    kinds = {
        "ours": (ours,),
        "checkpoint": ("--checkpoint=model.ckpt",),
        "scaled": ("--model=bytes.npz", "--pixel_scale=bytes"),
        "function": ("--model=my_own_model:logits",),
    }
    for name, flags in kinds.items():
        assert evaluate(f"--name={name}", *flags) == 0, capsys.readouterr().err
        manifest = json.loads((folder / "results" / name / "manifest.json").read_text())
        digests[name] = manifest["settings"]["checkpoint"]
        assert len(manifest["settings"]["checkpoint"]) == 64
        assert curves(folder, name) == curves(folder, "ours"), name
        assert str(folder) not in json.dumps(manifest)
    assert digests["ours"] == digests["checkpoint"] and len(set(digests.values())) == 3
    assert "took Variable [784, 10] as weights" in capsys.readouterr().out


def test_worker_processes_open_the_model_again(folder: pathlib.Path) -> None:
    flag = "--model=my_own_model:logits"
    assert evaluate("--name=one", flag) == evaluate("--name=two", "--jobs=2", flag) == 0
    one, two = (contents(folder / "results" / name) for name in ("one", "two"))
    assert one == two and len(one) > 8


def test_another_file_or_another_reading_is_refused(folder: pathlib.Path, capsys: Capture) -> None:
    assert evaluate("--name=run", "--model=weights.npz") == 0
    np.savez("weights.npz", W=np.ones([784, 10], np.float32), b=np.arange(10, dtype=np.float32))
    assert evaluate("--name=run", "--model=weights.npz", "--anyway") == 2
    assert "belongs to other settings: checkpoint is" in capsys.readouterr().err
    assert evaluate("--name=run", "--model=weights.npz", "--pixel_scale=bytes", "--anyway") == 2
    assert "reading is '' there and 'pixels --pixel_scale=bytes" in capsys.readouterr().err


def test_a_functions_digest_follows_its_file(
    folder: pathlib.Path, test_set: datasets.Dataset
) -> None:
    (folder / "my_other_model.py").write_text(_MODULE)
    source = ModelSource("my_other_model:logits", ours=False)
    first = source.open(DataSource("mnist")).digest
    (folder / "my_other_model.py").write_text(_MODULE + "# changed\n")
    assert first != source.open(DataSource("mnist")).digest and len(first) == 64
    scaled = ModelSource("x.npz", ours=False, pixels=Pixels(PixelScale.BYTES), variables="W=a,b=c")
    assert scaled.reading == (
        "variables W=a,b=c; pixels --pixel_scale=bytes --polarity=light_on_dark"
    )
