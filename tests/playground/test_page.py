"""The page: what it carries, and what a real browser does with it."""

from __future__ import annotations

import base64
import json
import pathlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import mnist_adv
from mnist_adv.commands import main as commands
from mnist_adv.data.datasets import Dataset
from mnist_adv.models import checkpoints
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.playground import build_page, page

_DATA = re.compile(r'id="data">(.*?)</script>', re.DOTALL)
chromium = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="needs Chromium and its driver (Debian: apt-get install chromium chromium-driver)",
)


@pytest.fixture(scope="module")
def loaded(workshop: pathlib.Path) -> LoadedModel:
    return checkpoints.load(workshop / "checkpoints")


def carried(html: str) -> dict[str, Any]:
    """What the page's program reads."""
    (text,) = _DATA.findall(html)
    return dict(json.loads(text))


def test_the_page_carries_the_model_and_twenty_digits_with_their_optima(
    loaded: LoadedModel, trained: SoftmaxRegression, test_set: Dataset
) -> None:
    html = build_page(loaded, test_set)
    data = carried(html)
    (model,) = data["models"]
    weights = np.frombuffer(base64.b64decode(model["weights"]), "<f4")
    assert np.array_equal(weights, trained.W.numpy().ravel())
    assert len(data["digits"]) == 20 and data["digits"][0]["index"] == 0
    for digit in data["digits"]:
        levels = np.frombuffer(base64.b64decode(digit["levels"]), np.uint8)
        assert np.array_equal(levels, np.rint(255 * test_set.images[digit["index"]]).ravel())
        assert digit["label"] == test_set.labels[digit["index"]]
    optimum = mnist_adv.smallest_perturbation(
        trained.W.numpy(), trained.b.numpy(), test_set.images[:1], 2, norm="linf"
    )
    assert model["optima"]["linf"][0][2] == pytest.approx(optimum.upper_bound[0], rel=1e-9)
    assert model["optima"]["linf"][0][7] == 0
    for outside in ("http:", "https:", "src=", "import "):
        assert outside not in re.sub(r"http://www\.w3\.org/2000/svg", "", html), outside


def test_names_of_classes_cannot_end_the_data(loaded: LoadedModel, test_set: Dataset) -> None:
    names = ("</script><b>", *loaded.class_names[1:])
    html = build_page(
        LoadedModel(loaded.model, "x", "d", loaded.shape, class_names=names), test_set
    )
    assert carried(html)["classes"][0] == "</script><b>"


def test_what_is_no_such_model_is_refused(loaded: LoadedModel, test_set: Dataset) -> None:
    wide = LoadedModel(SoftmaxRegression(10, 48), "wide", "d", (4, 4, 3), class_names=("a",) * 10)
    with pytest.raises(ValueError, match=r"on images of 28 x 28 x 1. Received: .* 4 x 4 x 3"):
        build_page(wide, test_set)
    five = LoadedModel(SoftmaxRegression(5), "five", "d", (28, 28, 1), class_names=("a",) * 5)
    with pytest.raises(ValueError, match=r"same classes. Received: 10 and 5"):
        build_page(loaded, test_set, five)
    few = Dataset(test_set.images[:3], test_set.labels[:3], test_set.class_names)
    with pytest.raises(ValueError, match=r"an image of every class. Received: none of 0"):
        build_page(loaded, few)


