"""Prove that the tests bite: break the numeric core in many small ways, and count what they notice.

    python -m tests.mutation --num_mutants 240

Each mutant changes one operator, comparison or constant of one module, in memory only, and runs the
tests of that module in a process of its own. A mutant that they let pass is printed with its line;
one that changes no result, as EQUIVALENT says, does not count.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import contextlib
import copy
import importlib.abc
import importlib.util
import os
import pathlib
import random
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
SECONDS = 120  # a mutant that loops for ever has been noticed
_CERTIFICATE = ["tests/optimum/test_certificate.py", "tests/optimum/test_untargeted.py"]
# module -> the tests that are to notice its mutants
TARGETS = {
    "gradients.losses": ["tests/gradients/test_losses.py", "tests/gradients/test_sources.py"],
    "gradients.sources": ["tests/gradients/test_sources.py"],
    "gradients.goals": ["tests/gradients/test_goals.py"],
    "geometry.norms": ["tests/geometry", "tests/attacks/test_api.py"],
    "geometry.selection": ["tests/geometry"],
    "geometry.steps": ["tests/geometry", "tests/attacks/test_api.py"],
    "verdict.judge": ["tests/verdict/test_judge.py"],
    "optimum.certificate.bounds": _CERTIFICATE,
    "optimum.certificate.smallest": _CERTIFICATE,
    "quantize.levels": ["tests/quantize"],
    "quantize.ball": ["tests/quantize"],
    "quantize.moves": ["tests/quantize"],
}
SWAPS: dict[type[Any], type[Any]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
# Not arithmetic: how much is done at once, and how long and how widely a heuristic searches.
SKIPPED = (
    *("_BLOCK", "_CHUNK", "_ROWS", "_MAX_ROUNDS"),
    *("_PATIENCE", "_LONGER", "_SURPLUS", "_WIDTH"),
)
# Lines on which some mutants change no result, looked at one by one, and why.
EQUIVALENT = {
    "shrink = tf.minimum(tf.math.divide_no_nan(epsilon, length), 1)": "what is short enough stays",
    "return (round_ < _MAX_ROUNDS) & tf.reduce_any(threshold > before)": "more rounds, no change",
    "return round_ + 1, threshold, following(threshold)": "only the limit of rounds counts them",
    "return round_ + 1, done, low, high, tf.where(done, at, following)": "the same",
    "_, _, threshold = tf.while_loop(moving, body, (0, zero - 1, following(zero)))": (
        "any value below 0 starts the loop"
    ),
    "rounding = 2 * np.finfo(sizes.dtype.as_numpy_dtype).eps": "how early to stop",
    "done |= settled | (following <= low) | (following >= high)": "how early to stop",
    "return constant + 0 * epsilon": "adds or subtracts 0",
    "changes = (magnitude > 0) & (usable > 0)": "a pixel without range adds 0 at turning point 0",
    "last = np.minimum((filled < rhs[:, np.newaxis]).sum(axis=1), coefficients.shape[1] - 1)": (
        "differs where there is no such image only"
    ),
    "t = (rhs - _sorted(earlier, here)[:, 0]) / np.where(slope_here > 0, slope_here, 1)": (
        "differs where there is no such image only"
    ),
    "_ROUNDING = 1e-12": "its size",
    "missed = missed[left & (radius < whole[missed])]  # others have had the whole budget": (
        "tries in vain what has been tried"
    ),
    "for _ in range(max_rounds + 1):": "one round more",
    "waited[rows] = np.where(better, 0, waited[rows] + 1)": "how long to go on",
    "going = ~seen.satisfied & (waited[rows] < _PATIENCE) & ~(beyond & beyond_before[rows])": (
        "how long to go on"
    ),
    "return max(0.0, math.log(confidence / (1 - confidence)))": "a little more than is wanted",
    "max_rounds: int = 100,": "a default",
    "gained = _summed(np.where(useful, gain, 0), pushes)": "the others come last, not taken",
    "needed = _summed(np.where(useful, cost, 0), pushes) - slack[:, np.newaxis]": "the same",
    "ratio = np.where(giving, loss / np.where(giving, saving, 1), np.inf)": "only avoids 0 / 0",
    "given = np.take_along_axis(lost, np.minimum(number, saved.shape[1] - 1), axis=1)": (
        "differs where nothing is possible only"
    ),
    "far = np.where(slope > 0, low, np.where(slope < 0, high, levels))": (
        "a pixel without slope gains nothing, and is not taken"
    ),
    "Norm.L0: Geometry(_l0_length, _l0_project, _l0_steepest, 60.0, _l0_step),": "a default",
    "values > origin,": "at the origin both give the origin",
}


def spots(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """List what can be changed: the number of the node in `ast.walk`, and how."""
    left_out: set[int] = set()
    for node in ast.walk(tree):
        parts: list[Any] = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.Raise | ast.JoinedStr):
            parts.append(node)
        if isinstance(node, ast.Assign) and _first_name(node.targets[0]) in SKIPPED:
            parts.append(node)
        # NumPy takes any negative number for the dimension that it is to find.
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "reshape":
            parts += node.args
        if isinstance(node, ast.keyword) and node.arg in ("axis", "keepdims"):
            parts.append(node)
        for part in parts:
            if part is not None:
                left_out |= {id(inner) for inner in ast.walk(part)}
    for number, node in enumerate(ast.walk(tree)):
        if id(node) in left_out:
            continue
        operator = getattr(node, "op", None) or (getattr(node, "ops", None) or [None])[0]
        if type(operator) in SWAPS and isinstance(node, ast.BinOp | ast.BoolOp | ast.Compare):
            yield number, "operator"
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Invert):
            yield number, "sign"
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield number, "constant"


def _first_name(target: ast.expr) -> str:
    first = target.elts[0] if isinstance(target, ast.Tuple) else target
    return str(getattr(first, "id", ""))


def mutate(tree: ast.Module, number: int, how: str) -> tuple[ast.Module, int]:
    """Change one node of a copy; return the copy and the line."""
    changed = copy.deepcopy(tree)
    node: Any = list(ast.walk(changed))[number]
    if how == "operator":
        if isinstance(node, ast.Compare):
            node.ops[0] = SWAPS[type(node.ops[0])]()
        else:
            node.op = SWAPS[type(node.op)]()
    elif how == "sign":
        if isinstance(node.op, ast.USub):
            node.op = ast.UAdd()
        else:  # ~x becomes ~~x
            node.operand = ast.UnaryOp(ast.Invert(), node.operand)
    else:
        node.value = node.value + 1 if isinstance(node.value, int) else 1.7 * node.value + 0.01
    return ast.fix_missing_locations(changed), node.lineno


class _Loader(importlib.abc.Loader):
    def __init__(self, code: Any) -> None:
        self._code = code

    def exec_module(self, module: Any) -> None:
        exec(self._code, module.__dict__)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, name: str, path: pathlib.Path, code: Any) -> None:
        self._name, self._path, self._code = name, path, code

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(
            fullname,
            self._path,
            loader=_Loader(self._code),
        )


def survives(name: str, path: pathlib.Path, tree: ast.Module, tests: Sequence[str]) -> bool:
    """Run the tests against a mutant in a child process; say whether they pass."""
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        os.setpgrp()
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
            sys.meta_path.insert(0, _Finder(name, path, compile(tree, str(path), "exec")))
            import pytest

            status = 1
            with contextlib.suppress(BaseException):
                status = int(pytest.main(["-x", "--assert=plain", "-p", "no:xdist", *tests]))
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def main() -> None:
    """Run the mutants and print the score."""
    parser = argparse.ArgumentParser(description="Break the numeric core; count what tests notice.")
    parser.add_argument("--num_mutants", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--modules", nargs="*", default=list(TARGETS))
    arguments = parser.parse_args()
    os.chdir(ROOT)
    trees = {
        module: ast.parse((ROOT / "mnist_adv" / f"{module.replace('.', '/')}.py").read_text())
        for module in arguments.modules
    }
    everything = [(module, *spot) for module, tree in trees.items() for spot in spots(tree)]
    chosen = random.Random(arguments.seed).sample(
        everything, min(arguments.num_mutants, len(everything))
    )
    # What every child would import again; none of it computes anything yet.
    import hypothesis  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import pytest  # noqa: F401
    import scipy.optimize  # noqa: F401
    import tensorflow as tf  # noqa: F401

    with tempfile.TemporaryDirectory() as workshop:
        os.environ["MNIST_ADV_TEST_WORKSHOP"] = workshop
        if survives("", ROOT, ast.parse(""), ["tests/verdict/test_judge.py"]) is False:
            raise SystemExit("the tests must pass before anything is broken")

        lines = {
            module: (ROOT / "mnist_adv" / f"{module.replace('.', '/')}.py").read_text().splitlines()
            for module in trees
        }

        def judge(mutant: tuple[str, int, str]) -> tuple[str, int, str, bool]:
            module, number, how = mutant
            tree, line = mutate(trees[module], number, how)
            path = ROOT / "mnist_adv" / f"{module.replace('.', '/')}.py"
            return module, line, how, survives(f"mnist_adv.{module}", path, tree, TARGETS[module])

        counts: dict[str, list[int]] = {module: [0, 0] for module in trees}
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            for module, line, how, alive in pool.map(judge, chosen):
                why = EQUIVALENT.get(lines[module][line - 1].strip()) if alive else None
                counts[module][0] += not alive
                counts[module][1] += why is None
                if alive:
                    note = f", changes no result: {why}" if why else ""
                    print(f"survived: {module}:{line} ({how}){note}", flush=True)
    for module, (killed, total) in counts.items():
        print(f"{module:<32}{killed:>5} of {total}")
    killed, total = (sum(pair[i] for pair in counts.values()) for i in (0, 1))
    print(f"{'all':<32}{killed:>5} of {total}: {killed / total:.1%}")
    print(f"{len(chosen) - total} more of {len(chosen)} survived that change no result")


if __name__ == "__main__":
    main()
