// The page: a state, and everything drawn from it.

import { LENGTHS, pathOf, roundToLevels, takeStep } from "./attack.js";
import { drawImage, drawSigned, markPixel } from "./drawing.js";
import { gradientOf, nudge } from "./gradient.js";
import {
  argmax,
  bytesOf,
  contributions,
  decodeModel,
  logitsOf,
  mixModels,
  softmax,
} from "./model.js";
import { farthestBorder, smallestL2 } from "./optimum.js";
import { readPhoto, watchPad } from "./pad.js";
import { drawLines } from "./plots.js";
import { readLink, writeLink } from "./state.js";
import { say } from "./words.js";

const BETWEEN_STEPS = 60; // milliseconds
const MOST_STEPS = 500;
// For each norm: the budget, its most, the step size, its most, and the rule.
const STARTS = {
  linf: { epsilon: 0.3, mostEpsilon: 1, stepSize: 0.01, mostStepSize: 0.1, rule: "sign" },
  l2: { epsilon: 3, mostEpsilon: 10, stepSize: 0.1, mostStepSize: 1, rule: "unit" },
  l1: { epsilon: 30, mostEpsilon: 120, stepSize: 1, mostStepSize: 5, rule: "unit" },
};
const RULE_SIZES = { sign: 0.01, unit: 0.1, raw: 0.1 };
const NORM_NAMES = { linf: "L-inf", l2: "L2", l1: "L1" };

const data = JSON.parse(document.getElementById("data").textContent);
const models = data.models.map(decodeModel);
const digits = data.digits.map(({ levels }) =>
  Float64Array.from(bytesOf(levels), (level) => level / 255),
);
const limits = { digits: digits.length, classes: data.classes.length };
const find = (id) => document.getElementById(id);

let state = readLink(location.hash, limits);
let path = []; // of the state's model, image and request
let pathOwner = "";
let waiting = false;
let playing = null;

const text = (name, values) =>
  say(state.language, name, { target: data.classes[state.target], ...values });
const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`;
const number = (value, figures = 3) => Number(value).toPrecision(figures).replace("-", "−");

// --- what follows from the state ---

function currentModel() {
  return mixModels(models[0], models[1], state.share);
}

function cleanImage() {
  if (state.digit >= 0) return digits[state.digit];
  return Float64Array.from(state.drawing, (level) => level / 255);
}

function request() {
  const { target, rule, norm, epsilon, stepSize } = state;
  return { target, rule, norm, epsilon, stepSize };
}

function currentPath() {
  const owner = JSON.stringify([
    request(),
    state.digit,
    state.digit < 0 && [...state.drawing],
    state.share,
  ]);
  if (owner !== pathOwner) {
    path = [];
    pathOwner = owner;
  }
  const [model, clean] = [currentModel(), cleanImage()];
  if (!path.length) path = pathOf(model, clean, request(), 0);
  while (path.length <= state.steps) {
    const next = takeStep(model, clean, path.at(-1).image, request());
    const logits = logitsOf(model, next.image);
    path.push({ ...next, logits, probabilities: softmax(logits), prediction: argmax(logits) });
  }
  return path;
}

// The smallest change to the target: proved from both sides, or a bound from below alone.
function smallest() {
  const [model, clean, { norm, target }] = [currentModel(), cleanImage(), state];
  const shipped = data.models[state.share];
  if (state.digit >= 0 && shipped && norm !== "l2") {
    const length = shipped.optima[norm][state.digit][target];
    return { lower: length ?? Infinity, exact: true };
  }
  if (norm === "l2") {
    const { change, lower, upper } = smallestL2(model, clean, target);
    const exact = upper - lower <= 1e-6 * upper;
    return { lower, exact, image: change && clean.map((pixel, i) => pixel + change[i]) };
  }
  return { lower: farthestBorder(model, clean, target, norm), exact: false };
}

// --- changes of the state ---

function update(changes) {
  state = { ...state, ...changes };
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    render();
    const link = writeLink(state);
    history.replaceState(null, "", link ? `#${link}` : location.pathname + location.search);
  });
}

