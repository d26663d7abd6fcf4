// Softmax regression: logits = x W + b, in double precision on weights that are float32.

/** Decode base64 into bytes. */
export function bytesOf(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** Make a model of what the page carries: W `[pixels * classes]` row by row, b `[classes]`. */
export function decodeModel(carried) {
  const floats = (text) => Float64Array.from(new Float32Array(bytesOf(text).buffer));
  return { weights: floats(carried.weights), bias: floats(carried.bias) };
}

/** Mix two models: share 0 is the first, share 1 the second. */
export function mixModels(first, second, share) {
  if (!second || share === 0) return first;
  const mix = (a, b) => a.map((value, i) => (1 - share) * value + share * b[i]);
  return { weights: mix(first.weights, second.weights), bias: mix(first.bias, second.bias) };
}

/** Compute the logits of an image. */
export function logitsOf(model, image) {
  const classes = model.bias.length;
  const logits = Float64Array.from(model.bias);
  image.forEach((pixel, i) => {
    if (pixel !== 0) {
      for (let k = 0; k < classes; k++) logits[k] += pixel * model.weights[i * classes + k];
    }
  });
  return logits;
}

/** Turn logits into probabilities. */
export function softmax(logits) {
  const largest = Math.max(...logits);
  const exponentials = logits.map((logit) => Math.exp(logit - largest));
  const sum = exponentials.reduce((total, value) => total + value, 0);
  return exponentials.map((value) => value / sum);
}

/** Find the class of the largest number; the first one, if several are equal. */
export function argmax(values) {
  return values.reduce((best, value, k) => (value > values[best] ? k : best), 0);
}

/** Say what each pixel adds to the logit of a class: x[i] W[i, k]. */
export function contributions(model, image, wanted) {
  const classes = model.bias.length;
  return image.map((pixel, i) => pixel * model.weights[i * classes + wanted]);
}
