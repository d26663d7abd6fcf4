"""Data sets that are folders: of pictures by class, and of the four IDX files."""

from __future__ import annotations

import pathlib
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnist_adv.data import datasets, pictures
from mnist_adv.data.class_names import find_class, fit_class_names, read_class_names
from tests.data.support import write_idx


def _picture(path: pathlib.Path, levels: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(levels, np.uint8)).save(path)


def _flat(colour: tuple[int, int, int], height: int = 6, width: int = 8) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def test_pictures_by_class(tmp_path: pathlib.Path) -> None:
    _picture(tmp_path / "set/zebra/b.png", _flat((1, 2, 3)))
    _picture(tmp_path / "set/ant/z.png", _flat((4, 5, 6)))
    _picture(tmp_path / "set/ant/a.png", _flat((7, 8, 9)))
    (tmp_path / "set/ant/notes.txt").write_text("no picture")
    (tmp_path / "set/.hidden").mkdir()
    found = datasets.load(str(tmp_path / "set"))
    assert found.class_names == ("ant", "zebra") and found.labels.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(np.rint(255 * found.images[:, 0, 0, 0]), [7, 1, 4])
    assert found.images.shape == (3, 6, 8, 3) and found.images.dtype == np.float32
    part = datasets.load("any", manual_dir=str(tmp_path / "set"), rows=(1, 5), shape=(3, 4, 1))
    assert part.images.shape == (2, 3, 4, 1) and part.labels.tolist() == [1, 0]


def test_pictures_by_split_and_class(tmp_path: pathlib.Path) -> None:
    for number, where in enumerate(("train/b", "train/a", "val/b")):
        _picture(tmp_path / where / "x.png", _flat((number, 0, 0)))
    source = datasets.DataSource(str(tmp_path))
    assert source.split_name() == "val" and source.dataset == tmp_path.name
    assert source.load().labels.tolist() == [1] and source.load().class_names == ("a", "b")
    assert datasets.load(str(tmp_path), "train").labels.tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"split must be one of train, val\. Received: 'test'"):
        datasets.load(str(tmp_path), "test")
    donors, labels = source.load_donors()
    assert labels.tolist() == [0, 1] and len(donors) == 2


def test_pictures_of_several_sizes_need_a_shape(tmp_path: pathlib.Path) -> None:
    _picture(tmp_path / "a/1.png", _flat((1, 1, 1)))
    _picture(tmp_path / "b/1.png", _flat((1, 1, 1), 7, 7))
    with pytest.raises(ValueError, match="differ in size; say the shape"):
        datasets.load(str(tmp_path))
    assert datasets.load(str(tmp_path), shape=(5, 5, 3)).images.shape == (2, 5, 5, 3)
    (tmp_path / "b/2.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"2\.jpg is not a readable PNG or JPEG"):
        datasets.load(str(tmp_path), shape=(5, 5, 3))


@pytest.mark.parametrize("level", [1, 9, None])
def test_the_four_files_whoever_compressed_them(
    tmp_path: pathlib.Path, test_set: datasets.Dataset, level: int | None
) -> None:
    folder = tmp_path / "four"
    levels = np.rint(255 * test_set.images[:50, ..., 0])
    for name in ("train", "t10k"):
        write_idx(folder, f"{name}-images-idx3-ubyte", levels, level)
        write_idx(folder, f"{name}-labels-idx1-ubyte", test_set.labels[:50], level)
    for found in (
        datasets.load(str(folder)),
        datasets.load("fashion_mnist", manual_dir=str(folder)),
        datasets.load("mnist", "train", manual_dir=str(folder)),
    ):
        np.testing.assert_array_equal(found.images, test_set.images[:50])
        np.testing.assert_array_equal(found.labels, test_set.labels[:50])
    assert datasets.load(str(folder)).class_names == tuple("0123456789")
    named = datasets.load("fashion_mnist", manual_dir=str(folder), rows=(0, 1))
    assert named.class_names[9] == "Ankle boot"


def test_four_files_that_do_not_fit(tmp_path: pathlib.Path) -> None:
    for name in ("train", "t10k"):
        write_idx(tmp_path / "four", f"{name}-images-idx3-ubyte", np.zeros([3, 5, 4]))
        write_idx(tmp_path / "four", f"{name}-labels-idx1-ubyte", [0, 1])
    with pytest.raises(ValueError, match=r"must hold 2 images, .* Received: shape \[3, 5, 4\]"):
        datasets.load(str(tmp_path / "four"))


def test_a_folder_that_is_no_data_set(tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="a folder of images by class or of the four IDX files"):
        datasets.load(str(tmp_path / "empty"))


def test_tfds_sets_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow_datasets as tfds

    images = [np.full((4 + n, 5, 3), n, np.uint8) for n in range(6)]

    class Builder:
        info = types.SimpleNamespace(
            features={
                "picture": types.SimpleNamespace(shape=(None, None, 3), np_dtype=np.uint8),
                "kind": types.SimpleNamespace(num_classes=2, names=["a", "b"]),
            },
            supervised_keys=("picture", "kind"),
            splits={"train": types.SimpleNamespace(num_examples=6)},
        )

        def download_and_prepare(self, download_config: object) -> None:
            """Do nothing."""

        def as_dataset(self, split: str, **_: object) -> Iterator[Any]:
            """Give the images one by one."""
            first, end = (int(at) for at in split.removeprefix("train[")[:-1].split(":"))
            return ((images[at], at % 2) for at in range(first, end))

    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: Builder())
    monkeypatch.setattr(tfds, "as_numpy", lambda pairs: pairs)
    found = datasets.load("photos_of_a_test", shape=(4, 4, 3), rows=(2, 9))
    assert found.labels.tolist() == [0, 1, 0, 1] and found.class_names == ("a", "b")
    np.testing.assert_array_equal(np.rint(255 * found.images[:, 0, 0, 0]), [2, 3, 4, 5])


