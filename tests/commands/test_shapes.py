"""The commands on colour images, classes with names, and pictures of another size."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from mnist_adv.commands import attack as attack_command
from mnist_adv.commands import evaluate as evaluate_command

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]

_CLASSES = ("amber", "blue", "cyan")
_COLOURS = np.array([[0.8, 0.5, 0.1], [0.1, 0.2, 0.8], [0.1, 0.7, 0.8]])


def _photos(count: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(count)
    labels = np.arange(count) % 3
    noise = random.normal(0, 0.12, (count, *shape, 3))
    return np.clip(_COLOURS[labels][:, None, None] + noise, 0, 1).astype(np.float32), labels


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A trained net of photos 12 high and 10 wide, and a folder of larger ones."""
    folder = tmp_path_factory.mktemp("studio")
    keras.utils.set_random_seed(1)
    net = keras.Sequential([
        keras.Input((12, 10, 3)),
        keras.layers.Conv2D(6, 3, activation="relu"),
        keras.layers.AveragePooling2D(2),
        keras.layers.Flatten(),
        keras.layers.Dense(3, activation="softmax"),
    ])
    images, labels = _photos(300, (12, 10))
    net.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    net.fit(images, labels, epochs=20, batch_size=30, verbose=0)
    assert net.evaluate(images, labels, verbose=0)[1] > 0.95
    net.save(folder / "net.keras")
    large, labels = _photos(12, (24, 30))
    for number, (photo, label) in enumerate(zip(large, labels)):
        path = folder / "photos" / _CLASSES[label] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(255 * photo).astype(np.uint8)).save(path)
    (folder / "names.txt").write_text("amber\ndeep blue, navy\ncyan\n")
    return folder


@pytest.fixture
def here(studio: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: Any) -> pathlib.Path:
    """Work in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("net.keras", "photos", "names.txt"):
        (tmp_path / name).symlink_to(studio / name)
    return tmp_path


def _attack(*flags: str) -> int:
    return attack_command.main(["attack.py", "--model=net.keras", *flags])


def test_an_image_of_a_folder_is_attacked(here: pathlib.Path, capsys: Capture) -> None:
    assert _attack("--dataset=photos", "--index=3", "--target=blue", "--save_iterates") == 0
    said = capsys.readouterr().out
    assert "photos: images" not in said  # of several sizes, perhaps: nothing to say of all
    assert "photos-test-3, labelled amber: the model sees amber" in said
    folder = here / "results" / "photos-test-3-to-blue"
    record = json.loads((folder / "result.json").read_text())
    with Image.open(folder / "adversarial.png") as saved:
        assert (saved.size, saved.mode) == ((10, 12), "RGB")
        levels = np.asarray(saved)
    net = keras.models.load_model("net.keras")
    assert net(levels[None] / 255.0)[0].numpy().argmax() == 1
    assert record["image"] == {"dataset": "photos", "split": "test", "index": 3, "label": 0}


def test_a_photo_is_fitted_to_the_model(here: pathlib.Path, capsys: Capture) -> None:
    flags = ("--image=photos/amber/00.png", "--class_names=names.txt", "--target=navy")
    assert _attack(*flags, "--label=amber") == 0
    said = capsys.readouterr().out
    assert "read 30 x 24 pixels, cut to its middle, resized to 12 x 10" in said
    assert "labelled amber" in said and "seen as deep blue, navy" in said


def test_the_panda_that_became_a_vulture(here: pathlib.Path, capsys: Capture) -> None:
    keras.utils.set_random_seed(4)
    net = keras.applications.MobileNet((64, 64, 3), alpha=0.25, weights=None, classes=6)
    photos = np.random.default_rng(0).random((16, 64, 64, 3), np.float32)
    for layer in net.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # one batch gives it the statistics that training would
    net(2 * photos - 1, training=True)
    net.save("mobilenet.keras")
    wordnet = {str(k): [f"n0000000{k}", name] for k, name in enumerate("abcdef")}
    wordnet["0"][1], wordnet["3"][1] = "giant_panda", "vulture"
    pathlib.Path("index.json").write_text(json.dumps(wordnet))
    flags = ["--model=mobilenet.keras", "--pixel_scale=tf", "--class_names=index.json"]
    flags += ["--image=photos/cyan/02.png", "--name=panda"]
    assert attack_command.main(["attack.py", *flags, "--target=vulture"]) == 0
    said = capsys.readouterr().out
    assert "resized to 64 x 64" in said and "the saved image is seen as vulture" in said
    with Image.open(here / "results/panda/adversarial.png") as saved:
        scaled = keras.applications.mobilenet.preprocess_input(np.asarray(saved, np.float32)[None])
    assert net(scaled, training=False).numpy().argmax() == 3


def test_a_data_set_must_be_named(here: pathlib.Path, capsys: Capture) -> None:
    assert _attack("--target=1") == 2
    message = "net.keras takes images 12 x 10 x 3 of 3 classes; name their data set"
    assert message in capsys.readouterr().err
    assert _attack("--dataset=photos", "--target=bleu") == 2
    assert "no class is called 'bleu'; did you mean blue?" in capsys.readouterr().err
    assert _attack("--dataset=mnist", "--target=1") == 2
    assert "mnist has images of class 9 (9), and net.keras the classes 0 to 2" in (
        capsys.readouterr().err
    )
    assert _attack("--dataset=photos", "--class_names=net.keras") == 2
    assert "net.keras is no text of class names" in capsys.readouterr().err
    pathlib.Path("two.txt").write_text("a\nb\n")
    assert _attack("--dataset=photos", "--class_names=two.txt") == 2
    assert "class names must be 3" in capsys.readouterr().err
    assert _attack("--dataset=photos", "--pixel_scale=torch", "--image=photos/amber/00.png") == 2
    assert "--image takes the place of --dataset" in capsys.readouterr().err


def test_a_folder_is_evaluated_by_several_processes(here: pathlib.Path, capsys: Capture) -> None:
    flags = ["--model=net.keras", "--dataset=photos", "--epsilons=0,0.3", "--num_images=10"]
    flags += ["--attack=pgd,blend", "--chunk_size=4"]
    assert evaluate_command.main(["evaluate.py", *flags, "--name=one"]) == 0
    assert evaluate_command.main(["evaluate.py", *flags, "--name=two", "--jobs=2"]) == 0
    one, two = (here / "results" / name / "results.npz" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    arrays = np.load(one)
    assert arrays["label"].tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    chunk = np.load(next((here / "results" / "one" / "chunks").glob("*.npz")))
    assert chunk["levels"].shape[2:] == (12, 10, 3)
    assert "severe" not in capsys.readouterr().out