function restart(changes) {
  pause();
  update({ ...changes, steps: 0, shown: 0 });
}

function takeSteps(count) {
  const steps = Math.min(state.shown + count, MOST_STEPS);
  update({ steps, shown: steps });
}

function pause() {
  clearInterval(playing);
  playing = null;
}

function play() {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const most = Math.min(state.shown + (reachedNow() ? 10 : MOST_STEPS), MOST_STEPS);
  const wasReached = reachedNow();
  const ended = () => state.shown >= most || (!wasReached && reachedNow()) || isStuck();
  if (still) {
    while (!ended()) state = { ...state, steps: state.shown + 1, shown: state.shown + 1 };
    update({});
    return;
  }
  playing = setInterval(() => {
    if (ended()) {
      pause();
      update({});
    } else takeSteps(1);
  }, BETWEEN_STEPS);
  update({});
}

function reachedNow() {
  return currentPath()[state.shown].prediction === state.target;
}

function isStuck() {
  if (state.shown < 2) return false;
  const [before, now] = currentPath().slice(state.shown - 1, state.shown + 1);
  return LENGTHS.linf(now.image.map((pixel, i) => pixel - before.image[i])) < 1e-9;
}

// --- drawing ---

function render() {
  const steps = currentPath();
  const point = steps[state.shown];
  const model = currentModel();
  const clean = cleanImage();
  document.documentElement.lang = state.language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-word]")) {
    element.textContent = text(element.dataset.word, { version: data.version });
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", text(element.dataset.label));
  }
  Object.assign(
    find("language"),
    state.language === "en"
      ? { textContent: "中文", lang: "zh" }
      : { textContent: "English", lang: "en" },
  );
  find("model-name").textContent = text("modelName", { digest: data.models[0].digest });
  renderPad(clean);
  renderSeen(point);
  renderAttack(steps, point);
  renderGradient(model, point);
  renderChange(clean, point);
  renderTruth(model, clean, point);
  renderModels(point);
}

function renderPad(clean) {
  if (state.digit >= 0 && find("pad").dataset.digit !== String(state.digit)) pad.show(clean);
  if (state.digit < 0 && find("pad").dataset.shows === undefined) pad.show(clean);
  find("pad").dataset.digit = state.digit;
  [...find("digits").children].forEach((button, index) => {
    const { label, index: place } = data.digits[index];
    choose(button, index === state.digit);
    button.setAttribute(
      "aria-label",
      text("digitLabel", { index: place, label: data.classes[label] }),
    );
  });
}

function renderSeen(point) {
  find("seen-class").textContent = data.classes[point.prediction];
  find("seen-share").textContent = percent(point.probabilities[point.prediction]);
  find("seen").classList.toggle("reached", point.prediction === state.target);
  [...find("bars").children].forEach((button, k) => {
    choose(button, k === state.target);
    button.querySelector(".track span").style.width = `${100 * point.probabilities[k]}%`;
    button.querySelector(".percent").textContent = percent(point.probabilities[k]);
    button.querySelector(".logit").textContent = point.logits[k].toFixed(3).replace("-", "−");
  });
}