def test_fit_cuts_to_the_middle_and_resizes() -> None:
    levels = np.zeros((4, 8, 3), np.uint8)
    levels[:, 2:6] = (30, 60, 90)
    middle = pictures.fit(levels, (4, 4, 3))
    np.testing.assert_array_equal(middle, np.broadcast_to([30, 60, 90], (4, 4, 3)))
    np.testing.assert_array_equal(pictures.fit(levels, (2, 2, 3))[0, 0], [30, 60, 90])
    # ITU-R 601-2, as Pillow computes grey
    grey = round(0.299 * 30 + 0.587 * 60 + 0.114 * 90)
    np.testing.assert_array_equal(pictures.fit(levels, (4, 4, 1)), np.full((4, 4, 1), grey))
    back = pictures.fit(np.full((4, 4, 1), 7, np.uint8), (8, 8, 3))
    np.testing.assert_array_equal(back, np.full((8, 8, 3), 7))
    assert pictures.fit(levels, (4, 8, 3)) is levels
    said = pictures.fitting((4, 8, 3), (2, 2, 1))
    assert said == ["cut to its middle", "resized to 2 x 2", "made grey"]
    with pytest.raises(ValueError, match="must have 1 or 3 channels"):
        pictures.fit(np.zeros((4, 4, 2), np.uint8), (4, 4, 3))


def test_half_as_large_is_the_average() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (64, 64, 1)).astype(np.uint8)
    half = pictures.fit(levels, (32, 32, 1)).astype(int)
    # Bilinear over twice the support: weights 1, 3, 3, 1 in each direction.
    wide = np.pad(levels[..., 0].astype(float), 1, mode="edge")
    weights = np.array([1, 3, 3, 1]) / 8
    rows = sum(w * wide[k : k + 64 : 2] for k, w in enumerate(weights))
    both = sum(w * rows[:, k : k + 64 : 2] for k, w in enumerate(weights))
    np.testing.assert_allclose(half[1:-1, 1:-1, 0], both[1:-1, 1:-1], atol=1)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("tench\n\ngoldfish, Carassius auratus\n", ("tench", "goldfish, Carassius auratus")),
        ("n01440764 tench\nn01443537 goldfish\n", ("tench", "goldfish")),
        ('["tench", "goldfish"]', ("tench", "goldfish")),
        ('{"1": ["n01443537", "goldfish"], "0": ["n01440764", "tench"]}', ("tench", "goldfish")),
        ("{0: 'tench, Tinca tinca',\n 1: 'goldfish'}", ("tench, Tinca tinca", "goldfish")),
    ],
)
def test_names_of_classes(tmp_path: pathlib.Path, text: str, names: tuple[str, ...]) -> None:
    (tmp_path / "names").write_text(text)
    assert read_class_names(tmp_path / "names") == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one", "at least two names"),
        ("a\n\x1b[2J\n", "printable"),
        ("{0: __import__('os')}", "no JSON of class names"),
        ('{"0": "a", "2": "b"}', "must name the classes 0 to 1"),
        ("[1, 2]", "must hold a name for each class"),
    ],
)
def test_names_that_are_refused(tmp_path: pathlib.Path, text: str, message: str) -> None:
    (tmp_path / "names").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_class_names(tmp_path / "names")
    with pytest.raises(FileNotFoundError, match="no file nowhere"):
        read_class_names("nowhere")


def test_classes_are_found_by_number_and_name() -> None:
    names = ("tench, Tinca tinca", "great white shark", "crane", "crane", "7")
    assert [find_class(text, names) for text in ("0", "-1", "12", "7")] == [0, -1, 12, 7]
    assert find_class("Tinca Tinca", names) == find_class("TENCH, tinca tinca", names) == 0
    assert find_class("great_white_shark", names) == 1
    with pytest.raises(ValueError, match="'crane' is the name of the classes 2, 3"):
        find_class("crane", names)
    with pytest.raises(ValueError, match=r"did you mean tench, Tinca tinca\?"):
        find_class("tinch", names)
    with pytest.raises(ValueError, match="there are tench, Tinca tinca, great white"):
        find_class("xyz", names)
    assert fit_class_names("ab", 3) == ("a", "b", "2") and fit_class_names("abc", 2) == ("a", "b")
