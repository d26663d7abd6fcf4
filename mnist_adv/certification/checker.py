"""Check proofs of robustness: NumPy and SciPy's sparse matrices alone, and nothing of the solver.

    python -m mnist_adv.certification.checker FOLDER

reads what `write_proofs` wrote, and derives every bound again from the network's matrices and the
slopes of its lines. A slope may be anything: the line it gives is found here. All bounds hold for
the network as float32 computes it; see docs/robust.md for what is assumed.
"""

from __future__ import annotations

import io
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse

_CASES = 256  # that are bounded at one time
TOLERANCE = 1e-6  # of a claimed margin, relative to 1 and itself
ERRORS = {"relu": 0.0, "sigmoid": 1e-6, "tanh": 1e-6, "maximum": 0.0}
Arrays = Mapping[str, np.ndarray]


def _read_network(arrays: Arrays) -> tuple[list[Any], list[str], list[int]]:
    """Read affine segments, each as steps (matrix, shift, terms), the kinds and the windows."""
    segments = []
    for i in range(len(arrays["steps"])):
        steps = []
        for j in range(int(arrays["steps"][i])):
            data, indices, indptr, shape, shift, terms = (
                arrays[f"{i}.{j}.{name}"]
                for name in ("data", "indices", "indptr", "shape", "shift", "terms")
            )
            steps.append((
                scipy.sparse.csr_array((data, indices, indptr), shape.tolist()),
                shift,
                int(terms),
            ))
        segments.append(steps)
    return segments, arrays["kinds"].tolist(), arrays["windows"].tolist()


def _interval(steps: Any, low: Any, high: Any, unit: float) -> tuple[Any, Any, Any]:
    """Bound the values after a segment, and what rounding can change of them."""
    centre, reach, errors = (low + high) / 2, (high - low) / 2, np.zeros(len(low))
    largest = np.maximum(np.abs(low), np.abs(high))
    for matrix, shift, terms in steps:
        size, share = abs(matrix), terms * unit / (1 - terms * unit)
        centre, reach = matrix @ centre + shift, size @ reach
        largest = size @ largest + np.abs(shift)
        errors = size @ errors + share * largest
        largest = largest + errors
    return centre - reach - errors, centre + reach + errors, errors


def _apply(kind: str, x: Any) -> Any:
    """Compute a nonlinearity of one number."""
    if kind == "relu":
        return np.maximum(x, 0)
    return np.tanh(x) if kind == "tanh" else (1 + np.tanh(x / 2)) / 2


def _lines(kind: str, slopes: Any, low: Any, high: Any, upper: bool) -> Any:
    """Find how far lines of given slopes must be shifted to bound a nonlinearity on one side."""
    # Slopes are [m, size, window], the ends too or [size, window], the shifts [m, size].
    outward = 1e-14 * ((1 + np.abs(slopes)) * (1 + np.maximum(-low, high))).sum(axis=-1)
    if kind == "maximum":
        valid = (slopes >= 0).all() and (slopes <= 1).all()
        if not valid or not (upper or (slopes.sum(axis=-1) == 1).all()):
            raise ValueError("slopes of a maximum are no shares")
        if not upper:
            return -outward
        top = ((1 - slopes) * high + slopes * low).max(axis=-1)
        return top - (slopes * low).sum(axis=-1) + outward
    if kind == "relu":
        points = [np.zeros_like(slopes)]
    else:  # where s (1 - s) is the slope; tanh(x) is 2 sigmoid(2 x) - 1
        scale = 1 if kind == "sigmoid" else 2
        slope = np.clip(slopes / scale**2, 1e-300, 0.25)
        point = np.log((1 + np.sqrt(1 - 4 * slope)) ** 2 / (4 * slope)) / scale
        points = [point, -point]
    tried = [low + 0 * slopes, high + 0 * slopes, *(np.clip(p, low, high) for p in points)]
    differences = [_apply(kind, x) - slopes * x for x in tried]
    best = np.max(differences, axis=0) if upper else np.min(differences, axis=0)
    return best[..., 0] + (outward if upper else -outward)


