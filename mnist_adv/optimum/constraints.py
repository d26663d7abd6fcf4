"""The linear algebra of a block of targeted problems, without ever building their constraints.

Problem i asks for logits with `z_t >= z_k` for every class k: one row `a_k = w_t - w_k` for each.
All rows of all problems are differences of the same few columns, so every product with them is
one matrix product with the weights. The target's own row is zero and stays in: `0 >= g_t` with a
negative g_t binds nobody, and no index has to be shifted.
"""

from __future__ import annotations

import dataclasses

import numpy as np

_ALONE = 250_000  # multiplications that OpenBLAS still does on the calling thread


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows `a_k = w_t - w_k` of n problems.

    Attributes:
        weights: `[D, K]` float64.
        products: `[D, K (K + 1) / 2]`, the products of all pairs of columns; see `make_rows`.
        targets: `[n]`, t.
    """

    weights: np.ndarray
    products: np.ndarray
    targets: np.ndarray

    def apply(self, perturbations: np.ndarray) -> np.ndarray:
        """Compute `a_k . d` for all k: `[n, D]` -> `[n, K]`."""
        changes = product(perturbations, self.weights)
        return changes[np.arange(len(changes)), self.targets][:, np.newaxis] - changes

    def combine(self, multipliers: np.ndarray) -> np.ndarray:
        """Compute `sum_k lambda_k a_k`: `[n, K]` -> `[n, D]`."""
        return combine(self.weights, self.targets, multipliers)

    def gram(self, pixel_weights: np.ndarray) -> np.ndarray:
        """Compute `A diag(h) A^T` of each problem: `[n, D]` -> `[n, K, K]`."""
        num_classes = self.weights.shape[1]
        first, second = np.triu_indices(num_classes)
        pairs = product(pixel_weights, self.products)
        full = np.empty((len(pairs), num_classes, num_classes))
        full[:, first, second] = pairs
        full[:, second, first] = pairs
        to_target = full[np.arange(len(full)), self.targets]
        own = to_target[np.arange(len(full)), self.targets]
        return (
            own[:, np.newaxis, np.newaxis]
            - to_target[:, :, np.newaxis]
            - to_target[:, np.newaxis, :]
            + full
        )

    def squares(self) -> np.ndarray:
        """Compute `||a_k||^2`, `[n, K]`: for rows that are nearly zero, up to rounding."""
        products = self.weights.T @ self.weights
        squares = np.diag(products)
        return squares[self.targets][:, np.newaxis] + squares - 2 * products[self.targets]

    def columns(self, pixels: np.ndarray) -> np.ndarray:
        """Write out what a unit of each pixel adds to the rows: `[n, m]` -> `[n, m, K]`."""
        own = self.weights[pixels, self.targets[:, np.newaxis]]
        return own[:, :, np.newaxis] - self.weights[pixels]

    def take(self, keep: np.ndarray) -> Rows:
        """Keep some of the problems."""
        return dataclasses.replace(self, targets=self.targets[keep])


@dataclasses.dataclass(frozen=True)
class Columns:
    """Rows of n problems over m columns of each problem's own choice, written out.

    Attributes:
        columns: `[n, m, K]`, what one unit of each column adds to the rows.
    """

    columns: np.ndarray

    def apply(self, amounts: np.ndarray) -> np.ndarray:
        """Compute what the rows gain: `[n, m]` -> `[n, K]`."""
        return np.matmul(amounts[:, np.newaxis], self.columns)[:, 0]

    def combine(self, multipliers: np.ndarray) -> np.ndarray:
        """Compute what the multipliers make of each column: `[n, K]` -> `[n, m]`."""
        return np.matmul(self.columns, multipliers[:, :, np.newaxis])[:, :, 0]

    def gram(self, column_weights: np.ndarray) -> np.ndarray:
        """Compute `A diag(h) A^T` of each problem: `[n, m]` -> `[n, K, K]`."""
        scaled = self.columns * column_weights[:, :, np.newaxis]
        return np.matmul(scaled.transpose(0, 2, 1), self.columns)

    def take(self, keep: np.ndarray) -> Columns:
        """Keep some of the problems."""
        return Columns(self.columns[keep])


def make_rows(weights: np.ndarray, targets: np.ndarray) -> Rows:
    """Prepare the products that `gram` needs.

    Args:
        weights: `[D, K]` float64.
        targets: `[n]` integers in [0, K).

    Returns:
        The rows.
    """
    first, second = np.triu_indices(weights.shape[1])
    return Rows(weights, weights[:, first] * weights[:, second], targets)


def combine(weights: np.ndarray, targets: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
    """Compute `sum_k lambda_k (w_t - w_k)`, the one row that the multipliers make of all.

    Args:
        weights: `[D, K]`.
        targets: `[n]`.
        multipliers: `[n, K]`.

    Returns:
        `[n, D]`.
    """
    signed = -multipliers
    signed[np.arange(len(signed)), targets] -= signed.sum(axis=1)
    return product(signed, weights.T)


def most(row: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Find the most that `row . d` can be in the rooms `[2, n, D]`: `[n]`."""
    return np.maximum(row * room[0], -row * room[1]).sum(axis=1)


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Compute `left @ right` in pieces that BLAS does not spread over threads of its own.

    Blocks of problems already run on every core. OpenBLAS's threads beside them wait for one
    another in busy loops: on a machine with other work that made a solve ten times slower.

    Args:
        left: `[n, m]`.
        right: `[m, p]`.

    Returns:
        `[n, p]`.
    """
    count, inner = left.shape
    width = right.shape[1]
    columns = max(1, min(width, _ALONE // max(1, count * inner)))
    rows = max(1, min(count, _ALONE // max(1, columns * inner)))
    if columns == width and rows == count:
        return left @ right
    result = np.empty((count, width))
    for top in range(0, count, rows):
        for start in range(0, width, columns):
            np.matmul(
                left[top : top + rows],
                right[:, start : start + columns],
                out=result[top : top + rows, start : start + columns],
            )
    return result
