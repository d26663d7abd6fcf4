"""Prove that the tests bite: break the numeric core in many small ways, and count what they notice.

    python -m tests.mutation --num_mutants 240

Each mutant changes one operator, comparison or constant of one module, in memory only, and runs the
tests of that module in a process of its own. A mutant that they let pass is printed with its line.
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
    *("_BLOCK", "_CHUNK", "_MODEL_BLOCK", "_ROWS", "_MAX_ROUNDS"),
    *("_PATIENCE", "_LONGER", "_SURPLUS", "_WIDTH"),
)


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

        def judge(mutant: tuple[str, int, str]) -> tuple[str, int, str, bool]:
            module, number, how = mutant
            tree, line = mutate(trees[module], number, how)
            path = ROOT / "mnist_adv" / f"{module.replace('.', '/')}.py"
            return module, line, how, survives(f"mnist_adv.{module}", path, tree, TARGETS[module])

        counts: dict[str, list[int]] = {module: [0, 0] for module in trees}
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            for module, line, how, alive in pool.map(judge, chosen):
                counts[module][0] += not alive
                counts[module][1] += 1
                if alive:
                    print(f"survived: {module}:{line} ({how})", flush=True)
    for module, (killed, total) in counts.items():
        print(f"{module:<32}{killed:>5} of {total}")
    killed, total = (sum(pair[i] for pair in counts.values()) for i in (0, 1))
    print(f"{'all':<32}{killed:>5} of {total}: {killed / total:.1%}")


if __name__ == "__main__":
    main()