function renderAttack(steps, point) {
  drawImage(find("image"), point.image);
  const reached = point.prediction === state.target;
  const already = steps[0].prediction === state.target;
  find("play").textContent = playing
    ? text("pause")
    : text(already ? "already" : reached ? "more" : "play");
  find("play").disabled = already;
  find("reset").disabled = state.steps === 0;
  Object.assign(find("shown"), {
    max: state.steps,
    value: state.shown,
    disabled: state.steps === 0,
  });
  find("shown-text").textContent = text("ofSteps", state);
  const story = state.shown === 0 ? "storyStart" : reached && !already ? "storyReached" : "story";
  const seen = {
    seen: data.classes[point.prediction],
    share: percent(point.probabilities[point.prediction]),
  };
  find("story").textContent =
    isStuck() && !reached ? text("stuck") : text(story, { ...seen, shown: state.shown });
  const most = Math.max(state.steps, 10);
  const curve = (k) =>
    steps.slice(0, state.steps + 1).map(({ probabilities }, step) => [step, probabilities[k]]);
  const first = steps[0].prediction;
  drawLines(find("curve"), {
    x: {
      low: 0,
      high: most,
      ticks: [0, Math.round(most / 2), most].map((value) => [value, `${value}`]),
    },
    y: { low: 0, high: 1, ticks: [0, 0.5, 1].map((value) => [value, `${100 * value} %`]) },
    now: state.shown,
    lines: [
      {
        points: first === state.target ? [] : curve(first),
        kind: "label",
        text: data.classes[first],
      },
      { points: curve(state.target), kind: "target", text: data.classes[state.target] },
    ],
  });
}

function renderGradient(model, point) {
  const gradient = gradientOf(model, point.image, state.target);
  const isSum = state.view === "sum";
  const values = isSum
    ? contributions(model, point.image, state.target)
    : gradient.map((value) => -value);
  const most = LENGTHS.linf(values);
  drawSigned(find("gradient"), values, most);
  markPixel(find("gradient"), state.pixel);
  for (const input of document.querySelectorAll("[name=view]"))
    input.checked = input.value === state.view;
  const ends = isSum ? [-most, 0, most] : [most, 0, -most];
  find("scale").replaceChildren(made("div", "ramp"), made("div", "ends"));
  find("scale").lastChild.replaceChildren(
    ...ends.map((value) => made("span", "", number(value, 2))),
  );
  const [pixel, classes] = [state.pixel, data.classes.length];
  const pixelValue = point.image[pixel];
  find("gradient-text").textContent = isSum
    ? text("sumText", {
        sum: number(values.reduce((total, value) => total + value, 0)),
        bias: number(model.bias[state.target]),
        logit: number(point.logits[state.target]),
        value: pixelValue.toFixed(2),
        weight: number(model.weights[pixel * classes + state.target]),
        product: number(values[pixel]),
      })
    : text("gradientText", {
        row: Math.floor(pixel / 28) + 1,
        column: (pixel % 28) + 1,
        value: pixelValue.toFixed(2),
      });
  renderNudge(model, point, gradient[pixel]);
}

function renderNudge(model, point, derivative) {
  const sizeOf = (exponent) => 10 ** exponent;
  const at = (exponent) => nudge(model, point.image, state.target, state.pixel, sizeOf(exponent));
  const now = at(state.exponent);
  find("exponent").value = state.exponent;
  find("e").textContent = sizeOf(state.exponent).toExponential(1);
  find("derivative").textContent = derivative.toPrecision(9);
  find("double").textContent = now.double.toPrecision(9);
  find("single").textContent = now.single.toPrecision(9);
  const exponents = Array.from({ length: 29 }, (_, i) => -14 + i / 2);
  const error = (value) => Math.log10(Math.max(Math.abs(value - derivative), 1e-16));
  const curve = (kind) => exponents.map((exponent) => [exponent, error(at(exponent)[kind])]);
  drawLines(find("errors"), {
    x: { low: -14, high: 0, ticks: [-12, -8, -4, 0].map((value) => [value, `1e${value}`]) },
    y: { low: -14, high: 2, ticks: [-12, -6, 0].map((value) => [value, `1e${value}`]) },
    now: state.exponent,
    xText: "e",
    lines: [
      { points: curve("single"), kind: "second" },
      { points: curve("double"), kind: "target" },
    ],
  });
}

function renderChange(clean, point) {
  const change = point.image.map((pixel, i) => pixel - clean[i]);
  const most = LENGTHS.linf(change);
  drawSigned(find("change"), change, most);
  find("change-text").textContent = text("changeText", { most: number(most) });
  const start = STARTS[state.norm];
  for (const [name, largest] of [
    ["epsilon", start.mostEpsilon],
    ["stepSize", start.mostStepSize],
  ]) {
    Object.assign(find(name), { min: 0, max: largest, step: largest / 100, value: state[name] });
    find(`${name}-text`).textContent = number(state[name]);
  }
  find("norm").value = state.norm;
  find("rule").value = state.rule;
  find("held").textContent = state.shown === 0 ? text("heldStart") : text("held", point);
}

