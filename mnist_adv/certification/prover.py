"""A model and images, and what is done with them: bounded, attacked, branched on, assembled."""

from __future__ import annotations

import collections
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from mnist_adv.arguments import choose
from mnist_adv.certification.bounds import Bounder
from mnist_adv.certification.branching import Search, Whole
from mnist_adv.certification.method import BRANCHING, Method
from mnist_adv.certification.mixed_integer import require_linear
from mnist_adv.certification.mixed_integer import search as search_mixed_integer
from mnist_adv.certification.propagation import UNITS, Propagation
from mnist_adv.certification.read_model import read_network
from mnist_adv.certification.region import NORMS, Ball
from mnist_adv.certification.result import Arithmetic, Certification
from mnist_adv.certification.semidefinite import as_hidden, make_margin, search
from mnist_adv.certification.witness import check_witnesses, find_witnesses
from mnist_adv.data.images import Bounds, as_batch, as_classes, checked_bounds
from mnist_adv.geometry.norms import Norm
from mnist_adv.models.as_model import as_model
from mnist_adv.models.logits import predict

if TYPE_CHECKING:
    from mnist_adv.models.model import Model

_MOST_KEPT = 4
_bounders: collections.OrderedDict[Any, Bounder] = collections.OrderedDict()


class Prover:
    """A model, its images and what both entry points do with them.

    Args:
        model: as `certify` takes it, and so all others.
        images: the clean ones.
        labels: theirs.
        norm: of the ball.
        bounds: of a pixel.
        arithmetic: of the network.
    """

    def __init__(
        self,
        model: Model,
        images: Any,
        labels: Any,
        norm: Norm | str,
        bounds: Bounds,
        arithmetic: Arithmetic | str,
    ) -> None:
        self.norm = choose(Norm, norm, "norm")
        if self.norm not in NORMS:
            allowed = ", ".join(known.value for known in NORMS)
            raise ValueError(f"norm must be one of {allowed}. Received: {self.norm.value!r}")
        self.bounds = checked_bounds(bounds)
        self.arithmetic = choose(Arithmetic, arithmetic, "arithmetic")
        self.images = as_batch(images, self.bounds).astype(np.float32)
        self.count = len(self.images)
        self.model = as_model(model, self.images)
        shape = self.images.shape[1:]
        self.network = read_network(self.model, (shape[0], shape[1], shape[2]))
        self.labels = as_classes(labels, self.count, self.network.num_classes, "labels")
        self.correct = predict(self.model, self.images).argmax(axis=1) == self.labels
        low, high = self.bounds
        number = math.prod(shape)
        self.diameter = (high - low) * {
            Norm.LINF: 1.0,
            Norm.L2: math.sqrt(number),
            Norm.L1: float(number),
        }[self.norm]

    def require(self, method: Method, seconds: float) -> None:
        """Refuse a method that cannot bound this model and norm, before anything is computed.

        Args:
            method: of the bounds.
            seconds: for each image, if it branches.

        Raises:
            ValueError: it has no bounds of this norm or this network, or needs time.
        """
        if method is Method.SDP:
            if self.norm is not Norm.LINF:
                raise ValueError(f"method sdp needs norm linf. Received: {self.norm.value!r}")
            as_hidden(self.network)
        if method is Method.MILP:
            require_linear(self.network, self.norm)
            if not seconds:
                raise ValueError(
                    "method milp needs seconds_per_image above 0. Received: "
                    f"seconds_per_image {seconds:g}"
                )

    def bound(
        self, method: Method, which: np.ndarray, seconds: float, radii: np.ndarray
    ) -> np.ndarray:
        """Bound the margins of some images from below.

        Args:
            method: of the bounds.
            which: `[s]` int64, the images.
            seconds: for each image, if the method branches.
            radii: `[s]`, in pixel units.

        Returns:
            `[s, k]` float64; infinite for the label itself.
        """
        if not len(which):
            return np.zeros((0, self.network.num_classes))
        if method in BRANCHING:
            found = self.bound(Method.CROWN, which, 0.0, radii)
            return self.tighten(method, which, radii, found, seconds, all_classes=False)[0]
        return self._bounder.margins(self._pixels(which), self.labels[which], radii, method)

    def tighten(
        self,
        method: Method,
        which: np.ndarray,
        radii: np.ndarray,
        margins: np.ndarray,
        seconds: float,
        *,
        all_classes: bool = True,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Raise the bounds of what is not proved, image by image.

        Args:
            method: of the bounds, one that branches.
            which: `[s]` int64, the images.
            radii: `[s]`, in pixel units.
            margins: `[s, k]`, what is known of them.
            seconds: for each image.
            all_classes: whether to go on with an image once one of its margins fails, and to show
                progress.

        Returns:
            The margins `[s, k]`; the images that were met `[s, h, w, c]`, clean where none was;
            and their distances `[s]`, infinite where none was.
        """
        found, images = margins.copy(), self.images[which]
        tighten = {
            Method.BETA_CROWN: self._branched,
            Method.MILP: self._mixed_integer,
            Method.SDP: self._semidefinite,
        }[method]
        hidden_bar = None if all_classes else True  # None: shown on a terminal
        for number in tqdm(range(len(which)), method.value, leave=False, disable=hidden_bar):
            order = found[number].argsort()
            others = order[found[number, order] <= 0]
            if len(others):
                bounds, met = tighten(
                    int(which[number]), radii[number], others, seconds, all_classes
                )
                found[number, others] = np.maximum(bounds, found[number, others])
                images[number] = images[number] if met is None else met
        distance = check_witnesses(
            self.model,
            self.images[which],
            images,
            self.labels[which],
            norm=self.norm,
            epsilon=radii,
            bounds=self.bounds,
        )
        there = np.isfinite(distance)[:, np.newaxis, np.newaxis, np.newaxis]
        return found, np.where(there, images, self.images[which]), distance

    def _semidefinite(
        self, number: int, radius: float, others: np.ndarray, seconds: float, all_classes: bool
    ) -> tuple[np.ndarray, None]:
        until = time.monotonic() + seconds
        hidden, label = as_hidden(self.network), int(self.labels[number])
        region, intervals = self._bounder.intervals(
            self._pixels(np.array([number])), np.array([radius])
        )
        bounds = np.full(len(others), -np.inf)
        for place, other in enumerate(others):
            margin = make_margin(hidden, region, intervals, label, int(other))
            _, bounds[place] = search(margin, until - time.monotonic())
            if bounds[place] <= 0 and not all_classes:
                break
        return bounds, None

    def _branched(
        self, number: int, radius: float, others: np.ndarray, seconds: float, _: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        whole, rows = self._refined(number, radius, others)
        return self._met(number, self._bounder.brancher.search(whole, rows, seconds))

    def _mixed_integer(
        self, number: int, radius: float, others: np.ndarray, seconds: float, _: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        whole, rows = self._refined(number, radius, others)
        brancher = self._bounder.brancher
        return self._met(
            number, search_mixed_integer(self._propagation, brancher, whole, rows, seconds)
        )

    def _refined(self, number: int, radius: float, others: np.ndarray) -> tuple[Whole, np.ndarray]:
        identity = np.eye(self.network.num_classes)
        rows = identity[self.labels[number]] - identity[others]
        return self._bounder.refine(self._pixels(np.array([number]))[0], radius), rows

    def _met(self, number: int, found: Search) -> tuple[np.ndarray, np.ndarray | None]:
        if found.margin >= 0:
            return found.bounds, None
        # Float32 pixels round off the radius.
        pixels = self._pixels(np.array([number]))[0]
        nearer = pixels + (1 - 1e-6) * (found.image - pixels)
        return found.bounds, nearer.reshape(self.images.shape[1:]).astype(np.float32)

    def _pixels(self, which: np.ndarray) -> np.ndarray:
        return self.images.reshape(self.count, -1)[which].astype(np.float64)

    @property
    def block(self) -> int:
        """The most images that are bounded at one time."""
        return self._bounder.block

    @property
    def _bounder(self) -> Bounder:
        return compiled_bounder(self._propagation)

    @property
    def _propagation(self) -> Propagation:
        ball = Ball(self.norm, *self.bounds)
        return Propagation(self.network, ball, UNITS[self.arithmetic])

    def attack(
        self, which: np.ndarray, radii: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Look for images of another class.

        Args:
            which: `[s]` int64, the images.
            radii: `[s]`, in pixel units, within which they are sought.
            seed: of the attack.

        Returns:
            Images `[s, h, w, c]`, clean ones where none was found, and their distances `[s]`,
            infinite there.
        """
        return find_witnesses(
            self.model,
            self.images[which],
            self.labels[which],
            norm=self.norm,
            epsilon=radii,
            bounds=self.bounds,
            seed=seed,
        )

    def result(
        self,
        method: Method,
        epsilon: np.ndarray,
        proved: np.ndarray,
        adversarial: np.ndarray,
        distance: np.ndarray,
        margin: np.ndarray,
    ) -> Certification:
        """Assemble what is handed out: never a proof and a witness that contradict one another.

        Args:
            method: the tightest bounds that were tried.
            epsilon: `[n]`, the radii that were asked about.
            proved: `[n]`, up to which each label is proved; -1 for none.
            adversarial: `[n, h, w, c]`, of another class, or clean.
            distance: `[n]`, theirs; infinite for clean ones.
            margin: `[n]`, the least one within epsilon, bounded from below.

        Returns:
            The record.

        Raises:
            RuntimeError: an image was found inside a proved radius.
        """
        wrong = np.flatnonzero(distance <= proved)
        if len(wrong):
            raise RuntimeError(
                f"image {wrong[0]} is proved up to {proved[wrong[0]]:g} and broken at "
                f"{distance[wrong[0]]:g}: a bound is wrong, or the model computes otherwise"
            )
        return Certification(
            self.images,
            self.labels,
            self.norm,
            self.bounds,
            np.array(epsilon, np.float64),
            proved,
            distance,
            adversarial,
            margin,
            self.arithmetic,
            method,
        )


def compiled_bounder(propagation: Propagation) -> Bounder:
    """Give what was compiled for the same network and regions, or compile it.

    Args:
        propagation: through a network over regions of one kind.

    Returns:
        Bounds by it.
    """
    key = (propagation.network.digest, propagation.ball, propagation.unit)
    if key not in _bounders:
        _bounders[key] = Bounder(propagation)
    _bounders.move_to_end(key)
    while len(_bounders) > _MOST_KEPT:
        _bounders.popitem(last=False)
    return _bounders[key]
