"""Whole-process times of the commands, as ratios to a bare `import tensorflow`.

    python -m benchmarks.startup [--pairs 7]

Each pair runs the import and then the command, so that a drift of the machine's speed falls on
both. Figures are medians over the pairs.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from tqdm import tqdm

ROOT = pathlib.Path(__file__).parent.parent
IMPORT = [sys.executable, "-c", "import tensorflow"]
LIMITS = {
    "attack.py --target 2": 1.30,
    "train.py": 1.60,
    "attack.py --model cnn.keras --target 2": 1.70,
}


def seconds(command: list[str], folder: str) -> float:
    """Time one whole process."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def measure(pairs: int) -> dict[str, list[tuple[float, float]]]:
    """Time every command next to the bare import.

    Args:
        pairs: how many pairs are counted; one more warms up.

    Returns:
        command -> (seconds of the import, seconds of the command) for each pair.
    """
    commands = {name: [sys.executable, *name.split()] for name in LIMITS}
    for command in commands.values():
        command[1] = str(ROOT / command[1])
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in LIMITS}
    with tempfile.TemporaryDirectory() as folder:
        seconds(commands["train.py"], folder)  # leaves the checkpoint that attack.py restores
        net = str(pathlib.Path(folder) / "cnn.keras")
        make = [sys.executable, "-m", "benchmarks.keras_nets", "keras_example", net]
        subprocess.run(make, cwd=ROOT, check=True, capture_output=True)
        for pair in tqdm(range(pairs + 1), desc="pairs", disable=None):
            for name, command in commands.items():
                both = seconds(IMPORT, folder), seconds(command, folder)
                if pair:
                    times[name].append(both)
    return times


def main() -> None:
    """Measure and print a table; write it beside this script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=7)
    times = measure(parser.parse_args().pairs)
    lines = [
        "| command | seconds | `import tensorflow` | ratio (lowest to highest) | aim |",
        "|---|---|---|---|---|",
    ]
    for name, both in times.items():
        ratios = [command / bare for bare, command in both]
        bare, command = (statistics.median(column) for column in zip(*both))
        lines.append(
            f"| `python {name}` | {command:.2f} | {bare:.2f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) | {LIMITS[name]:.2f} |"
        )
    table = "\n".join(lines)
    print(table)
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    (results / "startup.md").write_text(table + "\n")
    (results / "startup.json").write_text(json.dumps(times, indent=1) + "\n")


if __name__ == "__main__":
    main()
