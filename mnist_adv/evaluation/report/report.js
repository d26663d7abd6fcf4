"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const hidden = new Set();
const redraw = [];
const attacks = [...new Set(data.curves.map((curve) => curve.name))];
const certified = data.band && `certified (${data.band.method})`;
const open = "neither proved nor broken";
const special = {
  "worst case": "var(--worst)",
  "certified optimum": "var(--optimum)",
  [certified]: "var(--certified)",
  [open]: "var(--certified)",
};
const colour = (name) => special[name] || `var(--s${attacks.indexOf(name) % 8})`;
const percent = (share) => `${(100 * share).toFixed(2)}%`;
const short = (number) => String(Number(number.toPrecision(6)));

function element(kind, attributes = {}, ...children) {
  const made = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function shape(parent, kind, attributes, text) {
  const made = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

// Numbers between two ends at a step of 1, 2 or 5 times a power of ten.
function ticks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + 1e-9 * step; at += 1) found.push(at * step);
  return found;
}

const shares = { most: 1, across: short, up: (share) => `${100 * share}%` };

// Draw lines over x: series are {name, style, values, low, high, tell}, values in [0, most] or null.
// `across` and `up` write the numbers of the axes.
function chart(id, xs, label, series, { most, across, up } = shares) {
  const root = document.getElementById(id);
  const ends = [xs[0], xs[xs.length - 1]];
  if (ends[0] === ends[1]) ends.splice(0, 2, xs[0] - 0.5, xs[0] + 0.5);
  let view = [...ends];
  let down = null;
  const tip = element("div", { class: "tip", hidden: "" });
  const back = element("button", { type: "button", hidden: "" }, "whole range");
  back.addEventListener("click", () => zoom(ends));
  root.setAttribute("tabindex", "0");
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", `Chart over ${label}; arrow keys read its values`);

  function zoom(to) {
    view = [...to];
    back.hidden = view[0] === ends[0] && view[1] === ends[1];
    draw();
  }
  const shown = () => series.filter((each) => !hidden.has(each.name));
  let geometry = null;

  function draw() {
    const width = root.clientWidth;
    const height = Math.max(220, Math.min(340, 0.62 * width));
    const [left, right, top, bottom] = [46, 24, 10, 42];
    const x = (at) => left + ((at - view[0]) / (view[1] - view[0])) * (width - left - right);
    const y = (at) => top + (1 - at / most) * (height - top - bottom);
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("height", height);
    for (const at of [0, 0.25, 0.5, 0.75, 1].map((share) => share * most)) {
      shape(svg, "line", { class: "grid", x1: left, x2: width - right, y1: y(at), y2: y(at) });
      shape(svg, "text", { x: left - 6, y: y(at) + 4, "text-anchor": "end" }, up(at));
    }
    const wanted = xs.length === 1 ? xs : ticks(view[0], view[1], (width - left - right) / 62);
    for (const at of wanted) {
      shape(svg, "line", { class: "grid", x1: x(at), x2: x(at), y1: top, y2: height - bottom });
      shape(svg, "text", { x: x(at), y: height - bottom + 17, "text-anchor": "middle" }, across(at));
    }
    shape(svg, "text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, label);
    const clip = `clip-${id}`;
    const box = { x: left - 4, y: top - 4, width: width - left - right + 8, height: height - top - bottom + 8 };
    shape(shape(svg, "clipPath", { id: clip }), "rect", box);
    const lines = shape(svg, "g", { "clip-path": `url(#${clip})` });
    for (const each of shown()) {
      if (each.low) {
        const path = xs.map((at, i) => `${x(at)},${y(each.high[i])}`);
        path.push(...xs.map((at, i) => `${x(at)},${y(each.low[i])}`).reverse());
        const stroke = xs.length === 1 ? { stroke: colour(each.name), "stroke-width": 3 } : {};
        shape(lines, "polygon", { points: path.join(" "), fill: colour(each.name), opacity: 0.14, ...stroke });
      }
      const known = xs.map((at, i) => [at, each.values[i]]).filter(([, value]) => value !== null);
      const points = known.map(([at, value]) => `${x(at)},${y(value)}`).join(" ");
      const dash = { dotted: "2 4", dashed: "7 5" }[each.style] || "none";
      const line = { points, fill: "none", stroke: colour(each.name), "stroke-width": 2 };
      shape(lines, "polyline", { ...line, "stroke-dasharray": dash, "data-name": each.name, "data-style": each.style });
      if (xs.length <= 40) {
        known.forEach(([at, value]) =>
          shape(lines, "circle", { cx: x(at), cy: y(value), r: 2.6, fill: colour(each.name) }));
      }
    }
    geometry = { svg, width, left, right, top, bottom, height, x };
    root.replaceChildren(svg, tip, back);
  }

  const atPointer = (event) => {
    const { svg, width, left, right } = geometry;
    const box = svg.getBoundingClientRect();
    const share = (((event.clientX - box.left) / box.width) * width - left) / (width - left - right);
    return view[0] + Math.max(0, Math.min(1, share)) * (view[1] - view[0]);
  };
  const nearest = (at) => xs.reduce((best, each, i) =>
    Math.abs(each - at) < Math.abs(xs[best] - at) ? i : best, 0);

  let pointed = 0;
  function point(index) {
    pointed = index;
    const { svg, x, top, bottom, height, width } = geometry;
    svg.querySelectorAll(".cursor").forEach((each) => each.remove());
    const place = x(xs[index]);
    shape(svg, "line", { class: "cursor", x1: place, x2: place, y1: top, y2: height - bottom });
    tip.replaceChildren(element("b", {}, `${label} ${across(xs[index])}`));
    for (const each of shown()) {
      const dot = element("i", { style: `background: ${colour(each.name)}` });
      tip.append(element("div", {}, dot, each.tell(index)));
    }
    tip.hidden = false;
    const side = place > width / 2 ? place - tip.offsetWidth - 12 : place + 12;
    tip.style.left = `${Math.max(0, Math.min(width - tip.offsetWidth, side))}px`;
    tip.style.top = `${top + 6}px`;
  }
  function leave() {
    tip.hidden = true;
    geometry.svg.querySelectorAll(".cursor, .range").forEach((each) => each.remove());
    down = null;
  }
  root.addEventListener("pointerdown", (event) => {
    if (event.target !== back && event.pointerType === "mouse") down = atPointer(event);
    if (event.pointerType !== "mouse" && event.target !== back) point(nearest(atPointer(event)));
  });
  root.addEventListener("pointermove", (event) => {
    const at = atPointer(event);
    const { svg, x, top, bottom, height } = geometry;
    svg.querySelectorAll(".range").forEach((each) => each.remove());
    if (down !== null) {
      const [from, to] = [x(Math.min(down, at)), x(Math.max(down, at))];
      shape(svg, "rect", { class: "range", x: from, y: top, width: to - from, height: height - top - bottom });
    }
    point(nearest(at));
  });
  root.addEventListener("pointerup", (event) => {
    if (down === null) return;
    const range = [down, atPointer(event)].sort((one, other) => one - other);
    down = null;
    geometry.svg.querySelectorAll(".range").forEach((each) => each.remove());
    if (range[1] - range[0] > 0.03 * (view[1] - view[0])) zoom(range);
  });
  root.addEventListener("pointerleave", leave);
  root.addEventListener("blur", leave);
  root.addEventListener("dblclick", () => zoom(ends));
  root.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      event.preventDefault();
      point(Math.max(0, Math.min(xs.length - 1, tip.hidden ? pointed : pointed + step)));
    } else if (event.key === "Escape") zoom(ends);
  });
  redraw.push(draw);
  new ResizeObserver(draw).observe(root);
  draw();
}