def test_all_words_are_in_both_languages() -> None:
    words = (pathlib.Path(page.__file__).parent / "web" / "words.js").read_text("utf-8")
    english, chinese = words.split("  zh: {")
    names = re.compile(r"^    (\w+):", re.MULTILINE)
    holes = re.compile(r"^    (\w+):\s+(\".*\"),$", re.MULTILINE)
    assert names.findall(english) == names.findall(chinese)
    filled = [
        {name: sorted(set(re.findall(r"\{\w+\}", text))) for name, text in holes.findall(part)}
        for part in (english, chinese)
    ]
    assert filled[0] == filled[1] and len(filled[0]) > 60
    html = (pathlib.Path(page.__file__).parent / "web" / "index.html").read_text("utf-8")
    for name in re.findall(r'data-(?:word|label)="(\w+)"', html):
        assert name in names.findall(english), name


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium without a network."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--window-size=1400,1000",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.binary_location = str(shutil.which("chromium"))
    service = webdriver.ChromeService(executable_path=str(shutil.which("chromedriver")))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def url(workshop: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a plain model and of a second one, as the command writes it."""
    folder = tmp_path_factory.mktemp("page")
    first = checkpoints.load(workshop / "checkpoints")
    second = SoftmaxRegression(10)
    second.W.assign(0.1 * first.model.W)  # type: ignore[attr-defined]
    config = {"model": {"type": "SoftmaxRegression", "num_classes": 10}, "dataset": "mnist"}
    saver = checkpoints.Saver(
        folder / "second", second, {**config, "class_names": list("0123456789")}
    )
    saver.save(1)
    path = folder / "playground.html"
    status = commands.main([
        *("mnist-adv", "playground", f"--checkpoint_dir={workshop / 'checkpoints'}"),
        *(f"--robust_checkpoint_dir={folder / 'second'}", f"--output={path}"),
    ])
    assert status == 0
    return path.as_uri()


class Page:
    """What a person reads and does."""

    def __init__(self, browser: Any, url: str) -> None:
        self._browser = browser
        browser.get("about:blank")
        browser.get(url)

    def text(self, name: str) -> str:
        return str(
            self._browser.execute_script(f"return document.getElementById('{name}').textContent")
        )

    def click(self, name: str) -> None:
        self._browser.execute_script(f"document.getElementById('{name}').click()")
        self.settle()

    def choose(self, group: str, number: int) -> None:
        self._browser.execute_script(
            f"document.getElementById('{group}').children[{number}].click()"
        )
        self.settle()

    def set(self, name: str, value: str, event: str = "input") -> None:
        self._browser.execute_script(
            f"const e = document.getElementById('{name}'); e.value = '{value}';"
            f"e.dispatchEvent(new Event('{event}', {{bubbles: true}}))"
        )
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        self._browser.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
        )

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def logits(self) -> list[float]:
        found = self._browser.execute_script(
            "return [...document.querySelectorAll('#bars .logit')].map((e) => e.textContent)"
        )
        return [float(text.replace("\u2212", "-")) for text in found]

    def image(self) -> np.ndarray:
        """The image at this step as the canvas shows it, `[784]` levels."""
        found = self._browser.execute_script(
            "return [...document.getElementById('image').getContext('2d')"
            ".getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 === 0)"
        )
        return np.array(found)


@pytest.mark.slow
@chromium
def test_a_person_makes_the_7_a_2(browser: Any, url: str, trained: SoftmaxRegression) -> None:
    here = Page(browser, url)
    assert here.text("seen-class") == "7" and here.text("play") == "▶ Make it a 2"
    images = mnist_adv.load().images[:1]
    result = mnist_adv.attack(trained, images, targets=2, labels=7, epsilon=0.3, trace=True)
    assert result.trace is not None
    logits = result.trace.logits[:, 0]
    assert np.allclose(here.logits(), logits[0], atol=1e-3)
    here.click("step")
    assert np.allclose(here.logits(), logits[1], atol=2e-3)
    here.click("play")
    here.wait(lambda: here.text("seen-class") == "2")
    here.wait(lambda: here.text("play") == "▶ Go on: surer still")
    taken = int(result.num_steps[0])
    assert here.text("shown-text") == f"{taken} of {taken}"
    assert np.allclose(here.logits(), logits[taken], atol=5e-3)
    assert np.abs(here.image() - 255 * result.adversarial.ravel()).max() <= 0.51
    optimum = mnist_adv.smallest_perturbation(
        trained.W.numpy(), trained.b.numpy(), images, 2, norm="linf"
    ).upper_bound[0]
    above = 100 * (result.verdict.norms["linf"][0] / optimum - 1)
    assert here.text("truth-text") == f"{above:.1f} % above the smallest possible."
    assert f"L-inf {optimum:.5f}"[:12] in here.text("lengths")
    here.set("shown", "3")
    assert here.text("shown-text") == f"3 of {taken}"
    assert np.allclose(here.logits(), logits[3], atol=5e-3)
    link = browser.current_url
    again = Page(browser, link)
    assert again.text("shown-text") == f"3 of {taken}" and again.text("seen-class") == "7"
    again.click("language")
    assert again.text("play") == "▶ 变成 2" and browser.current_url.endswith("language=zh")
    assert browser.execute_script("return document.documentElement.lang") == "zh-CN"
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.mark.slow
@chromium
def test_a_person_draws_with_the_mouse(browser: Any, url: str, trained: SoftmaxRegression) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    here = Page(browser, url)
    pad, pen = browser.find_element(By.ID, "pad"), ActionChains(browser, duration=10)
    strokes = [(-70, -90), (60, -95), (30, -20), (-10, 50), (-30, 110)]
    pen.move_to_element_with_offset(pad, *strokes[0]).click_and_hold()
    for place in strokes[1:]:
        pen.move_to_element_with_offset(pad, *place)
    pen.release().perform()
    here.settle()
    assert here.text("seen-class") == "7"
    image = here.image() / 255
    exact = image @ trained.W.numpy().astype(np.float64) + trained.b.numpy()
    assert np.allclose(here.logits(), exact, atol=6e-4)
    rows, columns = np.nonzero(image.reshape(28, 28))
    assert max(np.ptp(rows), np.ptp(columns)) == 19  # fitted into 20 x 20
    here.choose("bars", 3)
    here.set("norm", "l2", "change")
    here.click("play")
    here.wait(lambda: here.text("seen-class") == "3")
    here.wait(lambda: "above the smallest possible" in here.text("truth-text"))
    optimum = mnist_adv.smallest_perturbation(
        trained.W.numpy(), trained.b.numpy(), image.reshape(1, 28, 28, 1), 3, norm="l2"
    ).upper_bound[0]
    told = re.search(r"smallest possibleL2 ([\d.]+)", here.text("lengths"))
    assert told is not None and float(told[1]) == pytest.approx(optimum, rel=1e-3)
    drawn = here.image()
    again = Page(browser, browser.current_url)
    assert np.array_equal(again.image(), drawn)


@pytest.mark.slow
@chromium
def test_gradient_nudge_and_the_second_model(
    browser: Any, url: str, trained: SoftmaxRegression
) -> None:
    here = Page(browser, f"{url}#pixel=350&exponent=-5")
    image = mnist_adv.load().images[0]
    gradient = mnist_adv.compute_gradient(trained, image, 2).ravel()
    assert float(here.text("derivative")) == pytest.approx(gradient[350], rel=1e-3)
    assert float(here.text("double")) == pytest.approx(gradient[350], rel=1e-3)
    browser.execute_script(
        "document.getElementById('gradient').dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'ArrowDown'}))"
    )
    here.settle()
    assert float(here.text("derivative")) == pytest.approx(gradient[378], rel=1e-3)
    logits = np.array(here.logits())
    here.set("share", "1")
    ten = 0.1 * (logits - trained.b.numpy())
    assert np.allclose(here.logits(), ten, atol=2e-3)
    assert "Slide from the first model to the second" in here.text("models-text")
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= 1400
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True},
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") == 400
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
