"""What a user has in memory, handed to the public functions as it is."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import sklearn.linear_model as linear
import tensorflow as tf
import tf_keras
from sklearn.datasets import load_digits
from sklearn.decomposition import TruncatedSVD
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler, StandardScaler

from mnist_adv import attack, compute_gradient, examine, from_numpy, from_sklearn, judge
from mnist_adv.attacks import compiled_run
from mnist_adv.models.as_model import as_model
from mnist_adv.models.softmax_regression import SoftmaxRegression

layers = keras.layers
IMAGES = np.random.default_rng(3).random((4, 6, 5, 3), np.float32)
DIGITS = load_digits()


class Own(keras.Model):
    """A subclass that calls its layers itself, and takes no `training`."""

    def __init__(self, last: Any) -> None:
        super().__init__()
        self.flatten = layers.Flatten()
        self.hidden = layers.Dense(8, activation="relu")
        self.last = last

    def call(self, images: Any) -> Any:
        return self.last(self.hidden(self.flatten(images)))


def _chain(*last: Any) -> Any:
    return keras.Sequential([keras.Input((6, 5, 3)), layers.Flatten(), *last])


def _keras2() -> Any:
    parts = [tf_keras.layers.Flatten(), tf_keras.layers.Dense(4, activation="softmax")]
    return tf_keras.Sequential([tf_keras.Input((6, 5, 3)), *parts])


def _operation() -> Any:
    taken = keras.Input((6, 5, 3))
    return keras.Model(taken, keras.ops.softmax(layers.Dense(4)(layers.Flatten()(taken))))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Own(layers.Dense(4, activation="softmax")),
        lambda: Own(layers.Softmax()),
        lambda: _chain(keras.Sequential([layers.Dense(4, activation="softmax")])),
        lambda: _chain(layers.Dense(4), layers.Softmax()),
        _operation,
        _keras2,
        lambda: keras.Sequential([layers.Flatten(), layers.Dense(4, activation="softmax")]),
    ],
)
def test_a_softmax_that_saturates_hides_no_gradient(make: Callable[[], Any]) -> None:
    keras.utils.set_random_seed(1)
    net = make()
    net(IMAGES)
    for variable in net.trainable_variables:
        variable.assign(80 * variable)
    before = net(IMAGES).numpy()
    assert (before == 0).any()  # where logits cannot be got back from probabilities
    logits = as_model(net, IMAGES)(IMAGES)
    np.testing.assert_allclose(tf.nn.softmax(logits), before, atol=1e-5)
    gradient = compute_gradient(net, IMAGES, before.argmin(axis=1))
    assert (np.abs(gradient).max(axis=(1, 2, 3)) > 1).all()
    np.testing.assert_array_equal(net(IMAGES), before)


def test_outputs_that_are_no_logits_are_refused() -> None:
    sharp = _chain(layers.Dense(4), layers.Lambda(lambda logits: tf.nn.softmax(1e3 * logits)))
    with pytest.raises(ValueError, match="their logits cannot be got back"):
        attack(sharp, IMAGES, labels=0)
    for last in (layers.Lambda(lambda z: tf.nn.sigmoid(9 * z)), layers.Activation("sigmoid")):
        with pytest.raises(ValueError, match="sigmoids"):
            attack(_chain(layers.Dense(4), last), IMAGES, labels=0)
    nested = _chain(keras.Sequential([layers.Dense(4, activation="sigmoid")]))
    with pytest.raises(ValueError, match="ends in sigmoids"):
        attack(nested, IMAGES, labels=0)
    for thing in (3, None, Own):
        with pytest.raises(ValueError, match="model must be a function from images"):
            attack(thing, IMAGES, labels=0)  # type: ignore[arg-type]


def test_a_keras_model_may_be_changed_and_copied_afterwards() -> None:
    net = _chain(layers.Dense(4, activation="softmax"))
    first = as_model(net, IMAGES)
    assert as_model(net, IMAGES[:1]) is first
    again = pickle.loads(pickle.dumps(copy.deepcopy(net)))
    np.testing.assert_allclose(as_model(again, IMAGES)(IMAGES), first(IMAGES), atol=1e-6)
    net.layers[-1].activation = keras.activations.linear  # as visualisers do
    np.testing.assert_allclose(as_model(net, IMAGES)(IMAGES), net(IMAGES), atol=1e-6)
    net.pop()
    net.add(layers.Dense(7))
    assert as_model(net, IMAGES)(IMAGES).shape == (4, 7)


@pytest.mark.parametrize("make", [lambda: _chain(layers.Dense(4, activation="softmax")), _keras2])
def test_closed_forms_hold_for_a_dense_layer_as_it_is_trained(make: Callable[[], Any]) -> None:
    net = make()
    for factor in (1, -2):
        for variable in net.trainable_variables:
            variable.assign(factor * variable)
        tape = compute_gradient(lambda images: tf.math.log(net(images)), IMAGES, 1)
        closed = compute_gradient(net, IMAGES, 1, source="closed_form")
        np.testing.assert_allclose(closed, tape, atol=1e-5)
        labels = net(IMAGES).numpy().argmax(axis=1)
        found = attack(net, IMAGES, labels=labels, method="optimum", norm="l2")
        assert found.success.all() and found.certificate is not None
        seen = net(found.adversarial).numpy()
        np.testing.assert_allclose(seen, found.verdict.probabilities, atol=1e-5)


def test_hidden_layers_are_read_again() -> None:
    net = _chain(layers.Dense(6, activation="tanh", use_bias=False), layers.Dense(4))
    for _ in range(2):
        np.testing.assert_allclose(as_model(net, IMAGES)(IMAGES), net(IMAGES), atol=1e-5)
        for variable in net.trainable_variables:
            variable.assign(0.3 - 2 * variable)


def test_images_with_channels_first_stay_as_they_are() -> None:
    images = np.random.default_rng(1).random((3, 1, 9, 8), np.float32)
    net = keras.Sequential([keras.Input((1, 9, 8)), layers.Flatten(), layers.Dense(3)])
    np.testing.assert_allclose(as_model(net, images)(images), net(images), atol=1e-6)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0)])
def test_one_program_for_one_model(bounds: tuple[float, float], hidden: bool) -> None:
    net = _chain(*([layers.PReLU()] if hidden else []), layers.Dense(4, activation="softmax"))
    options: dict[str, Any] = {"targets": 0, "num_steps": 2, "bounds": bounds}
    attack(net, bounds[1] * IMAGES, **options)
    known = compiled_run._program.cache_info().misses
    found = attack(net, bounds[1] * IMAGES, **options)
    assert compiled_run._program.cache_info().misses == known
    for variable in net.trainable_variables:
        variable.assign(-variable)
    other = attack(net, bounds[1] * IMAGES, **options)
    assert compiled_run._program.cache_info().misses == known
    assert np.abs(found.adversarial - other.adversarial).max() > 0.01 * bounds[1]
    new = keras.models.clone_model(net)
    new.set_weights(net.get_weights())
    anew = attack(new, bounds[1] * IMAGES, **options)
    np.testing.assert_allclose(other.adversarial, anew.adversarial, atol=1e-4 * bounds[1])


def test_an_estimator_that_is_fitted_again() -> None:
    images = DIGITS.images[:30, ..., np.newaxis].astype(np.float32)
    estimator = linear.RidgeClassifier().fit(DIGITS.data, DIGITS.target)
    model = as_model(estimator, images)
    assert isinstance(model, SoftmaxRegression)
    found = attack(estimator, images, labels=DIGITS.target[:30], bounds=(0, 16), epsilon=3)
    assert found.success.mean() > 0.5
    seen = estimator.predict(found.adversarial.reshape(30, 64))
    np.testing.assert_array_equal(seen, found.verdict.predictions)
    estimator.fit(DIGITS.data, 9 - DIGITS.target)
    assert as_model(estimator, images) is model
    np.testing.assert_allclose(
        model(images), estimator.decision_function(DIGITS.data[:30]), atol=1e-3
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: GridSearchCV(linear.RidgeClassifier(), {"alpha": [1, 2]}, cv=2),
        lambda: linear.LogisticRegression(max_iter=9, tol=1).fit(DIGITS.data, DIGITS.target),
        lambda: make_pipeline(
            make_pipeline(RobustScaler(), TruncatedSVD(9)),
            GridSearchCV(linear.RidgeClassifier(), {"alpha": [1]}, cv=2),
        ),
        lambda: make_pipeline(RobustScaler(with_centering=False), linear.RidgeClassifier()),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_estimators_inside_one_another(make: Callable[[], Any]) -> None:
    estimator = make().fit(DIGITS.data, DIGITS.target)
    if isinstance(estimator, linear.LogisticRegression):
        estimator.sparsify()
    rows = np.random.default_rng(0).integers(0, 17, (500, 64)).astype(np.float64)
    logits = from_sklearn(estimator)(rows.reshape(-1, 8, 8, 1))
    scores = estimator.decision_function(rows)
    np.testing.assert_allclose(logits, scores, rtol=1e-3, atol=1e-4 * np.abs(scores).max())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_estimators_of_several_classes_at_once_are_refused() -> None:
    many = np.eye(10, dtype=int)[DIGITS.target[:99]]
    fitted = linear.RidgeClassifier().fit(DIGITS.data[:99], many)
    pair = MLPClassifier((3,), max_iter=2).fit(DIGITS.data[:99], many[:, :2])
    for estimator in (fitted, pair):
        with pytest.raises(ValueError, match="must give each image one class"):
            from_sklearn(estimator)
    with pytest.raises(ValueError, match=r"must be fitted\. Received: StandardScaler"):
        from_sklearn(make_pipeline(StandardScaler(), linear.Perceptron().fit([[0], [1]], [0, 1])))
    with pytest.raises(ValueError, match="scale must be a finite number above 0"):
        from_sklearn(linear.Perceptron().fit([[0], [1]], [0, 1]), scale=0)


WEIGHTS = np.random.default_rng(0).normal(0, 0.3, (90, 4)).astype(np.float32)


def _needs_arrays(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) @ WEIGHTS


def _takes_tensors_too(images: Any) -> np.ndarray:
    return np.asarray(images).reshape(len(images), -1) @ WEIGHTS


@pytest.mark.slow
@pytest.mark.parametrize("function", [_needs_arrays, _takes_tensors_too])
def test_numpy_functions_as_they_are(function: Callable[..., Any]) -> None:
    labels = _needs_arrays(IMAGES).argmax(axis=1)
    assert as_model(function, IMAGES) is as_model(function, IMAGES)
    every: list[dict[str, Any]] = [{"method": "square"}, {"source": "central_difference"}]
    for options in every:
        together = attack(function, IMAGES, labels=labels, num_steps=20, **options)
        assert together.success.any()
        alone = attack(function, IMAGES[1], labels=labels[1], num_steps=20, **options)
        np.testing.assert_array_equal(alone.adversarial[0], together.adversarial[1])
    verdict = judge(function, IMAGES, IMAGES, labels=labels, norm="linf", epsilon=0.1)
    np.testing.assert_array_equal(verdict.predictions, labels)
    assert [finding.check for finding in examine(function, IMAGES, labels)] == ["gradient"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"trace": True},
        {"source": "forward_mode"},
        {"method": "deepfool", "norm": "l2"},
        {"method": "jsma", "norm": "l0"},
        {"method": "carlini_wagner", "norm": "l2"},
    ],
)
def test_what_only_queries_is_named_in_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="and so do the attacks square, spsa, nes") as caught:
        attack(_needs_arrays, IMAGES, labels=0, **options)
    assert "\n" not in str(caught.value)


def test_functions_that_fail() -> None:
    def broken(images: Any) -> Any:
        raise RuntimeError("no such thing")

    def broken_for_arrays(images: Any) -> Any:
        return images.astype(np.float16) + [1, 2]

    for call in (
        lambda model: attack(model, IMAGES, labels=0),
        lambda model: compute_gradient(model, IMAGES, 0),
        lambda model: judge(model, IMAGES, IMAGES, labels=0, norm="l2", epsilon=1),
    ):
        with pytest.raises(RuntimeError, match=r"^no such thing$"):
            call(broken)
    with pytest.raises(ValueError, match="operands could not be broadcast"):
        attack(broken_for_arrays, IMAGES, labels=0)

    def broken_for_many(images: Any) -> Any:
        if images.shape[0] > 2:
            raise ValueError("of its own")
        return tf.reshape(images, [-1, 90]) @ WEIGHTS

    for more in ({}, {"trace": True}, {"method": "square"}):
        with pytest.raises(ValueError, match=r"^of its own$"):
            attack(broken_for_many, IMAGES, labels=0, **more)
    with pytest.raises(ValueError, match=r"fails on images .* no such thing"):
        from_numpy(broken, (6, 5, 3))