function curves(what) {
  return data.curves.map((curve) => {
    const points = curve[what];
    const style = curve.form === "saved" ? "dotted" : curve.name === "certified optimum" ? "dashed" : "solid";
    const form = curve.form === "saved" ? ", 8 bits" : "";
    return {
      name: curve.name,
      style,
      values: points.map(([count, total]) => (total ? count / total : 0)),
      low: style === "solid" && points.map((each) => each[2]),
      high: style === "solid" && points.map((each) => each[3]),
      tell: (i) => {
        const [count, total] = points[i];
        return `${curve.name}${form}: ${percent(total ? count / total : 0)} (${count} of ${total})`;
      },
    };
  });
}

// What is proved, and up to what is not broken.
function band() {
  if (!data.band) return [];
  const share = ([count, total]) => count / total;
  const told = (name, points) => (i) => `${name}: ${percent(share(points[i]))} (${points[i][0]} of ${points[i][1]})`;
  const proved = data.band.certified.map(share);
  return [
    {
      name: open,
      style: "area",
      values: proved.map(() => null),
      low: proved,
      high: data.band.unbroken.map(share),
      tell: told(open, data.band.open),
    },
    { name: certified, style: "solid", values: proved, tell: told(certified, data.band.certified) },
  ];
}

const legend = document.getElementById("legend");
const kinds = { "certified optimum": "dashed", [open]: "area" };
for (const name of data.band ? [...attacks, certified, open] : attacks) {
  const kind = kinds[name] || "";
  const button = element("button", { type: "button", class: kind, "aria-pressed": "true" }, name);
  button.style.setProperty("--colour", colour(name));
  button.addEventListener("click", () => {
    if (!hidden.delete(name)) hidden.add(name);
    button.setAttribute("aria-pressed", String(!hidden.has(name)));
    redraw.forEach((draw) => draw());
  });
  legend.append(button);
}
const epsilon = `${data.norm} epsilon`;
chart("robust", data.epsilons, epsilon, [...band(), ...curves("robust")]);
chart("success", data.epsilons, epsilon, curves("success"));
const far = data.distances;
chart("distances", far.grid, `${data.norm} distance`, Object.entries(far.counts).map(([name, counts]) => ({
  name,
  style: "solid",
  values: counts.map((count) => count / far.total),
  tell: (i) => `${name}: ${percent(counts[i] / far.total)} (${counts[i]} of ${far.total})`,
})));

