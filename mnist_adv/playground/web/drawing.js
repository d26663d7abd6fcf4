// Pictures on canvases: images, and numbers of both signs in red and blue.

const SIDE = 28;

/** Draw an image, pixels in [0, 1], black to white. */
export function drawImage(canvas, image) {
  paint(canvas, image, (value) => {
    const level = Math.round(255 * value);
    return [level, level, level];
  });
}

/** Draw numbers of both signs: red above 0, blue below; `most` is full colour. */
export function drawSigned(canvas, values, most) {
  const [neutral, more, less] = ["--neutral", "--more", "--less"].map(colourOf);
  paint(canvas, values, (value) => {
    const share = most === 0 ? 0 : Math.min(Math.abs(value) / most, 1);
    const end = value > 0 ? more : less;
    return neutral.map((start, c) => Math.round(start + share * (end[c] - start)));
  });
}

/** Mark one pixel. */
export function markPixel(canvas, pixel) {
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--ink");
  const [x, y] = [pixel % SIDE, Math.floor(pixel / SIDE)];
  context.globalAlpha = 0.9;
  context.fillRect(x + 0.3, y + 0.3, 0.4, 0.4);
  context.globalAlpha = 1;
}

function paint(canvas, values, colour) {
  const context = canvas.getContext("2d");
  const picture = context.createImageData(SIDE, SIDE);
  values.forEach((value, i) => picture.data.set([...colour(value), 255], 4 * i));
  context.putImageData(picture, 0, 0);
}

function colourOf(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((place) => parseInt(text.slice(place, place + 2), 16));
}
