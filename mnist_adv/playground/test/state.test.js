// A link brings back the moment that it was made at.

import assert from "node:assert/strict";
import test from "node:test";

import { DEFAULTS, readLink, writeLink } from "../web/state.js";

const LIMITS = { digits: 20, classes: 10 };

test("a link says all of a state", () => {
  const drawing = Uint8Array.from({ length: 784 }, (_, i) => i % 256);
  const state = {
    ...{ digit: -1, drawing, target: 3, norm: "l2", rule: "unit", epsilon: 2.5, stepSize: 0.25 },
    ...{ steps: 17, shown: 9, share: 0.5, view: "sum", pixel: 100, exponent: -7.5, language: "zh" },
  };
  assert.deepEqual(readLink(`#${writeLink(state)}`, LIMITS), state);
});

test("a link without anything is the beginning", () => {
  assert.equal(writeLink(DEFAULTS), "");
  assert.deepEqual(readLink("", LIMITS), DEFAULTS);
});

test("what makes no sense is as at the beginning", () => {
  const wrong = [
    ...["digit=20", "digit=-2", "digit=1.5", "digit=x", "digit=-1", "target=10", "norm=l3"],
    ...["rule=", "epsilon=-1", "epsilon=NaN", "epsilon=Infinity", "stepSize=1e9", "steps=501"],
    ...["share=2", "pixel=784", "exponent=1", "language=xx", "drawing=%%%", "drawing=AAAA", "a=b"],
  ];
  for (const text of wrong) assert.deepEqual(readLink(`#${text}`, LIMITS), DEFAULTS, text);
  assert.equal(readLink("#steps=3&shown=9", LIMITS).shown, 3);
});
