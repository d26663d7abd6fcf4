// What a link says: everything from which the page is drawn again.

export const DEFAULTS = {
  digit: 0, // which of the digits on the page; -1: the drawing
  drawing: null, // 784 levels 0..255
  target: 2,
  norm: "linf",
  rule: "sign",
  epsilon: 0.3,
  stepSize: 0.01,
  steps: 0, // how many are taken
  shown: 0, // which of them is looked at
  share: 0, // of the robust model
  view: "gradient",
  pixel: 406, // the one that is nudged
  exponent: -4, // of e
  language: "en",
};

const NUMBERS = [
  "digit",
  "target",
  "epsilon",
  "stepSize",
  "steps",
  "shown",
  "share",
  "pixel",
  "exponent",
];
const WORDS = {
  norm: ["linf", "l2", "l1"],
  rule: ["sign", "unit", "raw"],
  view: ["gradient", "sum"],
  language: ["en", "zh"],
};
const MOST = {
  steps: 500,
  shown: 500,
  share: 1,
  pixel: 783,
  exponent: 0,
  epsilon: 1000,
  stepSize: 100,
};
const LEAST = { digit: -1, exponent: -14 };

/** Write a state as the end of a link; what is as at the beginning is left out. */
export function writeLink(state) {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (name === "drawing") {
      if (state.digit === -1 && value) parts.set(name, btoa(String.fromCharCode(...value)));
    } else if (value !== DEFAULTS[name]) {
      parts.set(name, value);
    }
  }
  return parts.toString();
}

/** Read a state from the end of a link; what makes no sense is as at the beginning. */
export function readLink(text, limits) {
  const parts = new URLSearchParams(text.replace(/^#/, ""));
  const state = { ...DEFAULTS };
  const most = { ...MOST, digit: limits.digits - 1, target: limits.classes - 1 };
  for (const name of NUMBERS) {
    const value = Number(parts.get(name) ?? NaN);
    const whole = !["epsilon", "stepSize", "share", "exponent"].includes(name);
    if (value >= (LEAST[name] ?? 0) && value <= most[name] && (!whole || Number.isInteger(value))) {
      state[name] = value;
    }
  }
  for (const [name, allowed] of Object.entries(WORDS)) {
    if (allowed.includes(parts.get(name))) state[name] = parts.get(name);
  }
  state.drawing = readDrawing(parts.get("drawing"));
  if (state.digit === -1 && !state.drawing) state.digit = 0;
  state.shown = Math.min(state.shown, state.steps);
  return state;
}

function readDrawing(text) {
  try {
    const levels = Uint8Array.from(atob(text ?? ""), (character) => character.charCodeAt(0));
    return levels.length === 784 ? levels : null;
  } catch {
    return null;
  }
}
