"""Check a claimed smallest perturbation, with nothing that the solvers use.

From above: the image lies in the box, and an ordinary forward pass classifies it as wanted; its
distance is an upper bound. From below: the bound that the dual variables give by weak duality (see
`bounds.py`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mnist_adv.optimum.certificate.bounds import list_reasons, lower_bounds, margins, measure

_CHUNK = 512  # images at a time, to bound memory


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What was proved of n claimed optima.

    Attributes:
        lower_bound: `[n]`, proved here from the dual variables; infinity: no such image exists.
        upper_bound: `[n]`, the measured norm; infinity where the image is not as wanted.
        gap: `[n]`, relative to the upper bound.
        in_box: `[n]` bool.
        shortfall: `[n]`, by how much the float64 logits miss the wanted margin; at most 0 if met.
        accepted: `[n]` bool: proved smallest within the allowed gap, or proved impossible, and no
            claim contradicted.
        reasons: `[n]` strings, empty where accepted.
    """

    lower_bound: np.ndarray
    upper_bound: np.ndarray
    gap: np.ndarray
    in_box: np.ndarray
    shortfall: np.ndarray
    accepted: np.ndarray
    reasons: tuple[str, ...]


def check(
    W: Any,
    b: Any,
    images: Any,
    adversarial: Any,
    *,
    norm: str,
    targets: Any = None,
    labels: Any = None,
    dual_variables: Any = None,
    claimed_lower: Any = None,
    claimed_upper: Any = None,
    margin: float = 0.0,
    lower: Any = 0.0,
    upper: Any = 1.0,
    allowed_gap: float = 1e-6,
) -> Certificate:
    """Check claimed smallest perturbations of a linear classifier.

    Args:
        W: `[D, K]`.
        b: `[K]`.
        images: clean, `[n, D]` or image-shaped.
        adversarial: the claimed nearest images, the same shape.
        norm: "linf", "l2", "l1" or "l0".
        targets: `[n]`, the classes to reach, with `dual_variables`; or
        labels: `[n]`, the classes to leave.
        dual_variables: `[n, K]`, any scale; for targets.
        claimed_lower: `[n]`, refused where more is claimed than can be proved.
        claimed_upper: `[n]`, refused where less is claimed than is measured.
        margin: of the wanted logit over the others.
        lower: the box, one number or `[D]`.
        upper: likewise.
        allowed_gap: relative.

    Returns:
        The certificate.

    Raises:
        ValueError: shapes differ, or not exactly one of targets and labels.
    """
    weights, bias = np.asarray(W, np.float64), np.asarray(b, np.float64)
    clean = np.asarray(images, np.float64).reshape(-1, len(weights))
    final = np.asarray(adversarial, np.float64).reshape(-1, len(weights))
    if len(clean) != len(final) or (targets is None) == (labels is None):
        raise ValueError(
            "images and adversarial must be equally many, with exactly one of targets and labels. "
            f"Received: {len(clean)} and {len(final)} images, {targets!r}, {labels!r}"
        )
    classes = np.asarray(labels if targets is None else targets)
    if classes.shape != (len(clean),):
        raise ValueError(f"one class per image must be given. Received: {list(classes.shape)}")
    lambdas = np.zeros((len(clean), weights.shape[1])) if dual_variables is None else dual_variables
    lambdas = np.asarray(lambdas, np.float64)
    box = (np.asarray(lower, np.float64).reshape(-1), np.asarray(upper, np.float64).reshape(-1))
    wanted: dict[str, Any] = {"labels" if targets is None else "targets": classes}
    below = lower_bounds(
        weights,
        bias,
        clean,
        norm=norm,
        dual_variables=lambdas,
        margin=margin,
        lower=lower,
        upper=upper,
        **wanted,
    )
    short = margin - margins(weights, bias, final, **wanted)
    above, inside = np.zeros(len(clean)), np.zeros(len(clean))
    for start in range(0, len(clean), _CHUNK):
        part = slice(start, start + _CHUNK)
        x, y = clean[part], final[part]
        inside[part] = (np.isfinite(y) & (y >= box[0]) & (y <= box[1])).all(axis=1)
        above[part] = measure(norm, y - x)
    in_box = inside.astype(bool)
    upper_bound = np.where(in_box & (short <= 0), above, np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.where(np.isinf(upper_bound), 1.0, (upper_bound - below) / upper_bound)
    gap = np.where(upper_bound <= below, 0.0, gap)
    # The proof from below is itself float64: two correct evaluations differ by rounding.
    rounding = 1e-9
    faults = {
        "the image leaves the box": ~in_box,
        "a dual variable is negative or not finite": ~(np.isfinite(lambdas) & (lambdas >= 0)).all(
            axis=1
        ),
        "the image is not classified as wanted": np.isinf(upper_bound) & np.isfinite(below),
        "the image is nearer than the bound: dual variables and image contradict each other": (
            upper_bound < below * (1 - rounding)
        )
        & np.isfinite(upper_bound),
        "the gap is too large": gap > allowed_gap,
    }
    if claimed_lower is not None:
        low = np.asarray(claimed_lower, np.float64)
        faults["the claimed lower bound is not proved"] = ~(low <= below * (1 + rounding))
    if claimed_upper is not None:
        high = np.asarray(claimed_upper, np.float64)
        faults["the claimed upper bound is not met"] = ~(high >= upper_bound * (1 - rounding))
    reasons = list_reasons(faults, len(clean))
    return Certificate(
        lower_bound=below,
        upper_bound=upper_bound,
        gap=gap,
        in_box=in_box,
        shortfall=short,
        accepted=np.array([not reason for reason in reasons], bool),
        reasons=reasons,
    )