def _minimum(proof: Arrays, ball: Any, rows: Any) -> Any:
    """Bound linear functions `[m, D]` of the pixels over ball and box from below."""
    sizes, ranges = np.abs(rows), np.where(rows > 0, *ball)
    norm, epsilon = str(proof["norm"]), float(proof["epsilon"])
    most = (sizes * ranges).sum(axis=1)
    if norm == "l2":  # for any t > 0: d = min(t s, r), and the dual is s . d + (e^2 - |d|^2) / 2t
        t = np.full((len(rows), 1), epsilon / max(np.linalg.norm(sizes, axis=1).max(), 1e-300))
        for _ in range(40):
            ended = t * sizes >= ranges
            left = np.maximum(epsilon**2 - (ended * ranges**2).sum(axis=1, keepdims=True), 0)
            rate = (~ended * sizes**2).sum(axis=1, keepdims=True)
            t = np.maximum(t, np.sqrt(left / np.maximum(rate, 1e-300)))
        d = np.minimum(t * sizes, ranges)
        dual = (sizes * d).sum(axis=1) + (epsilon**2 - (d**2).sum(axis=1)) / (2 * t[:, 0])
        most = np.minimum(most, dual)
    elif norm == "l1":  # for any price p >= 0: p e + sum r max(s - p, 0); the best is some s
        order = np.argsort(-sizes, axis=1)
        spent = np.take_along_axis(ranges, order, axis=1).cumsum(axis=1)
        place = np.minimum((spent <= epsilon).sum(axis=1), rows.shape[1] - 1)
        price = np.take_along_axis(sizes, order, axis=1)[np.arange(len(rows)), place]
        dual = price * epsilon + (ranges * np.maximum(sizes - price[:, None], 0)).sum(axis=1)
        most = np.minimum(most, dual)
    elif norm != "linf":
        raise ValueError(f"no norm {norm!r}")
    return rows @ proof["image"].astype(np.float64) - most


def _backward(network: Any, proof: Arrays, known: Any, lines: Arrays, rows: Any, ball: Any) -> Any:
    """Bound linear functions `[m, size]` of the values after the last known segment from below."""
    segments, kinds, windows, inexact = network
    total = np.zeros(len(rows))
    for i in reversed(range(len(known))):
        low, high, errors = known[i]
        total = total + rows @ _run(segments[i], np.zeros(segments[i][0][0].shape[1]))
        total = total - np.abs(rows) @ errors
        for matrix, _, _ in reversed(segments[i]):
            rows = rows @ matrix
        if i:
            low, high = (
                end.reshape(*end.shape[:-1], -1, windows[i - 1]) for end in known[i - 1][:2]
            )
            up, down = np.maximum(rows, 0), np.minimum(rows, 0)
            before = 0
            for part, name in ((up, "lower"), (down, "upper")):
                slopes = lines[f"{name}.{i - 1}"].astype(np.float64)
                slopes = slopes.reshape(-1, *low.shape[-2:])
                shift = _lines(kinds[i - 1], slopes, low, high, name == "upper")
                total = total + (part * shift).sum(axis=1)
                before = before + part[..., np.newaxis] * slopes
            total = total - inexact[i - 1] * np.abs(rows).sum(axis=1)
            rows = np.reshape(before, (len(rows), -1))
            # Of a value at least 0 and such a number: what they make can be taken off.
            rows = rows - lines.get(f"multiplier.{i - 1}", 0.0)
    return total + _minimum(proof, ball, rows)


def _followed(steps: Any, i: int, known: Any, kind: str, norm: str) -> list[Any]:
    """List, in parts, the neurons of a segment of which lines may show more than intervals."""
    mixing = sum(np.diff(matrix.indptr).max(initial=0) > 1 for matrix, _, _ in steps)
    # Each value is one of before, or in L-inf one product of pixels.
    exact = mixing == 0 if i else mixing <= 1 and norm == "linf"
    some = np.flatnonzero((known[1] > 0) | (kind != "relu") if not exact else [])
    return [some[first : first + _CASES] for first in range(0, len(some), _CASES)]


def _one_hot(places: Any, size: int) -> Any:
    """Make a row for each place, 1 there and else 0."""
    rows = np.zeros((len(places), size))
    rows[np.arange(len(places)), places] = 1
    return rows


def _lines_of(proof: Arrays, prefix: str) -> dict[str, Any]:
    """Take the slopes of lines out of a proof, by the ends of their names."""
    return {
        name.removeprefix(prefix): values
        for name, values in proof.items()
        if name.startswith((f"{prefix}lower.", f"{prefix}upper."))
    }


def _run(steps: Any, values: Any) -> Any:
    """Compute the values after a segment."""
    for matrix, shift, _ in steps:
        values = matrix @ values + shift
    return values


def _covers(cases: list[dict[int, bool]]) -> bool:
    """Tell whether every choice of active neurons is one of the cases, by a tree of splits."""
    if not cases:
        return False
    if not all(cases):  # one of them asks for nothing
        return True
    shared = set.intersection(*(set(case) for case in cases))
    for neuron in sorted(shared)[:1]:
        halves: dict[bool, list[dict[int, bool]]] = {False: [], True: []}
        for case in cases:
            halves[case[neuron]].append({n: a for n, a in case.items() if n != neuron})
        return _covers(halves[False]) and _covers(halves[True])
    return False


