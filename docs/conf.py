"""Sphinx's settings; `make docs` builds the site, and every warning is an error."""

from __future__ import annotations

import enum
import importlib
import inspect
import pathlib
import re
from typing import Any

import mnist_adv

project = "mnist_adv"
version = release = mnist_adv.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}
default_role = "code"
html_theme = "furo"
html_title = f"mnist_adv {version}"
html_show_copyright = False
myst_heading_anchors = 3

autodoc_typehints = "signature"
# Keras's own methods are described there.
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True

_FIRST_PAGES = {"index", "tour", "tour.zh-CN", "sequel", "sequel.zh-CN", "reference"}


def setup(app: Any) -> None:
    """Fill in the lists of pages and names, and adapt docstrings before napoleon reads them."""
    app.connect("source-read", _fill_in)
    app.connect("autodoc-process-docstring", _adapt, priority=400)


def _fill_in(app: Any, docname: str, source: list[str]) -> None:
    if docname == "reference":
        source[0] = source[0].replace("<!-- every public name -->", "\n\n".join(_sections()))
    if docname == "index":
        pages = {path.stem for path in pathlib.Path(app.srcdir).glob("*.md")} - _FIRST_PAGES
        source[0] = source[0].replace("<!-- every other page -->", "\n".join(sorted(pages)))


def _sections() -> list[str]:
    homes: dict[str, list[str]] = {}
    for name in mnist_adv.__all__:
        homes.setdefault(getattr(mnist_adv, name).__module__, []).append(name)
    sections = [_section(module, names) for module, names in sorted(homes.items())]
    return [*sections, _section("mnist_adv.keras", mnist_adv.keras.__all__, "mnist_adv.keras")]


def _section(module: str, names: list[str], home: str = "mnist_adv") -> str:
    parts = [f"## {module}", inspect.getdoc(importlib.import_module(module)) or ""]
    for name in names:
        public = getattr(importlib.import_module(home), name)
        kind = "class" if inspect.isclass(public) else "function"
        parts.append(f"```{{eval-rst}}\n.. auto{kind}:: {home}.{name}\n```")
    return "\n\n".join(parts)


def _adapt(app: Any, what: str, name: str, described: Any, options: Any, lines: list[str]) -> None:
    if inspect.isclass(described) and issubclass(described, enum.Enum):
        lines[:] = [_as_item(line) for line in lines]
    # What stands before the first colon would be read as a type: an empty one keeps the sentence.
    if isinstance(described, property) and lines:
        lines[0] = f": {lines[0]}"
    for number, heading in enumerate(lines):
        if heading in ("Returns:", "Yields:"):
            lines[number + 1] = re.sub(r"^( +)", r"\1: ", lines[number + 1])
        if heading == "References:":
            lines[number + 1 :] = _as_list(lines[number + 1 :])


def _as_item(line: str) -> str:
    """Make an Enum's `NAME: what it means` an item of a list."""
    return re.sub(r"^([A-Z][A-Z0-9_]*): ", r"* **\1**: ", re.sub(r"^ {4}", "  ", line))


def _as_list(lines: list[str]) -> list[str]:
    """Make an item of each reference; the next begins where a line has ended with a full stop."""
    items, begins = [], True
    for line in lines:
        mark = "    * " if begins and line.strip() else "      "
        items.append((mark + line.strip()).rstrip())
        begins = line.rstrip().endswith(".")
    return items
