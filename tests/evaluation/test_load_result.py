"""What `save` writes, `load_result` reads: all of it, or the reason why not."""

from __future__ import annotations

import dataclasses
import io
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mnist_adv
from mnist_adv import attack, load_result, smallest_perturbation
from mnist_adv.attacks import AttackResult
from mnist_adv.models.linear import LinearModel
from mnist_adv.optimum import Optimum

MODEL = LinearModel(np.random.default_rng(0).normal(size=(36, 3)), np.zeros(3))
IMAGES = np.random.default_rng(1).random((5, 6, 6, 1), np.float32)
LABELS = np.asarray(MODEL(IMAGES)).argmax(axis=1)


def made(**settings: Any) -> AttackResult:
    return attack(MODEL, IMAGES, labels=LABELS, num_steps=3, **settings)


def solved(**settings: Any) -> Optimum:
    return smallest_perturbation(MODEL.W, MODEL.b, IMAGES, **settings)


def same(one: Any, other: Any) -> bool:
    """Compare two values to the bit."""
    if dataclasses.is_dataclass(one):
        fields = [field.name for field in dataclasses.fields(one)]
        return type(one) is type(other) and all(
            same(getattr(one, name), getattr(other, name)) for name in fields
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray):
        return bool(one.dtype == other.dtype and np.array_equal(one, other))
    return bool(one == other and isinstance(other, type(one)))


RESULTS: dict[str, Callable[[], Any]] = {
    "plain": made,
    "traced": lambda: made(trace=True),
    "a budget per image": lambda: made(epsilon=np.linspace(0.1, 0.5, 5)),
    "no budget": lambda: attack(MODEL, IMAGES, labels=LABELS, method="ddn", norm="l2"),
    "another box": lambda: made(bounds=(-1, 1)),
    "confidence": lambda: made(confidence=0.9),
    "a proof": lambda: attack(MODEL, IMAGES, labels=LABELS, method="optimum", norm="l2"),
    "optimum": lambda: solved(labels=LABELS),
    "an impossible optimum": lambda: smallest_perturbation(
        [[1.0, 0.0], [1.0, 0.0]], [5, 0], [[0.1, 0.2]], targets=1
    ),
}


@pytest.mark.parametrize("name", RESULTS)
def test_what_is_read_is_what_was_saved(tmp_path: pathlib.Path, name: str) -> None:
    result = RESULTS[name]()
    path = tmp_path / "result of a run"
    result.save(path)
    read = load_result(path)
    assert same(result, read)
    assert repr(read) == repr(result)
    first = path.read_bytes()
    read.save(str(path))
    assert path.read_bytes() == first
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_numpy_reads_the_file_too(tmp_path: pathlib.Path) -> None:
    result = made()
    result.save(tmp_path / "result.npz")
    with np.load(tmp_path / "result.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["adversarial"], result.adversarial)
        assert json.loads(str(arrays["record"]))["fields"]["method"] == "pgd"


def test_arrays_of_one_value_are_read_again(tmp_path: pathlib.Path) -> None:
    """They shrink to less than a hundredth, which a reader of strangers' archives refuses."""
    images = np.zeros((400, 30, 30, 1), np.float32)
    result = attack(LinearModel(np.eye(900, 3), [0, 0, 1]), images, labels=2, num_steps=1)
    result.save(tmp_path / "result.npz")
    assert same(load_result(tmp_path / "result.npz"), result)


def test_damage_is_named_and_never_read(tmp_path: pathlib.Path) -> None:
    result = made()
    path = tmp_path / "result.npz"
    result.save(path)
    whole = path.read_bytes()
    draw = np.random.default_rng(2)
    for _ in range(150):
        place, bit = int(draw.integers(len(whole))), 1 << int(draw.integers(8))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        try:
            assert same(load_result(path), result), place  # bits that say nothing: of a clock
        except ValueError as error:
            assert str(path) in str(error)
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="is damaged"):
            load_result(path)


def test_other_files_are_told_from_results(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_result(tmp_path / "none.npz")
    np.savez(tmp_path / "weights.npz", W=np.eye(3))
    with pytest.raises(ValueError, match=r"weights\.npz holds no result of mnist_adv"):
        load_result(tmp_path / "weights.npz")
    np.savez(tmp_path / "pickled.npz", record=np.array([print], object))
    with pytest.raises(ValueError, match="holds Python objects"):
        load_result(tmp_path / "pickled.npz")


def rewrite(path: pathlib.Path, changes: dict[str, Any], record: Callable[[Any], Any]) -> None:
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    kept["record"] = np.array(json.dumps(record(json.loads(str(kept["record"])))))
    content = io.BytesIO()
    np.savez(content, **{**kept, **changes})
    path.write_bytes(content.getvalue())


def changed(**fields: Any) -> Callable[[Any], Any]:
    return lambda record: {**record, "fields": {**record["fields"], **fields}}


@pytest.mark.parametrize(
    ("changes", "record", "message"),
    [
        ({"verdict.success": np.ones(5, bool)}, dict, "success is not what follows"),
        ({"verdict.norms.linf": np.zeros(5)}, dict, "linf is not the norm of the perturbations"),
        ({"adversarial": IMAGES}, dict, "is not"),
        ({"adversarial": IMAGES[:2]}, dict, "differ in shape"),
        ({"num_steps": np.zeros(4, int)}, dict, "another number of entries than 5"),
        ({"verdict.predictions": np.zeros(5, int)}, dict, "predictions is not what follows"),
        ({"goal.classes": np.zeros(2, int)}, dict, "one class"),
        ({}, changed(norm="l7"), "Norm must be one of linf, l2, l1, l0. Received: 'l7'"),
        ({}, changed(method=3), "str is expected where int is"),
        ({}, changed(verdict=None), "Verdict is expected"),
        ({}, changed(images={"array": "elsewhere"}), "no 'elsewhere'"),
        ({}, changed(bounds=[0]), "2 values is expected"),
        ({}, changed(epsilon={"number": "os.system"}), "could not convert"),
        ({}, changed(spare=1), "AttackResult is expected"),
        ({}, lambda record: {**record, "version": 2}, "version 2"),
        ({}, lambda record: {**record, "kind": "Popen"}, "a result of kind 'Popen'"),
        ({}, lambda record: [record], "list indices"),
    ],
)
def test_a_forged_file_is_refused(
    tmp_path: pathlib.Path, changes: dict[str, Any], record: Any, message: str
) -> None:
    path = tmp_path / "result.npz"
    made(epsilon=[0.01, 0.5, 0.5, 0.5, 0.01]).save(path)
    assert not load_result(path).success.all()
    rewrite(path, changes, record)
    with pytest.raises(ValueError, match=message) as told:
        load_result(path)
    assert str(path) in str(told.value)


def test_a_forged_optimum_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "optimum.npz"
    solved(labels=LABELS).save(path)
    rewrite(path, {"upper_bound": np.full(5, 1e-3)}, dict)
    with pytest.raises(ValueError, match="upper_bound is not the norm"):
        load_result(path)


def test_a_folder_that_cannot_be_written_keeps_what_was_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(OSError, match="missing"):
        made().save(tmp_path / "missing" / "result.npz")
    assert not list(tmp_path.iterdir())


def test_the_name_is_public() -> None:
    assert "load_result" in dir(mnist_adv)
