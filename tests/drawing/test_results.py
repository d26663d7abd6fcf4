"""Results show themselves: in a line, as a picture, as a data frame."""

from __future__ import annotations

import base64
import io
import re
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnist_adv import attack, smallest_perturbation
from mnist_adv.attacks import AttackResult
from mnist_adv.drawing.pairs import Picture
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.optimum import Optimum


@pytest.fixture
def result(toy: SoftmaxRegression, test_set: Any) -> AttackResult:
    """Ten images, some of which reach their target."""
    return attack(toy, test_set.images[:10], targets=3, epsilon=0.06, step_size=0.03)


@pytest.fixture
def optimum(toy: SoftmaxRegression, test_set: Any) -> Optimum:
    """The same question, solved."""
    weights = toy.W.numpy(), toy.b.numpy()
    return smallest_perturbation(*weights, test_set.images[:3], targets=3, norm="linf")


def shown(picture: Picture) -> list[Any]:
    """What the axes of a picture show."""
    return [np.asarray(axis.images[0].get_array()) for axis in picture.axes]


def test_the_line_has_shape_success_and_distance(result: AttackResult) -> None:
    success = int(result.success.sum())
    assert 0 < success < 10
    middle = np.median(result.verdict.norms["linf"][result.success])
    assert repr(result) == (
        f"AttackResult(pgd, targeted, linf <= 0.06: {success} of 10 images 28 x 28 x 1 succeed, "
        f"median linf {middle:.3g})"
    )


def test_the_line_without_success_has_no_distance(toy: SoftmaxRegression, seven: Any) -> None:
    missed = attack(toy, seven, targets=3, epsilon=[1e-6], num_steps=1)
    assert repr(missed).endswith(
        "linf within a budget per image: 0 of 1 image 28 x 28 x 1 succeeds)"
    )


def test_the_picture_shows_clean_perturbation_and_adversarial(result: AttackResult) -> None:
    picture = result.plot([4, 1])
    images = shown(picture)
    np.testing.assert_allclose(images[0], result.images[4, :, :, 0])
    np.testing.assert_allclose(images[3], result.perturbation[1, :, :, 0], atol=1e-7)
    np.testing.assert_allclose(images[4], result.adversarial[4, :, :, 0])
    titles = [axis.get_title() for axis in picture.axes]
    assert titles[0].startswith(f"{result.verdict.clean_predictions[4]} (")
    assert titles[2] == f"linf {result.verdict.norms['linf'][4]:.3g}"
    for title, index in zip(titles[4:], (4, 1)):
        assert ("missed" in title) is not bool(result.success[index])
    assert len(result.plot().axes) == 3 * 8


def test_a_notebook_shows_line_and_picture(result: AttackResult) -> None:
    html = result._repr_html_()
    assert repr(result).replace("<", "&lt;") in html
    (content,) = re.findall(r"base64,([^\"]+)", html)
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        assert picture.format == "PNG" and picture.size[0] > 1000
    assert base64.b64decode(content) == result.plot()._repr_png_()


@pytest.mark.parametrize("shape", [(6, 6, 3), (4, 9, 1), (3, 5, 2), (2, 40, 1)])
def test_pictures_take_any_shape_and_box(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).uniform(-1, 3, (2, *shape)).astype(np.float32)
    weights = np.random.default_rng(1).normal(size=(int(np.prod(shape)), 3)).astype(np.float32)
    names = ("a very long name of a class", "b", "c")

    def model(batch: Any) -> Any:
        return np.reshape(batch, (len(batch), -1)) @ weights

    labels = model(images).argmax(axis=1)
    found = attack(model, images, labels=labels, method="gaussian_noise", norm="l2", bounds=(-1, 3))
    first = shown(found.plot(class_names=names))[0]
    wanted = (images[0] + 1) / 4
    if shape[2] == 2:
        wanted = wanted.mean(axis=2, keepdims=True)
    np.testing.assert_allclose(first.reshape(wanted.shape), wanted, atol=1e-6)
    assert found.plot(class_names=names).png().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"indices": [10]}, "indices must be integers from 0 to 9, at least one. Received: [10]"),
        ({"indices": []}, "at least one. Received: []"),
        ({"indices": [-1]}, "from 0 to 9"),
        ({"class_names": ["a"]}, "class_names must be 10 names. Received: 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    result: AttackResult, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        result.plot(**settings)


def test_an_optimum_shows_itself(optimum: Optimum) -> None:
    middle = np.median(optimum.upper_bound)
    assert repr(optimum) == f"Optimum(targeted, linf: 3 optimal, median distance {middle:.4g})"
    picture = optimum.plot()
    np.testing.assert_allclose(shown(picture)[3], optimum.perturbation[0, :, :, 0])
    assert [axis.get_title() for axis in picture.axes][6:] == ["3\noptimal"] * 3
    assert "base64," in optimum._repr_html_()


def test_an_optimum_that_is_infeasible_says_so() -> None:
    weights = np.array([[1.0, 0.0], [1.0, 0.0]])
    none = smallest_perturbation(weights, [5, 0], [[0.1, 0.2]], targets=1)
    assert repr(none) == "Optimum(targeted, l2: 1 infeasible)"
    titles = [axis.get_title() for axis in none.plot().axes]
    assert titles[1:] == ["none found", "unchanged\ninfeasible"]


def test_data_frames_have_a_row_per_image(result: AttackResult, optimum: Optimum) -> None:
    pytest.importorskip("pandas", reason="the test extra has it")
    table = result.to_dataframe()
    assert list(table["success"]) == list(result.success)
    assert list(table["linf"]) == list(result.verdict.norms["linf"])
    assert set(table["epsilon"]) == {0.06} and set(table["goal"]) == {"reach"}
    row = table.iloc[2]
    assert row["probability"] == result.verdict.probabilities[2].max()
    assert list(optimum.to_dataframe()["upper_bound"]) == list(optimum.upper_bound)


def test_without_pandas_the_error_says_how_to_get_it(
    result: AttackResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'mnist_adv\[notebook\]'"):
        result.to_dataframe()


def test_show_opens_the_picture(result: AttackResult, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[int, int]] = []
    monkeypatch.setattr(Image.Image, "show", lambda image: opened.append(image.size))
    result.plot([0]).show()
    with Image.open(io.BytesIO(result.plot([0]).png())) as picture:
        assert opened == [picture.size]
