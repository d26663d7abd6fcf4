"""What is to be measured, cut into chunks: pure functions of settings, seed and index.

Nothing here depends on what ran before, so that going on after a cut is arithmetic.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import itertools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from mnist_adv.arguments import (
    ABOVE_0,
    FLOAT32,
    UINT32,
    NamedChoice,
    choose,
    real,
    shown,
    whole,
    yes_or_no,
)
from mnist_adv.certification.method import Method
from mnist_adv.geometry.norms import Norm


class Targets(NamedChoice):
    """Which classes the attacks have to reach."""

    UNTARGETED = "untargeted"
    RANDOM = "random"
    NEXT = "next"
    LEAST_LIKELY = "least_likely"
    ALL = "all"


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Consecutive images: `first` to `end - 1` of the split."""

    number: int
    first: int
    end: int

    @property
    def rows(self) -> tuple[int, int]:
        """Index of the first image in the split, and one past the last."""
        return self.first, self.end


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that the result depends on, and nothing else.

    Attributes:
        checkpoint: SHA-256 of the model; see `LoadedModel`.
        reading: how they are read, beyond what is in them; see `ModelSource`.
        num_classes: of the model.
        dataset: a name that `data.load` knows.
        split: "train" or "test".
        num_images: the first so many of the split are measured.
        attacks: names, at least one, each once.
        norm: of the budgets.
        epsilons: budgets in pixel units, rising, at least 0.
        targets: which classes are to be reached.
        num_steps: most steps of every attack, at least 1; None: each attack's own.
        step_size: length of a step in pixel units, above 0; None: each attack's own.
        seed: of random targets and of attacks that draw at random.
        chunk_size: images per result file.
        versions: name -> version of what can change a result.
        attack_settings: for each attack, name -> value of the settings that are not its own.
        confidence: the least probability of the new class; None: any.
        max_queries: most forward and backward passes of each attack for an image and budget, at
            least 1; None: any.
        certify_method: of the bounds by which each image's certified radius is sought; None: none
            is.
        seconds_per_image: for branching, at least 0.

    Raises:
        ValueError: a setting out of range.
    """

    checkpoint: str
    reading: str
    num_classes: int
    dataset: str
    split: str
    num_images: int
    attacks: tuple[str, ...]
    norm: Norm
    epsilons: tuple[float, ...]
    targets: Targets
    num_steps: int | None
    step_size: float | None
    seed: int
    chunk_size: int
    versions: dict[str, str]
    attack_settings: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    confidence: float | None = None
    max_queries: int | None = None
    certify_method: Method | None = None
    seconds_per_image: float = 0.0

    def __post_init__(self) -> None:
        for name in ("num_images", "chunk_size", "num_steps", "max_queries"):
            if getattr(self, name) is not None or name in ("num_images", "chunk_size"):
                whole(getattr(self, name), name)
        if self.step_size is not None:
            real(self.step_size, "step_size", ABOVE_0)
        whole(self.seed, "seed", 0, UINT32)
        real(self.seconds_per_image, "seconds_per_image", 0)
        if not self.attacks or len(set(self.attacks)) < len(self.attacks):
            raise ValueError(
                f"attacks must be names, each once. Received: {', '.join(self.attacks) or 'none'}"
            )
        usable = all(
            isinstance(epsilon, float | int) and 0 <= epsilon <= FLOAT32
            for epsilon in self.epsilons
        )
        rising = usable and all(low < high for low, high in itertools.pairwise(self.epsilons))
        if not (self.epsilons and rising):
            raise ValueError(
                "epsilons must be finite numbers in float32, at least 0, each larger than "
                f"the one before. Received: {', '.join(map(str, self.epsilons)) or 'none'}"
            )

    @property
    def targeted(self) -> bool:
        """Whether there are classes to reach, and not only labels to leave."""
        return self.targets is not Targets.UNTARGETED

    def settings(self) -> dict[str, Any]:
        """List the settings in the order of their definition.

        Returns:
            Name -> value, as JSON has it.
        """
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @property
    def digest(self) -> str:
        """SHA-256 of the settings, hexadecimal."""
        return _digest(self.settings())

    @property
    def series(self) -> str:
        """SHA-256 of all settings but the number of images: of plans that share their chunks."""
        return _digest({**self.settings(), "num_images": None})

    def chunk_digest(self, chunk: Chunk) -> str:
        """Compute what identifies a chunk's result, whatever the number of images is.

        Args:
            chunk: of the plan.

        Returns:
            SHA-256 of the settings and of the chunk's place, hexadecimal.
        """
        return _digest({"series": self.series, "rows": chunk.rows})

    def chunks(self) -> list[Chunk]:
        """Cut the images into chunks.

        Returns:
            The chunks in order; the last may be shorter.
        """
        starts = range(0, self.num_images, self.chunk_size)
        return [
            Chunk(number, first, min(first + self.chunk_size, self.num_images))
            for number, first in enumerate(starts)
        ]


def list_cases(
    plan: Plan, chunk: Chunk, labels: np.ndarray, logits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """List the cases of a chunk: one per image, or per image and target.

    Args:
        plan: the settings.
        chunk: the images.
        labels: `[m]` int64, theirs.
        logits: `[m, k]`, the model's, for the clean images.

    Returns:
        `[r]` int64, each case's image, counted from the chunk's first; `[r]` int64, its target,
        never the label; -1 without targets.
    """
    images = np.arange(len(labels))
    k = plan.num_classes
    if plan.targets is Targets.ALL:
        shifts = np.tile(np.arange(1, k), len(labels))
        images = np.repeat(images, k - 1)
        order = np.lexsort(((labels[images] + shifts) % k, images))
        return images, ((labels[images] + shifts) % k)[order]
    if plan.targets is Targets.NEXT:
        return images, (labels + 1) % k
    if plan.targets is Targets.RANDOM:
        draws = [
            np.random.default_rng([plan.seed, index]).integers(1, k)
            for index in range(chunk.first, chunk.end)
        ]
        return images, (labels + np.array(draws, np.int64)) % k
    if plan.targets is Targets.LEAST_LIKELY:
        others = logits.astype(np.float64)
        others[images, labels] = np.inf
        return images, others.argmin(axis=1)
    return images, np.full(len(labels), -1)


def parse_epsilons(text: str) -> tuple[float, ...]:
    """Read a list of budgets, in which "..." goes on in equal steps: "0,0.02,...,0.3".

    Args:
        text: numbers and at most one "..." after two of them and before the last, with commas.

    Returns:
        The budgets.

    Raises:
        ValueError: not such a list, or steps that do not meet the last number.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        if "..." not in parts:
            return tuple(float(part) for part in parts)
        place = parts.index("...")
        before = [float(part) for part in parts[:place]]
        (last,) = (float(part) for part in parts[place + 1 :])
        step = before[-1] - before[-2]
        count = round((last - before[-1]) / step)
    except (ValueError, IndexError, ZeroDivisionError, OverflowError):
        raise ValueError(
            f"epsilons must be numbers with commas, such as 0,0.1,0.2 or 0,0.02,...,0.3. "
            f"Received: {text!r}"
        ) from None
    if count < 1 or abs(before[-1] + count * step - last) > 1e-9:
        raise ValueError(f"the steps of epsilons must meet the last number. Received: {text!r}")
    # Rounded, or 0.1 + 0.2 would be a budget of 0.30000000000000004.
    between = tuple(round(before[-1] + step * number, 12) for number in range(1, count))
    return (*before, *between, last)


def as_certify_method(certify: Any, method: Any, seconds_per_image: Any) -> Method | None:
    """Bring what is to be certified into one form.

    Args:
        certify: whether anything is.
        method: of the bounds, or its name; None: "crown".
        seconds_per_image: for branching.

    Returns:
        The method; None: nothing is certified.

    Raises:
        ValueError: no such method or seconds, or some and nothing to be certified.
    """
    real(seconds_per_image, "seconds_per_image", 0)
    if not yes_or_no(certify, "certify"):
        if method is not None or seconds_per_image:
            raise ValueError(
                "certify_method and seconds_per_image go with certify. "
                f"Received: {shown(method)} and {shown(seconds_per_image)} without it"
            )
        return None
    return Method.CROWN if method is None else choose(Method, method, "certify_method")


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value
