"""Models that a user has in memory: Keras's, scikit-learn's, NumPy functions."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import sklearn.linear_model as linear
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC

from mnist_adv import (
    attack,
    check_gradient,
    compute_gradient,
    examine,
    from_numpy,
    from_sklearn,
    judge,
    open_model,
    smallest_perturbation,
)
from mnist_adv.models.linear import linear_parts
from mnist_adv.models.softmax_regression import SoftmaxRegression

# Of estimators that are fitted for a moment only.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

layers = keras.layers
SHAPE = (9, 8, 3)


def _images(count: int = 6) -> Any:
    return np.random.default_rng(4).random((count, *SHAPE), np.float32)


def _net(*last: Any) -> Any:
    keras.utils.set_random_seed(2)
    return keras.Sequential([
        keras.Input(SHAPE),
        layers.Conv2D(5, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dropout(0.5),
        *last,
    ])


def _before_softmax(net: Any, images: Any) -> np.ndarray:
    """Take the logarithm: the logits up to a constant per image."""
    return np.log(net(images, training=False).numpy().astype(np.float64))


@pytest.mark.parametrize(
    "last",
    [
        lambda: [layers.Dense(4, activation="softmax")],
        lambda: [layers.Dense(4), layers.Softmax()],
        lambda: [layers.Dense(4), layers.Activation("softmax")],
        lambda: [keras.Sequential([layers.Dense(4, activation="softmax")])],
    ],
)
def test_a_softmax_is_left_out_and_the_model_stays_as_it_is(last: Any) -> None:
    net, images = _net(*last()), _images()
    before = net(images, training=False).numpy()
    labels = before.argmax(axis=1)
    gradient = compute_gradient(net, images, labels)
    variable = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = -tf.reduce_sum(
            tf.gather(tf.math.log(net(variable, training=False)), labels, batch_dims=1)
        )
    np.testing.assert_allclose(gradient, tape.gradient(value, variable), rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(net(images, training=False), before)
    result = attack(net, images, labels=labels, epsilon=0.3, num_steps=5)
    found = net(result.adversarial, training=False).numpy()
    np.testing.assert_array_equal(found.argmax(axis=1), result.verdict.predictions)
    np.testing.assert_allclose(result.verdict.probabilities, found, atol=1e-5)
    verdict = judge(net, images, images, labels=labels, norm="linf", epsilon=0.1)
    np.testing.assert_allclose(verdict.clean_probabilities, before, atol=1e-5)
    assert [finding for finding in examine(net, images, labels) if finding.severe] == []


def test_weights_that_are_trained_further_count() -> None:
    net, images = _net(layers.Dense(4, activation="softmax")), _images(2)
    first = compute_gradient(net, images, 1)
    wide = compute_gradient(net, images, 1, dtype="float64")
    np.testing.assert_allclose(first, wide, atol=1e-5)
    for variable in net.trainable_variables:
        variable.assign(1.7 * variable)
    again = compute_gradient(net, images, 1)
    assert np.abs(again - first).max() > 1e-3
    np.testing.assert_allclose(
        again, compute_gradient(net, images, 1, dtype="float64"), rtol=1e-3, atol=1e-5
    )
    errors = check_gradient(net, images[0], 1)
    assert max(errors["float64"].values()) < 1e-3


def test_a_subclassed_model_and_flat_inputs() -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(3, activation="softmax")

        def call(self, images: Any, training: bool = False) -> Any:
            return self.dense(tf.reshape(images, [-1, 216]))

    images = _images(3)
    own = Own()
    probabilities = own(images).numpy()
    verdict = judge(own, images, images, labels=[0, 0, 0], norm="linf", epsilon=0.1)
    np.testing.assert_allclose(verdict.clean_probabilities, probabilities, atol=1e-6)
    flat = keras.Sequential([keras.Input((216,)), layers.Dense(3)])
    np.testing.assert_allclose(
        judge(flat, images, images, labels=0, norm="l2", epsilon=1).clean_probabilities,
        tf.nn.softmax(flat(images.reshape(3, -1))),
        atol=1e-6,
    )


def test_keras_models_that_are_refused() -> None:
    images = _images(2)
    whole = keras.Sequential([keras.Input(SHAPE, dtype="uint8"), layers.Flatten(), layers.Dense(3)])
    with pytest.raises(ValueError, match="whole numbers have no gradient"):
        attack(whole, images, labels=0)
    with pytest.raises(ValueError, match="that ends in sigmoids"):
        compute_gradient(_net(layers.Dense(3, activation="sigmoid")), images, 0)
    with pytest.raises(ValueError, match=r"takes images \(5, 5, 1\)"):
        attack(keras.Sequential([keras.Input((5, 5)), layers.Flatten(), layers.Dense(3)]), images)
    a, b = keras.Input(SHAPE), keras.Input(SHAPE)
    two = keras.Model([a, b], layers.Dense(2)(layers.Flatten()(layers.Add()([a, b]))))
    with pytest.raises(ValueError, match="must have one input and one output"):
        attack(two, images, labels=0)


DIGITS = load_digits()


def _pixels(count: int = 2000) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 17, (count, 64)).astype(np.float64)


@pytest.mark.parametrize(
    "make",
    [
        lambda: linear.LogisticRegression(max_iter=50),
        lambda: linear.RidgeClassifier(),
        lambda: linear.SGDClassifier(random_state=0),
        lambda: linear.Perceptron(random_state=0),
        lambda: LinearSVC(max_iter=200, random_state=0),
        lambda: MLPClassifier((20,), max_iter=20, random_state=0),
        lambda: MLPClassifier((9, 8), activation="tanh", max_iter=20, random_state=0),
        lambda: MLPClassifier((9,), activation="logistic", max_iter=20, random_state=0),
        lambda: MLPClassifier((9,), activation="identity", max_iter=20, random_state=0),
        lambda: make_pipeline(StandardScaler(), linear.LogisticRegression(max_iter=50)),
        lambda: make_pipeline(
            MinMaxScaler(), PCA(12, whiten=True), MLPClassifier((9,), max_iter=20, random_state=0)
        ),
        lambda: make_pipeline(MaxAbsScaler(), "passthrough", linear.RidgeClassifier()),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
def test_estimators_of_scikit_learn(make: Any, binary: bool) -> None:
    wanted = DIGITS.target % 2 if binary else DIGITS.target
    estimator = make().fit(DIGITS.data[:700], wanted[:700])
    model = from_sklearn(estimator, scale=16)
    pixels = _pixels()
    logits = model((pixels / 16).reshape(-1, 8, 8, 1)).numpy()
    predicted = estimator.classes_[logits.argmax(axis=1)]
    close = np.diff(np.sort(logits, axis=1)[:, -2:], axis=1)[:, 0] < 1e-3 * np.abs(logits).max(1)
    np.testing.assert_array_equal(predicted[~close], estimator.predict(pixels)[~close])
    assert (~close).mean() > 0.9
    if hasattr(estimator, "predict_proba"):
        np.testing.assert_allclose(
            tf.nn.softmax(logits), estimator.predict_proba(pixels), atol=2e-3
        )
    else:
        scores = estimator.decision_function(pixels)
        ours = logits[:, 1] if binary else logits
        np.testing.assert_allclose(ours, scores, rtol=1e-3, atol=1e-3 * np.abs(scores).max())


def test_the_optimum_of_an_estimator() -> None:
    estimator = linear.LogisticRegression(max_iter=50).fit(DIGITS.data, DIGITS.target)
    model = from_sklearn(estimator, scale=16)
    assert isinstance(model, SoftmaxRegression)
    images = (DIGITS.images[:20] / 16)[..., np.newaxis].astype(np.float32)
    labels = model(images).numpy().argmax(axis=1)
    weights, bias = linear_parts(model) or (None, None)
    optimum = smallest_perturbation(weights, bias, images, labels=labels, norm="l2")
    found = attack(model, images, labels=labels, method="ddn", norm="l2", num_steps=200)
    ratio = found.verdict.norms["l2"] / optimum.upper_bound
    assert found.success.all() and (ratio > 0.999).all() and np.median(ratio) < 1.05
    smallest = estimator.predict(16 * optimum.adversarial.reshape(20, -1) + 0.0)
    assert (smallest != estimator.classes_[labels]).mean() > 0.4  # on the border, either side


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SVC().fit(DIGITS.data[:99], DIGITS.target[:99]), "Received: SVC"),
        (lambda: linear.LogisticRegression(), "Received: LogisticRegression"),
        (
            lambda: make_pipeline(MinMaxScaler(clip=True), linear.RidgeClassifier()).fit(
                DIGITS.data[:99], DIGITS.target[:99]
            ),
            "Received: MinMaxScaler",
        ),
    ],
)
def test_estimators_that_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_sklearn(make())


def _numpy_logits(images: np.ndarray) -> np.ndarray:
    assert type(images) is np.ndarray
    W = np.random.default_rng(0).normal(0, 0.1, (64, 3))
    return np.tanh(images.reshape(len(images), -1) @ W)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("square", {"num_steps": 60}),
        ("pgd", {"source": "central_difference", "step_size": 0.1, "num_steps": 3}),
        ("pgd", {"source": "nes", "step_size": 0.1, "num_steps": 3}),
        ("spsa", {"step_size": 0.1, "num_steps": 3}),
    ],
)
def test_numpy_functions_are_queried(method: str, settings: dict[str, Any]) -> None:
    model = from_numpy(_numpy_logits, (8, 8, 1))
    images = np.random.default_rng(1).random((9, 8, 8, 1), np.float32)
    labels = _numpy_logits(images).argmax(axis=1)
    options: dict[str, Any] = {"method": method, "epsilon": 0.2, **settings}
    together = attack(model, images, labels=labels, **options)
    assert together.success.any()
    seen = _numpy_logits(together.adversarial).argmax(axis=1)
    np.testing.assert_array_equal(seen, together.verdict.predictions)
    for index in (0, 8):
        alone = attack(model, images[index], labels=labels[index], **options)
        np.testing.assert_array_equal(alone.adversarial[0], together.adversarial[index])


def test_a_numpy_function_that_fails_later_is_named() -> None:
    def fails_later(images: np.ndarray) -> np.ndarray:
        if (images > 0.7).any():
            raise RuntimeError("too bright")
        return _numpy_logits(images)

    model = from_numpy(fails_later, (8, 8, 1))
    images = np.full((3, 8, 8, 1), 0.6, np.float32)
    labels = _numpy_logits(images).argmax(axis=1)
    expected = r"^NumPy function 'fails_later' fails on images .* \(RuntimeError: too bright\)$"
    every: list[dict[str, Any]] = [{"method": "square"}, {"source": "central_difference"}]
    for more in every:
        with pytest.raises(ValueError, match=expected):
            attack(model, images, labels=labels, epsilon=0.4, step_size=None, **more)
    with pytest.raises(ValueError, match=expected):
        compute_gradient(model, images, 0, source="spsa", difference_step=0.5)


def test_numpy_functions_have_no_gradient() -> None:
    model = from_numpy(_numpy_logits, (8, 8, 1))
    images = np.zeros((1, 8, 8, 1), np.float32)
    with pytest.raises(
        ValueError,
        match=r"the sources forward_difference.* and so do the attacks square, spsa, nes",
    ):
        attack(model, images, labels=0)
    with pytest.raises(ValueError, match=r"must return \[2, k\] for two images"):
        from_numpy(lambda images: images.mean(axis=(1, 2, 3)), (8, 8, 1))


@pytest.mark.slow
def test_all_of_them_by_name(tmp_path: pathlib.Path, monkeypatch: Any, test_set: Any) -> None:
    monkeypatch.chdir(tmp_path)
    pathlib.Path("held_for_test.py").write_text(
        "import keras, numpy as np\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "import mnist_adv\n"
        "some = mnist_adv.load(rows=(0, 300))\n"
        "rows = some.images.reshape(300, -1)\n"
        "estimator = LogisticRegression(C=0.001).fit(rows, some.labels)\n"
        "net = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(),\n"
        "                        keras.layers.Dense(10, activation='softmax')])\n"
        "net.layers[-1].set_weights([estimator.coef_.T, estimator.intercept_])\n"
        "def made(): return net\n"
        "unfitted = LogisticRegression()\n"
        "def broken(): raise RuntimeError('no weights')\n"
        "def function(images):\n"
        "    return estimator.decision_function(np.asarray(images).reshape(len(images), -1))\n"
    )
    images = test_set.images[:5]
    names = ("estimator", "net", "made", "function")
    found = [open_model(f"held_for_test:{name}") for name in names]
    assert [opened.shape for opened in found] == 4 * [(28, 28, 1)]
    with pytest.raises(ValueError, match="must be a fitted linear classifier"):
        open_model("held_for_test:unfitted")
    with pytest.raises(ValueError, match=r"broken\(\) fails \(RuntimeError: no weights\)"):
        open_model("held_for_test:broken")
    probabilities = [tf.nn.softmax(opened.model(images)).numpy() for opened in found]
    for one in probabilities[1:]:
        np.testing.assert_allclose(one, probabilities[0], atol=1e-5)