function renderTruth(model, clean, point) {
  const { norm, epsilon } = state;
  const length = (image) => LENGTHS[norm](image.map((pixel, i) => pixel - clean[i]));
  const { lower, exact, image } = smallest();
  const rounded = roundToLevels(clean, point.image, norm, epsilon);
  const logits = logitsOf(model, rounded);
  const seen = argmax(logits);
  const bars = [
    ["lengthAttack", length(point.image), ""],
    ["lengthRounded", length(rounded), ""],
    [exact ? "lengthProved" : "lengthAtLeast", lower, "proved"],
  ];
  const most = Math.max(...bars.map(([, value]) => (Number.isFinite(value) ? value : 0)), 1e-9);
  find("lengths").replaceChildren(
    ...bars.map(([name, value, kind]) => lengthBar(text(name), value, most, kind)),
  );
  find("truth-text").textContent = truthText(point, length(point.image), lower, exact);
  const share = percent(softmax(logits)[seen]);
  find("rounded-text").textContent = text("rounded", { seen: data.classes[seen], share });
  find("optimum-figure").hidden = !image || lower === 0;
  if (image) drawImage(find("optimum"), image);
}

function truthText(point, length, lower, exact) {
  if (lower === 0) return text("truthAlready");
  if (!Number.isFinite(lower)) return text("truthNever");
  if (point.prediction !== state.target) return text("truthGoOn", { length: number(lower) });
  const above = length / lower - 1;
  const said = above < 1 ? `${(100 * above).toFixed(1)} %` : `${(above + 1).toFixed(1)} ×`;
  if (!exact) return text("truthAtLeast", { percent: said });
  return above < 5e-4 ? text("truthTight") : text("truthAbove", { percent: said });
}

function renderModels(point) {
  find("models").hidden = models.length < 2;
  if (models.length < 2) return;
  const { defend, epsilon } = data.models[1];
  find("models-text").textContent = defend
    ? text("modelsText", { norm: NORM_NAMES[defend], epsilon })
    : text("modelsTextBare");
  find("share").value = state.share;
  find("share-text").textContent = percent(state.share);
  for (const [id, model] of [
    ["plain", models[0]],
    ["mixed", currentModel()],
    ["robust", models[1]],
  ]) {
    const pull = gradientOf(model, point.image, state.target).map((value) => -value);
    drawSigned(find(`gradient-${id}`), pull, LENGTHS.linf(pull));
  }
}

function made(name, kind, content = "") {
  const element = document.createElement(name);
  if (kind) element.className = kind;
  element.textContent = content;
  return element;
}

function lengthBar(name, length, most, kind) {
  const bar = made("div", `bar ${kind}`);
  const line = made("div");
  line.append(
    made("span", "", name),
    made(
      "output",
      "",
      `${NORM_NAMES[state.norm]} ${Number.isFinite(length) ? number(length, 4) : "–"}`,
    ),
  );
  const track = made("div", "track");
  const filled = made("span");
  filled.style.width = `${Number.isFinite(length) ? (100 * length) / most : 0}%`;
  track.append(filled);
  bar.append(line, track);
  return bar;
}

function choose(button, chosen) {
  button.setAttribute("aria-checked", chosen);
  button.tabIndex = chosen ? 0 : -1;
}

// --- what the user does ---

// Arrow keys move within a group of choices, as in any radio group.
function radioGroup(group, onChoice) {
  group.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const buttons = [...group.children];
    const next = (buttons.indexOf(document.activeElement) + by + buttons.length) % buttons.length;
    buttons[next].focus();
    onChoice(next);
  });
  [...group.children].forEach((button, index) => {
    button.addEventListener("click", () => onChoice(index));
  });
}

