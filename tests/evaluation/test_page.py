"""The report in a real browser: what it shows is what the CSV says."""

from __future__ import annotations

import csv
import json
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from mnist_adv import evaluate
from mnist_adv.data.datasets import to_float
from mnist_adv.models.linear import LinearModel
from tests.certification.support import perceptron, random_layers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="needs Chromium and its driver (Debian: apt-get install chromium chromium-driver)",
    ),
]

LEVELS = np.random.default_rng(1).integers(0, 256, (30, 6, 6, 1)).astype(np.uint8)
MODEL = LinearModel(np.random.default_rng(0).normal(size=(36, 3)), np.zeros(3))
EPSILONS = (0.0, 0.02, 0.04, 0.1)
NAMES = ("<b>", "two", "three")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A report on thirty images, three of which are not classified correctly."""
    labels = np.asarray(MODEL(to_float(LEVELS))).argmax(axis=1)
    labels[:3] = (labels[:3] + 1) % 3
    path = tmp_path_factory.mktemp("report") / "it"
    evaluate(
        MODEL,
        LEVELS,
        labels,
        attacks=["fgsm", "pgd"],
        epsilons=EPSILONS,
        num_steps=3,
        class_names=NAMES,
        folder=path,
        progress=False,
    )
    return path


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
        "--disable-component-update",
        "--disable-sync",
        "--proxy-server=127.0.0.1:9",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.binary_location = str(shutil.which("chromium"))
    service = webdriver.ChromeService(executable_path=str(shutil.which("chromedriver")))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def show(browser: Any, folder: pathlib.Path, width: int, *, dark: bool = False) -> None:
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get((folder / "report.html").as_uri())


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not condition():
        time.sleep(0.05)
    return condition()


def expected(folder: pathlib.Path) -> dict[str, list[dict[str, float]]]:
    """Count shares in the CSV, by code that made none of the page."""
    with (folder / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    shares: dict[str, list[dict[str, float]]] = {}
    for name in ("fgsm", "pgd"):
        mine = [row for row in rows if row["attack"] == name]
        for epsilon in EPSILONS:
            found = {}
            for form, prefix in (("float", ""), ("saved", "saved_")):
                met = [
                    row[f"{form}_success"] == "1" and float(row[f"{form}_linf"]) <= epsilon + 1e-6
                    for row in mine
                ]
                left = [
                    row["clean_prediction"] == row["label"]
                    and not (
                        row[f"{form}_escape"] and float(row[f"{form}_escape"]) <= epsilon + 1e-6
                    )
                    for row in mine
                ]
                found[f"{prefix}success"] = sum(met) / len(mine)
                found[f"{prefix}robust"] = sum(left) / len(mine)
            shares.setdefault(name, []).append(found)
    return shares


def test_the_page_shows_what_the_csv_says(browser: Any, folder: pathlib.Path) -> None:
    show(browser, folder, 1400)
    told = expected(folder)
    table = browser.execute_script("""
        return [...document.querySelectorAll("details[data-attack] tr[data-epsilon] td[data-what]")]
          .map(td => [td.closest("details").dataset.attack, Number(td.parentNode.dataset.epsilon),
                      td.dataset.what, td.firstChild.textContent]);""")
    seen = 0
    for attack, epsilon, what, text in table:
        if attack in told and what in told[attack][0]:
            share = told[attack][EPSILONS.index(epsilon)][what]
            assert text == f"{share:.2%}", (attack, epsilon, what)
            seen += 1
    assert seen == 2 * len(EPSILONS) * 4
    # The curves, read from their lines: 0 % and 100 % are where the scale has them.
    for what in ("robust", "success"):
        lines = browser.execute_script(
            """
            const chart = document.getElementById(arguments[0]);
            const grid = [...chart.querySelectorAll("line.grid")].slice(0, 5);
            const lines = [...chart.querySelectorAll("polyline")];
            return [grid.map(line => +line.getAttribute("y1")), lines.map(line =>
              [line.dataset.name, line.dataset.style, [...line.points].map(point => point.y)])];""",
            what,
        )
        (bottom, *_, top), drawn = lines
        for name, style, heights in drawn:
            key = {"solid": what, "dotted": f"saved_{what}"}.get(style)
            if name in told and key:
                shares = [(bottom - y) / (bottom - top) for y in heights]
                np.testing.assert_allclose(shares, [each[key] for each in told[name]], atol=2e-3)
        assert {name for name, *_ in drawn} == {"fgsm", "pgd", "worst case", "certified optimum"}
    assert not browser.get_log("browser")


def test_curves_tell_hide_and_enlarge(browser: Any, folder: pathlib.Path) -> None:
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.by import By

    show(browser, folder, 1400)
    chart = browser.find_element(By.ID, "robust")
    tip = chart.find_element(By.CLASS_NAME, "tip")
    assert not tip.is_displayed()
    ActionChains(browser).move_to_element_with_offset(
        chart, chart.size["width"] // 2 - 20, 0
    ).perform()
    tip = chart.find_element(By.CLASS_NAME, "tip")
    share = expected(folder)["pgd"][-1]["robust"]
    assert "linf epsilon 0.1" in tip.text
    assert f"pgd: {share:.2%} ({round(30 * share)} of 30)" in tip.text
    lines = len(chart.find_elements(By.TAG_NAME, "polyline"))
    browser.find_element(By.XPATH, "//button[text()='pgd']").click()
    assert len(chart.find_elements(By.TAG_NAME, "polyline")) == lines - 2
    (ActionChains(browser).move_to_element(chart).click_and_hold().move_by_offset(100, 0)).perform()
    ActionChains(browser).release().perform()
    back = chart.find_element(By.TAG_NAME, "button")
    assert back.is_displayed()
    back.click()
    assert not chart.find_element(By.TAG_NAME, "button").is_displayed()
    chart.send_keys(Keys.ARROW_RIGHT)
    assert chart.find_element(By.CLASS_NAME, "tip").is_displayed()


def test_an_image_enlarges_with_its_probabilities(browser: Any, folder: pathlib.Path) -> None:
    from selenium.webdriver.common.by import By

    show(browser, folder, 1400)
    with (folder / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    button = browser.find_element(By.CSS_SELECTOR, "#gallery-mosaic button")
    best = min(
        (row for row in rows if row["id"] == "0"),
        key=lambda row: float(row["float_linf"]) if row["float_success"] == "1" else np.inf,
    )
    assert button.text.startswith(f"#0: {NAMES[int(best['label'])]} → ")
    button.click()
    dialog = browser.find_element(By.ID, "large")
    assert wait_for(lambda: "of 255 levels" in dialog.text)
    logits = np.asarray(MODEL(to_float(LEVELS[:1])), np.float64)[0]
    before = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    for name, probability in zip(NAMES, before):
        assert f"{name}\n{probability:.1%} → " in dialog.text
    change = browser.execute_script(
        "const c = document.querySelector('#large canvas');"
        "return [c.width, c.height, [...c.getContext('2d').getImageData(0, 0, 6, 6).data]];"
    )
    assert change[:2] == [6, 6]
    dialog.find_element(By.CSS_SELECTOR, "button").click()
    assert not dialog.is_displayed()


def test_distances_over_queries_are_drawn_where_most_goals_are_met(
    browser: Any, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    show(browser, folder, 900)  # where every median is unknown, nothing is drawn
    assert not browser.find_elements("css selector", "#queries circle")
    labels = np.asarray(MODEL(to_float(LEVELS))).argmax(axis=1)
    options: dict[str, Any] = {"norm": "l2", "attacks": ["fmn", "pgd"], "epsilons": [0.1, 3.0]}
    folder = tmp_path / "it"
    evaluate(MODEL, LEVELS, labels, num_steps=30, folder=folder, progress=False, **options)
    show(browser, folder, 900)
    drawn = json.loads((folder / "summary.json").read_text())["over_queries"]
    medians = drawn["median_distance"]
    top = max(value for values in medians.values() for value in values if value is not None)
    for name, values in medians.items():
        (line,) = browser.find_elements("css selector", f"#queries [data-name={name}]")
        points = line.get_attribute("points")
        places = np.array([point.split(",") for point in points.split()], float)
        known = [(at, value) for at, value in zip(drawn["passes"], values) if value is not None]
        assert len(places) == len(known) > 0
        across, heights = np.array([[np.log10(at), value / top] for at, value in known]).T
        for axis, wanted in ((places[:, 0], across), (-places[:, 1], heights)):
            # Evenly: a line from data to places, the same for all points.
            spread = np.ptp(wanted)
            if spread:
                slope = np.ptp(axis) / spread
                np.testing.assert_allclose(axis - axis[0], slope * (wanted - wanted[0]), atol=0.1)
    assert all(values[0] is None or values[0] >= values[-1] for values in medians.values())


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_on_a_phone(browser: Any, folder: pathlib.Path, dark: bool) -> None:
    show(browser, folder, 400, dark=dark)
    browser.execute_script("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    assert not browser.execute_script("""
        return [...document.querySelectorAll("table, svg, img, .number, button")]
          .filter(each => each.getBoundingClientRect().right > 400.5)
          .map(each => each.getBoundingClientRect().right + each.outerHTML.slice(0, 200));""")
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(21, 24, 28)" if dark else "rgb(255, 255, 255)")
    sizes = browser.execute_script("""
        return [...document.querySelectorAll(".chart svg")].map(svg => svg.clientWidth)""")
    assert len(sizes) == 4 and min(sizes) > 330


def test_the_band_lies_between_what_is_proved_and_what_is_broken(
    browser: Any, tmp_path: pathlib.Path
) -> None:
    model = perceptron(random_layers(36, 12, 3, seed=3))
    labels = np.asarray(model(to_float(LEVELS))).argmax(axis=1)
    labels[0] = (labels[0] + 1) % 3
    options: dict[str, Any] = {"epsilons": EPSILONS, "num_steps": 5, "progress": False}
    folder = tmp_path / "it"
    evaluate(model, LEVELS, labels, certify=True, folder=folder, **options)
    with (folder / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    proved = np.array([float(row["proved_radius"]) for row in rows])
    broken = np.array([float(row["broken_radius"] or "inf") for row in rows])
    certified = [(proved >= epsilon).mean() for epsilon in EPSILONS]
    unbroken = [(broken > epsilon + 1e-6).mean() for epsilon in EPSILONS]
    assert certified != unbroken
    for width, dark in ((1400, False), (400, True)):
        show(browser, folder, width, dark=dark)
        (bottom, *_, top), points, line = browser.execute_script("""
            const chart = document.getElementById("robust");
            const grid = [...chart.querySelectorAll("line.grid")].slice(0, 5);
            const places = (each) => [...each.points].map(point => point.y);
            return [grid.map(line => +line.getAttribute("y1")),
                    places(chart.querySelector("polygon")),
                    places(chart.querySelector("polyline[data-name='certified (crown)']"))];""")
        heights = (bottom - np.array(points)) / (bottom - top)
        np.testing.assert_allclose(heights, [*unbroken, *certified[::-1]], atol=2e-3)
        shares = (bottom - np.array(line)) / (bottom - top)
        np.testing.assert_allclose(shares, certified, atol=2e-3)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    cells = browser.execute_script("""
        return [...document.querySelectorAll("table.band td[data-what]")]
          .map(td => [Number(td.parentNode.dataset.epsilon), td.dataset.what,
                      td.firstChild.textContent]);""")
    told = {(epsilon, what): text for epsilon, what, text in cells}
    for epsilon, low, high in zip(EPSILONS, certified, unbroken):
        for what, share in (("certified", low), ("open", high - low), ("broken", 1 - high)):
            assert told[epsilon, what] == f"{share:.2%}"
    first = browser.find_element("css selector", "#gallery-mosaic button:nth-child(2)")
    assert f"proved up to {proved[1]:.3g}" in first.text
    # A click on the name takes the band away.
    browser.find_element("xpath", "//button[text()='neither proved nor broken']").click()
    assert not browser.find_elements("css selector", "#robust polygon[fill='var(--certified)']")
    assert not browser.get_log("browser")
