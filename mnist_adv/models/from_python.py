"""Classifiers of other libraries as models of ours: scikit-learn's estimators, NumPy functions."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mnist_adv.arguments import ABOVE_0, real, shown
from mnist_adv.data.images import Shape, as_shape
from mnist_adv.errors import first_line
from mnist_adv.models.activation import Activation
from mnist_adv.tensors.lazy import tf

_ACTIVATIONS = {
    "identity": Activation.LINEAR,
    "logistic": Activation.SIGMOID,
    "tanh": Activation.TANH,
    "relu": Activation.RELU,
}
Affine = tuple[np.ndarray, np.ndarray]


def from_sklearn(estimator: Any, *, scale: float = 1.0) -> Any:
    """Make a model of a fitted estimator of scikit-learn.

    Logits are what the estimator's decision is the largest of: `decision_function`, or the values
    before `MLPClassifier`'s last function; with two classes, 0 and that. So their softmax is
    `predict_proba` for (multinomial or binary) logistic regression and MLPs; for one-versus-rest
    and margin classifiers it is not, but the decision is the same.

    Args:
        estimator: `LogisticRegression`, `RidgeClassifier`, `LinearSVC`, `SGDClassifier`,
            `Perceptron`, or another linear classifier with `coef_` and `intercept_`;
            `MLPClassifier`; a `Pipeline` of `StandardScaler`, `MinMaxScaler`, `MaxAbsScaler`,
            `RobustScaler`, `PCA`, `TruncatedSVD` and one of these; or a search among them
            (`GridSearchCV`), fitted on rows of pixels.
        scale: what white was in the pixels that it was fitted on: 16 for scikit-learn's digits,
            255 for bytes.

    Returns:
        A `SoftmaxRegression` or `Perceptron` from images `[n, h, w, c]` in [0, 1], whose pixels
        in one row are those that the estimator was fitted on; class k is `estimator.classes_[k]`.
        The closed forms and the certified optimum hold for the former.

    Raises:
        ValueError: it is not fitted, or is none of these, or `scale` is not above 0.

    Example:
        >>> from mnist_adv import attack, from_sklearn
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.linear_model import RidgeClassifier
        >>> digits = load_digits()
        >>> estimator = RidgeClassifier().fit(digits.data, digits.target)
        >>> model = from_sklearn(estimator, scale=16)
        >>> image = (digits.images[0] / 16)[..., None]
        >>> attack(model, image, targets=2, norm="l2")
        AttackResult(pgd, targeted, l2 <= 3: 1 of 1 image 8 x 8 x 1 succeeds, l2 0.511)
    """
    from mnist_adv.models.perceptron import make_model

    scale = float(real(scale, "scale", ABOVE_0))
    *transformers, classifier = _steps(estimator)
    layers, activation = _layers(classifier)
    for step in reversed(transformers):
        factor, offset = _transform(step)
        weights, bias = layers[0]
        layers[0] = factor @ weights, offset @ weights + bias
    layers[0] = layers[0][0] * scale, layers[0][1]
    return make_model(
        [(weights.astype(np.float32), bias.astype(np.float32)) for weights, bias in layers],
        activation if len(layers) > 1 else None,
    )


def is_estimator(model: Any) -> bool:
    """Tell an estimator of scikit-learn from what can be called.

    Args:
        model: anything.

    Returns:
        Whether it is one, fitted or not, of classes or not.
    """
    return hasattr(model, "fit") and hasattr(model, "predict") and not callable(model)


def _steps(estimator: Any) -> list[Any]:
    """List the transformers and the classifier, of pipelines and searches inside one another."""
    if hasattr(estimator, "best_estimator_"):
        return _steps(estimator.best_estimator_)
    if not hasattr(estimator, "steps"):
        return [estimator]
    named = [step for _, step in estimator.steps if step not in (None, "passthrough")]
    return [part for step in named for part in _steps(step)]


def _layers(estimator: Any) -> tuple[list[Affine], Activation | None]:
    kind = type(estimator).__name__
    if hasattr(estimator, "coefs_"):
        if getattr(estimator, "out_activation_", None) not in ("softmax", "logistic"):
            raise ValueError(f"estimator must be a classifier. Received: {kind}")
        two = estimator.out_activation_ == "logistic"
        if two and (estimator.n_outputs_ > 1 or len(estimator.classes_) > 2):
            raise ValueError(f"estimator must give each image one class. Received: {kind} of many")
        pairs = zip(estimator.coefs_, estimator.intercepts_)
        layers = [(np.asarray(w, np.float64), np.asarray(b, np.float64)) for w, b in pairs]
        return [*layers[:-1], _two(layers[-1])], _ACTIVATIONS[estimator.activation]
    if hasattr(estimator, "coef_") and hasattr(estimator, "classes_"):
        binarizer = vars(estimator).get("_label_binarizer")  # of RidgeClassifier
        if getattr(binarizer, "y_type_", "").startswith("multilabel"):
            raise ValueError(f"estimator must give each image one class. Received: {kind} of many")
        coefficients = estimator.coef_
        if hasattr(coefficients, "toarray"):  # after `sparsify`
            coefficients = coefficients.toarray()
        weights = np.atleast_2d(np.asarray(coefficients, np.float64)).T
        bias = np.broadcast_to(np.asarray(estimator.intercept_, np.float64), weights.shape[1])
        if weights.shape[1] not in (1, len(estimator.classes_)) or hasattr(estimator, "dual_coef_"):
            raise ValueError(
                f"estimator must have a weight for each pixel and class. Received: {kind} with "
                f"coef_ {list(np.shape(estimator.coef_))} for {len(estimator.classes_)} classes"
            )
        return [_two((weights, bias))], None
    raise ValueError(
        "estimator must be a fitted linear classifier or MLPClassifier of scikit-learn, or a "
        f"Pipeline that ends in one; others can be queried, see from_numpy. Received: {kind}"
    )


def _two(layer: Affine) -> Affine:
    """Give the first of two classes a logit of 0."""
    weights, bias = layer
    if weights.shape[1] > 1:
        return layer
    return np.hstack([np.zeros_like(weights), weights]), np.array([0.0, bias[0]])


def _transform(step: Any) -> Affine:
    """Write a fitted transformer as `x @ factor + offset`."""
    kind = type(step).__name__
    if not hasattr(step, "n_features_in_"):
        raise ValueError(f"a pipeline must be fitted. Received: {kind} that is not")
    size = step.n_features_in_
    if kind in ("StandardScaler", "RobustScaler"):
        centre = step.mean_ if kind == "StandardScaler" else step.center_
        spread = np.ones(size) if step.scale_ is None else step.scale_
        return np.diag(1 / spread), -(np.zeros(size) if centre is None else centre) / spread
    if kind == "MinMaxScaler" and not step.clip:
        return np.diag(step.scale_), step.min_
    if kind == "MaxAbsScaler":
        return np.diag(1 / step.scale_), np.zeros(len(step.scale_))
    if kind == "TruncatedSVD":
        return step.components_.T, np.zeros(len(step.components_))
    if kind == "PCA":
        factor = step.components_.T
        if step.whiten:
            factor = factor / np.sqrt(step.explained_variance_)
        return factor, -step.mean_ @ factor
    raise ValueError(
        "a pipeline must be of StandardScaler, MinMaxScaler without clip, MaxAbsScaler, "
        f"RobustScaler, PCA, TruncatedSVD and a classifier. Received: {kind}"
    )


@dataclasses.dataclass(frozen=True)
class NumpyModel:
    """A NumPy function as a model, for attacks and gradient sources that only query it.

    Attributes:
        function: images `[n, h, w, c]` float32 -> logits `[n, k]`.
        num_classes: k.
        raised: the error of the last call that failed, which a compiled program hides.
    """

    function: Callable[[np.ndarray], Any]
    num_classes: int
    raised: list[ValueError] = dataclasses.field(default_factory=list, compare=False, repr=False)

    def __call__(self, images: Any) -> Any:
        """Compute logits.

        Args:
            images: `[n, h, w, c]`.

        Returns:
            `[n, k]` float32; no gradient flows through them.
        """
        images = tf.convert_to_tensor(images)
        if tf.executing_eagerly():  # what the function raises comes through as it is
            return tf.constant(self._checked(images.numpy()))
        logits = tf.numpy_function(self._checked, [images], tf.float32, stateful=False)
        return tf.ensure_shape(logits, [images.shape[0], self.num_classes])

    def __repr__(self) -> str:
        return f"NumPy function {getattr(self.function, '__name__', self.function)!r}"

    def query(self, images: np.ndarray) -> np.ndarray:
        """Call the function.

        Args:
            images: `[n, h, w, c]`.

        Returns:
            What it returns, float32.

        Raises:
            ValueError: it fails.
        """
        try:
            return np.asarray(self.function(images), np.float32)
        except Exception as error:  # whatever the user's function raises
            self.raised[:] = [
                ValueError(
                    f"{self} fails on images {list(images.shape)} of {images.dtype} "
                    f"({type(error).__name__}: {first_line(error)})"
                )
            ]
            raise self.raised[0] from error

    def _checked(self, images: np.ndarray) -> np.ndarray:
        logits = self.query(images)
        if logits.shape != (len(images), self.num_classes):
            raise ValueError(
                f"{self} must return [{len(images)}, {self.num_classes}] for images "
                f"{list(images.shape)}. Received: {list(logits.shape)}"
            )
        return logits


@contextlib.contextmanager
def as_raised(model: Any) -> Iterator[None]:
    """Raise what a NumPy function raised in the place of what TensorFlow makes of it.

    Args:
        model: any; only a `NumpyModel` keeps what it raised.

    Yields:
        Nothing.

    Raises:
        ValueError: the function failed inside a compiled program.
        OpError: of TensorFlow, where anything else did.
    """
    try:
        yield
    except tf.errors.OpError:
        if isinstance(model, NumpyModel) and model.raised:
            raise model.raised.pop() from None
        raise


def from_numpy(function: Callable[[np.ndarray], Any], image_shape: Shape) -> NumpyModel:
    """Make a model of any function on NumPy arrays.

    It has no gradient: it can be attacked by "square" and by what blends or adds noise, and by
    gradient attacks with `source="spsa"`, "nes", "forward_difference" or "central_difference".

    Args:
        function: images `[n, h, w, c]` float32 in [0, 1] -> logits `[n, k]`, of any numbers; an
            image's must not depend on the others of the batch.
        image_shape: of an image, `(h, w, c)`.

    Returns:
        The model.

    Raises:
        ValueError: the function fails, or does not return `[n, k]` with k at least 2; a shape that
            is not three positive integers.

    Example:
        >>> import numpy as np
        >>> from mnist_adv import attack, from_numpy
        >>> def brightness(images):
        ...     mean = images.mean(axis=(1, 2, 3))
        ...     return np.stack([0.5 - mean, mean - 0.5], axis=1)
        >>> model = from_numpy(brightness, (8, 8, 1))
        >>> dark = np.full([8, 8, 1], 0.3)
        >>> attack(model, dark, targets=1, method="square", epsilon=0.3, num_steps=300)
        AttackResult(square, targeted, linf <= 0.3: 1 of 1 image 8 x 8 x 1 succeeds, linf 0.3)
    """
    if not callable(function):
        raise ValueError(f"function must be one of images. Received: {shown(function)}")
    shape = as_shape(image_shape, "image_shape")
    found = NumpyModel(function, 0).query(np.zeros([2, *shape], np.float32)).shape
    if len(found) != 2 or found[0] != 2 or found[1] < 2:
        raise ValueError(
            f"the function must return [2, k] for two images, k at least 2. Received: {list(found)}"
        )
    return NumpyModel(function, int(found[1]))
