"""Plans: chunks, cases and budgets as arithmetic; folders of one plan only."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import types
from typing import Any

import numpy as np
import pytest

from mnist_adv.certification.method import Method
from mnist_adv.evaluation.api import make_plan
from mnist_adv.evaluation.measure.store import Store, pack
from mnist_adv.evaluation.plan import Chunk, Plan, Targets, list_cases, parse_epsilons
from mnist_adv.geometry.norms import Norm
from tests.evaluation.support import SMALL


def plan(**changes: Any) -> Plan:
    return Plan(**{**SMALL, **changes})


@pytest.mark.parametrize("num_images", [1, 3, 4, 5, 8])
def test_chunks_cover_every_image_once(num_images: int) -> None:
    chunks = plan(num_images=num_images).chunks()
    covered = [index for chunk in chunks for index in range(chunk.first, chunk.end)]
    assert covered == list(range(num_images))
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))


@pytest.mark.parametrize(
    ("shape", "changes", "size"),
    [
        ((28, 28, 1), {}, 2500),
        ((28, 28, 1), {"num_steps": 101}, 1000),
        ((28, 28, 1), {"attacks": ("fgsm", "boundary"), "num_steps": None}, 1000),
        ((28, 28, 1), {"attacks": ("pgd", "strongest")}, 1000),
        ((28, 28, 1), {"targets": Targets.ALL}, 1000),
        ((28, 28, 1), {"chunk_size": 7}, 7),
        ((64, 64, 3), {}, 406),
        ((1000, 1000, 3), {}, 10),
    ],
)
def test_chunks_are_larger_where_they_take_seconds(
    shape: tuple[int, int, int], changes: dict[str, Any], size: int
) -> None:
    loaded: Any = types.SimpleNamespace(digest="c" * 64, class_names=["a", "b"], shape=shape)
    data: Any = types.SimpleNamespace(dataset="d", split_name=lambda: "test", count=lambda: 10_000)
    names = ("attacks", "norm", "epsilons", "targets", "num_steps", "step_size", "seed")
    settings = {"num_images": None, **{name: SMALL[name] for name in names}, **changes}
    assert make_plan(loaded, "", data, **settings).chunk_size == size


@pytest.mark.parametrize("targets", list(Targets))
def test_cases_do_not_depend_on_the_chunks(targets: Targets) -> None:
    generator = np.random.default_rng(0)
    labels, logits = generator.integers(0, 10, 12), generator.normal(size=(12, 10))
    asked = plan(targets=targets, num_images=12)

    def rows(first: int, end: int) -> list[tuple[int, int]]:
        part = slice(first, end)
        images, wanted = list_cases(asked, Chunk(0, first, end), labels[part], logits[part])
        return list(zip((first + images).tolist(), wanted.tolist()))

    whole = rows(0, 12)
    assert whole == rows(0, 5) + rows(5, 6) + rows(6, 12)
    assert len(set(whole)) == len(whole) == (108 if targets is Targets.ALL else 12)
    for index, target in whole:
        assert target != labels[index]
        assert (target == -1) == (targets is Targets.UNTARGETED)
    if targets is Targets.LEAST_LIKELY:
        lowest = logits.copy()
        lowest[np.arange(12), labels] = np.inf
        assert [target for _, target in whole] == lowest.argmin(axis=1).tolist()


def test_random_targets_follow_the_seed_and_take_every_class() -> None:
    labels, logits = np.zeros(300, np.int64), np.zeros((300, 10))
    drawn = [
        list_cases(plan(seed=seed), Chunk(0, 0, 300), labels, logits)[1].tolist() for seed in (3, 4)
    ]
    assert drawn[0] != drawn[1]
    assert set(drawn[0]) == set(range(1, 10))


@pytest.mark.parametrize(
    ("text", "budgets"),
    [
        ("0.1", (0.1,)),
        ("0,0.1,0.3", (0, 0.1, 0.3)),
        ("0,0.1,...,0.3", (0, 0.1, 0.2, 0.3)),
        ("0, 0.02, ..., 0.3", tuple(round(0.02 * k, 12) for k in range(16))),
        ("0,1,2,...,5", (0, 1, 2, 3, 4, 5)),
    ],
)
def test_budgets_as_text(text: str, budgets: tuple[float, ...]) -> None:
    assert parse_epsilons(text) == budgets


@pytest.mark.parametrize(
    "text", ["", "a", "0,...,1", "...", "0,0.2,...,0.3", "0,0,...,1", "1,2,..."]
)
def test_budgets_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="epsilons"):
        parse_epsilons(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epsilons": (0.2, 0.1)}, "epsilons must be .* Received: 0.2, 0.1"),
        ({"epsilons": (-0.1,)}, "epsilons must be .* Received: -0.1"),
        ({"epsilons": ()}, "epsilons must be .* Received: none"),
        ({"attacks": ("pgd", "pgd")}, "attacks must be .* Received: pgd, pgd"),
        ({"num_images": 0}, "num_images must be an integer in 1.* Received: 0"),
        ({"chunk_size": 0}, "chunk_size must be an integer in 1.* Received: 0"),
        ({"num_steps": 0}, "num_steps must be an integer in 1.* Received: 0"),
        ({"step_size": 0.0}, "step_size must be a finite number above 0 in float32. Received: 0.0"),
        ({"seed": -1}, "seed must be an integer in 0.* Received: -1"),
    ],
)
def test_settings_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**changes)


OTHER: dict[str, Any] = {
    "checkpoint": "d" * 64,
    "reading": "activation relu",
    "num_classes": 11,
    "dataset": "kmnist",
    "split": "train",
    "num_images": 46,
    "attacks": ("fgsm",),
    "norm": Norm.L2,
    "epsilons": (0.0, 0.1),
    "targets": Targets.NEXT,
    "num_steps": None,
    "step_size": None,
    "seed": 4,
    "chunk_size": 5,
    "versions": {"mnist_adv": "2"},
    "attack_settings": {"pgd": {"momentum": 0.5}},
    "confidence": 0.9,
    "max_queries": 100,
    "certify_method": Method.IBP,
    "seconds_per_image": 1.0,
}


SETTINGS = [field.name for field in dataclasses.fields(Plan) if field.name != "num_images"]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_folder_of_other_settings_is_refused_by_name(name: str, tmp_path: pathlib.Path) -> None:
    store = Store(tmp_path / "run", plan())
    store.put(plan().chunks()[0], b"a result")
    Store(tmp_path / "run", plan())
    with pytest.raises(ValueError, match=f"belongs to other settings: {name} is .* there and"):
        Store(tmp_path / "run", plan(**{name: OTHER[name]}))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_folder_without_any_result_blocks_nobody(name: str, tmp_path: pathlib.Path) -> None:
    Store(tmp_path / "run", plan())
    other = plan(**{name: OTHER[name]})
    Store(tmp_path / "run", other)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["digest"] == other.digest


def test_another_number_of_images_keeps_what_is_measured(tmp_path: pathlib.Path) -> None:
    size = plan().chunk_size

    def measure(count: int) -> tuple[list[int], list[str]]:
        asked = plan(num_images=count)
        store = Store(tmp_path / "run", asked)
        missing = store.missing()
        for chunk in missing:
            content = pack({"index": np.arange(*chunk.rows)}, asked.chunk_digest(chunk))
            seconds = 1.0 + chunk.number
            store.put(chunk, content, {"pgd": {"images": 3.0, "attack": seconds, "all": seconds}})
        together = [row for part in store.read() for row in part["index"].tolist()]
        assert together == list(range(count)) and len(store.timing()) == len(asked.chunks())
        return [chunk.number for chunk in missing], store.notes

    assert measure(2 * size + 1) == ([0, 1, 2], [])
    missing, (note,) = measure(4 * size)
    assert missing == [2, 3]
    assert f"its report of {2 * size + 1} images becomes one of {4 * size}" in note
    missing, (note,) = measure(2 * size + 1)
    assert missing == []
    assert measure(4 * size)[0] == []


def test_plans_that_share_chunks_are_one_series() -> None:
    assert plan(num_images=7).series == plan(num_images=8).series
    others = {plan(**{name: OTHER[name]}).series for name in SETTINGS}
    assert len(others | {plan().series}) == len(SETTINGS) + 1


def test_a_folder_of_something_else_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="holds something else; choose another --name"):
        Store(tmp_path, plan())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_damaged_manifest_is_named(tmp_path: pathlib.Path) -> None:
    store = Store(tmp_path / "run", plan())
    (store.folder / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        Store(tmp_path / "run", plan())


def test_damaged_and_foreign_chunks_are_missing(tmp_path: pathlib.Path) -> None:
    asked = plan(num_images=20)
    store, chunks = Store(tmp_path / "run", asked), asked.chunks()
    for chunk in chunks:
        content = pack({"index": np.arange(500)}, asked.chunk_digest(chunk))
        store.put(chunk, content)
    assert store.missing() == []
    broken = bytearray(content)
    broken[60] ^= 255
    store.path(chunks[0]).write_bytes(bytes(broken))
    store.path(chunks[1]).write_bytes(content[:-10])
    store.path(chunks[2]).write_bytes(b"")
    foreign = plan(seed=9).chunk_digest(chunks[3])
    store.put(chunks[3], pack({"index": np.arange(500)}, foreign))
    assert store.missing() == chunks[:4]
    assert store.damaged == [store.path(chunk) for chunk in chunks[:4]]


def test_every_flipped_bit_of_a_chunk_is_noticed(tmp_path: pathlib.Path) -> None:
    asked = plan(num_images=3)
    store, (chunk,) = Store(tmp_path / "run", asked), asked.chunks()
    arrays: dict[str, np.ndarray] = {"index": np.arange(3), "levels": np.zeros((2, 2), np.uint8)}
    content = pack(arrays, asked.chunk_digest(chunk))
    store.put(chunk, content)
    assert store.missing() == [] and store.damaged == []
    read = store.read_chunk(chunk)
    assert sorted(read) == sorted(arrays)
    np.testing.assert_array_equal(read["index"], arrays["index"])
    for bit in range(8 * len(content)):
        broken = bytearray(content)
        broken[bit // 8] ^= 1 << (bit % 8)
        store.path(chunk).write_bytes(bytes(broken))
        assert store.missing() == [chunk], bit
    for length in range(len(content)):
        store.path(chunk).write_bytes(content[:length])
        assert store.missing() == [chunk], length
    store.path(chunk).unlink()
    store.path(chunk).mkdir()
    assert store.missing() == [chunk]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[1]",
        b"[" * 100_000,
        b'{"000000": 3}',
        b'{"000000": {"pgd": 3}}',
        b'{"000000": {"pgd": {"images": 1}}}',
        b'{"000000": {"pgd": {"images": 1, "attack": 0, "all": 1}}}',
        b'{"000000": {"pgd": {"images": "a", "attack": 1, "all": 1}}}',
        b'{"000000": {"pgd": {"images": NaN, "attack": 1, "all": 1}}}',
    ],
)
def test_damaged_times_are_no_times(tmp_path: pathlib.Path, content: bytes) -> None:
    asked = plan(num_images=3)
    store, (chunk,) = Store(tmp_path / "run", asked), asked.chunks()
    times = {"pgd": {"images": 3.0, "attack": 1.0, "all": 2.0}}
    packed = pack({"index": np.arange(3)}, asked.chunk_digest(chunk))
    store.put(chunk, packed, times)
    assert store.timing() == [times]
    (store.folder / "timing.json").write_bytes(content)
    assert store.timing() == []
    store.put(chunk, packed, times)
    assert store.timing() == [times]


def test_packing_depends_on_the_content_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"a": np.arange(3), "b": np.zeros((2, 2))[:, ::-1]}
    first = pack(arrays, "digest")
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert pack(arrays, "digest") == first
    with pytest.raises(ValueError):
        pack({"a": np.array([None])}, "digest")
