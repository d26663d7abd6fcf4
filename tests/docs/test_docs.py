"""The reference is complete, its examples run, and the site builds without a warning."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest

import mnist_adv
from docs import make_tour

pytestmark = pytest.mark.slow

WITH_EXAMPLES = sorted(
    module.name
    for module in pkgutil.walk_packages(mnist_adv.__path__, "mnist_adv.")
    if not module.ispkg and ">>> " in inspect.getsource(importlib.import_module(module.name))
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_run(
    name: str, workshop: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workshop)
    found = doctest.DocTestFinder().find(importlib.import_module(name))
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for examples in found:
        runner.run(examples, out=report.append)
    assert runner.tries and not runner.failures, "".join(report)


@pytest.mark.parametrize(
    "name",
    [
        *("attack", "check_gradient", "compute_gradient", "examine", "judge", "load"),
        *("open_model", "restore", "to_levels"),
    ],
)
def test_what_a_newcomer_calls_first_shows_an_example(name: str) -> None:
    assert ">>> " in (inspect.getdoc(getattr(mnist_adv, name)) or "")


def test_the_site_builds_without_a_warning_and_has_every_public_name(
    tmp_path: pathlib.Path,
) -> None:
    pytest.importorskip("sphinx", reason="the site needs the docs extra")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    built = subprocess.run(
        [*command, str(make_tour.FOLDER), str(tmp_path / "site")],
        cwd=make_tour.FOLDER.parent,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    reference = (tmp_path / "site" / "reference.html").read_text(encoding="utf-8")
    for name in mnist_adv.__all__:
        assert f'id="mnist_adv.{name}"' in reference
    for name in mnist_adv.keras.__all__:
        assert f'id="mnist_adv.keras.{name}"' in reference
    for page in make_tour.FOLDER.glob("*.md"):
        html = (tmp_path / "site" / f"{page.stem}.html").read_text(encoding="utf-8")
        body = html[html.index("<article") : html.index("</article>")]
        words = re.sub(r"<pre>.*?</pre>|<code.*?</code>", "", body, flags=re.DOTALL)
        # Chinese text has no spaces, and emphasis that ends with punctuation does not close.
        assert page.stem == "reference" or "*" not in words, page.name
