"""Every public function says what it takes and what it returns.

The linter checks the form of docstrings, and those of several lines; this, that none is too short.
"""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator

import pytest

import mnist_adv

ROOT = pathlib.Path(mnist_adv.__file__).parent
Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Walk the public functions and methods of a module, not those inside functions."""
    for node in body:
        name = getattr(node, "name", "_")
        if name.startswith("_") and name != "__call__":
            continue
        if isinstance(node, Function):
            yield prefix + name, node
        elif isinstance(node, ast.ClassDef) and not _is_protocol(node):
            yield from public_functions(node.body, f"{prefix}{name}.")


def _is_protocol(node: ast.ClassDef) -> bool:
    return any(getattr(base, "id", "") == "Protocol" for base in node.bases)


def _decorators(function: Function) -> set[str]:
    return {getattr(d, "id", getattr(d, "attr", "")) for d in function.decorator_list}


def missing(function: Function) -> list[str]:
    """List the sections that a docstring lacks."""
    if "override" in _decorators(function):
        return []  # the method that it overrides says it
    text = ast.get_docstring(function) or ""
    if not text:
        return ["docstring"]
    if _decorators(function) & {"property", "cached_property"}:
        return []
    given = function.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    names += [a.arg for a in (given.vararg, given.kwarg) if a is not None]
    names = [name for name in names if name not in ("self", "cls") and not name.startswith("_")]
    lacking = [] if not names or "Args:" in text else ["Args"]
    lacking += [f"Args: {name}" for name in names if "Args:" in text and f"{name}:" not in text]
    returns = ast.unparse(function.returns) if function.returns else "None"
    if returns not in ("None", "NoReturn") and not any(
        section in text for section in ("Returns:", "Yields:")
    ):
        lacking.append("Returns")
    return lacking


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_public_functions_are_documented(path: pathlib.Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert {
        name: lacking
        for name, function in public_functions(tree.body)
        if (lacking := missing(function))
    } == {}
