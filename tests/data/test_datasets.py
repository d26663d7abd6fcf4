"""The data: byte for byte, in the original order, and the same pairs as TFDS."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import itertools
import pathlib
import struct
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mnist_adv.data import datasets, idx, tfds_sets

pytestmark = pytest.mark.slow

FOLDER = pathlib.Path(datasets.__file__).parent / "mnist"


def test_files_are_those_that_tfds_registers() -> None:
    import tensorflow_datasets as tfds

    builder = tfds.builder("mnist", data_dir="/nonexistent")
    registered = {
        pathlib.PurePosixPath(url).name: info.checksum for url, info in builder.url_infos.items()
    }
    ours = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in FOLDER.glob("*.gz")
    }
    assert len(ours) == 4
    assert ours == {name: registered[name] for name in ours}


def test_test_images_are_in_the_original_order(test_set: datasets.Dataset) -> None:
    assert test_set.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert test_set.images.shape == (10000, 28, 28, 1)
    assert test_set.images.dtype == np.float32
    assert (test_set.images.min(), test_set.images.max()) == (0, 1)
    assert test_set.class_names == tuple("0123456789")


def test_tfds_gives_the_same_pairs(
    tmp_path: pathlib.Path,
    test_set: datasets.Dataset,
    train_set: datasets.Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def pairs(dataset: datasets.Dataset) -> list[bytes]:
        levels = np.rint(255 * dataset.images).astype(np.uint8).reshape(len(dataset.labels), -1)
        return sorted(np.c_[levels, dataset.labels.astype(np.uint8)].view("V785").ravel().tolist())

    # TFDS prepares every image of every split, which would take most of this test's time.
    import tensorflow_datasets as tfds

    builder = type(tfds.builder("mnist", data_dir=str(tmp_path)))
    generate = builder._generate_examples

    def some(self: Any, **files: Any) -> Iterator[Any]:
        return itertools.islice(generate(self, **files), 1000)

    monkeypatch.setattr(builder, "_generate_examples", some)
    for split, whole in (("test", test_set), ("train", train_set)):
        prepared = tfds_sets.open_tfds("mnist", str(tmp_path), str(FOLDER))[split]
        levels, labels = prepared.read(0, prepared.count)
        theirs = datasets.Dataset(
            datasets.to_float(np.asarray(levels)), labels, prepared.class_names
        )
        ours = dataclasses.replace(whole, images=whole.images[:1000], labels=whole.labels[:1000])
        assert pairs(theirs) == pairs(ours)
        assert theirs.class_names == ours.class_names


def test_to_float_maps_every_level_to_its_255th() -> None:
    levels = np.arange(256, dtype=np.uint8)
    pixels = datasets.to_float(levels)
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, (np.arange(256) / 255).astype(np.float32))
    with pytest.raises(ValueError, match=r"levels must be uint8\. Received: dtype=float32"):
        datasets.to_float(pixels)


def write_idx(path: pathlib.Path, content: bytes) -> pathlib.Path:
    path.write_bytes(gzip.compress(content))
    return path


def test_read_idx_reads_what_the_header_says(tmp_path: pathlib.Path) -> None:
    header = b"\x00\x00\x08\x02" + struct.pack(">II", 2, 3)
    read = idx.read_idx(write_idx(tmp_path / "good.gz", header + bytes(range(6))))
    np.testing.assert_array_equal(read, [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\x00\x08\x01\x00\x00\x00\x05abc", "must hold 5 bytes after its header. Received: 3"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x00", "not an IDX file of unsigned bytes"),
        (b"", "not an IDX file of unsigned bytes"),
        (b"\x00\x00\x08\x03\x00\x00", "not an IDX file of unsigned bytes"),
    ],
)
def test_read_idx_names_a_wrong_file(tmp_path: pathlib.Path, content: bytes, message: str) -> None:
    path = write_idx(tmp_path / "wrong.gz", content)
    with pytest.raises(ValueError, match=message) as caught:
        idx.read_idx(path)
    assert str(path) in str(caught.value)


def test_read_idx_names_a_damaged_file(tmp_path: pathlib.Path) -> None:
    whole = (FOLDER / "t10k-labels-idx1-ubyte.gz").read_bytes()
    path = tmp_path / "cut.gz"
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"cut\.gz is damaged"):
        idx.read_idx(path)
    path.write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="not an IDX file of unsigned bytes: it starts b'no g'"):
        idx.read_idx(path)


def test_idx_is_unpacked_as_far_as_its_header_says(tmp_path: pathlib.Path) -> None:
    header = struct.pack(">4B3I", 0, 0, 8, 3, 20_000, 28, 28)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(header + bytes(20_000 * 784)))
    with pytest.raises(ValueError, match=r"asks for 15,680,016 bytes for its array, and holds"):
        idx.read_idx(path)
    few = struct.pack(">4BI", 0, 0, 8, 1, 5)
    path.write_bytes(gzip.compress(few + bytes(10_000_000)))
    with pytest.raises(ValueError, match=r"must hold 5 bytes after its header. Received: more"):
        idx.read_idx(path)
    path.write_bytes(gzip.compress(few[:6]) + gzip.compress(few[6:] + b"abcde"))  # in two parts
    assert idx.read_idx(path).tobytes() == b"abcde"


def test_no_flip_of_a_gzip_changes_what_is_read(tmp_path: pathlib.Path) -> None:
    labels = np.random.default_rng(0).integers(0, 10, 100).astype(np.uint8)
    whole = gzip.compress(struct.pack(">4BI", 0, 0, 8, 1, 100) + labels.tobytes())
    path = tmp_path / "labels.gz"
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with contextlib.suppress(ValueError):
            np.testing.assert_array_equal(idx.read_idx(path), labels)


def test_load_refuses_what_it_cannot_load(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"split must be one of train, test\. Received: 'dev'"):
        datasets.load("mnist", "dev")
    with pytest.raises(ValueError, match="mnist comes with the package"):
        datasets.load("mnist", data_dir="somewhere")
    with pytest.raises(ValueError, match="Received: 'no_such_set'"):
        datasets.load("no_such_set")
    with pytest.raises(ValueError, match="'coco' with images None and None classes"):
        datasets.load("coco", data_dir=str(tmp_path))


class FakeBuilder:
    """A TFDS builder of one image that is marked at row 3, column 20."""

    class info:
        """Its metadata."""

        features = {
            "image": types.SimpleNamespace(shape=(28, 28, 1), np_dtype=np.uint8),
            "label": types.SimpleNamespace(num_classes=37, names=[str(k) for k in range(37)]),
        }
        supervised_keys = ("image", "label")
        splits = {"test": types.SimpleNamespace(num_examples=1)}

    failure: Exception | None = None
    asked: str | None = None

    def download_and_prepare(self, download_config: object) -> None:
        """Fail if told to."""
        if self.failure:
            raise self.failure

    def as_dataset(self, split: str, **_: object) -> tuple[np.ndarray, np.ndarray]:
        """Give the image and its label."""
        self.asked = split
        levels = np.zeros((1, 28, 28, 1), np.uint8)
        levels[0, 3, 20] = 255
        return levels, np.array([5])


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBuilder]:
    """The builder that TFDS will hand out, whatever the name."""
    import tensorflow_datasets as tfds

    fake = FakeBuilder()
    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: fake)
    monkeypatch.setattr(tfds, "as_numpy", lambda pairs: pairs)
    tfds_sets.open_tfds.cache_clear()
    yield fake
    tfds_sets.open_tfds.cache_clear()


def test_emnist_is_turned_upright(builder: FakeBuilder) -> None:
    upright = datasets.load("emnist/letters")
    assert upright.images[0, 20, 3, 0] == 1 and upright.images.sum() == 1
    assert len(upright.class_names) == 37
    assert datasets.load("kmnist").images[0, 3, 20, 0] == 1


def test_without_network_the_remedy_is_named(builder: FakeBuilder) -> None:
    builder.failure = ConnectionError("no route to host\nand much more")
    message = "TFDS cannot prepare 'kmnist': no route to host. Without network, .* manual_dir"
    with pytest.raises(OSError, match=message):
        datasets.load("kmnist")


def test_a_source_loads_what_its_fields_name(test_set: datasets.Dataset) -> None:
    source = datasets.DataSource("mnist", "test")
    part = source.load((3, 5))
    np.testing.assert_array_equal(part.images, test_set.images[3:5])
    assert part.labels.tolist() == [0, 4]
    assert (source.count(), datasets.DataSource(split="train").count()) == (10_000, 60_000)
    for use in (datasets.DataSource.load, datasets.DataSource.count):
        with pytest.raises(ValueError, match="split must be one of train, test"):
            use(datasets.DataSource(split="dev"))
