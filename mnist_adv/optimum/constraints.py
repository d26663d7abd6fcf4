"""The linear algebra of a block of targeted problems, without building their constraint matrices.

Problem i asks for logits with `z_t >= z_k` for every class k: one constraint `a_k = w_t - w_k` for
each. All constraints of all problems are differences of the same few columns of W, so every product
with them is one matrix product with W. The target's own constraint is zero and stays in: `0 >= g_t`
with a negative g_t is never active, and no index has to be shifted.
"""

from __future__ import annotations

import dataclasses

import numpy as np

_ONE_THREAD = 250_000  # multiplications that OpenBLAS still does on the calling thread


@dataclasses.dataclass(frozen=True)
class Constraints:
    """The constraints `a_k = w_t - w_k` of n problems.

    Attributes:
        weights: `[D, K]` float64.
        products: `[D, K (K + 1) / 2]`, products of all pairs of columns; see `make_constraints`.
        targets: `[n]`, t.
    """

    weights: np.ndarray
    products: np.ndarray
    targets: np.ndarray

    def apply(self, perturbations: np.ndarray) -> np.ndarray:
        """Compute `a_k . d` for all k.

        Args:
            perturbations: d, `[n, D]`.

        Returns:
            `[n, K]`.
        """
        changes = product(perturbations, self.weights)
        return changes[np.arange(len(changes)), self.targets][:, np.newaxis] - changes

    def combine(self, dual_variables: np.ndarray) -> np.ndarray:
        """Compute `sum_k lambda_k a_k`.

        Args:
            dual_variables: lambda, `[n, K]`.

        Returns:
            `[n, D]`.
        """
        return combine(self.weights, self.targets, dual_variables)

    def gram(self, pixel_weights: np.ndarray) -> np.ndarray:
        """Compute `A diag(h) A^T` of each problem.

        Args:
            pixel_weights: h, `[n, D]`.

        Returns:
            `[n, K, K]`.
        """
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
        """Compute `||a_k||^2`: for constraints that are nearly zero, up to rounding.

        Returns:
            `[n, K]`.
        """
        products = self.weights.T @ self.weights
        squares = np.diag(products)
        return squares[self.targets][:, np.newaxis] + squares - 2 * products[self.targets]

    def columns(self, pixels: np.ndarray) -> np.ndarray:
        """Write out what a unit of each pixel adds to the constraints.

        Args:
            pixels: `[n, m]` indices.

        Returns:
            `[n, m, K]`.
        """
        own = self.weights[pixels, self.targets[:, np.newaxis]]
        return own[:, :, np.newaxis] - self.weights[pixels]

    def take(self, keep: np.ndarray) -> Constraints:
        """Keep some of the problems.

        Args:
            keep: `[n]` bool, or indices.

        Returns:
            These problems.
        """
        return dataclasses.replace(self, targets=self.targets[keep])


@dataclasses.dataclass(frozen=True)
class ColumnConstraints:
    """Constraints of n problems over m columns of each problem's own choice, written out.

    Attributes:
        columns: `[n, m, K]`, what one unit of each column adds to the constraints.
    """

    columns: np.ndarray

    def apply(self, amounts: np.ndarray) -> np.ndarray:
        """Compute the constraints' values.

        Args:
            amounts: of the columns, `[n, m]`.

        Returns:
            `[n, K]`.
        """
        return np.matmul(amounts[:, np.newaxis], self.columns)[:, 0]

    def combine(self, dual_variables: np.ndarray) -> np.ndarray:
        """Compute each column's coefficient in the weighted sum of the constraints.

        Args:
            dual_variables: the weights, `[n, K]`.

        Returns:
            `[n, m]`.
        """
        return np.matmul(self.columns, dual_variables[:, :, np.newaxis])[:, :, 0]

    def gram(self, column_weights: np.ndarray) -> np.ndarray:
        """Compute `A diag(h) A^T` of each problem.

        Args:
            column_weights: h, `[n, m]`.

        Returns:
            `[n, K, K]`.
        """
        scaled = self.columns * column_weights[:, :, np.newaxis]
        return np.matmul(scaled.transpose(0, 2, 1), self.columns)

    def take(self, keep: np.ndarray) -> ColumnConstraints:
        """Keep some of the problems.

        Args:
            keep: `[n]` bool, or indices.

        Returns:
            These problems.
        """
        return ColumnConstraints(self.columns[keep])


def make_constraints(weights: np.ndarray, targets: np.ndarray) -> Constraints:
    """Prepare the products that `gram` needs.

    Args:
        weights: `[D, K]` float64.
        targets: `[n]` integers in [0, K).

    Returns:
        The constraints.
    """
    first, second = np.triu_indices(weights.shape[1])
    return Constraints(weights, weights[:, first] * weights[:, second], targets)


def combine(weights: np.ndarray, targets: np.ndarray, dual_variables: np.ndarray) -> np.ndarray:
    """Compute `sum_k lambda_k (w_t - w_k)`, the weighted sum of all constraints.

    Args:
        weights: `[D, K]`.
        targets: `[n]`.
        dual_variables: `[n, K]`.

    Returns:
        `[n, D]`.
    """
    signed = -dual_variables
    signed[np.arange(len(signed)), targets] -= signed.sum(axis=1)
    return product(signed, weights.T)


def box_support(coefficients: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Maximise `c . d` over the box.

    Args:
        coefficients: c, `[n, D]`.
        ranges: `[2, n, D]`, how far each pixel can rise and fall.

    Returns:
        The maxima, `[n]`.
    """
    return np.maximum(coefficients * ranges[0], -coefficients * ranges[1]).sum(axis=1)


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
    columns = max(1, min(width, _ONE_THREAD // max(1, count * inner)))
    height = max(1, min(count, _ONE_THREAD // max(1, columns * inner)))
    if columns == width and height == count:
        return left @ right
    result = np.empty((count, width))
    for top in range(0, count, height):
        for start in range(0, width, columns):
            np.matmul(
                left[top : top + height],
                right[:, start : start + columns],
                out=result[top : top + height, start : start + columns],
            )
    return result
