"""Public entry points of certification: validate, prove, look for what contradicts, assemble."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.arguments import as_array, choose, real, shown, whole, yes_or_no
from mnist_adv.certification.method import BRANCHING, Method
from mnist_adv.certification.prover import Prover
from mnist_adv.certification.result import Arithmetic, Certification
from mnist_adv.data.images import UNIT, Bounds, Shape
from mnist_adv.geometry.norms import Norm

if TYPE_CHECKING:
    from mnist_adv.models.model import Model


def certify(
    model: Model,
    images: Any,
    labels: Any,
    *,
    norm: Norm | str = Norm.LINF,
    epsilon: Any,
    method: Method | str = Method.ALPHA_CROWN,
    seconds_per_image: float = 0.0,
    attack: bool = True,
    arithmetic: Arithmetic | str = Arithmetic.FLOAT32,
    bounds: Bounds = UNIT,
    seed: int = 0,
) -> Certification:
    """Prove that no image within a radius gets another class, or find one that does.

    Each image is bounded by the quickest method first; those that it leaves by the next, up to
    `method`. What is still open is attacked, before the slower methods that take images one by one.

    A proof holds for the network as float32 computes it, with products and sums in whatever order
    and each of them rounded to nearest, and with sigmoid and tanh within 1e-6 of exact; not for
    half precision, TF32 or Winograd's convolutions. With `arithmetic="exact"` it holds for the
    network of the same weights without any rounding.

    Args:
        model: images `[n, h, w, c]` -> logits `[n, k]`, float64 too: a chain of affine layers
            (dense, convolution, average pooling, batch normalisation, ...) and ReLU, sigmoid, tanh
            or maximum pooling. A Keras model; what `open_model` read; any function that TensorFlow
            traces.
        images: one image or a batch `[n, h, w, c]`, floats inside the bounds.
        labels: the classes that they have, one integer or `[n]`.
        norm: of the ball, "linf", "l2" or "l1".
        epsilon: its radius in pixel units, at least 0, one number or `[n]`.
        method: the tightest bounds that are tried: "ibp" (intervals), "crown" (backward linear
            bounds), "alpha_crown" (with optimised slopes), "beta_crown" (with slopes that are
            optimised for hidden neurons too), "milp" (a mixed-integer program, for small networks
            of ReLU and maximum pooling, and L-inf or L1), or "sdp" (semidefinite bounds, for one
            hidden layer of ReLU and L-inf: by far the tightest, and the slowest: 784-500-10 takes a
            second or two for an image, before branching).
        seconds_per_image: with "beta_crown", "milp" or "sdp", how long an image that its bounds
            leave open may be branched on, hidden neurons of ReLU being active or inactive; 0: not
            at all, which "milp" refuses.
        attack: whether to look for an image of another class where nothing is proved.
        arithmetic: of the network that is reasoned about, "float32" or "exact".
        bounds: the least and the largest value of a pixel.
        seed: of attacks.

    Returns:
        What is proved and what was found.

    Raises:
        ValueError: an argument out of form or range; a model that is no such chain.

    Example:
        >>> import mnist_adv
        >>> model = mnist_adv.restore("checkpoints")
        >>> digits = mnist_adv.load("mnist", "test")
        >>> mnist_adv.certify(model, digits.images[:8], digits.labels[:8], epsilon=0.01)
        Certification(linf: of 8 images 8 proved, 0 broken, 0 unresolved)

    References:
        Gowal et al., 2018 (intervals). Zhang et al., 2018 (CROWN). Singh et al., 2019 (DeepPoly).
        Xu et al., 2021 (alpha-CROWN). Wang et al., 2021 (beta-CROWN). Tjeng et al., 2019
        (mixed-integer program). Raghunathan et al., 2018 (semidefinite).
    """
    prover = Prover(model, images, labels, norm, bounds, arithmetic)
    chosen = choose(Method, method, "method")
    seconds = float(real(seconds_per_image, "seconds_per_image", 0))
    prover.require(chosen, seconds)
    yes_or_no(attack, "attack")
    radii = np.broadcast_to(real(epsilon, "epsilon", 0, count=prover.count), (prover.count,))
    margin = np.full((prover.count, prover.network.num_classes), -np.inf)
    adversarial, distance = prover.images.copy(), np.where(prover.correct, np.inf, 0.0)

    def left() -> np.ndarray:
        return np.flatnonzero((margin.min(axis=1) <= 0) & np.isinf(distance))

    for step in (Method.IBP, Method.CROWN, Method.ALPHA_CROWN):
        which = left()
        margin[which] = np.maximum(margin[which], prover.bound(step, which, 0.0, radii[which]))
        if step is chosen:
            break
    which = left()
    if attack and len(which):
        adversarial[which], distance[which] = prover.attack(which, radii[which], seed)
    if chosen in BRANCHING and len(which := left()):
        tightened = prover.tighten(chosen, which, radii[which], margin[which], seconds)
        margin[which], adversarial[which], distance[which] = tightened
    least = margin.min(axis=1)
    return prover.result(
        chosen, radii, np.where(least > 0, radii, -1.0), adversarial, distance, least
    )


def certify_radius(
    model: Model,
    images: Any,
    labels: Any,
    *,
    norm: Norm | str = Norm.LINF,
    method: Method | str = Method.CROWN,
    epsilons: Any = (),
    num_steps: int = 12,
    seconds_per_image: float = 0.0,
    attack: bool = True,
    arithmetic: Arithmetic | str = Arithmetic.FLOAT32,
    bounds: Bounds = UNIT,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Certification:
    """Find the largest radius within which each label is proved, and the nearest other image.

    The attack `strongest` seeks the nearest image of another class; its distance is bisected.
    Without an attack the largest distance inside the bounds is, and what is proved depends on no
    attack.

    Args:
        model: as `certify` takes it.
        images: one image or a batch `[n, h, w, c]`, floats inside the bounds.
        labels: the classes that they have, one integer or `[n]`.
        norm: of the ball, "linf", "l2" or "l1".
        method: of the bounds, as `certify` takes it; "beta_crown", "milp" and "sdp" widen what
            "crown" proves.
        epsilons: radii in pixel units, at least 0, that are tried before those between them: of
            each it is known whether the method proves it.
        num_steps: of the bisection; each halves the interval in which the largest radius lies that
            the method proves.
        seconds_per_image: with "beta_crown", "milp" or "sdp", how long an image may be branched on,
            in equal parts at each radius that is tried, later ones getting what earlier ones leave;
            0: not at all, which "milp" refuses. What is proved then depends on the machine.
        attack: whether to look for the nearest image of another class.
        arithmetic: of the network that is reasoned about, "float32" or "exact".
        bounds: the least and the largest value of a pixel.
        seed: of attacks.
        progress: called with the number of images whose radius is known, as they come.

    Returns:
        What is proved and what was found: the true smallest distance of each image lies between
        its `proved_radius` and its `broken_radius`. `epsilon` is the proved radius, or 0.

    Raises:
        ValueError: an argument out of form or range; a model that is no such chain.

    Example:
        >>> import mnist_adv
        >>> model = mnist_adv.restore("checkpoints")
        >>> digits = mnist_adv.load("mnist", "test")
        >>> found = mnist_adv.certify_radius(model, digits.images[:2], digits.labels[:2])
        >>> bool((found.proved_radius < found.broken_radius).all())
        True
    """
    prover = Prover(model, images, labels, norm, bounds, arithmetic)
    chosen = choose(Method, method, "method")
    whole(num_steps, "num_steps")
    seconds = float(real(seconds_per_image, "seconds_per_image", 0))
    prover.require(chosen, seconds)
    yes_or_no(attack, "attack")
    if progress is not None and not callable(progress):
        raise ValueError(f"progress must be a function or None. Received: {shown(progress)}")
    first = np.unique(np.append(_radii(epsilons), 0.0))
    adversarial, distance = prover.images.copy(), np.where(prover.correct, np.inf, 0.0)
    right = np.flatnonzero(prover.correct)
    if attack and len(right):
        widest = np.full(len(right), prover.diameter)
        adversarial[right], distance[right] = prover.attack(right, widest, seed)
    proved, margin = np.full(prover.count, -1.0), np.full(prover.count, -np.inf)
    high = np.minimum(distance, prover.diameter)
    num_trials = int(attack) + len(first).bit_length() + num_steps

    def widen(which: np.ndarray, step: Method) -> None:
        low, least, ends, left = proved[which], margin[which], high[which], seconds
        for number in range(num_trials):
            # The distance of what was found, which no bound may prove, before all others.
            tried = ends if attack and not number else _between(first, low, ends)
            share, began = left / (num_trials - number), time.monotonic()
            found = prover.bound(step, which, share, tried).min(axis=1)
            left -= min(share, time.monotonic() - began)  # compiling is not branching
            better = (found > 0) & (tried > low)
            low, least = np.where(better, tried, low), np.where(better, found, least)
            ends = np.where(found > 0, ends, np.minimum(ends, tried))
        proved[which], margin[which] = low, least

    if progress is not None:
        progress(prover.count - len(right))
    for start in range(0, len(right), prover.block):
        which = right[start : start + prover.block]
        for step in (Method.CROWN, chosen) if chosen in BRANCHING else (chosen,):
            for part in which[:, np.newaxis] if step in BRANCHING else (which,):
                widen(part, step)
                if progress is not None and step is chosen:
                    progress(len(part))
    return prover.result(chosen, np.maximum(proved, 0), proved, adversarial, distance, margin)


def _radii(values: Any) -> np.ndarray:
    radii = as_array(values, "epsilons", "numbers")
    return real(radii if radii.size else np.zeros(1), "epsilons", 0, count=radii.size or 1)


def _between(first: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Choose the middle one of the given radii between two ends, or the middle if none is."""
    begin, end = first.searchsorted(low, "right"), first.searchsorted(high)
    given = first[np.minimum((begin + end) // 2, len(first) - 1)]
    return np.where(begin < end, given, (np.maximum(low, 0) + high) / 2)


def require_certifiable(
    model: Model, shape: Shape, *, norm: Norm, method: Method, seconds_per_image: float
) -> None:
    """Refuse what `certify_radius` cannot do, before anything else is computed.

    Args:
        model: as `certify` takes it.
        shape: of its images, `(h, w, c)`.
        norm: of the balls.
        method: of the bounds.
        seconds_per_image: for branching; 0: none.

    Raises:
        ValueError: the norm or the model has no bounds, or not by this method; seconds for a method
            that does not branch.
    """
    one = np.zeros((1, *shape), np.float32)
    Prover(model, one, 0, norm, UNIT, Arithmetic.FLOAT32).require(method, seconds_per_image)
    if seconds_per_image and method not in BRANCHING:
        branching = ", ".join(known.value for known in BRANCHING)
        raise ValueError(
            f"seconds_per_image is for methods that branch: {branching}. Received: {method.value!r}"
        )
