"""Training: accurate, repeatable to the last bit, and resumable."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from mnist_adv import TrainingConfig, train
from mnist_adv.data.datasets import Dataset
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.optimum import robust_accuracy, smallest_perturbation


def some(dataset: Dataset, count: int) -> Dataset:
    return Dataset(dataset.images[:count], dataset.labels[:count], dataset.class_names)


def weights_after(config: TrainingConfig, sets: tuple[Dataset, Dataset]) -> bytes:
    model = SoftmaxRegression()
    for _ in train(model, *sets, config):
        pass
    return bytes(model.W.numpy().tobytes() + model.b.numpy().tobytes())


@pytest.fixture(scope="module")
def sets(train_set: Dataset, test_set: Dataset) -> tuple[Dataset, Dataset]:
    """A small training and test set."""
    return some(train_set, 2050), some(test_set, 500)


def test_the_defaults_reach_0_925_over_all_test_images(
    trained: SoftmaxRegression, test_set: Dataset
) -> None:
    correct = trained(test_set.images).numpy().argmax(axis=1) == test_set.labels
    assert len(correct) == 10000
    assert np.count_nonzero(correct) >= 9250


def test_one_step_is_gradient_descent_by_hand(sets: tuple[Dataset, Dataset]) -> None:
    few = some(sets[0], 4)
    model = SoftmaxRegression()
    next(train(model, few, few, TrainingConfig(num_epochs=1, batch_size=4, learning_rate=0.5)))
    x = few.images.reshape(4, -1).astype(float)
    upstream = (np.full((4, 10), 0.1) - np.eye(10)[few.labels]) / 4
    np.testing.assert_allclose(model.W, -0.5 * x.T @ upstream, atol=1e-6)
    np.testing.assert_allclose(model.b, -0.5 * upstream.sum(axis=0), atol=1e-6)


def test_the_same_seed_gives_the_same_bits(sets: tuple[Dataset, Dataset]) -> None:
    config = TrainingConfig(num_epochs=2)
    assert weights_after(config, sets) == weights_after(config, sets)
    assert weights_after(config, sets) != weights_after(TrainingConfig(num_epochs=2, seed=1), sets)


def test_going_on_gives_the_bits_of_an_unbroken_run(sets: tuple[Dataset, Dataset]) -> None:
    config = TrainingConfig(num_epochs=3)
    model = SoftmaxRegression()
    list(itertools.islice(train(model, *sets, config), 1))
    list(train(model, *sets, config, first_epoch=1))
    assert model.W.numpy().tobytes() + model.b.numpy().tobytes() == weights_after(config, sets)


DEFENCES = [("linf", 0.1), ("l2", 1.5), ("l1", 8.0)]


@pytest.mark.parametrize(("norm", "epsilon"), DEFENCES)
def test_defended_training_raises_the_exact_robust_accuracy(
    sets: tuple[Dataset, Dataset], norm: str, epsilon: float
) -> None:
    found = []
    for config in (
        TrainingConfig(num_epochs=4),
        TrainingConfig(num_epochs=4, defend=norm, epsilon=epsilon),
    ):
        model = SoftmaxRegression()
        list(train(model, *sets, config))
        images, labels = sets[1].images, sets[1].labels
        nearest = smallest_perturbation(
            model.W.numpy(), model.b.numpy(), images, labels=labels, norm=norm
        )
        found.append(robust_accuracy(nearest, [epsilon])[0])
    assert found[1] > found[0] + 0.1


def test_a_defended_training_goes_on_to_the_same_bits(sets: tuple[Dataset, Dataset]) -> None:
    config = TrainingConfig(num_epochs=3, defend="l2", epsilon=0.7)
    model = SoftmaxRegression()
    list(itertools.islice(train(model, *sets, config), 1))
    list(train(model, *sets, config, first_epoch=1))
    assert model.W.numpy().tobytes() + model.b.numpy().tobytes() == weights_after(config, sets)


def test_epsilon_rises_from_0_to_what_was_asked(sets: tuple[Dataset, Dataset]) -> None:
    # One step is at epsilon 0; after half of the steps nothing changes any more.
    few = some(sets[0], 20)
    config = TrainingConfig(num_epochs=1, batch_size=20, learning_rate=0.5)
    defended = dataclasses.replace(config, defend="linf", epsilon=0.3)
    plain, first = SoftmaxRegression(), SoftmaxRegression()
    for model, settings in ((plain, config), (first, defended)):
        list(train(model, few, few, settings))
    # At zero weights the gradient of log(1 + 9 e) is that of the cross-entropy, but for e.
    scale = (np.e / (1 + 9 * np.e)) / 0.1
    np.testing.assert_allclose(first.W, plain.W.numpy() * scale, atol=1e-6)


def test_reports_are_measured_on_all_images(sets: tuple[Dataset, Dataset]) -> None:
    model = SoftmaxRegression()
    reports = list(train(model, *sets, TrainingConfig(num_epochs=2)))
    assert [report.epoch for report in reports] == [1, 2]
    for dataset, metrics in zip(sets, (reports[-1].train, reports[-1].test)):
        logits = model(dataset.images).numpy().astype(float)
        rows = np.arange(len(logits))
        losses = np.log(np.exp(logits).sum(axis=1)) - logits[rows, dataset.labels]
        assert metrics.loss == pytest.approx(losses.mean(), rel=1e-5)
        assert metrics.accuracy == (logits.argmax(axis=1) == dataset.labels).mean()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_epochs": 0}, "num_epochs must be an integer in 1.* Received: 0"),
        ({"batch_size": 0}, "batch_size must be an integer in 1.* Received: 0"),
        ({"learning_rate": -1.0}, "learning_rate must be .* above 0 .* Received: -1.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be .* above 0 .* Received: nan"),
        ({"defend": "l0", "epsilon": 1.0}, "defend must be one of linf, l2, l1.* Received: 'l0'"),
        ({"defend": "linf"}, "must be given together.* defend 'linf' and epsilon None"),
        ({"epsilon": 0.1}, "must be given together.* defend None and epsilon 0.1"),
        ({"defend": "l2", "epsilon": 0.0}, "epsilon must be .* above 0 .* Received: 0.0"),
        ({"seed": -1}, "seed must be an integer in 0.* Received: -1"),
    ],
)
def test_settings_that_cannot_train_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**settings)  # type: ignore[arg-type]


def test_training_that_cannot_go_on_stops(sets: tuple[Dataset, Dataset]) -> None:
    with pytest.raises(ValueError, match=r"at most the 2050 training images\. Received: 5000"):
        next(train(SoftmaxRegression(), *sets, TrainingConfig(batch_size=5000)))
    with pytest.raises(ValueError, match="training diverged in epoch 1; lower the learning_rate"):
        next(train(SoftmaxRegression(), *sets, TrainingConfig(learning_rate=1e38)))
