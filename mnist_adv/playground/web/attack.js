// Projected gradient descent: a step against the gradient, back into the ball, back into [0, 1].

import { gradientOf } from "./gradient.js";
import { argmax, logitsOf, softmax } from "./model.js";

const sum = (values) => values.reduce((total, value) => total + value, 0);

/** The length of a perturbation in each norm. */
export const LENGTHS = {
  linf: (change) => change.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0),
  l2: (change) => Math.sqrt(sum(change.map((value) => value * value))),
  l1: (change) => sum(change.map(Math.abs)),
};

/** The nearest perturbation of at most a length, in each norm. */
export const PROJECTIONS = {
  linf: (change, epsilon) => change.map((value) => Math.min(Math.max(value, -epsilon), epsilon)),
  l2: (change, epsilon) => {
    const length = LENGTHS.l2(change);
    return length <= epsilon ? change : change.map((value) => (value * epsilon) / length);
  },
  l1: (change, epsilon) => {
    if (LENGTHS.l1(change) <= epsilon) return change;
    const threshold = softThreshold(change, epsilon);
    return change.map((value) => Math.sign(value) * Math.max(Math.abs(value) - threshold, 0));
  },
};

// What to take off every size so that the rest adds up to epsilon (Duchi et al., 2008).
function softThreshold(change, epsilon) {
  const sizes = change.map(Math.abs).sort((a, b) => b - a);
  let total = 0;
  let threshold = 0;
  for (let count = 1; count <= sizes.length; count++) {
    total += sizes[count - 1];
    const next = (total - epsilon) / count;
    if (sizes[count - 1] <= next) break;
    threshold = next;
  }
  return threshold;
}

/** How a gradient becomes a direction, in each rule. */
export const DIRECTIONS = {
  sign: (gradient) => gradient.map(Math.sign),
  unit: (gradient) => {
    const length = LENGTHS.l2(gradient);
    return length === 0 ? gradient : gradient.map((value) => value / length);
  },
  raw: (gradient) => gradient,
};

/**
 * Take one step.
 *
 * Returns the new image, how many pixels the ball held back, and how many [0, 1] did.
 */
export function takeStep(model, clean, image, request) {
  const { target, rule, norm, epsilon, stepSize } = request;
  const direction = DIRECTIONS[rule](gradientOf(model, image, target));
  const change = image.map((pixel, i) => pixel - stepSize * direction[i] - clean[i]);
  const projected = PROJECTIONS[norm](change, epsilon);
  const near = projected.map((value, i) => clean[i] + value);
  const clipped = near.map((pixel) => Math.min(Math.max(pixel, 0), 1));
  const count = (a, b) =>
    a.reduce((number, value, i) => number + (Math.abs(value - b[i]) > 1e-12), 0);
  return { image: clipped, projected: count(projected, change), clipped: count(clipped, near) };
}

/** Take some steps from the clean image; the first entry is the clean image itself. */
export function pathOf(model, clean, request, numSteps) {
  const path = [describe(model, { image: clean, projected: 0, clipped: 0 })];
  for (let step = 0; step < numSteps; step++) {
    path.push(describe(model, takeStep(model, clean, path[step].image, request)));
  }
  return path;
}

function describe(model, point) {
  const logits = logitsOf(model, point.image);
  return { ...point, logits, probabilities: softmax(logits), prediction: argmax(logits) };
}

/** Round to 256 levels: to the nearest ones, or towards the clean image where that is too far. */
export function roundToLevels(clean, image, norm, epsilon) {
  const nearest = image.map((pixel) => Math.round(255 * pixel) / 255);
  const length = (rounded) => LENGTHS[norm](rounded.map((pixel, i) => pixel - clean[i]));
  if (length(nearest) <= epsilon + 1e-9) return nearest;
  return image.map((pixel, i) => {
    const towards = pixel > clean[i] ? Math.floor : Math.ceil;
    const level = towards(255 * pixel + (pixel > clean[i] ? 1e-9 : -1e-9)) / 255;
    return (level - clean[i]) * (pixel - clean[i]) < 0 ? clean[i] : level;
  });
}
