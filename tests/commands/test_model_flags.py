"""The commands with models from elsewhere: --checkpoint, --model, --doctor, and convert.py."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv.commands import attack as attack_command
from mnist_adv.commands import convert as convert_command
from mnist_adv.commands import evaluate as evaluate_command
from mnist_adv.commands import train as train_command
from mnist_adv.models.softmax_regression import SoftmaxRegression

pytestmark = pytest.mark.slow

Attack = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def attack(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Attack:
    """Run attack.py --target 2 in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *flags: attack_command.main(["attack.py", "--target=2", *flags])


@pytest.fixture
def checkpoint(tmp_path: pathlib.Path, trained: SoftmaxRegression) -> str:
    """The trained weights as the question's program would have saved them."""
    return _save(tmp_path / "model.ckpt", trained.W, trained.b)


def _save(prefix: pathlib.Path, weights: tf.Tensor, bias: tf.Tensor) -> str:
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=["Variable", "Variable_1"],
        shape_and_slices=["", ""],
        tensors=[tf.convert_to_tensor(weights), tf.convert_to_tensor(bias)],
    )
    return str(prefix)


def test_the_questions_checkpoint_is_attacked(
    attack: Attack, checkpoint: str, tmp_path: pathlib.Path, capsys: Capture
) -> None:
    assert attack(f"--checkpoint={checkpoint}") == 0
    lines = capsys.readouterr().out.splitlines()
    taken = "took Variable [784, 10] as weights and Variable_1 [10] as bias"
    assert lines[0] == f"{checkpoint}: {taken}"
    assert lines[1].startswith("mnist-test-0, labelled 7: the model sees 7 (99.")
    record = json.loads((tmp_path / "results/mnist-test-0-to-2/result.json").read_text())
    assert record["after"]["prediction"] == 2
    assert record["taken"] == [taken] and record["findings"] == []
    assert record["checkpoint"]["prefix"] == checkpoint
    assert len(record["checkpoint"]["sha256"]) == 64


def test_every_kind_of_model_gives_the_same_picture(
    attack: Attack, checkpoint: str, tmp_path: pathlib.Path, trained: SoftmaxRegression
) -> None:
    def convert(destination: str) -> None:
        argv = ["convert.py", f"--source={checkpoint}", f"--destination={destination}"]
        assert convert_command.main(argv) == 0

    convert("my.npz")
    convert("my.keras")
    tf.saved_model.save(
        trained,
        "folder",
        signatures=tf.function(
            lambda images: {"logits": trained(images)},
            input_signature=[tf.TensorSpec([None, 28, 28, 1], tf.float32)],
        ),
    )
    pathlib.Path("my_module_for_test.py").write_text(
        "import mnist_adv\n"
        f"model = mnist_adv.open_model({checkpoint!r}).model\n"
        "def logits(images):\n"
        "    return model(images)\n"
    )
    pictures = []
    for model in (checkpoint, "my.npz", "my.keras", "folder", "my_module_for_test:logits"):
        assert attack(f"--model={model}") == 0
        pictures.append((tmp_path / "results/mnist-test-0-to-2/adversarial.png").read_bytes())
    assert len(set(pictures)) == 1


def test_doctor_says_that_nothing_was_found(
    attack: Attack, checkpoint: str, capsys: Capture
) -> None:
    assert attack(f"--checkpoint={checkpoint}", "--doctor") == 0
    assert "doctor: nothing found\n" in capsys.readouterr().out


def test_severe_findings_appear_unasked_and_the_flag_they_name_mends_them(
    attack: Attack, tmp_path: pathlib.Path, trained: SoftmaxRegression, capsys: Capture
) -> None:
    # What training on dark digits on light paper would have given.
    bias = trained.b + tf.reduce_sum(trained.W, axis=0)
    checkpoint = _save(tmp_path / "paper.ckpt", -trained.W, bias)
    assert attack(f"--checkpoint={checkpoint}") == 2
    said = capsys.readouterr()
    assert "doctor: severe: clean accuracy is" in said.out
    stopped = said.err.strip()
    assert stopped.startswith(f"attack.py: error: {checkpoint}: severe: clean accuracy is")
    assert "give --pixel_scale=unit --polarity=dark_on_light" in stopped
    assert stopped.endswith("or attack it nevertheless with --anyway")
    assert not (tmp_path / "results").exists()
    few = ["--num_images=5", "--epsilons=0.1", f"--checkpoint={checkpoint}"]
    assert evaluate_command.main(["evaluate.py", *few]) == 2
    assert "give --pixel_scale=unit --polarity=dark_on_light" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
    attack(f"--checkpoint={checkpoint}", "--anyway")
    assert "doctor: severe: clean accuracy is" in capsys.readouterr().out
    record = next((tmp_path / "results").glob("*/result.json"))
    assert "dark_on_light" in json.loads(record.read_text())["findings"][0]
    assert attack(f"--checkpoint={checkpoint}", "--polarity=dark_on_light", "--doctor") == 0
    out = capsys.readouterr().out
    assert "doctor: nothing found" in out and "labelled 7: the model sees 7" in out


