// Replay what Python computed: GOLDEN names a file of tests/playground/test_numbers.py.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { LENGTHS, PROJECTIONS, pathOf, roundToLevels, takeStep } from "../web/attack.js";
import { costOf, gradientOf, nudge, singleCostOf } from "../web/gradient.js";
import { greyOf, prepareDigit } from "../web/handwriting.js";
import { bytesOf, contributions, decodeModel, logitsOf, mixModels, softmax } from "../web/model.js";
import { farthestBorder, smallestL2 } from "../web/optimum.js";

const golden = JSON.parse(readFileSync(process.env.GOLDEN, "utf8"));
const model = decodeModel(golden.model);
const images = golden.levels.map((text) =>
  Float64Array.from(bytesOf(text), (level) => level / 255),
);

const apart = (a, b) => a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
const near = (a, b, tolerance, what) => {
  assert.equal(a.length, b.length, what);
  assert.ok(apart(a, b) <= tolerance, `${what}: ${apart(a, b)} apart`);
};

test("logits and probabilities", () => {
  golden.logits.forEach((logits, n) => {
    near(logitsOf(model, images[n]), logits, 1e-12, `logits of image ${n}`);
    near(softmax(logitsOf(model, images[n])), golden.probabilities[n], 1e-14, `image ${n}`);
  });
});

test("pixel times weight adds up to the logit", () => {
  images.forEach((image, n) => {
    for (let k = 0; k < 10; k++) {
      const sum = contributions(model, image, k).reduce((total, value) => total + value, 0);
      assert.ok(Math.abs(sum + model.bias[k] - golden.logits[n][k]) < 1e-11);
    }
  });
});

test("costs and gradients", () => {
  golden.gradients.forEach(({ image, target, cost, gradient }) => {
    assert.ok(Math.abs(costOf(model, images[image], target) - cost) < 1e-12 * Math.max(1, cost));
    near(gradientOf(model, images[image], target), gradient, 1e-13, `gradient of ${image}`);
  });
});

test("nudging agrees with the gradient where e is neither too large nor too small", () => {
  golden.gradients.forEach(({ image, target, gradient }) => {
    const largest = gradient.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    for (const pixel of [350, 406, 500]) {
      const error = (e) =>
        Math.abs(nudge(model, images[image], target, pixel, e).double - gradient[pixel]);
      assert.ok(error(1e-5) <= 1e-4 * largest);
    }
  });
  const { image, target, gradient } = golden.gradients[0];
  const pixel = gradient.reduce(
    (best, value, i) => (Math.abs(value) > Math.abs(gradient[best]) ? i : best),
    0,
  );
  const errors = (e) => {
    const { double, single } = nudge(model, images[image], target, pixel, e);
    return [double, single].map((value) => Math.abs(value - gradient[pixel]));
  };
  // Truncation at the large end, rounding at the small end, sooner in single precision.
  assert.ok(errors(1e-1)[0] > 10 * errors(1e-4)[0]);
  assert.ok(errors(1e-13)[0] > 10 * errors(1e-6)[0]);
  assert.ok(errors(1e-5)[1] > 10 * errors(1e-5)[0]);
});

test("single precision is the cost but for its rounding", () => {
  golden.gradients.forEach(({ image, target, cost }) => {
    const single = singleCostOf(model, images[image], target);
    assert.equal(single, Math.fround(single));
    assert.ok(Math.abs(single - cost) < 1e-5 * Math.max(1, cost));
  });
});

