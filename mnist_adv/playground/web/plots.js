// Line plots as SVG.

const WIDTH = 340;
const HEIGHT = 150;
const LEFT = 44;
const BOTTOM = 22;
const TOP = 8;
const RIGHT = 16;

/**
 * Draw lines over common axes.
 *
 * `lines`: each `{ points: [[x, y], ...], kind, text }`; `x` and `y`: `{ low, high, ticks: [[value,
 * text], ...] }`; `now`: an x that is marked.
 */
export function drawLines(svg, { lines, x, y, now, xText }) {
  const across = (value) =>
    LEFT + ((value - x.low) / (x.high - x.low || 1)) * (WIDTH - LEFT - RIGHT);
  const up = (value) => {
    const inside = Math.min(Math.max(value, y.low), y.high);
    return HEIGHT - BOTTOM - ((inside - y.low) / (y.high - y.low || 1)) * (HEIGHT - BOTTOM - TOP);
  };
  const parts = [
    ...y.ticks.map(([value]) => line(LEFT, up(value), WIDTH - RIGHT, up(value), "axis")),
    ...y.ticks.map(([value, text]) => label(LEFT - 5, up(value) + 4, text, "end")),
    ...x.ticks.map(([value, text]) => label(across(value), HEIGHT - 8, text, "middle")),
  ];
  if (now !== undefined) parts.push(line(across(now), TOP, across(now), HEIGHT - BOTTOM, "now"));
  for (const { points, kind, text } of lines) {
    const path = points.map(
      ([a, b], i) => `${i ? "L" : "M"}${across(a).toFixed(1)} ${up(b).toFixed(1)}`,
    );
    parts.push(element("path", { d: path.join(""), class: kind }));
    if (text && points.length) {
      const [a, b] = points.at(-1);
      const middle = across(a) > WIDTH - 60 ? [across(a) - 4, "end"] : [across(a) + 4, "start"];
      parts.push(label(middle[0], up(b) + (up(b) < 30 ? 14 : -5), text, middle[1]));
    }
  }
  if (xText) parts.push(label(WIDTH - RIGHT, HEIGHT - BOTTOM - 5, xText, "end"));
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.replaceChildren(...parts);
}

function line(x1, y1, x2, y2, kind) {
  return element("line", { x1, y1, x2, y2, class: kind });
}

function label(x, y, text, anchor) {
  const made = element("text", { x, y, "text-anchor": anchor });
  made.textContent = text;
  return made;
}

function element(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
