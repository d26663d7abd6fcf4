"""Do once what users do, where the package is installed alone, without any extra: `make smoke`.

    python tests/smoke.py

Every command is run, on every kind of file that can be made without an extra. Nothing here is
collected by pytest, whose environment has all extras and so cannot see that one is missing.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

# Python puts this folder first, and tests/keras would stand for Keras.
sys.path[:] = [place for place in sys.path if pathlib.Path(place).name != "tests"]

# Of the test extra. With one of them here, this would prove nothing.
EXTRAS = ("tf_keras", "onnx", "sklearn", "pytest", "hypothesis", "distributed")


SCRIPT = pathlib.Path(sys.executable).parent / "mnist-adv"


def run(command: str, *arguments: str) -> Any:
    """Run a command of what was installed, and return what it prints with --json."""
    print(f"{SCRIPT.name} {command} {' '.join(arguments)}", flush=True)
    done = subprocess.run(
        [SCRIPT, command, *arguments, "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode or not done.stdout.startswith("{"):
        sys.exit(f"exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def save_models() -> list[str]:
    """Save what Keras 3 and TensorFlow save, in the current folder."""
    import keras
    import numpy as np
    import tensorflow as tf

    import mnist_adv

    layers = keras.layers
    train = mnist_adv.load("mnist", "train")
    net = keras.Sequential([
        keras.Input((28, 28, 1)),
        layers.Conv2D(4, 3, strides=2, activation="relu"),
        layers.BatchNormalization(),
        layers.MaxPool2D(),
        layers.Flatten(),
        layers.Dropout(0.1),
        layers.Dense(10, activation="softmax"),
    ])
    net.compile("adam", "sparse_categorical_crossentropy")
    net.fit(train.images[:5000], train.labels[:5000], epochs=2, batch_size=50, verbose=0)
    net.save("net.keras")
    net.save("net.h5")
    net.export("net", verbose=False)

    module = tf.Module()
    with np.load("weights.npz") as weights:
        np.save("W.npy", weights["W"])
        np.save("b.npy", weights["b"])
        module.W, module.b = tf.Variable(weights["W"]), tf.Variable(weights["b"])
    tf.saved_model.save(
        module,
        "module",
        signatures=tf.function(
            lambda pixels: {"scores": tf.nn.softmax(pixels @ module.W + module.b)},
            input_signature=[tf.TensorSpec([None, 784])],
        ),
    )
    return ["net.keras", "net.h5", "net", "module", "W.npy,b.npy"]


def refuse_onnx() -> None:
    """Check that the extra is named that an ONNX file needs."""
    # An empty graph of opset 21.
    pathlib.Path("net.onnx").write_bytes(bytes.fromhex("0808 3a00 4202 1015"))
    done = subprocess.run(
        [SCRIPT, "attack", "--model=net.onnx"], capture_output=True, text=True, check=False
    )
    if done.returncode != 2 or "pip install 'mnist_adv[onnx]'" not in done.stderr:
        sys.exit(f"ONNX must be refused by the extra's name. Received: {done.stderr}")


def main() -> None:
    """Run everything in a folder of its own, and leave nothing there."""
    found = [name for name in EXTRAS if importlib.util.find_spec(name)]
    if found:
        sys.exit(f"must run where the package is installed without extras; here is {found}")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run("train", "--num_epochs=1")
        for name in ("tf1/model.ckpt", "weights.npz", "weights.keras"):
            run("convert", f"--destination={name}")
        run("convert", "--source=tf1/model.ckpt", "--destination=again", "--format=checkpoint")
        files = ["again", "tf1/model.ckpt", "weights.npz", "weights.keras", *save_models()]
        for number, name in enumerate(files):
            record = run("attack", "--target=2", f"--model={name}", f"--name={number}")
            if not (record["success"] and record["after"]["prediction"] == 2):
                sys.exit(f"the 7 must become a 2. Received: {record}")
        refuse_onnx()
        run("list")
        run("doctor", "--model=net.keras")
        run("evaluate", "--model=net", "--num_images=20", "--epsilons=0.1,0.2")
        run("evaluate", "--num_images=200", "--attack=fgsm")
    print("all of it works with the package alone")


if __name__ == "__main__":
    main()
