"""The package as a whole: what it promises to import, carry and name."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import zipfile

import pytest

import mnist_adv

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parent.parent


def test_import_brings_neither_tensorflow_nor_anything_slow() -> None:
    code = (
        "import sys, mnist_adv; "
        "print([m for m in ('tensorflow', 'matplotlib', 'numpy') if m in sys.modules])"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert finished.stdout.strip() == "[]"


def test_every_public_name_is_there_and_documented() -> None:
    for name in mnist_adv.__all__:
        assert getattr(mnist_adv, name).__doc__, name
        assert name in dir(mnist_adv)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(mnist_adv, "fgsm_deluxe")


def test_the_wheel_carries_data_notice_types_and_commands(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for file in (ROOT / "mnist_adv/data/mnist").iterdir():
            assert archive.read(f"mnist_adv/data/mnist/{file.name}") == file.read_bytes()
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        commands = archive.read(entry_points).decode()
    assert "mnist_adv/py.typed" in names and "mnist_adv/commands/attack.py" in names
    assert "mnist-adv = mnist_adv.commands.main:main" in commands
    assert "mnist-adv-train = mnist_adv.commands.train:main" in commands
    assert "mnist-adv-attack = mnist_adv.commands.attack:main" in commands
    assert "mnist-adv-convert = mnist_adv.commands.convert:main" in commands
    assert {"mnist_adv/models/formats/open.py", "mnist_adv/diagnostics/__init__.py"} <= names
    assert "mnist-adv-evaluate = mnist_adv.commands.evaluate:main" in commands
    assert {f"mnist_adv/evaluation/report/report.{kind}" for kind in ("html", "css", "js")} <= names
    assert {"mnist_adv/playground/web/main.js", "mnist_adv/playground/web/index.html"} <= names
    assert not any(name.startswith("mnist_adv/playground/test") for name in names)
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)


def test_an_editable_installation_warns_of_nothing(tmp_path: pathlib.Path) -> None:
    code = f"from setuptools import build_meta; build_meta.build_editable({str(tmp_path)!r})"
    built = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    # setuptools frames in exclamation marks what pip shows even when it is quiet
    assert "!!" not in built.stdout + built.stderr
