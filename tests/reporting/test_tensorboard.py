"""TensorBoard in a real browser: the tabs open, and the curves and pictures are there."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mnist_adv.commands import attack as attack_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="needs Chromium and its driver (Debian: apt-get install chromium chromium-driver)",
    ),
]

# TensorBoard nests its panels in shadow roots, which selectors do not enter.
WALK = """
const found = [];
(function walk(root) {
  for (const element of root.querySelectorAll('*')) {
    found.push(element);
    if (element.shadowRoot) walk(element.shadowRoot);
  }
})(document);
"""
TEXT = WALK + "return document.body.innerText + found.map(e => e.shadowRoot ? "
TEXT += "Array.from(e.shadowRoot.children).map(c => c.innerText || '').join(' ') : '').join(' ');"
IMAGES = WALK + "return found.filter(e => e.tagName == 'IMG' && e.naturalWidth >= 28).length;"
CURVES = WALK + "return found.filter(e => ['path', 'CANVAS', 'canvas'].includes(e.tagName)).length;"


@pytest.fixture(scope="module")
def address(workshop: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A TensorBoard that serves one training and one attack."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(workshop / "logs", folder / "logs")
    argv = [
        "attack.py",
        "--target=2",
        f"--checkpoint_dir={workshop / 'checkpoints'}",
        f"--results_dir={folder / 'results'}",
        f"--logdir={folder / 'logs'}",
    ]
    assert attack_command.main(argv) == 0
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder / "logs")]
    command += ["--samples_per_plugin=images=100", "--port=0", "--host=127.0.0.1"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
            break
    else:
        raise AssertionError("TensorBoard did not start")
    yield found.group()
    server.terminate()
    server.wait()
    server.stderr.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium that speaks to nobody but the server under test."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1400,1000",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    options.binary_location = str(shutil.which("chromium"))
    service = webdriver.ChromeService(executable_path=str(shutil.which("chromedriver")))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def wait_for(condition: Callable[[], bool], seconds: float = 40) -> bool:
    """Wait until a page that loads in pieces has loaded this piece."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.3)
    return False


def says(browser: Any, *words: str) -> Callable[[], bool]:
    return lambda: all(word in browser.execute_script(TEXT) for word in words)


TABS = {
    "scalars": ("loss", "accuracy", "attack/objective", "attack/probability_target"),
    "images": ("attack/figure", "attack/film_strip"),
    "hparams": ("budget", "linf <= 0.3", "learning_rate", "test accuracy", "success (saved image)"),
    "text": ("card", "attack.py --target=2", "num_epochs 8", "How to read the rest", "SHA-256"),
    "histograms": ("attack/gradient", "weights"),
    "graphs": ("Graph",),
}


# One test, since another worker would start a server and a browser of its own.
def test_the_tabs_open_and_tell(browser: Any, address: str) -> None:
    for tab, words in TABS.items():
        browser.get(f"{address}#{tab}")
        browser.refresh()
        assert wait_for(says(browser, *words)), browser.execute_script(TEXT)
        if tab == "images":
            assert wait_for(lambda: browser.execute_script(IMAGES) >= 2)
        if tab == "scalars":
            assert wait_for(lambda: browser.execute_script(CURVES) >= 4)