test("twenty steps, in every rule and norm", () => {
  golden.paths.forEach(({ image, request, images: there, predictions }) => {
    const path = pathOf(model, images[image], request, there.length - 1);
    const what = `${request.rule} ${request.norm} from image ${image}`;
    assert.deepEqual(
      path.map((point) => point.prediction),
      predictions,
      what,
    );
    there.slice(1).forEach((expected, step) => {
      const before = Float64Array.from(there[step]);
      const gradient = gradientOf(model, before, request.target);
      const after = takeStep(model, images[image], before, request).image;
      // Python computes in single precision: of a derivative next to 0 it may see another sign.
      const least = request.rule === "sign" ? Math.max(1e-4 * LENGTHS.linf(gradient), 3e-7) : 0;
      const clear = Array.from(gradient, (value) => value === 0 || Math.abs(value) >= least);
      near(
        after.filter((_, i) => clear[i]),
        expected.filter((_, i) => clear[i]),
        1e-5,
        `${what}, ${step}`,
      );
      assert.ok(clear.filter(Boolean).length > 600, `${what}, ${step}: hardly any pixel compared`);
    });
    if (request.rule !== "sign") near(path.at(-1).image, there.at(-1), 1e-4, `${what}, all steps`);
  });
  assert.ok(golden.paths.some(({ predictions, request }) => predictions.at(-1) === request.target));
});

test("projections and lengths", () => {
  golden.projections.forEach(({ norm, epsilon, change, projected, length }) => {
    assert.ok(Math.abs(LENGTHS[norm](Float64Array.from(change)) - length) < 1e-9);
    near(PROJECTIONS[norm](Float64Array.from(change), epsilon), projected, 1e-6, norm);
  });
});

test("the smallest change in L2 is the certified one, and its proof is as tight", () => {
  golden.optima.l2.forEach((row, n) => {
    row.forEach((expected, target) => {
      const found = smallestL2(model, images[n], target);
      const scale = 1e-8 * Math.max(expected, 1e-3);
      assert.ok(
        Math.abs(found.upper - expected) <= scale,
        `${n} to ${target}: ${found.upper}, ${expected}`,
      );
      assert.ok(found.lower <= expected + 1e-12 && found.upper - found.lower <= 10 * scale);
      const reached = logitsOf(
        model,
        images[n].map((pixel, i) => pixel + found.change[i]),
      );
      assert.ok(reached.every((logit) => logit <= reached[target] + 1e-9));
    });
  });
});

test("a single border is never farther than the optimum", () => {
  for (const norm of ["linf", "l1"]) {
    let tight = 0;
    golden.optima[norm].forEach((row, n) => {
      row.forEach((expected, target) => {
        const bound = farthestBorder(model, images[n], target, norm);
        assert.ok(bound <= expected + 1e-9, `${norm}, ${n} to ${target}`);
        tight += bound > 0.999 * expected;
      });
    });
    assert.ok(tight > 0);
  }
});

test("rounding to 8 bits stays in the ball", () => {
  golden.paths.forEach(({ image, request, images: there }) => {
    const last = Float64Array.from(there.at(-1));
    const rounded = roundToLevels(images[image], last, request.norm, request.epsilon);
    const change = rounded.map((pixel, i) => pixel - images[image][i]);
    assert.ok(LENGTHS[request.norm](change) <= request.epsilon + 1e-9);
    near(
      rounded.map((pixel) => Math.round(255 * pixel) / 255),
      rounded,
      1e-12,
      "levels",
    );
    near(rounded, last, 1 / 255 + 1e-6, "rounded");
  });
});

test("a photo is prepared as read_digit does", () => {
  golden.photos.forEach(({ name, rgba, width, height, levels }) => {
    const grey = greyOf(bytesOf(rgba));
    near(prepareDigit(grey, width, height), bytesOf(levels), 1, name);
  });
  assert.equal(prepareDigit(new Float64Array(100 * 100).fill(255), 100, 100), null);
});

test("half of one model and half of another", () => {
  const other = { weights: model.weights.map((w) => -w), bias: model.bias.map((b) => b + 2) };
  const mixed = mixModels(model, other, 0.5);
  assert.ok(mixed.weights.every((weight) => Math.abs(weight) < 1e-15));
  near(
    mixed.bias,
    model.bias.map((b) => b + 1),
    1e-12,
    "bias",
  );
  assert.equal(mixModels(model, null, 0.5), model);
});
