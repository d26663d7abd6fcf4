"""Certification as users call it: proofs, witnesses, radii and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mnist_adv
from mnist_adv.attacks.methods.pgd import PGD
from mnist_adv.certification import prover, witness
from mnist_adv.certification.bounds import Bounder
from mnist_adv.certification.method import Method
from mnist_adv.certification.result import Certainty
from mnist_adv.certification.witness import check_witnesses
from mnist_adv.geometry.norms import Norm
from mnist_adv.models.linear import LinearModel
from tests.certification.support import perceptron, random_layers, sample
from tests.certification.test_bounds import images_of


@pytest.fixture
def eagerly(eagerly: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack in a few steps, as each of them runs its operations one by one."""
    monkeypatch.setattr(witness, "ATTACK", PGD(num_steps=15, step_fraction=0.1))


@pytest.fixture(scope="module")
def network() -> Any:
    layers = random_layers(16, 12, 4)
    logits = np.asarray(perceptron(layers)(images_of(99, 4, 4, 1, seed=7)))
    (*first, (weights, bias)) = layers
    return perceptron([*first, (weights, bias - logits.mean(axis=0))])  # no class is always first


@pytest.mark.parametrize("norm, epsilon", [("linf", 0.04), ("l2", 0.15), ("l1", 0.5)])
@pytest.mark.usefixtures("eagerly")
def test_each_image_is_proved_broken_or_unresolved(norm: str, epsilon: float, network: Any) -> None:
    images = images_of(24, 4, 4, 1)
    labels = np.asarray(network(images)).argmax(axis=1)
    labels[0] = (labels[0] + 1) % 4  # a wrong answer is broken where it stands
    found = mnist_adv.certify(network, images, labels, norm=norm, epsilon=epsilon)
    assert found.proved.any() and found.broken[1:].any()
    assert not (found.proved & found.broken).any()
    assert found.certainty[0] is Certainty.BROKEN and found.broken_radius[0] == 0
    generator = np.random.default_rng(5)
    for image, label in zip(images[found.proved], labels[found.proved]):
        near = sample(image.reshape(-1), norm, epsilon, 2000, generator).astype(np.float32)
        assert (np.asarray(network(near)).argmax(axis=1) == label).all()
    final = found.adversarial[found.broken].astype(np.float64)
    assert (np.asarray(network(final)).argmax(axis=1) != labels[found.broken]).all()
    move = (final - images[found.broken]).reshape(len(final), -1)
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    assert (np.linalg.norm(move, order, axis=1) <= epsilon + 1e-8).all()
    assert np.array_equal(found.adversarial[~found.broken], images[~found.broken])


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.usefixtures("eagerly")
def test_the_radius_of_a_linear_model_is_its_optimum(norm: str) -> None:
    (layer,), images = random_layers(16, 4), images_of(4, 4, 4, 1)
    model = LinearModel(*layer)
    labels = np.asarray(model(images)).argmax(axis=1)
    least = mnist_adv.smallest_perturbation(*layer, images, labels=labels, norm=norm).upper_bound
    found = mnist_adv.certify_radius(
        model, images, labels, norm=norm, num_steps=24, arithmetic="exact"
    )
    assert np.allclose(found.proved_radius, least, atol=1e-5)
    assert (found.proved_radius <= least).all() and (found.broken_radius >= least - 1e-7).all()


@pytest.mark.usefixtures("eagerly")
def test_radii_enclose_the_distance_that_sampling_sees(network: Any) -> None:
    images = images_of(3, 4, 4, 1)
    labels = np.asarray(network(images)).argmax(axis=1)
    found = mnist_adv.certify_radius(network, images, labels, num_steps=6)
    assert (found.proved_radius > 0).all() and (found.proved_radius < found.broken_radius).all()
    assert np.isfinite(found.broken_radius).all() and found.proved.all()
    wrong = mnist_adv.certify_radius(network, images, (labels + 1) % 4, num_steps=2)
    assert (wrong.proved_radius == -1).all() and (wrong.broken_radius == 0).all()


@pytest.mark.usefixtures("eagerly")
def test_bounds_of_pixels_scale_the_radius(network: Any) -> None:
    images = images_of(6, 4, 4, 1)
    labels = np.asarray(network(images)).argmax(axis=1)
    unit = mnist_adv.certify(network, images, labels, epsilon=0.03, attack=False)
    wide = mnist_adv.certify(
        lambda pixels: network(pixels / 255),
        images * 255,
        labels,
        epsilon=0.03 * 255,
        bounds=(0, 255),
        attack=False,
    )
    assert np.allclose(unit.margin, wide.margin, atol=1e-3)


