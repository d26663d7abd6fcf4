"""Adversarial training: the attack against the closed form, fit as ever, ordinary files."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import mnist_adv
from mnist_adv.data.datasets import Dataset
from mnist_adv.geometry.norms import Norm
from mnist_adv.keras import AdversarialTraining, RobustAccuracy
from mnist_adv.keras.pgd import perturb, random_start
from mnist_adv.optimum.in_ball.support import support_function

EPSILONS = {"linf": 0.1, "l2": 1.0, "l1": 4.0}


def net(*, softmax: bool = False, seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    activation = "softmax" if softmax else None
    return keras.Sequential([
        keras.Input((28, 28, 1)),
        keras.layers.Flatten(),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(10, activation=activation),
    ])


def loss_of(softmax: bool) -> Any:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=not softmax)


def weights_of(model: keras.Model) -> np.ndarray:
    return np.concatenate([value.ravel() for value in model.get_weights()])


@pytest.mark.parametrize(
    ("norm", "bounds"), [("linf", (0.0, 1.0)), ("l2", (-1.0, 3.0)), ("l1", (0.0, 255.0))]
)
def test_the_attack_reaches_the_closed_form_of_a_linear_objective(
    norm: str, bounds: tuple[float, float], test_set: Dataset
) -> None:
    unit = test_set.images[:6]
    width = bounds[1] - bounds[0]
    coefficients = np.random.default_rng(0).normal(size=(28, 28, 1)).astype(np.float32)
    epsilon = EPSILONS[norm] * width
    found = perturb(
        lambda images: tf.reduce_sum(images * coefficients),
        tf.constant(unit * width + bounds[0]),
        tf.zeros_like(unit),
        norm=Norm(norm),
        epsilon=epsilon,
        step_size=epsilon / 10,
        num_steps=60,
        bounds=bounds,
    )
    images = np.asarray(found, np.float64)
    assert images.min() >= bounds[0] - 1e-6 and images.max() <= bounds[1] + 1e-6
    moved = (images - (unit * width + bounds[0])).reshape(6, -1)
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    assert (np.linalg.norm(moved, order, axis=1) <= epsilon * (1 + 1e-5)).all()
    flat, pixels = coefficients.ravel(), unit.reshape(6, -1)
    ranges = np.where(flat > 0, pixels, 1 - pixels) * width
    best, _ = support_function(
        norm, np.abs(np.tile(flat, (6, 1))).astype(float), ranges.astype(float), epsilon
    )
    # Projecting onto the ball and clipping, one after the other, is not the nearest point of both.
    near = {"linf": 1e-5, "l2": 5e-3, "l1": 2e-2}[norm]
    np.testing.assert_allclose(-(moved @ flat), best, rtol=near)


@pytest.mark.parametrize("norm", EPSILONS)
def test_random_starts_lie_in_the_ball_and_follow_from_seed_and_step(norm: str) -> None:
    images = tf.zeros([50, 6, 5, 1])
    draws = [
        np.asarray(random_start(Norm(norm), images, 0.5, seed=seed, number=tf.constant(number)))
        for seed, number in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    lengths = np.linalg.norm(draws[0].reshape(50, -1), order, axis=1)
    assert 0.3 < lengths.max() <= 0.5 + 1e-6 and abs(draws[0].mean()) < 0.05
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).all() and (draws[0] != draws[3]).all()


def test_pixels_outside_the_bounds_move_no_further_out() -> None:
    images = tf.constant([[[[-2.0]], [[5.0]]]])
    found = perturb(
        lambda moved: tf.reduce_sum(moved * [[[[1.0]], [[-1.0]]]]),
        images,
        tf.zeros_like(images),
        norm=Norm.LINF,
        epsilon=0.5,
        step_size=0.5,
        num_steps=3,
        bounds=(0.0, 1.0),
    )
    np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize("softmax", [False, True])
def test_one_step_is_the_models_own_step_on_the_attacked_images(
    test_set: Dataset, softmax: bool
) -> None:
    images, labels = test_set.images[:20], test_set.labels[:20]
    model, twin = net(softmax=softmax), net(softmax=softmax)
    wrapper = AdversarialTraining(model, epsilon=0.1, num_steps=4, random_start=False)
    wrapper.compile(keras.optimizers.SGD(0.1), loss_of(softmax), metrics=["accuracy"])
    logs = wrapper.train_on_batch(images, labels, return_dict=True)
    # By hand: the sign of the gradient, four times.
    attacked = tf.constant(images)
    for _ in range(4):
        with tf.GradientTape() as tape:
            tape.watch(attacked)
            value = loss_of(softmax)(labels, twin(attacked))
        attacked += 0.0625 * tf.sign(tape.gradient(value, attacked))
        attacked = tf.clip_by_value(tf.clip_by_value(attacked, images - 0.1, images + 0.1), 0, 1)
    twin.compile(keras.optimizers.SGD(0.1), loss_of(softmax), metrics=["accuracy"])
    expected = twin.train_on_batch(attacked, labels, return_dict=True)
    np.testing.assert_allclose(weights_of(model), weights_of(twin), atol=1e-6)
    assert logs == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("softmax", [False, True])
def test_trades_is_its_formula(
    test_set: Dataset, softmax: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = test_set.images[:12], test_set.labels[:12]
    model = net(softmax=softmax)
    wrapper = AdversarialTraining(model, epsilon=0.1, num_steps=3, trades=5.0, seed=1)
    wrapper.compile(keras.optimizers.SGD(0.0), loss_of(softmax))
    seen: list[Any] = []
    original = wrapper._perturb

    def recorded(*given: Any) -> Any:
        seen.append(original(*given))
        return seen[-1]

    monkeypatch.setattr(wrapper, "_perturb", recorded)
    wrapper.run_eagerly = True
    loss = wrapper.train_on_batch(images, labels)
    (attacked,) = seen
    assert 0.05 < np.abs(attacked - images).max() <= 0.1 + 1e-6

    def probabilities(given: Any) -> np.ndarray:
        outputs = model(given)
        return np.asarray(outputs if softmax else tf.nn.softmax(outputs), np.float64)

    clean, moved = probabilities(images), probabilities(attacked)
    divergence = (clean * np.log(clean / moved)).sum(axis=1).mean()
    cross_entropy = -np.log(clean[np.arange(12), labels]).mean()
    assert divergence > 0.01
    assert float(loss) == pytest.approx(cross_entropy + 5 * divergence, rel=1e-4)


def test_inputs_of_every_form_are_trained_on(test_set: Dataset) -> None:
    images, labels = test_set.images[:64].reshape(64, 784), test_set.labels[:64]
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10)])
    wrapper = AdversarialTraining(model, norm="l2", epsilon=1.0, num_steps=2)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    wrapper.compile("adam", loss, metrics=["accuracy"])
    rows = tf.data.Dataset.from_tensor_slices((images, np.eye(10)[labels], np.ones(64)))
    history = wrapper.fit(rows.batch(20), epochs=2, verbose=0, shuffle=False)
    assert len(history.history["loss"]) == 2 and np.isfinite(history.history["loss"]).all()


def test_dropout_and_normalisation_learn_in_training_mode_alone(test_set: Dataset) -> None:
    images, labels = test_set.images[:32], test_set.labels[:32]
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((28, 28, 1)),
        keras.layers.Conv2D(4, 5, strides=3, activity_regularizer="l2"),
        keras.layers.BatchNormalization(momentum=0.5),
        keras.layers.Flatten(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(10, kernel_regularizer="l2"),
    ])
    wrapper = AdversarialTraining(model, epsilon=0.1, num_steps=6)
    wrapper.compile("sgd", loss_of(False))
    before = model.layers[1].moving_mean.numpy()
    wrapper.train_on_batch(images, labels)
    batch = np.asarray(model.layers[0](images)).mean(axis=(0, 1, 2))
    # One update with momentum 0.5, however many steps the attack took: half way to the batch's.
    change = model.layers[1].moving_mean.numpy() - before
    np.testing.assert_allclose(change, batch / 2, atol=0.12)
    trades = AdversarialTraining(model, epsilon=0.1, num_steps=2, trades=6.0)
    trades.compile("sgd", loss_of(False))
    assert np.isfinite(trades.train_on_batch(images, labels))


@pytest.mark.slow
def test_xla_computes_the_same_where_it_is_asked_for(test_set: Dataset) -> None:
    found = []
    for jit in (False, True):
        model = net()
        wrapper = AdversarialTraining(model, norm="l2", epsilon=1.0, num_steps=2)
        wrapper.compile("sgd", loss_of(False), jit_compile=jit)
        assert wrapper.jit_compile is jit
        wrapper.fit(test_set.images[:64], test_set.labels[:64], verbose=0, shuffle=False)
        found.append(weights_of(model))
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-5)


def test_a_seed_gives_the_same_weights(test_set: Dataset) -> None:
    found = []
    for seed in (1, 1, 2):
        model = net()
        wrapper = AdversarialTraining(model, epsilon=0.1, num_steps=2, seed=seed)
        wrapper.compile("sgd", loss_of(False))
        wrapper.fit(test_set.images[:64], test_set.labels[:64], verbose=0, shuffle=False)
        found.append(weights_of(model))
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


@pytest.mark.slow
def test_training_raises_robust_accuracy_and_early_stopping_sees_it(test_set: Dataset) -> None:
    images, labels = test_set.images[:3000], test_set.labels[:3000]
    held, classes = test_set.images[9000:9200], test_set.labels[9000:9200]
    found = []
    for wrapped in (False, True):
        model: Any = net()
        trained = AdversarialTraining(model, epsilon=0.1, num_steps=5) if wrapped else model
        trained.compile("adam", loss_of(False))
        robust = RobustAccuracy(held, classes, epsilon=0.1, num_steps=20, step_size=0.02)
        stop = keras.callbacks.EarlyStopping("val_robust_accuracy", mode="max", patience=50)
        history = trained.fit(images, labels, epochs=3, verbose=0, callbacks=[robust, stop])
        shares = history.history["val_robust_accuracy"]
        assert stop.best == max(shares) and len(shares) == 3
        result = mnist_adv.attack(
            model, held, labels=classes, epsilon=0.1, num_steps=20, step_size=0.02
        )
        assert shares[-1] == 1 - result.success.mean()
        found.append(shares[-1])
    assert found[1] > found[0] + 0.2


def test_early_stopping_stops_where_robust_accuracy_falls(test_set: Dataset) -> None:
    model = net()
    model.compile("sgd", loss_of(False))
    robust = RobustAccuracy(test_set.images[:2], test_set.labels[:2], epsilon=0.1)
    shares = iter([0.5, 0.4, 0.3, 0.2])
    robust.measure = lambda: next(shares)  # type: ignore[method-assign]
    stop = keras.callbacks.EarlyStopping("val_robust_accuracy", mode="max", patience=1)
    history = model.fit(
        test_set.images[:32], test_set.labels[:32], epochs=9, verbose=0, callbacks=[robust, stop]
    )
    assert history.history["val_robust_accuracy"] == [0.5, 0.4]


@pytest.mark.slow
def test_what_is_saved_loads_without_this_package(
    test_set: Dataset, tmp_path: pathlib.Path
) -> None:
    images, labels = test_set.images[:200], test_set.labels[:200]
    model = net()
    wrapper = AdversarialTraining(model, epsilon=0.1, num_steps=2)
    wrapper.compile("adam", loss_of(False), metrics=["accuracy"])
    best = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras")
    wrapper.fit(images, labels, epochs=2, verbose=0, callbacks=[best])
    wrapper.save(tmp_path / "saved.keras")
    model.save(tmp_path / "inner.keras")
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    program = f"""
import sys
sys.modules["mnist_adv"] = None
import keras, numpy as np
data = np.load({str(tmp_path / "images.npz")!r})
for name in ("best", "saved", "inner"):
    model = keras.models.load_model({str(tmp_path)!r} + f"/{{name}}.keras")
    print(model.evaluate(data["images"], data["labels"], verbose=0, return_dict=True)["accuracy"])
    print(model.optimizer.iterations.numpy())
