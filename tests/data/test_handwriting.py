"""Pictures of digits, brought to MNIST's form."""

from __future__ import annotations

import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnist_adv import read_digit
from mnist_adv.data.datasets import Dataset, to_float
from mnist_adv.data.pictures import read_levels
from mnist_adv.models.softmax_regression import SoftmaxRegression


def stroke(
    size: tuple[int, int], paper: int, ink: int, at: tuple[int, int, int, int]
) -> Image.Image:
    picture = Image.new("L", size, paper)
    ImageDraw.Draw(picture).rectangle(at, fill=ink)
    return picture


def save(picture: Image.Image, path: pathlib.Path) -> pathlib.Path:
    picture.save(path)
    return path


@pytest.mark.parametrize(
    ("paper", "ink", "inverted"),
    [(255, 0, True), (0, 255, False), (230, 40, True), (30, 150, False)],
)
def test_size_centre_and_polarity(
    tmp_path: pathlib.Path, paper: int, ink: int, inverted: bool
) -> None:
    # a bar of 30 x 90 in the corner of 200 x 150: 20 rows high, 7 columns wide, centred
    picture = stroke((200, 150), paper, ink, (5, 5, 34, 94))
    digit = read_digit(save(picture, tmp_path / "bar.png"))
    pixels = digit.levels[..., 0].astype(float)
    assert digit.levels.shape == (28, 28, 1) and digit.levels.dtype == np.uint8
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    assert (rows[0], rows[-1], columns[-1] - columns[0] + 1) == (4, 23, 7)
    assert pixels.max() == 255
    for axis in (0, 1):
        mass = pixels.sum(axis=1 - axis)
        assert abs((mass * (np.arange(28) + 0.5)).sum() / mass.sum() - 14) <= 0.5
    assert any("inverted" in done for done in digit.done) is inverted


def test_a_digit_blown_up_and_inverted_is_still_seen(
    tmp_path: pathlib.Path, test_set: Dataset, trained: SoftmaxRegression
) -> None:
    right = 0
    for index in range(40):
        levels = np.rint(255 * test_set.images[index, ..., 0]).astype(np.uint8)
        large = Image.fromarray(255 - levels).resize((300, 300), Image.Resampling.BICUBIC)
        sheet = Image.new("RGB", (500, 640), "white")
        sheet.paste(large, (150, 60))
        digit = read_digit(save(sheet, tmp_path / "digit.jpg"))
        seen = trained(to_float(digit.levels)[np.newaxis]).numpy().argmax()
        right += seen == test_set.labels[index]
    assert right >= 36


def test_a_28_by_28_picture_keeps_its_levels(tmp_path: pathlib.Path, test_set: Dataset) -> None:
    levels = np.rint(255 * test_set.images[3, ..., 0]).astype(np.uint8)
    kept = read_digit(save(Image.fromarray(levels), tmp_path / "as_is.png"))
    np.testing.assert_array_equal(kept.levels[..., 0], levels)
    turned = read_digit(save(Image.fromarray(255 - levels), tmp_path / "dark.png"))
    np.testing.assert_array_equal(turned.levels[..., 0], levels)


@pytest.mark.parametrize("ink", ["black", "white"])
def test_transparent_paper(tmp_path: pathlib.Path, ink: str) -> None:
    picture = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    ImageDraw.Draw(picture).rectangle((40, 10, 60, 90), fill=ink)
    digit = read_digit(save(picture, tmp_path / "clear.png"))
    assert digit.levels[14, 14, 0] == 255 and digit.levels[0, 0, 0] == 0


def test_no_flip_of_a_png_changes_its_pixels(tmp_path: pathlib.Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8))
    path = save(picture, tmp_path / "noise.png")
    whole, levels, refused = path.read_bytes(), read_levels(path), 0
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            found = read_levels(path)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
        else:
            np.testing.assert_array_equal(found, levels)
    assert refused > 0.98 * len(whole)


def test_a_small_file_of_many_pixels_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "bomb.png"
    header = struct.pack(">2L5B", 12_000, 12_000, 8, 0, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(bytes(10_000)), b"IEND": b""}
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))
            for kind, data in chunks.items()
        )
    )
    with pytest.raises(ValueError, match=r"at most 50,000,000 pixels\. Received: 12000 x 12000"):
        read_digit(path)


def test_what_is_no_digit_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*missing\.png"):
        read_digit(tmp_path / "missing.png")
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    with pytest.raises(ValueError, match=r"text\.png is not a readable PNG or JPEG picture"):
        read_digit(text)
    whole = save(stroke((100, 100), 255, 0, (40, 10, 60, 90)), tmp_path / "whole.png")
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:-60])
    with pytest.raises(ValueError, match=r"cut\.png is damaged \(it ends within a chunk\)"):
        read_digit(cut)
    with pytest.raises(ValueError, match=r"blank\.png shows no digit"):
        read_digit(save(Image.new("L", (100, 100), 200), tmp_path / "blank.png"))
