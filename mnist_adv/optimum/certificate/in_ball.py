"""Check a claimed largest margin inside a ball, with nothing that the solvers use.

The image is measured. The upper bound is proved the other way about: a larger margin, asked of the
smallest perturbation, must need more than the radius.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mnist_adv.optimum.certificate.bounds import list_reasons, lower_bounds, margins, measure


@dataclasses.dataclass(frozen=True)
class MarginCertificate:
    """What was proved of n claimed largest margins (or log-odds) inside a budget.

    Attributes:
        reached: `[n]`, measured at the image; minus infinity where it leaves the box or the budget.
        proved: `[n]` bool, whether the dual variables prove the claimed upper bound.
        gap: `[n]`, from what is reached to the claimed upper bound.
        accepted: `[n]` bool: reached, proved, and no further apart than allowed.
        reasons: `[n]` strings, empty where accepted.
    """

    reached: np.ndarray
    proved: np.ndarray
    gap: np.ndarray
    accepted: np.ndarray
    reasons: tuple[str, ...]


def check_margin(
    W: Any,
    b: Any,
    images: Any,
    adversarial: Any,
    *,
    norm: str,
    epsilon: float,
    claimed_lower: Any,
    claimed_upper: Any,
    targets: Any = None,
    labels: Any = None,
    dual_variables: Any = None,
    log_odds: bool = False,
    lower: Any = 0.0,
    upper: Any = 1.0,
    allowed_gap: float = 1e-6,
) -> MarginCertificate:
    """Check claimed largest margins, or log-odds, inside a budget.

    Weights lambda that add to 1 bound the margin by the weighted sum of the margins over each
    class, and the log-odds by that sum plus `sum lambda log lambda`. So a claim is proved where the
    weighted sum reaches the claimed number only beyond the budget.

    Args:
        W: `[D, K]`.
        b: `[K]`.
        images: clean, `[n, D]` or image-shaped.
        adversarial: the images of the largest margin, as claimed.
        norm: "linf", "l2", "l1" or "l0".
        epsilon: the budget.
        claimed_lower: `[n]`, the claimed margins of the images.
        claimed_upper: `[n]`, the claimed bounds on all images in the budget.
        targets: `[n]`, the classes to reach, with `dual_variables`; or
        labels: `[n]`, the classes to leave.
        dual_variables: `[n, K]`, any scale; for targets.
        log_odds: whether the claims are about the targets' log-odds.
        lower: the box, one number or `[D]`.
        upper: likewise.
        allowed_gap: in logits, relative where these are larger than 1.

    Returns:
        The certificate.

    Raises:
        ValueError: not exactly one of targets and labels, or log-odds of labels.
    """
    if (targets is None) == (labels is None) or (log_odds and targets is None):
        raise ValueError("exactly one of targets and labels must be given; log-odds need targets")
    weights, bias = np.asarray(W, np.float64), np.asarray(b, np.float64)
    clean = np.asarray(images, np.float64).reshape(-1, len(weights))
    final = np.asarray(adversarial, np.float64).reshape(-1, len(weights))
    low, high = np.asarray(claimed_lower, np.float64), np.asarray(claimed_upper, np.float64)
    classes = np.asarray(labels if targets is None else targets)
    wanted: dict[str, Any] = {"labels" if targets is None else "targets": classes}
    rounding = 1e-9 * (1 + np.abs(high))
    margin, valid = high + rounding, np.ones(len(clean), bool)
    if targets is not None:
        dual_variables = np.array(dual_variables, np.float64)
        valid = np.isfinite(dual_variables).all(axis=1) & (dual_variables >= 0).all(axis=1)
        dual_variables[np.arange(len(classes)), classes] = 0
        total = dual_variables.sum(axis=1)
        valid &= total > 0
        dual_variables = dual_variables / np.where(valid, total, 1)[:, np.newaxis]
        if log_odds:
            logs = np.log(np.where(valid[:, np.newaxis] & (dual_variables > 0), dual_variables, 1))
            margin = margin - (dual_variables * logs).sum(axis=1)
    least = lower_bounds(
        weights,
        bias,
        clean,
        norm=norm,
        dual_variables=dual_variables,
        margin=margin,
        lower=lower,
        upper=upper,
        **wanted,
    )
    enough = least > epsilon if norm == "l0" else least >= epsilon * (1 - 1e-12)
    proved = np.asarray(valid & enough, bool)
    box = (np.asarray(lower, np.float64).reshape(-1), np.asarray(upper, np.float64).reshape(-1))
    in_box = np.asarray((np.isfinite(final) & (final >= box[0]) & (final <= box[1])).all(axis=1))
    inside = in_box & (measure(norm, final - clean) <= epsilon * (1 + 1e-12))
    value = (
        _log_odds(weights, bias, final, classes)
        if log_odds
        else margins(weights, bias, final, **wanted)
    )
    reached = np.where(inside, value, -np.inf)
    gap = np.maximum(high - reached, 0)
    faults: dict[str, np.ndarray] = {
        "the image leaves the box": ~in_box,
        "the image leaves the budget": in_box & ~inside,
        "the image reaches less than is claimed": ~(low <= reached + rounding),
        "the dual variables do not prove the upper bound": ~proved,
        "the image contradicts the upper bound": ~(reached <= high + rounding),
        "the gap is too large": ~(gap <= allowed_gap * np.maximum(1, np.abs(high))),
    }
    reasons = list_reasons(faults, len(clean))
    accepted = np.array([not reason for reason in reasons], bool)
    return MarginCertificate(reached, proved, gap, accepted, reasons)


def _log_odds(
    weights: np.ndarray, bias: np.ndarray, images: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    logits = images @ weights + bias
    index = np.arange(len(logits))
    own = logits[index, targets]
    logits[index, targets] = -np.inf
    top = logits.max(axis=1)
    return np.asarray(own - top - np.log(np.exp(logits - top[:, np.newaxis]).sum(axis=1)))