const { passes, medians } = data.over_queries;
const few = (number) => short(Number(number.toPrecision(2)));
const lengths = {
  most: Math.max(...Object.values(medians).flat()) || 1,
  across: (at) => few(10 ** at),
  up: few,
};
chart("queries", passes.map(Math.log10), "passes", Object.entries(medians).map(([name, values]) => ({
  name,
  style: "solid",
  values,
  tell: (i) => `${name}: ${values[i] === null ? "most missed" : `${data.norm} ${short(Number(values[i].toPrecision(4)))}`}`,
})), lengths);

const large = document.getElementById("large");
const source = (content) => `data:image/png;base64,${content}`;
const lengthOf = ({ distance }) =>
  distance === "" ? "not met" : distance === 0 ? "so when clean" : `${data.norm} ${Number(distance.toPrecision(3))}`;
const provedOf = ({ proved }) => (proved > 0 ? `, proved up to ${Number(proved.toPrecision(3))}` : "");

// Red where the image became brighter, blue where it became darker.
async function difference(shown, canvas) {
  const pixels = [];
  for (const content of [shown.clean, shown.changed]) {
    const image = new Image();
    image.src = source(content);
    await image.decode();
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    pixels.push(context.getImageData(0, 0, canvas.width, canvas.height));
  }
  const [clean, changed] = pixels;
  const change = new Float32Array(canvas.width * canvas.height);
  for (let i = 0; i < change.length; i += 1) {
    for (let c = 0; c < 3; c += 1) change[i] += (changed.data[4 * i + c] - clean.data[4 * i + c]) / 3;
  }
  const most = Math.max(...change.map(Math.abs)) || 1;
  for (let i = 0; i < change.length; i += 1) {
    const share = Math.abs(change[i]) / most;
    const end = change[i] > 0 ? [178, 24, 43] : [33, 102, 172];
    for (let c = 0; c < 3; c += 1) clean.data[4 * i + c] = 247 + share * (end[c] - 247);
  }
  canvas.getContext("2d").putImageData(clean, 0, 0);
  return most;
}

async function enlarge(shown) {
  const close = element("button", { type: "button", "aria-label": "close" }, "✕");
  close.addEventListener("click", () => large.close());
  const goal = shown.target ? ` (target ${shown.target})` : "";
  const words = `#${shown.index}: ${shown.label}${goal}, ${shown.attack}, ${lengthOf(shown)}${provedOf(shown)}`;
  const canvas = element("canvas", { role: "img", "aria-label": "perturbation" });
  const scale = element("figcaption", {}, "perturbation");
  const three = element("div", { class: "three" },
    element("figure", {}, element("img", { src: source(shown.clean), alt: "clean" }),
      element("figcaption", {}, `clean: seen as ${shown.sees[0]}`)),
    element("figure", {}, canvas, scale),
    element("figure", {}, element("img", { src: source(shown.changed), alt: "result" }),
      element("figcaption", {}, `result, 8 bits: seen as ${shown.sees[1]}`)));
  const bars = element("div", { class: "bars" });
  for (const [name, before, after] of shown.probabilities) {
    bars.append(element("span", {}, name),
      element("span", { class: "pair" },
        element("span", { class: "bar before", style: `width: ${100 * before}%` }),
        element("span", { class: "bar after", style: `width: ${100 * after}%` })),
      element("span", {}, `${(100 * before).toFixed(1)}% → ${(100 * after).toFixed(1)}%`));
  }
  large.replaceChildren(element("header", {}, element("b", {}, words), close), three,
    element("p", { class: "soft hint" }, "Probabilities, clean (grey) and result (violet):"), bars);
  large.showModal();
  const most = await difference(shown, canvas);
  scale.textContent = `perturbation (red: brighter, blue: darker; at most ${Math.round(most)} of 255 levels)`;
}
large.addEventListener("click", (event) => { if (event.target === large) large.close(); });

for (const [name, cases] of Object.entries(data.galleries)) {
  const gallery = document.getElementById(`gallery-${name}`);
  for (const shown of cases) {
    const images = element("div", { class: "images" },
      element("img", { src: source(shown.clean), alt: `clean, ${shown.label}`, loading: "lazy" }),
      element("img", { src: source(shown.changed), alt: `result, ${shown.sees[1]}`, loading: "lazy" }));
    const button = element("button", { type: "button", class: shown.distance === "" ? "missed" : "" }, images,
      `#${shown.index}: ${shown.label} → ${shown.sees[1]}`, element("br"), element("small", {}, lengthOf(shown) + provedOf(shown)));
    button.addEventListener("click", () => enlarge(shown));
    gallery.append(button);
  }
}
