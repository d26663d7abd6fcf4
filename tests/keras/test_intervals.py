"""Interval bounds against sampling, and training on them against its formula."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import interval_training as benchmark
from mnist_adv import certify
from mnist_adv.data.datasets import Dataset
from mnist_adv.keras import IntervalBoundTraining
from mnist_adv.keras.intervals import make_chain
from mnist_adv.optimum import robust_accuracy, smallest_perturbation

LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
Layers = keras.layers


def chain_of(*layers: Any, classes: int = 4, end: Any = None) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((8, 8, 2)),
        *layers,
        Layers.Flatten(),
        Layers.Dense(classes, activation=end),
    ])
    generator = np.random.default_rng(1)
    for weights in model.weights:  # batch normalisation's too, its variances above 0
        values = generator.normal(size=weights.shape) / np.sqrt(max(1, weights.shape[0]))
        weights.assign(np.abs(values) + 0.1 if "variance" in weights.path else values)
    return model


def nested() -> Any:
    return keras.Sequential([
        keras.Input((8, 8, 2)),
        Layers.Conv2D(3, 3, activation="tanh"),
        Layers.Dropout(0.5),
    ])


CHAINS: dict[str, Any] = {
    "linear": lambda: chain_of(),
    "dense": lambda: chain_of(Layers.Flatten(), Layers.Dense(9, activation="relu")),
    "conv": lambda: chain_of(
        Layers.Conv2D(3, 3, strides=2, padding="same", activation="relu"),
        Layers.Conv2D(4, 3, dilation_rate=2, padding="same", use_bias=False),
        Layers.LeakyReLU(),
    ),
    "pools": lambda: chain_of(
        Layers.ZeroPadding2D(1), Layers.MaxPooling2D(), Layers.AveragePooling2D(2), Layers.ELU()
    ),
    "normalised": lambda: chain_of(
        Layers.Conv2D(3, 3), Layers.BatchNormalization(), Layers.Activation("sigmoid")
    ),
    "scaled": lambda: chain_of(Layers.Rescaling(-2.0, 0.5), Layers.Conv2D(2, 3, groups=2)),
    "nested": lambda: chain_of(nested(), Layers.GlobalAveragePooling2D()),
    "reshaped": lambda: chain_of(
        Layers.Reshape((64, 2)), Layers.Conv1D(3, 5, activation="softplus"), Layers.MaxPooling1D()
    ),
    "probabilities": lambda: chain_of(Layers.Conv2D(3, 3, activation="relu"), end="softmax"),
}


def logits_of(model: keras.Model, images: np.ndarray) -> np.ndarray:
    outputs = np.asarray(model(images, training=False), np.float64)
    return np.log(outputs) if outputs.min() >= 0 and outputs.sum(axis=1).max() < 1.001 else outputs


@pytest.mark.parametrize("name", CHAINS)
def test_no_sample_is_below_the_bounds(name: str) -> None:
    model = CHAINS[name]()
    generator = np.random.default_rng(0)
    image = generator.uniform(size=(1, 8, 8, 2)).astype(np.float32)
    lower, upper = np.maximum(image - 0.1, 0), np.minimum(image + 0.1, 1)
    chain = make_chain(model)
    assert chain.softmax == (name == "probabilities")
    samples = generator.uniform(lower, upper, (500, 8, 8, 2)).astype(np.float32)
    samples[:250] = np.where(generator.random((250, 8, 8, 2)) < 0.5, lower, upper)
    for label in range(4):
        bound = np.asarray(chain.margins(lower, upper, tf.constant([label])))[0]
        logits = logits_of(model, samples)
        margins = logits[:, [label]] - logits
        assert (margins >= bound - 1e-4).all() and bound[label] == 0
        for rival in set(range(4)) - {label} if name == "linear" else ():
            pixels = tf.constant(image)
            with tf.GradientTape() as tape:
                tape.watch(pixels)
                outputs = model(pixels)
                margin = outputs[0, label] - outputs[0, rival]
            worst = logits_of(model, np.where(tape.gradient(margin, pixels) > 0, lower, upper))[0]
            assert worst[label] - worst[rival] == pytest.approx(bound[rival], abs=1e-4)


CERTIFIED: dict[str, Any] = {
    "dense": CHAINS["dense"],
    "normalised": CHAINS["normalised"],
    "conv": lambda: chain_of(
        Layers.Conv2D(3, 3, strides=2, padding="same", activation="relu"),
        Layers.Conv2D(4, 2, activation="relu"),
        Layers.MaxPooling2D(2),
        Layers.AveragePooling2D(1),
        Layers.Dense(5, activation="tanh"),
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "dense" else pytest.mark.slow) for n in CERTIFIED]
)
def test_certification_proves_by_intervals_what_training_measures(name: str) -> None:
    model, epsilon = CERTIFIED[name](), 0.003
    images = np.random.default_rng(0).uniform(size=(40, 8, 8, 2)).astype(np.float32)
    images = np.where(images < 0.3, 0, images)
    labels = logits_of(model, images).argmax(axis=1)
    found = certify(model, images, labels, epsilon=epsilon, method="ibp", attack=False)
    ends = np.maximum(images - epsilon, 0), np.minimum(images + epsilon, 1)
    margins = np.asarray(make_chain(model).margins(*ends, tf.constant(labels)), np.float64)
    margins[np.arange(40), labels] = np.inf
    least = margins.min(axis=1)
    # By intervals alone, an image that is not proved has a bound of its margin, too.
    assert np.allclose(found.margin, least, rtol=1e-4, atol=1e-4) and (least > 0).any()
    wrapper = IntervalBoundTraining(model, epsilon=0.1, certified_epsilon=epsilon)
    wrapper.compile("adam", LOGITS)
    measured = wrapper.evaluate(images, labels, verbose=0, return_dict=True)
    assert abs(measured["certified_accuracy"] - found.proved.mean()) <= (abs(least) < 1e-4).mean()


def test_the_loss_is_its_formula_and_follows_its_schedules(test_set: Dataset) -> None:
    images, labels = test_set.images[:10], test_set.labels[:10].astype(np.int32)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((28, 28, 1)),
        Layers.Flatten(),
        Layers.Dense(12, activation="relu"),
        Layers.Dense(10),
    ])
    wrapper = IntervalBoundTraining(model, epsilon=0.2, kappa=0.25, warmup_steps=2, ramp_steps=4)
    wrapper.compile(keras.optimizers.SGD(0.0), LOGITS)
    logits = model(images).numpy()
    clean = float(LOGITS(labels, logits))
    (w1, b1), (w2, b2) = (layer.get_weights() for layer in model.layers[1:])
    for step in range(8):
        share = min(max(step - 2, 0) / 4, 1)
        low = np.clip(images - 0.2 * share, 0, 1).reshape(10, -1)
        high = np.clip(images + 0.2 * share, 0, 1).reshape(10, -1)
        up, down = np.maximum(w1, 0), np.minimum(w1, 0)
        low, high = (
            np.maximum(low @ up + high @ down + b1, 0),
            np.maximum(high @ up + low @ down + b1, 0),
        )
        worst = np.zeros((10, 10))
        for number, label in enumerate(labels):
            for rival in set(range(10)) - {int(label)}:
                u = w2[:, label] - w2[:, rival]
                margin = low[number] @ np.maximum(u, 0) + high[number] @ np.minimum(u, 0)
                worst[number, rival] = -(margin + b2[label] - b2[rival])
        expected = (1 - 0.75 * share) * clean + 0.75 * share * float(LOGITS(labels, worst))
        assert float(wrapper.train_on_batch(images, labels)) == pytest.approx(expected, rel=1e-4)


def test_what_is_certified_of_a_linear_model_is_its_exact_robust_accuracy(
    test_set: Dataset,
) -> None:
    images, labels = test_set.images[:1500], test_set.labels[:1500]
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((28, 28, 1)), Layers.Flatten(), Layers.Dense(10)])
    wrapper = IntervalBoundTraining(model, epsilon=0.1, warmup_steps=10, ramp_steps=40)
    wrapper.compile("adam", LOGITS, metrics=["accuracy"])
    history = wrapper.fit(
        images, labels, epochs=3, verbose=0, validation_data=(images[:400], labels[:400])
    ).history
    assert set(history) == {
        *("loss", "accuracy", "val_loss", "val_accuracy", "val_certified_accuracy")
    }
    W, b = model.get_weights()
    nearest = smallest_perturbation(W, b, images[:400], labels=labels[:400], norm="linf")
    exact = robust_accuracy(nearest, [0.1])[0]
    assert exact > 0.3
    assert history["val_certified_accuracy"][-1] == pytest.approx(exact, abs=1e-6)


def test_one_hot_labels_and_probabilities_are_trained_on(test_set: Dataset) -> None:
    images, labels = test_set.images[:40], np.eye(10)[test_set.labels[:40]]
    found = []
    for softmax in (False, True):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([
            keras.Input((28, 28, 1)),
            Layers.Flatten(),
            Layers.Dense(10, activation="softmax" if softmax else None),
        ])
        wrapper = IntervalBoundTraining(model, epsilon=0.1, warmup_steps=0, ramp_steps=1)
        wrapper.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=not softmax))
        losses = [float(wrapper.train_on_batch(images, labels)) for _ in range(3)]
        found.append(losses)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)


def branching() -> keras.Model:
    taken = keras.Input((8, 8, 2))
    first = Layers.Flatten()(taken)
    wide = Layers.Dense(6)(first)
    return keras.Model(taken, Layers.Dense(3)(Layers.Add()([wide, Layers.Dense(6)(first)])))


def used_twice() -> keras.Model:
    taken = keras.Input((8,))
    layer = Layers.Dense(8, activation="tanh")
    return keras.Model(taken, Layers.Dense(3)(layer(layer(taken))))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (branching, "interval bounds are known for .* Received: Add"),
        (used_twice, "layers one after another, each used once"),
        (lambda: chain_of(Layers.Conv2D(2, 3, activation="gelu")), "Received: gelu of"),
        (lambda: chain_of(Layers.Conv2D(2, 3, dtype="mixed_float16")), "Received: float16 of"),
        (lambda: chain_of(Layers.LayerNormalization()), "Received: LayerNormalization"),
        (lambda: chain_of(end="sigmoid"), "must end in a Dense layer .* Received: Dense with sig"),
    ],
)
def test_models_without_bounds_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IntervalBoundTraining(make(), epsilon=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": 0.0}, "epsilon must be .* above 0 .* Received: 0.0"),
        ({"epsilon": 0.1, "certified_epsilon": -1.0}, "certified_epsilon must be .* -1.0"),
        ({"epsilon": 0.1, "kappa": 1.5}, "kappa must be a number in .* Received: 1.5"),
        ({"epsilon": 0.1, "warmup_steps": -1}, "warmup_steps must be .* Received: -1"),
        ({"epsilon": 0.1, "ramp_steps": 0}, "ramp_steps must be .* Received: 0"),
    ],
)
def test_settings_without_meaning_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IntervalBoundTraining(chain_of(), **settings)


@pytest.mark.slow
def test_the_benchmark_proves_what_the_attack_does_not_break(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--num_epochs=8", "--num_images=2000", "--num_test=100"]
    assert benchmark.main([*argv, f"--output_dir={tmp_path}"]) == 0
    last = (tmp_path / "interval_training.md").read_text().splitlines()[-1]
    clean, attacked, certified = (float(cell) for cell in last.strip("| ").split(" | "))
    assert clean >= attacked >= certified
    assert clean > 60 and certified > 5
