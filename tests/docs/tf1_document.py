"""Run the left column of docs/from_tf1.md; run as a script, for graphs only.

    python tf1_document.py PIECES.json DATA.npz VALUES.npz

Nothing here knows of mnist_adv. A stand-in gives what `read_data_sets` gave.
"""

import json
import sys
import types
from typing import Any

import numpy as np


def read_data_sets(images: np.ndarray, labels: np.ndarray, test: np.ndarray) -> Any:
    """Give an object with `train.next_batch` and `test.images`, in the files' own order."""
    one_hot = np.eye(10, dtype=np.float32)[labels]
    taken = 0

    def next_batch(size: int) -> tuple[np.ndarray, np.ndarray]:
        nonlocal taken
        start, taken = taken, taken + size
        return images[start:taken], one_hot[start:taken]

    train = types.SimpleNamespace(next_batch=next_batch)
    return types.SimpleNamespace(train=train, test=types.SimpleNamespace(images=test))


def main() -> None:
    """Run piece after piece, and save the values of its expressions."""
    pieces, data, target = sys.argv[1:]
    with np.load(data) as stored:
        arrays = {name: stored[name] for name in stored.files}
    input_data: Any = types.ModuleType("input_data")
    input_data.read_data_sets = lambda *_, **__: read_data_sets(**arrays)
    package: Any = types.ModuleType("tensorflow.examples.tutorials.mnist")
    package.input_data = input_data
    sys.modules[package.__name__] = package
    names: dict[str, Any] = {}
    values: dict[str, Any] = {}
    with open(pieces) as stream:
        for number, (code, expressions) in enumerate(json.load(stream)):
            exec(code, names)
            for place, expression in enumerate(expressions):
                values[f"{number}.{place}"] = eval(expression, names)
    np.savez(target, **values)


if __name__ == "__main__":
    main()
