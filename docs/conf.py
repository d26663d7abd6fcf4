"""Sphinx's settings; `make docs` builds the site, and every warning is an error."""

from __future__ import annotations

import enum
import importlib
import inspect
import re
from typing import Any

import mnist_adv

project = "mnist_adv"
author = "the mnist_adv authors"
version = release = mnist_adv.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}
html_theme = "furo"
html_title = f"mnist_adv {version}"
# Notebooks are offered as they are, not rendered.
exclude_patterns = ["README.md"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": False}
napoleon_use_ivar = True
default_role = "code"

_MARK = "<!-- every public name -->"


def setup(app: Any) -> None:
    """Let the reference list what the package says is public, and every choice of an Enum."""
    app.connect("source-read", _list_public_names)
    app.connect("autodoc-process-docstring", _list_choices)


def _list_public_names(app: Any, docname: str, source: list[str]) -> None:
    if _MARK in source[0]:
        source[0] = source[0].replace(_MARK, "\n\n".join(_sections()))


def _sections() -> list[str]:
    homes: dict[str, list[str]] = {}
    for name in mnist_adv.__all__:
        homes.setdefault(getattr(mnist_adv, name).__module__, []).append(name)
    return [_section(module, names) for module, names in sorted(homes.items())]


def _section(module: str, names: list[str]) -> str:
    parts = [f"## {module}", inspect.getdoc(importlib.import_module(module)) or ""]
    for name in names:
        kind = "class" if inspect.isclass(getattr(mnist_adv, name)) else "function"
        parts.append(f"```{{eval-rst}}\n.. auto{kind}:: mnist_adv.{name}\n```")
    return "\n\n".join(parts)


def _list_choices(
    app: Any, what: str, name: str, described: Any, options: Any, lines: list[str]
) -> None:
    if inspect.isclass(described) and issubclass(described, enum.Enum):
        lines[:] = [re.sub(r"^ {4}", "  ", line) for line in lines]
        lines[:] = [re.sub(r"^([A-Z][A-Z0-9_]*): ", r"* **\1**: ", line) for line in lines]
