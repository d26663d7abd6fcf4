"""Proofs on disk: the checker derives the solver's bounds again, and refuses what is wrong."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mnist_adv
from mnist_adv.certification import checker
from mnist_adv.certification.result import Certification
from mnist_adv.models.as_model import as_model
from tests.certification.support import perceptron, random_layers
from tests.certification.test_bounds import CHAINS, images_of

Arrays = dict[str, np.ndarray]
pytestmark = pytest.mark.usefixtures("eagerly")


def certified(model: Any, shape: tuple[int, int, int], **given: Any) -> Certification:
    images = images_of(3, *shape)
    labels = np.asarray(model(images)).argmax(axis=1)
    return mnist_adv.certify(model, images, labels, attack=False, **given)


def read(path: pathlib.Path) -> Arrays:
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


CASES: dict[str, tuple[Callable[[], Any], tuple[int, int, int], dict[str, Any]]] = {
    "relu": (
        lambda: perceptron(random_layers(16, 9, 9, 3)),
        (4, 4, 1),
        {"norm": "linf", "epsilon": 0.03},
    ),
    "sigmoid": (
        lambda: perceptron(random_layers(16, 9, 9, 3), "sigmoid"),
        (4, 4, 1),
        {"norm": "l2", "epsilon": 0.1},
    ),
    "tanh": (
        lambda: perceptron(random_layers(16, 9, 3), "tanh"),
        (4, 4, 1),
        {"norm": "l1", "epsilon": 0.2, "arithmetic": "exact"},
    ),
    "normalised": (CHAINS["normalised"], (8, 8, 2), {"norm": "linf", "epsilon": 0.002}),
    "pools": (CHAINS["pools"], (8, 8, 2), {"norm": "l2", "epsilon": 0.02}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_checker_derives_the_bounds_of_the_solver_again(
    name: str, tmp_path: pathlib.Path
) -> None:
    make, shape, given = CASES[name]
    model = as_model(make(), images_of(1, *shape))
    found = certified(model, shape, method="crown", **given)
    assert found.proved.any()
    written = mnist_adv.write_proofs(tmp_path, model, found)
    assert written == found.proved.sum() and checker.main([str(tmp_path)]) == 0
    network = read(tmp_path / "network.npz")
    for path in tmp_path.glob("proof_*.npz"):
        proof = read(path)
        # It knows a little more: it follows neurons back that never change, too.
        margin = checker.check(network, proof)
        assert -1e-9 <= margin - proof["margins"].min() < 0.02 * margin


def wide_net() -> Any:
    return perceptron(random_layers(25, 40, 3, seed=4))


@pytest.fixture(scope="module")
def leaves(tmp_path_factory: pytest.TempPathFactory) -> tuple[Arrays, Arrays]:
    """A network and a proof that branches on hidden neurons."""
    model, image = wide_net(), images_of(12, 5, 5, 1)[:1]
    label = np.asarray(model(image)).argmax(axis=1)
    folder = tmp_path_factory.mktemp("proofs")
    given: dict[str, Any] = {"method": "sdp", "seconds_per_image": 60, "attack": False}
    found = mnist_adv.certify(model, image, label, epsilon=0.15, **given)
    assert mnist_adv.write_proofs(folder, model, found) == 1
    proof = read(folder / "proof_00000.npz")
    assert max(int(count) for name, count in proof.items() if name.endswith(".leaves")) > 2
    return read(folder / "network.npz"), proof


def test_leaves_prove_what_lines_do_not(leaves: tuple[Arrays, Arrays]) -> None:
    network, proof = leaves
    assert checker.check(network, proof) > 0
    without = {name: value for name, value in proof.items() if not name.startswith("leaves")}
    with pytest.raises(ValueError, match="is not excluded as claimed"):
        checker.check(network, without)


def test_wrong_leaves_are_refused(leaves: tuple[Arrays, Arrays]) -> None:
    network, proof = leaves
    name = next(
        n.removesuffix(".leaves") for n, c in proof.items() if n[-7:] == ".leaves" and c > 2
    )
    one_less = {f"{name}.leaves": proof[f"{name}.leaves"] - 1}
    smaller = {f"{name}.0.diagonal": 0.9 * proof[f"{name}.0.diagonal"]}
    other_case = {f"{name}.0.active": ~proof[f"{name}.0.active"]}
    steep = {
        f"{name}.0.slopes": proof[f"{name}.0.slopes"] + 100 * (-1.0) ** ~proof[f"{name}.0.active"]
    }
    for wrong, said in (
        (one_less, "do not cover all cases"),
        (smaller, "positive definite"),
        (other_case, "do not cover|does not bound its case"),
        (steep, "does not bound its case"),
    ):
        with pytest.raises((ValueError, np.linalg.LinAlgError), match=said):
            checker.check(network, {**proof, **wrong})


def test_a_wrong_slope_and_wrong_claims_are_refused(tmp_path: pathlib.Path) -> None:
    model = perceptron(random_layers(16, 9, 9, 3))
    found = certified(model, (4, 4, 1), epsilon=0.03)
    mnist_adv.write_proofs(tmp_path, model, found)
    network = read(tmp_path / "network.npz")
    proof = read(min(tmp_path.glob("proof_*.npz")))
    margin = checker.check(network, proof)
    unstable = np.flatnonzero((proof["shared.upper.0"][0] > 0) & (proof["shared.upper.0"][0] < 1))
    assert len(unstable)
    slope = proof["lower.1"].copy()
    slope[:] = 3.0
    for wrong in (
        {"lower.1": slope},
        {"shared.lower.0": proof["shared.lower.0"] - 2},
        {"upper.0": 1.5 - proof["upper.0"]},
        {"epsilon": np.array(0.3)},
        {"label": (proof["label"] + 1) % 3},
        {"image": 1 - proof["image"]},
        {"image": proof["image"] + 1},
        {"margins": proof["margins"] + 0.01},
    ):
        with pytest.raises(ValueError, match=r"is not excluded as claimed|outside its bounds"):
            checker.check(network, {**proof, **wrong})
    # Any slope gives a bound: a wrong one never proves more.
    other = {name: value * 0.9 for name, value in proof.items() if "lower" in name}
    assert checker.check(network, {**proof, **other, "margins": np.zeros(2)}) <= margin


def test_damaged_files_are_refused_one_by_one(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = perceptron(random_layers(16, 9, 3))
    found = certified(model, (4, 4, 1), epsilon=0.01)
    assert mnist_adv.write_proofs(tmp_path, model, found) == 3
    first, second, _ = sorted(tmp_path.glob("proof_*.npz"))
    first.write_bytes(first.read_bytes()[:300])
    arrays = read(second)
    del arrays["label"]
    np.savez(second, allow_pickle=False, **arrays)
    assert checker.main([str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert said.count("refused") == 2 and "1 of 3 proofs hold" in said
    assert checker.main([str(tmp_path / "nowhere")]) == 2


@pytest.mark.slow
def test_the_checker_needs_no_tensorflow(tmp_path: pathlib.Path) -> None:
    model = perceptron(random_layers(16, 9, 3))
    mnist_adv.write_proofs(tmp_path, model, certified(model, (4, 4, 1), epsilon=0.01))
    program = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "from mnist_adv.certification import checker\n"
        f"sys.exit(checker.main([{str(tmp_path)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0 and "3 of 3 proofs hold" in done.stdout