function onDigit(levels) {
  find("pad-note").textContent = levels ? "" : text(levels === null ? "noDigit" : "notRead");
  if (levels) restart({ digit: -1, drawing: Uint8Array.from(levels) });
}

function build() {
  find("digits").append(
    ...digits.map((image) => {
      const button = made("button");
      Object.assign(button, { type: "button" });
      button.setAttribute("role", "radio");
      const canvas = Object.assign(made("canvas", "pixels"), { width: 28, height: 28 });
      drawImage(canvas, image);
      button.append(canvas);
      return button;
    }),
  );
  find("bars").append(
    ...data.classes.map((name) => {
      const button = made("button");
      Object.assign(button, { type: "button" });
      button.setAttribute("role", "radio");
      const track = made("span", "track");
      track.append(made("span"));
      button.append(
        made("span", "name", name),
        track,
        made("span", "percent"),
        made("span", "logit"),
      );
      return button;
    }),
  );
}

function listen() {
  radioGroup(find("digits"), (digit) => restart({ digit }));
  radioGroup(find("bars"), (target) => restart({ target }));
  find("language").addEventListener("click", () =>
    update({ language: state.language === "en" ? "zh" : "en" }),
  );
  find("clear").addEventListener("click", () => {
    pad.clear();
    find("pad").dataset.digit = "";
    find("pad").dataset.shows = "strokes";
  });
  find("photo").addEventListener("change", (event) => {
    delete find("pad").dataset.shows; // so that the digit is shown that was found
    readPhoto(event.target.files[0], onDigit);
    event.target.value = "";
  });
  find("play").addEventListener("click", () => {
    if (playing) {
      pause();
      update({});
    } else play();
  });
  find("step").addEventListener("click", () => (pause(), takeSteps(1)));
  find("ten").addEventListener("click", () => (pause(), takeSteps(10)));
  find("reset").addEventListener("click", () => restart({}));
  find("shown").addEventListener(
    "input",
    (event) => (pause(), update({ shown: Number(event.target.value) })),
  );
  find("exponent").addEventListener("input", (event) =>
    update({ exponent: Number(event.target.value) }),
  );
  find("share").addEventListener("input", (event) =>
    restart({ share: Number(event.target.value) }),
  );
  find("norm").addEventListener("change", (event) => {
    const { epsilon, stepSize, rule } = STARTS[event.target.value];
    restart({ norm: event.target.value, epsilon, stepSize, rule });
  });
  find("rule").addEventListener("change", (event) => {
    restart({ rule: event.target.value, stepSize: RULE_SIZES[event.target.value] });
  });
  for (const name of ["epsilon", "stepSize"]) {
    find(name).addEventListener("input", (event) => {
      restart({
        [name]: Math.max(Number(event.target.value), STARTS[state.norm].mostStepSize / 1000),
      });
    });
  }
  for (const input of document.querySelectorAll("[name=view]")) {
    input.addEventListener("change", () => update({ view: input.value }));
  }
  const gradient = find("gradient");
  gradient.addEventListener("pointermove", (event) => {
    const box = gradient.getBoundingClientRect();
    const cell = (place, side) => Math.min(27, Math.max(0, Math.floor((28 * place) / side)));
    const [x, y] = [
      cell(event.clientX - box.left, box.width),
      cell(event.clientY - box.top, box.height),
    ];
    if (28 * y + x !== state.pixel) update({ pixel: 28 * y + x });
  });
  gradient.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 28, ArrowUp: -28 }[event.key];
    const next = state.pixel + by;
    if (!by) return;
    event.preventDefault();
    if (next >= 0 && next < 784) update({ pixel: next });
  });
  addEventListener("hashchange", () => {
    pause();
    state = readLink(location.hash, limits);
    delete find("pad").dataset.digit;
    delete find("pad").dataset.shows;
    render();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
}

build();
const pad = watchPad(find("pad"), find("pad-frame"), onDigit);
listen();
render();