def _cases(network: Any, proof: Arrays, known: Any, row: Any, ball: Any, name: str) -> float:
    """Bound one margin in cases, in which hidden values are at least 0 (1), or at most 0 (-1)."""
    hidden = range(len(known) - 1)
    signs = [proof[f"{name}.signs.{i}"] for i in hidden]
    if not _covers([
        {int(place): bool(case[place] > 0) for place in np.flatnonzero(case)}
        for case in np.concatenate(signs, axis=1)
    ]):
        raise ValueError("cases do not cover all")
    bounds = []
    for first in range(0, len(signs[0]), _CASES):
        lines: dict[str, Any] = {}
        part, cut = slice(first, first + _CASES), []
        for i, sign in enumerate(signs):
            sign, (low, high, errors) = sign[part], known[i]
            cut.append((
                np.where(sign > 0, np.maximum(low, 0), low),
                np.where(sign < 0, np.minimum(high, 0), high),
                errors,
            ))
            multipliers = proof[f"{name}.multipliers.{i}"][part].astype(np.float64)
            if not (multipliers >= 0).all():
                raise ValueError("a multiplier is below 0")
            lines[f"multiplier.{i}"] = np.sign(sign) * multipliers
            for end in ("lower", "upper"):
                slopes = proof[f"shared.{end}.{i}"]
                if f"{name}.{end}.{i}" in proof:
                    slopes = proof[f"{name}.{end}.{i}"][part]
                if network[1][i] == "relu":
                    slopes = np.where(sign > 0, 1.0, np.where(sign < 0, 0.0, slopes))
                lines[f"{end}.{i}"] = slopes
        rows = np.repeat(row[np.newaxis], len(cut[0][0]), axis=0)
        bounds.append(_backward(network, proof, [*cut, known[-1]], lines, rows, ball).min())
    return float(np.min(bounds))


def _semidefinite(network: Any, proof: Arrays, known: Any, row: Any, ball: Any, name: str) -> float:
    """Bound one margin of a network with one hidden layer of ReLU by the matrices of its leaves."""
    segments, kinds, _, _ = network
    if kinds != ["relu"] or str(proof["norm"]) != "linf":
        raise ValueError("such leaves need one hidden layer of ReLU, and L-inf")
    low, high, errors = known[0]
    weights = np.eye(len(low))
    for matrix, _, _ in reversed(segments[0]):
        weights = weights @ matrix  # [m, D]
    c = row
    for matrix, _, _ in reversed(segments[1]):
        c = c @ matrix
    falls, rises = ball
    centre, radius = proof["image"].astype(np.float64) + (rises - falls) / 2, (rises + falls) / 2
    before, moving, unit = _run(segments[0], centre), radius > 0, 2.0**-53
    constant = row @ _run(segments[1], np.zeros(len(low))) - np.abs(row) @ known[1][2]
    constant -= np.abs(c) @ errors
    constant -= 4 * sum(weights.shape) * unit * (np.abs(c) @ np.abs(weights) @ radius)
    cases, bounds = [], []
    for number in range(int(proof[f"{name}.leaves"])):
        neurons, active, slopes, d = (
            proof[f"{name}.{number}.{part}"] for part in ("neurons", "active", "slopes", "diagonal")
        )
        cases.append(dict(zip(neurons.tolist(), active.tolist())))
        if not np.where(active, slopes <= c[neurons], slopes >= 0).all():
            raise ValueError("a line does not bound its case")
        free = (low < 0) & (high > 0) & (c != 0)
        free[neurons] = False
        share = np.where(low >= 0, c, 0.0)
        share[free], share[neurons] = c[free] / 2, slopes
        after = np.maximum(before, 0) * c
        after[neurons] = slopes * before[neurons]
        p, q = int(moving.sum()), int(free.sum())
        matrix = np.zeros((p + q + 1, p + q + 1))
        matrix[:p, p:-1] = (weights[free][:, moving] * radius[moving]).T * (c[free] / 2)
        matrix[:p, -1] = (share @ weights * radius)[moving]
        if d.shape != (p + q + 1,) or not (d > 0).all():
            raise ValueError("a diagonal has another size, or numbers that are not above 0")
        # Rump, 2006: a Cholesky factor of this exists only if the matrix is semidefinite.
        shifted = np.diag(d - 2 * (len(d) + 3) * unit * d.sum()) - matrix - matrix.T
        np.linalg.cholesky(shifted)
        bounds.append(after.sum() + constant - d.sum() / 2)
    if not _covers(cases):
        raise ValueError("leaves do not cover all cases")
    return float(min(bounds))


def _read(path: pathlib.Path) -> Arrays:
    """Read the arrays of a file, in which nothing is ever run."""
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
        return dict(stored)


