// The derivative of the cost by every pixel, exactly and by nudging.

import { logitsOf, softmax } from "./model.js";

/** Compute -log p[target], the cost that an attack towards the target lowers. */
export function costOf(model, image, target) {
  const logits = logitsOf(model, image);
  const largest = Math.max(...logits);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - largest), 0);
  return Math.log(sum) + largest - logits[target];
}

/** Compute the gradient of the cost: W (p - onehot), one number per pixel. */
export function gradientOf(model, image, target) {
  const classes = model.bias.length;
  const pull = softmax(logitsOf(model, image));
  pull[target] -= 1;
  return image.map((_, i) => {
    let sum = 0;
    for (let k = 0; k < classes; k++) sum += model.weights[i * classes + k] * pull[k];
    return sum;
  });
}

/** Compute the cost as a computer of single precision does: rounded after each operation. */
export function singleCostOf(model, image, target) {
  const round = Math.fround;
  const classes = model.bias.length;
  const logits = Array.from(model.bias, round);
  image.forEach((pixel, i) => {
    for (let k = 0; k < classes && pixel !== 0; k++) {
      const product = round(round(pixel) * round(model.weights[i * classes + k]));
      logits[k] = round(logits[k] + product);
    }
  });
  const largest = Math.max(...logits);
  const sum = logits.reduce(
    (total, logit) => round(total + round(Math.exp(round(logit - largest)))),
    0,
  );
  return round(round(round(Math.log(sum)) + largest) - logits[target]);
}

/** Nudge one pixel by e: (cost(x + e) - cost(x)) / e, in double and in single precision. */
export function nudge(model, image, target, pixel, e) {
  const nudged = Float64Array.from(image);
  nudged[pixel] += e;
  const double = (costOf(model, nudged, target) - costOf(model, image, target)) / e;
  nudged[pixel] = Math.fround(Math.fround(image[pixel]) + Math.fround(e));
  const difference = singleCostOf(model, nudged, target) - singleCostOf(model, image, target);
  return { double, single: Math.fround(Math.fround(difference) / Math.fround(e)) };
}