@pytest.mark.usefixtures("eagerly")
def test_a_bound_that_contradicts_a_witness_is_never_handed_out(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = images_of(4, 4, 4, 1)
    labels = np.asarray(network(images)).argmax(axis=1)
    monkeypatch.setattr(Bounder, "margins", lambda self, pixels, *_: np.ones((len(pixels), 4)))
    with pytest.raises(RuntimeError, match="image 0 is proved up to"):
        mnist_adv.certify_radius(network, images, labels, num_steps=8)


def test_a_witness_outside_the_ball_or_of_the_label_is_none(network: Any) -> None:
    images = images_of(2, 4, 4, 1)
    labels = np.asarray(network(images)).argmax(axis=1)
    other = np.random.default_rng(6).random((2, 4, 4, 1), np.float32).round()

    def distance(final: np.ndarray, epsilon: float) -> np.ndarray:
        radii = np.full(2, epsilon)
        given: dict[str, Any] = {"norm": Norm.LINF, "epsilon": radii, "bounds": (0.0, 1.0)}
        return check_witnesses(network, images, final, labels, **given)

    differs = np.asarray(network(other)).argmax(axis=1) != labels
    assert differs.any()
    assert np.array_equal(np.isfinite(distance(other, 1.0)), differs)
    assert np.isinf(distance(other, 0.3)).all()
    assert np.isinf(distance(images, 1.0)).all()
    assert np.isinf(distance(other + 0.5, 2.0)).all()


def test_what_cannot_be_certified_is_refused(network: Any) -> None:
    images, labels = images_of(2, 4, 4, 1), [0, 0]
    refused: list[tuple[dict[str, Any], str]] = [
        ({"norm": "l0"}, "norm must be one of linf, l2, l1. Received: 'l0'"),
        ({"method": "crwon"}, "method must be one of ibp, crown, alpha_crown.*did you mean crown"),
        ({"epsilon": -1}, "epsilon must be"),
        ({"arithmetic": "half"}, "arithmetic must be one of float32, exact"),
    ]
    for given, said in refused:
        with pytest.raises(ValueError, match=said):
            mnist_adv.certify(network, images, labels, **{"epsilon": 0.1, **given})
    with pytest.raises(ValueError, match="labels"):
        mnist_adv.certify(network, images, [0, 9], epsilon=0.1)


@pytest.mark.slow
def test_what_was_compiled_serves_again(network: Any, xla: None) -> None:
    images = images_of(5, 4, 4, 1)
    labels = np.asarray(network(images)).argmax(axis=1)
    first = mnist_adv.certify(network, images, labels, epsilon=0.03, attack=False)
    kept = len(prover._bounders)
    again = mnist_adv.certify(network, images[:3], labels[:3], epsilon=0.03, attack=False)
    assert len(prover._bounders) == kept
    assert np.allclose(first.margin[:3], again.margin, rtol=1e-9)


@pytest.mark.parametrize("norm, epsilon", [("linf", 0.02), ("l1", 0.3)])
@pytest.mark.usefixtures("eagerly")
def test_radii_that_are_tried_first_are_settled(norm: str, epsilon: float, network: Any) -> None:
    images = images_of(20, 4, 4, 1)
    labels = np.asarray(network(images)).argmax(axis=1)
    labels[0] = (labels[0] + 1) % 4
    options: dict[str, Any] = {"norm": norm, "attack": False}
    done: list[int] = []
    found = mnist_adv.certify_radius(
        network,
        images,
        labels,
        epsilons=[2 * epsilon, epsilon],
        num_steps=3,
        progress=done.append,
        **options,
    )
    for radius in (epsilon, 2 * epsilon):
        there = mnist_adv.certify(
            network, images, labels, epsilon=radius, method="crown", **options
        )
        assert 0 < there.proved.sum() < 20
        assert np.array_equal(found.proved_radius >= radius, there.proved)
    assert found.proved_radius[0] == -1 and found.broken_radius[0] == 0
    assert np.isinf(found.broken_radius[1:]).all() and sum(done) == 20
    attacked = mnist_adv.certify_radius(network, images, labels, norm=norm, num_steps=3)
    assert (found.proved_radius < attacked.broken_radius).all()


@pytest.mark.usefixtures("eagerly")
def test_a_radius_has_the_time_that_those_before_it_left(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []

    def bound(self: Any, method: Any, which: Any, seconds: float, radii: Any) -> np.ndarray:
        if method is Method.BETA_CROWN:
            shares.append(seconds)
        return np.where(radii[:, np.newaxis] < 0.01, 1.0, -1.0)

    monkeypatch.setattr(prover.Prover, "bound", bound)
    images = images_of(1, 4, 4, 1)
    labels = np.asarray(network(images)).argmax(axis=1)
    options: dict[str, Any] = {"method": "beta_crown", "num_steps": 4, "attack": False}
    mnist_adv.certify_radius(network, images, labels, seconds_per_image=1000, **options)
    assert np.allclose(shares, [1000 / left for left in (5, 4, 3, 2, 1)], rtol=0.01)