def check(arrays: Arrays, proof: Arrays) -> float:
    """Derive the smallest margin of a proof again.

    Args:
        arrays: of the network's file.
        proof: arrays of an image's file.

    Returns:
        It, above 0: no image in the ball and the box gets another class.

    Raises:
        ValueError: the proof does not hold.
    """
    segments, kinds, windows = _read_network(arrays)
    unit, share = {"float32": (2.0**-24 * (1 + 1e-6), 1.0), "exact": (2.0**-49, 2.0**-25)}[
        str(proof["arithmetic"])
    ]
    inexact = [ERRORS[kind] * share for kind in kinds]
    network = segments, kinds, windows, inexact
    image, epsilon = proof["image"].astype(np.float64), float(proof["epsilon"])
    bottom, top = proof["bounds"].astype(np.float64)
    if not (epsilon >= 0 and (image >= bottom).all() and (image <= top).all()):
        raise ValueError("the image is outside its bounds, or the radius below 0")
    ball = falls, rises = np.minimum(image - bottom, epsilon), np.minimum(top - image, epsilon)
    known = [_interval(segments[0], image - falls, image + rises, unit)]
    for i, kind in enumerate(kinds):
        shared = _lines_of(proof, "shared.")
        for some in _followed(segments[i], i, known[i], kind, str(proof["norm"])):
            rows = _one_hot(some, len(known[i][0]))
            low = _backward(network, proof, known, shared, rows, ball)
            high = -_backward(network, proof, known, shared, -rows, ball)
            known[i][0][some] = np.maximum(known[i][0][some], low)
            known[i][1][some] = np.minimum(known[i][1][some], high)
        some = proof.get(f"hidden{i}.neurons", np.zeros(0, np.int64))
        if len(some):  # which have slopes of their own: of bounds below, then above
            own = {**shared, **_lines_of(proof, f"hidden{i}.")}
            rows = _one_hot(some, len(known[i][0]))
            rows = np.concatenate([rows, -rows])
            low, high = np.split(_backward(network, proof, known, own, rows, ball), 2)
            known[i][0][some] = np.maximum(known[i][0][some], low)
            known[i][1][some] = np.minimum(known[i][1][some], -high)
        after = [
            end.reshape(-1, windows[i]).max(axis=1) if kind == "maximum" else _apply(kind, end)
            for end in known[i][:2]
        ]
        low, high = after[0] - inexact[i], after[1] + inexact[i]
        known.append(_interval(segments[i + 1], low, high, unit))
    size, label = len(known[-1][0]), int(proof["label"])
    others = np.delete(np.arange(size), label)
    rows = np.eye(size)[label] - np.eye(size)[others]
    margins = _backward(network, proof, known, _lines_of(proof, ""), rows, ball)
    for place, other in enumerate(others):
        for name, bound in (("leaves", _semidefinite), ("cases", _cases)):
            if any(part.startswith(f"{name}{other}.") for part in proof):
                found = bound(network, proof, known, rows[place], ball, f"{name}{other}")
                margins[place] = max(margins[place], found)
    claimed = proof["margins"]
    short = margins < claimed - TOLERANCE * (1 + np.abs(claimed))
    if short.any() or not (margins > 0).all():
        worst = others[(margins - np.where(short, claimed, 0)).argmin()]
        raise ValueError(f"class {worst} is not excluded as claimed: {margins.min():g}")
    return float(margins.min())


def main(argv: list[str] | None = None) -> int:
    """Check all proofs of a folder.

    Args:
        argv: the command line without its program; None: `sys.argv`.

    Returns:
        The exit status: 0 if all hold, 1 if one does not, 2 for what is no such folder.
    """
    given = sys.argv[1:] if argv is None else argv
    folder = pathlib.Path(given[0] if len(given) == 1 else "")
    if len(given) != 1 or not (folder / "network.npz").is_file():
        print("usage: python -m mnist_adv.certification.checker FOLDER", file=sys.stderr)
        return 2
    held, files = 0, sorted(folder.glob("proof_*.npz"))
    network = _read(folder / "network.npz")
    for path in files:
        try:
            proof = _read(path)
            margin = check(network, proof)
        except Exception as error:  # whatever a damaged file or wrong numbers make NumPy raise
            print(f"{path.name}: refused: {error}")
            continue
        held += 1
        norm, epsilon = str(proof["norm"]), float(proof["epsilon"])
        print(f"{path.name}: class {int(proof['label'])} within {norm} {epsilon:g}, by {margin:g}")
    print(f"{held} of {len(files)} proofs hold")
    return 0 if held == len(files) else 1


if __name__ == "__main__":
    sys.exit(main())
