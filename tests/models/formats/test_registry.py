"""A format is one row: what is added is read, written and listed like the others."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from mnist_adv.commands import convert as convert_command
from mnist_adv.models.formats.arrays import NamedArrays, build
from mnist_adv.models.formats.convert import convert
from mnist_adv.models.formats.open import open_model
from mnist_adv.models.formats.registry import (
    FORMATS,
    Format,
    ReadRequest,
    WriteRequest,
    find_format,
    writable,
)
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.perceptron import layers_of
from mnist_adv.models.softmax_regression import SoftmaxRegression


def _read(path: str, request: ReadRequest) -> LoadedModel:
    content = json.loads(pathlib.Path(path).read_text())
    arrays = {name: np.array(values, np.float32) for name, values in content.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    return build(NamedArrays(path, shapes, arrays.__getitem__, [pathlib.Path(path)]), request)


def _write(model: Any, path: pathlib.Path, request: WriteRequest) -> list[pathlib.Path]:
    parts = [part.tolist() for layer in layers_of(model)[0] for part in layer]
    path.write_text(json.dumps(dict(zip(request.names.values(), parts))))
    return [path]


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Format:
    """A format that this test alone knows."""
    monkeypatch.setattr(FORMATS, "_rows", dict(FORMATS))
    return FORMATS.add(
        Format(
            "json",
            "weights as text",
            _read,
            suffix=".json",
            write=_write,
            variable_name=lambda role, number: f"{role}-{number}",
        )
    )


def test_an_added_format_is_written_and_read(
    added: Format,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    toy: SoftmaxRegression,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("toy.npz", W=toy.W.numpy(), b=toy.b.numpy())
    there = convert("toy.npz", "toy.json")
    assert there.notes[-1] == "wrote W as W-0, b as b-1"
    opened = open_model("toy.json").model
    assert isinstance(opened, SoftmaxRegression)
    assert opened.W.numpy().tobytes() == toy.W.numpy().tobytes()
    with pytest.raises(FileNotFoundError, match=r"no file nowhere\.json"):
        open_model("nowhere.json")
    argv = ["convert.py", "--source=toy.json", "--destination=again.json", "--format=json"]
    assert convert_command.main(argv) == 0
    assert capsys.readouterr().out.endswith("saved again.json\n")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "toy.json").read_bytes()
    with pytest.raises(ValueError, match=r"a json destination must end in \.json"):
        convert("toy.npz", "toy.txt", "json")


def test_every_format_is_recognised_by_its_name(tmp_path: pathlib.Path, added: Format) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    np.savez(tmp_path / "a.npz", W=np.zeros(3))
    for name in ("a.KERAS", "a.json"):
        (tmp_path / name).write_bytes(bytes(range(40)))
    specs = {
        "saved": "saved_model",
        "a.npz": "npz",
        "a.KERAS": "keras",
        "a.H5": "hdf5",
        "a.json": "json",
        "model.ckpt": "tf1",
        "model.ckpt-150": "tf1",
        "checkpoints": "tf1",
    }
    for spec, name in specs.items():
        assert find_format(str(tmp_path / spec)).name == name
    assert find_format("package.module:function").name == "function"
    assert {row.name for row in writable()} == {"checkpoint", "tf1", "npz", "keras", "json"}
    with pytest.raises(ValueError, match="format must be one of checkpoint, tf1, npz, keras, json"):
        convert("a.npz", "b", "saved_model")
    with pytest.raises(ValueError, match=r"format must be one of checkpoint, .*Received: 'pdf'"):
        convert("a.npz", "b", "pdf")


def test_formats_are_listed_without_tensorflow() -> None:
    program = (
        "import sys; from mnist_adv.models.formats.registry import FORMATS;"
        "import mnist_adv.models.model_source;"
        "print(*FORMATS); sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    expected = "checkpoint tf1 npz npy keras hdf5 onnx saved_model function"
    assert done.stdout.split() == expected.split()
    assert done.returncode == 0, done.stderr
