// The smallest change that makes the target the largest logit, with proof.

import { LENGTHS } from "./attack.js";
import { logitsOf } from "./model.js";

const MOST_STEPS = 200;

/**
 * Solve L2 for one image: the least |d| with (w_t - w_k) . d >= z_k - z_t for every class k, and
 * x + d in [0, 1].
 *
 * Semismooth Newton on the dual, one variable for each class. Any dual variables prove that no
 * smaller change exists: `lower` is that proof, `upper` the length of the change that is returned,
 * which is made to meet every constraint.
 */
export function smallestL2(model, image, target) {
  const problem = constraintsOf(model, image, target);
  if (problem.needs.every((need) => need <= 0)) {
    return { change: image.map(() => 0), lower: 0, upper: 0 };
  }
  let point = evaluate(problem, start(problem));
  let best = { change: null, lower: 0, upper: Infinity };
  for (let step = 0; step < MOST_STEPS; step++) {
    best = improve(problem, best, point);
    if (best.lower >= (1 - 1e-10) * best.upper) break;
    const next = lineSearch(problem, point, newton(problem, point));
    if (!next) break;
    point = next;
  }
  return best;
}

/** List the constraints of a target: rows (w_t - w_k) and what they need, for every other class. */
function constraintsOf(model, image, target) {
  const classes = model.bias.length;
  const logits = logitsOf(model, image);
  const others = [...logits.keys()].filter((k) => k !== target);
  const rows = others.map((k) =>
    image.map((_, i) => model.weights[i * classes + target] - model.weights[i * classes + k]),
  );
  const low = image.map((pixel) => -pixel);
  const high = image.map((pixel) => 1 - pixel);
  return { rows, low, high, needs: others.map((k) => logits[k] - logits[target]) };
}

// Meet the farthest constraint alone, as if there were no box.
function start({ rows, needs }) {
  const squares = rows.map((row) => dot(row, row));
  const distances = needs.map((need, k) => need / Math.sqrt(squares[k]));
  const farthest = distances.indexOf(Math.max(...distances));
  return needs.map((need, k) => (k === farthest ? need / squares[k] : 0));
}

function evaluate(problem, multipliers) {
  const { rows, low, high, needs } = problem;
  const free = rows[0].map((_, i) =>
    rows.reduce((total, row, k) => total + multipliers[k] * row[i], 0),
  );
  const change = free.map((value, i) => Math.min(Math.max(value, low[i]), high[i]));
  const slack = rows.map((row, k) => dot(row, change) - needs[k]);
  // The dual function of 1/2 |d|^2, negated: it is to be made small.
  const value = free.reduce((total, c, i) => total + (c - change[i] / 2) * change[i], 0);
  return { multipliers, free, change, slack, value: value - dot(multipliers, needs) };
}

function newton({ rows, low, high }, { multipliers, free, slack }) {
  const loose = free.map((value, i) => (value > low[i] && value < high[i] ? 1 : 0));
  const held = multipliers.map((value, k) => value <= 0 && slack[k] >= 0);
  const matrix = rows.map((row, k) =>
    rows.map((other, j) => {
      if (held[k] || held[j]) return k === j ? 1 : 0;
      const product = row.reduce((total, value, i) => total + loose[i] * value * other[i], 0);
      return k === j ? product * (1 + 1e-12) + 1e-13 : product;
    }),
  );
  return solve(
    matrix,
    slack.map((value, k) => (held[k] ? 0 : -value)),
  );
}

function lineSearch(problem, point, step) {
  for (let length = 1; length > 1e-9; length /= 2) {
    const moved = point.multipliers.map((value, k) => Math.max(value + length * step[k], 0));
    const next = evaluate(problem, moved);
    const predicted = dot(
      point.slack,
      moved.map((value, k) => value - point.multipliers[k]),
    );
    if (next.value < point.value + 1e-4 * Math.min(predicted, 0)) return next;
  }
  return null;
}

function improve(problem, best, point) {
  const lower = Math.max(best.lower, Math.sqrt(Math.max(-2 * point.value, 0)));
  const change = repaired(problem, point);
  const upper = change ? LENGTHS.l2(change) : Infinity;
  return upper < best.upper ? { change, lower, upper } : { ...best, lower };
}

// Stretch the multipliers until every constraint holds: rounding leaves them short of it.
function repaired(problem, point) {
  for (let stretch = 0; stretch < 1e-3; stretch = Math.max(1e-15, stretch * 4)) {
    const tried = evaluate(
      problem,
      point.multipliers.map((value) => value * (1 + stretch)),
    );
    if (tried.slack.every((value) => value >= 0)) return tried.change;
  }
  return null;
}

/** Bound from below: the farthest of the borders to single classes, each taken alone in the box. */
export function farthestBorder(model, image, target, norm) {
  const { rows, low, high, needs } = constraintsOf(model, image, target);
  return Math.max(0, ...rows.map((row, k) => borderDistance(row, low, high, needs[k], norm)));
}

// The least length with row . d >= need: spend it where it brings most, pixel by pixel.
function borderDistance(row, low, high, need, norm) {
  if (need <= 0) return 0;
  const slack = row.map((value, i) => (value > 0 ? high[i] : -low[i]));
  const sizes = row.map(Math.abs);
  const order = [...sizes.keys()].filter((i) => sizes[i] > 0 && slack[i] > 0);
  if (norm === "l1") {
    order.sort((i, j) => sizes[j] - sizes[i]);
    let spent = 0;
    for (const i of order) {
      if (sizes[i] * slack[i] >= need) return spent + need / sizes[i];
      need -= sizes[i] * slack[i];
      spent += slack[i];
    }
    return Infinity;
  }
  // L-inf: every pixel goes as far as the radius or its bound, so the gain is piecewise linear.
  order.sort((i, j) => slack[i] - slack[j]);
  let rate = order.reduce((total, i) => total + sizes[i], 0);
  let radius = 0;
  for (const i of order) {
    if (rate * (slack[i] - radius) >= need) return radius + need / rate;
    need -= rate * (slack[i] - radius);
    radius = slack[i];
    rate -= sizes[i];
  }
  return Infinity;
}

function dot(a, b) {
  return a.reduce((total, value, i) => total + value * b[i], 0);
}

// Gaussian elimination with the largest pivot of each column.
function solve(matrix, right) {
  const rows = matrix.map((row, k) => [...row, right[k]]);
  const size = rows.length;
  for (let column = 0; column < size; column++) {
    const sizes = rows.map((row, k) => (k < column ? -1 : Math.abs(row[column])));
    const pivot = sizes.indexOf(Math.max(...sizes));
    [rows[column], rows[pivot]] = [rows[pivot], rows[column]];
    for (let k = 0; k < size; k++) {
      if (k === column || rows[k][column] === 0) continue;
      const factor = rows[k][column] / rows[column][column];
      for (let j = column; j <= size; j++) rows[k][j] -= factor * rows[column][j];
    }
  }
  return rows.map((row, k) => row[size] / row[k]);
}
