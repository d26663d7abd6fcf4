"""Quadratic forms, and diagonals above them of which a Cholesky factor is the proof."""

from __future__ import annotations

import contextlib

import numpy as np
import scipy.sparse.linalg

_FEW = 100  # rows of a matrix that is taken as a whole
_LEAST = 1e-6  # by which a diagonal is raised, relatively
_ROUNDOFF = 2.0**-53


def raise_diagonal(product: np.ndarray, linear: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    """Raise a diagonal until `diag(d) - M` is positive semidefinite, as Lanczos' method finds.

    Args:
        product: `[p, q]`, of the quadratic form `t' product v + t' linear`.
        linear: `[p]`.
        diagonal: `[p + q + 1]`.

    Returns:
        The diagonal, raised.
    """
    raised = diagonal + _LEAST * diagonal.mean() + 1e-12
    # Of the matrix whose diagonal is 1: it needs few steps, where small pixels' entries need many.
    largest = _largest_eigenvalue(product, linear, 1 / np.sqrt(raised))
    return raised * max(largest, 1.0) * (1 + _LEAST)


def _largest_eigenvalue(product: np.ndarray, linear: np.ndarray, scale: np.ndarray) -> float:
    """Find that of a quadratic form whose rows and columns are scaled."""
    count, size = len(product), len(scale)

    def scaled(values: np.ndarray) -> np.ndarray:
        y = scale * values.ravel()
        of_pixels = product @ y[count:-1] + linear * y[-1]
        return scale * np.concatenate([of_pixels, product.T @ y[:count], [linear @ y[:count]]])

    if size > _FEW:
        operator = scipy.sparse.linalg.LinearOperator([size] * 2, scaled, dtype=np.float64)
        options = {"k": 1, "which": "LA", "v0": np.ones(size), "tol": 1e-5}
        with contextlib.suppress(scipy.sparse.linalg.ArpackError):
            found = scipy.sparse.linalg.eigsh(operator, return_eigenvectors=False, **options)
            return float(found[0])
    matrix = quadratic_form(product, linear) * scale * scale[:, np.newaxis]
    return float(np.linalg.eigvalsh(matrix)[-1])


def make_certain(product: np.ndarray, linear: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    """Raise a diagonal until `diag(d) - M` is positive semidefinite beyond doubt.

    Args:
        product: `[p, q]`, of the quadratic form `t' product v + t' linear`.
        linear: `[p]`.
        diagonal: `[p + q + 1]`, above 0.

    Returns:
        The diagonal, raised.
    """
    matrix, least = quadratic_form(product, linear), _LEAST
    while not is_semidefinite(matrix, diagonal):
        least *= 4
        diagonal = diagonal * (1 + least)
    return diagonal


def quadratic_form(product: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Write a quadratic form as a matrix.

    Args:
        product: `[p, q]`.
        linear: `[p]`.

    Returns:
        M, `[p + q + 1, p + q + 1]`, with `1/2 y' M y = t' product v + t' linear`.
    """
    p, q = product.shape
    matrix = np.zeros([p + q + 1] * 2)
    matrix[:p, p : p + q] = product
    matrix[:p, -1] = linear
    return matrix + matrix.T


def is_semidefinite(matrix: np.ndarray, diagonal: np.ndarray) -> bool:
    """Prove that `diag(d) - M` is positive semidefinite: its Cholesky factor exists.

    Args:
        matrix: M, symmetric, with zeros on its diagonal.
        diagonal: d.

    Returns:
        Whether it is, rounding counted.

    References:
        Rump, "Verification of Positive Definiteness", 2006.
    """
    if not (diagonal > 0).all():
        return False
    size = len(diagonal)
    shift = 2 * (size + 3) * _ROUNDOFF * diagonal.sum()
    try:
        np.linalg.cholesky(np.diag(diagonal - shift) - matrix)
    except np.linalg.LinAlgError:
        return False
    return True