"""
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout.split()
    accuracy = wrapper.evaluate(images, labels, verbose=0, return_dict=True)["accuracy"]
    assert [float(value) for value in printed[::2]] == pytest.approx([accuracy] * 3)
    assert printed[1::2] == ["14"] * 3


def test_a_broken_training_goes_on_from_its_backup(
    test_set: Dataset, tmp_path: pathlib.Path
) -> None:
    images, labels = test_set.images[:64], test_set.labels[:64]

    class Killed(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch:
                raise KeyboardInterrupt

    def fit(*callbacks: Any) -> np.ndarray:
        wrapper = AdversarialTraining(net(), epsilon=0.1, num_steps=2, seed=3)
        wrapper.compile("adam", loss_of(False))
        wrapper.fit(images, labels, epochs=2, shuffle=False, verbose=0, callbacks=[*callbacks])
        return weights_of(wrapper.model)

    with pytest.raises(KeyboardInterrupt):
        fit(keras.callbacks.BackupAndRestore(tmp_path), Killed())
    resumed = fit(keras.callbacks.BackupAndRestore(tmp_path))
    np.testing.assert_allclose(resumed, fit(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": 0.0}, "epsilon must be .* above 0 .* Received: 0.0"),
        ({"epsilon": 1.0, "norm": "l0"}, "norm must be one of linf, l2, l1. Received: 'l0'"),
        ({"epsilon": 1.0, "num_steps": 0}, "num_steps must be .* Received: 0"),
        ({"epsilon": 1.0, "step_size": -1.0}, "step_size must be .* Received: -1.0"),
        ({"epsilon": 1.0, "trades": 0.0}, "trades must be .* Received: 0.0"),
        ({"epsilon": 1.0, "trades": 6.0, "random_start": False}, "trades needs random_start"),
        ({"epsilon": 1.0, "seed": -1}, "seed must be .* Received: -1"),
        ({"epsilon": 1.0, "bounds": (1, 0)}, "bounds must be two finite numbers"),
    ],
)
def test_settings_without_meaning_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdversarialTraining(net(), **settings)


def test_models_and_images_that_cannot_be_attacked_are_refused() -> None:
    with pytest.raises(ValueError, match=r"model must be a Keras model. Received: 'net'"):
        AdversarialTraining("net", epsilon=0.1)
    with pytest.raises(ValueError, match="model must be a Keras model"):
        AdversarialTraining(AdversarialTraining(net(), epsilon=0.1), epsilon=0.1)
    with pytest.raises(ValueError, match="model must be built"):
        AdversarialTraining(keras.Sequential([keras.layers.Dense(2)]), epsilon=0.1)
    wrapper = AdversarialTraining(net(), epsilon=0.1)
    wrapper.compile("sgd", loss_of(False))
    with pytest.raises(ValueError, match=r"images must be floats.* Received: uint8"):
        wrapper.train_on_batch(np.zeros((2, 28, 28, 1), np.uint8), np.zeros(2, int))
    unknown = AdversarialTraining(net(), epsilon=0.1, trades=6.0)
    unknown.compile("sgd", lambda labels, outputs: outputs[:, 0])
    with pytest.raises(ValueError, match=r"trades needs a loss of keras\.losses.* Received: <f"):
        unknown.train_on_batch(np.zeros((2, 28, 28, 1), np.float32), np.zeros(2, int))
    with pytest.raises(ValueError, match=r"as many, one at least. Received: 2 and 1"):
        RobustAccuracy(np.zeros((2, 28, 28, 1)), [0], epsilon=0.1)
    with pytest.raises(ValueError, match=r"must be one of .*pgd.* Received: 'no_such'"):
        RobustAccuracy(np.zeros((1, 28, 28, 1)), [0], epsilon=0.1, method="no_such")
