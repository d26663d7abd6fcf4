// The pad: strokes of a mouse or finger, and dropped photos, prepared as digits.

import { greyOf, prepareDigit } from "./handwriting.js";

const MOST_SIDE = 800; // of a photo: larger ones are made smaller first
const PEN = 22;

/**
 * Watch a pad.
 *
 * `onDigit` is called with 784 levels whenever there is a new digit, and with null where a picture
 * shows none. Returns a function that clears the pad, and one that shows an image on it.
 */
export function watchPad(canvas, frame, onDigit) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let drawing = false;
  let blank = true;
  let last = null;

  const clear = () => {
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    blank = true;
  };
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    const scale = canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  };
  const stroke = (event) => {
    const next = place(event);
    Object.assign(context, { strokeStyle: "#fff", lineWidth: PEN, lineCap: "round" });
    context.beginPath();
    context.moveTo(...(last ?? next));
    context.lineTo(...next);
    context.stroke();
    last = next;
    const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
    onDigit(prepareDigit(greyOf(data), width, height));
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    if (!blank && canvas.dataset.shows === "image") clear();
    canvas.dataset.shows = "strokes";
    blank = false;
    drawing = true;
    last = null;
    stroke(event);
  });
  canvas.addEventListener("pointermove", (event) => drawing && stroke(event));
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, () => (drawing = false));
  }

  for (const name of ["dragover", "dragleave", "drop"]) {
    frame.addEventListener(name, (event) => {
      event.preventDefault();
      frame.classList.toggle("dropping", name === "dragover");
    });
  }
  frame.addEventListener("drop", (event) => readPhoto(event.dataTransfer.files[0], onDigit));

  const show = (image) => {
    const small = new OffscreenCanvas(28, 28);
    const picture = new ImageData(28, 28);
    image.forEach((value, i) =>
      picture.data.set([255 * value, 255 * value, 255 * value, 255], 4 * i),
    );
    small.getContext("2d").putImageData(picture, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    canvas.dataset.shows = "image";
    blank = false;
  };
  return { clear, show };
}

/** Read a photo, turned as its camera says. */
export async function readPhoto(file, onDigit) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    onDigit(undefined);
    return;
  }
  const scale = Math.min(1, MOST_SIDE / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) =>
    Math.max(1, Math.round(scale * side)),
  );
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  onDigit(prepareDigit(greyOf(context.getImageData(0, 0, width, height).data), width, height));
}