def test_a_source_without_gradients_needs_no_gradient(
    attack: Attack, checkpoint: str, capsys: Capture
) -> None:
    pathlib.Path("rounding_for_test.py").write_text(
        "import tensorflow as tf\n"
        "import mnist_adv\n"
        f"inner = mnist_adv.open_model({checkpoint!r}).model\n"
        "def model(images):\n"
        "    return inner(tf.stop_gradient(images))\n"
    )
    assert attack("--model=rounding_for_test:model") == 2
    said = capsys.readouterr().err
    assert "no gradient flows; the sources forward_difference, central_difference" in said
    assert said.count("\n") == 1 and "and so do the attacks square" in said
    assert attack("--model=rounding_for_test:model", "--source=forward_difference") == 0


def test_probabilities_of_a_function_are_attacked_through_their_logarithm(
    attack: Attack, capsys: Capture
) -> None:
    pathlib.Path("softmaxed_for_test.py").write_text(
        "import tensorflow as tf\n"
        "W = tf.random.stateless_normal([784, 10], [0, 0])\n"
        "def model(images):\n"
        "    return tf.nn.softmax(tf.reshape(images, [-1, 784]) @ W)\n"
    )
    attack("--model=softmaxed_for_test:model", "--epsilon=0.5")
    assert "their logarithm is taken as logits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--checkpoint=nowhere.ckpt",), "no checkpoint nowhere.ckpt"),
        (("--model=nowhere.keras",), "no file nowhere.keras"),
        (("--model=nowhere:f",), "cannot import nowhere"),
        (("--checkpoint=a", "--model=b"), "--checkpoint and --model both name a model"),
        (("--checkpoint=a", "--checkpoint_dir=b"), "both name a model"),
        (("--polarity=dark_on_light",), "--polarity goes with --checkpoint or --model"),
        (("--checkpoint=a", "--activation=gelu"), "--activation"),
        (("--checkpoint={}", "--variables=W=nowhere"), "holds no 'nowhere'"),
        (("--checkpoint={}", "--variables=Variable"), "must be W=NAME,b=NAME"),
    ],
)
def test_what_cannot_be_carried_out_is_one_line_and_exit_2(
    attack: Attack, checkpoint: str, capsys: Capture, flags: tuple[str, ...], message: str
) -> None:
    assert attack(*(flag.format(checkpoint) for flag in flags)) == 2
    said = capsys.readouterr().err
    assert message in said and said.startswith("attack.py: error: ")
    assert said.count("\n") == 1


def test_convert_there_and_back(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    workshop: pathlib.Path,
    trained: SoftmaxRegression,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)

    def convert(*flags: str) -> int:
        return convert_command.main(["convert.py", *flags])

    assert convert(f"--source={workshop / 'checkpoints'}", "--destination=model.ckpt") == 0
    out = capsys.readouterr().out
    assert out.endswith("wrote W as Variable, b as Variable_1\nsaved model.ckpt\n")
    names = ["--names=W=weights,b=biases", "--format=npz"]
    assert convert("--source=model.ckpt", "--destination=weights", *names) == 2
    assert "must end in .npz" in capsys.readouterr().err
    assert convert("--source=model.ckpt", "--destination=weights.npz", *names) == 0
    with np.load("weights.npz") as stored:
        assert stored["weights"].tobytes() == trained.W.numpy().tobytes()
    assert convert("--source=weights.npz", "--destination=back", "--format=checkpoint") == 0
    assert attack_command.main(["attack.py", "--target=2", "--checkpoint_dir=back"]) == 0
    capsys.readouterr()
    assert train_command.main(["train.py", "--resume", "--checkpoint_dir=back"]) == 2
    assert "was converted from weights.npz" in capsys.readouterr().err
    assert convert("--source=weights.npz", "--destination=weights.npz") == 2
    assert "weights.npz exists" in capsys.readouterr().err
    assert convert("--source=weights.npz") == 2
    assert "--destination must be given" in capsys.readouterr().err
