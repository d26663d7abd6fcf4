"""Smallest perturbations by solvers that the package does not use, all from SciPy."""

from __future__ import annotations

import numpy as np
import scipy.optimize
import scipy.sparse


def highs(
    norm: str, constraints: np.ndarray, rhs: np.ndarray, up: np.ndarray, down: np.ndarray
) -> float:
    """Solve one L-inf or L1 problem as a linear program; infinity if it is infeasible.

    Args:
        norm: "linf" or "l1".
        constraints: `[m, D]`.
        rhs: `[m]`.
        up: `[D]`, range to rise.
        down: `[D]`, range to fall.
    """
    pixels = constraints.shape[1]
    one = scipy.sparse.eye(pixels)
    if norm == "linf":
        column = scipy.sparse.csr_matrix(np.ones((pixels, 1)))
        matrix = scipy.sparse.vstack([
            scipy.sparse.hstack([
                scipy.sparse.csr_matrix(-constraints),
                np.zeros((len(constraints), 1)),
            ]),
            scipy.sparse.hstack([one, -column]),
            scipy.sparse.hstack([-one, -column]),
        ])
        right = np.concatenate([-rhs, np.zeros(2 * pixels)])
        costs = np.concatenate([np.zeros(pixels), [1.0]])
        bounds = [*zip(-down, up), (0, None)]
    else:
        matrix = scipy.sparse.csr_matrix(np.hstack([-constraints, constraints]))
        right, costs = -rhs, np.ones(2 * pixels)
        bounds = [(0, ranges) for ranges in np.concatenate([up, down])]
    result = scipy.optimize.linprog(
        costs,
        A_ub=matrix.tocsr(),
        b_ub=right,
        bounds=bounds,
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    return float(result.fun) if result.status == 0 else np.inf


def largest_margin_highs(
    norm: str,
    W: np.ndarray,
    b: np.ndarray,
    image: np.ndarray,
    target: int,
    epsilon: float,
    free: np.ndarray | float = 1.0,
) -> float:
    """Find the largest margin of a class inside an L-inf or L1 ball as a linear program.

    The columns are each pixel's way up, its way down, and the margin.

    Args:
        norm: "linf" or "l1".
        W: `[D, K]`.
        b: `[K]`.
        image: `[D]`, in the unit box.
        target: the class.
        epsilon: the radius.
        free: `[D]`, 0 for pixels that may not move.
    """
    others = np.delete(np.arange(W.shape[1]), target)
    constraints = (W[:, [target]] - W[:, others]).T
    logits = image @ W + b
    matrix = np.hstack([-constraints, constraints, np.ones((len(constraints), 1))])
    right = logits[target] - logits[others]
    ranges = np.concatenate([(1 - image) * free, image * free])
    if norm == "linf":
        ranges = np.minimum(ranges, epsilon)
    else:
        matrix = np.vstack([matrix, np.append(np.ones(len(ranges)), 0.0)])
        right = np.append(right, epsilon)
    result = scipy.optimize.linprog(
        np.append(np.zeros(len(ranges)), -1.0),
        A_ub=matrix,
        b_ub=right,
        bounds=[*((0, one) for one in ranges), (None, None)],
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    return -float(result.fun)


def quadratic(constraints: np.ndarray, rhs: np.ndarray, up: np.ndarray, down: np.ndarray) -> float:
    """Solve one L2 problem as a bounded least-squares problem (Lawson and Hanson's duality).

    The least distance `min ||d||, G d >= h` is read off a nonnegative least-squares problem,
    `min ||E u - f||` with `E = [G^T; h^T]`, `f = [0, ..., 0, 1]`: `d = -r / r_last`, r the
    residual. Its active constraints, solved as equations, take the answer to full precision.

    Args:
        constraints: `[m, D]`.
        rhs: `[m]`.
        up: `[D]`, range to rise.
        down: `[D]`, range to fall.
    """
    one = np.eye(constraints.shape[1])
    constraints = np.vstack([constraints, -one, one])
    right = np.concatenate([rhs, -up, -down])
    matrix = np.vstack([constraints.T, right])
    aim = np.zeros(len(matrix))
    aim[-1] = 1
    solution, norm = scipy.optimize.nnls(matrix, aim, maxiter=50 * len(right))
    if norm < 1e-10:
        return np.inf
    active = solution > 1e-12 * solution.max()
    point, *_ = np.linalg.lstsq(constraints[active], right[active])
    return float(np.linalg.norm(point))


def dual_quadratic(
    constraints: np.ndarray, rhs: np.ndarray, up: np.ndarray, down: np.ndarray
) -> float:
    """Solve one L2 problem by L-BFGS-B on its dual: fast enough for hundreds of digits.

    Args:
        constraints: `[m, D]`.
        rhs: `[m]`.
        up: `[D]`, range to rise.
        down: `[D]`, range to fall.
    """

    def negative(lam: np.ndarray) -> tuple[float, np.ndarray]:
        coefficients = lam @ constraints
        move = np.clip(coefficients, -down, up)
        return float(coefficients @ move - 0.5 * move @ move - lam @ rhs), constraints @ move - rhs

    result = scipy.optimize.minimize(
        negative,
        np.zeros(len(rhs)),
        jac=True,
        bounds=[(0, None)] * len(rhs),
        method="L-BFGS-B",
        options={"ftol": 1e-16, "gtol": 1e-11, "maxiter": 5000, "maxfun": 10_000},
    )
    return float(np.sqrt(-2 * result.fun))
