"""docs/from_tf1.md: both columns run from top to bottom and give the same numbers."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from mnist_adv.data import datasets

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
_PAIR = re.compile(
    r"```python\n(.*?)```\n\n</td><td>\n\n```python\n(.*?)```.*?The same: (.*?)\n\n</td>", re.S
)
_EXPRESSIONS = re.compile(r"`([^`]+)` = `([^`]+)`")


def test_both_columns_give_the_same_numbers(
    tmp_path: pathlib.Path, train_set: datasets.Dataset, test_set: datasets.Dataset
) -> None:
    text = (ROOT / "docs/from_tf1.md").read_text().replace("/tmp/", f"{tmp_path}/")
    pairs = [(left, right, _EXPRESSIONS.findall(same)) for left, right, same in _PAIR.findall(text)]
    assert len(pairs) == text.count("The same: ") == text.count("```python") / 2
    assert all(same for *_, same in pairs)
    old = _run_in_tensorflow_1(
        [(left, [first for first, _ in same]) for left, _, same in pairs],
        tmp_path,
        train_set,
        test_set,
    )
    names: dict[str, Any] = {}
    for number, (_, code, same) in enumerate(pairs):
        exec(code, names)
        for place, (before, now) in enumerate(same):
            value = np.asarray(eval(now, names))
            expected = old[f"{number}.{place}"]
            assert value.shape == expected.shape, (before, now)
            np.testing.assert_allclose(value, expected, atol=2e-5, err_msg=f"{before} = {now}")
    assert names["classification"].numpy().tolist() == [7]
    assert names["prediction"].tolist() == [2]


def _run_in_tensorflow_1(
    pieces: list[tuple[str, list[str]]],
    folder: pathlib.Path,
    train_set: datasets.Dataset,
    test_set: datasets.Dataset,
) -> dict[str, np.ndarray]:
    (folder / "pieces.json").write_text(json.dumps(pieces))
    np.savez(
        folder / "data.npz",
        images=train_set.images.reshape(-1, 784),
        labels=train_set.labels,
        test=test_set.images[:10].reshape(-1, 784),
    )
    script = pathlib.Path(__file__).with_name("tf1_document.py")
    files = [folder / name for name in ("pieces.json", "data.npz", "values.npz")]
    done = subprocess.run(
        [sys.executable, script, *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / "values.npz") as values:
        return {name: values[name] for name in values.files}
