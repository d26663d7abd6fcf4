// Bring a drawing or a photo into MNIST's form: ink bright on black, 20 x 20, centred by mass.

const SIDE = 28;
const INK_SIDE = 20;
const FAINTEST = 0.15; // weaker marks are paper, shadow and JPEG ringing

/** Turn RGBA bytes into grey 0..255; what is transparent becomes paper. */
export function greyOf(rgba) {
  const count = rgba.length / 4;
  const luminance = (r, g, b) => (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
  let opaque = 0;
  let light = 0;
  for (let i = 0; i < count; i++) {
    if (rgba[4 * i + 3] > 127) {
      opaque += 1;
      light += luminance(rgba[4 * i], rgba[4 * i + 1], rgba[4 * i + 2]);
    }
  }
  // A transparent picture has no paper: white suits dark ink, black suits light ink.
  const paper = opaque < count && opaque > 0 && light / opaque > 127 ? 0 : 255;
  return Float64Array.from({ length: count }, (_, i) => {
    const alpha = rgba[4 * i + 3] / 255;
    const over = (value) => Math.round(alpha * value + (1 - alpha) * paper);
    return luminance(over(rgba[4 * i]), over(rgba[4 * i + 1]), over(rgba[4 * i + 2]));
  });
}

/** Prepare grey 0..255 as a digit: 784 levels 0..255, or null if there is no ink. */
export function prepareDigit(grey, width, height) {
  const border = borderOf(grey, width, height).sort((a, b) => a - b);
  const middle = border.length / 2;
  let paper = (border[Math.floor(middle - 0.5)] + border[Math.floor(middle)]) / 2;
  let ink = Float64Array.from(grey);
  if (paper > 127) {
    ink = ink.map((value) => 255 - value);
    paper = 255 - paper;
  }
  if (width === SIDE && height === SIDE) return ink.map(roundEven);
  ink = ink.map((value) => Math.max(value - paper, 0));
  const darkest = ink.reduce((largest, value) => Math.max(largest, value), 0);
  if (darkest < 255 * FAINTEST) return null;
  ink = ink.map((value) => (value / darkest < FAINTEST ? 0 : value / darkest));
  return centred(fitted(ink, width, height)).map((value) => roundEven(255 * value));
}

function borderOf(grey, width, height) {
  const border = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (y === 0 || y === height - 1 || x === 0 || x === width - 1)
        border.push(grey[y * width + x]);
    }
  }
  return border;
}

function fitted(ink, width, height) {
  let [left, right, top, bottom] = [width, -1, height, -1];
  ink.forEach((value, i) => {
    if (value > 0) {
      const [x, y] = [i % width, Math.floor(i / width)];
      [left, right] = [Math.min(left, x), Math.max(right, x)];
      [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
    }
  });
  const [inkWidth, inkHeight] = [right - left + 1, bottom - top + 1];
  const cropped = new Float64Array(inkWidth * inkHeight);
  for (let y = 0; y < inkHeight; y++) {
    for (let x = 0; x < inkWidth; x++) {
      cropped[y * inkWidth + x] = ink[(y + top) * width + x + left];
    }
  }
  const scale = INK_SIDE / Math.max(inkWidth, inkHeight);
  const size = (side) => Math.max(1, roundEven(scale * side));
  const small = resize(cropped, inkWidth, inkHeight, size(inkWidth), size(inkHeight));
  const largest = small.pixels.reduce((most, value) => Math.max(most, value), 0);
  return {
    ...small,
    pixels: small.pixels.map((value) => Math.min(Math.max(value, 0), 1) / largest),
  };
}

function centred({ pixels, width, height }) {
  const total = pixels.reduce((sum, value) => sum + value, 0);
  const offset = (side, place) => {
    const mass = pixels.reduce((sum, value, i) => sum + value * (place(i) + 0.5), 0);
    return Math.min(Math.max(roundEven(SIDE / 2 - mass / total), 0), SIDE - side);
  };
  const left = offset(width, (i) => i % width);
  const top = offset(height, (i) => Math.floor(i / width));
  const canvas = new Float64Array(SIDE * SIDE);
  pixels.forEach((value, i) => {
    canvas[(top + Math.floor(i / width)) * SIDE + left + (i % width)] = value;
  });
  return canvas;
}

/** Resize as Pillow's LANCZOS does: averaged over three lobes, first along rows, then columns. */
function resize(pixels, width, height, newWidth, newHeight) {
  const across = filters(width, newWidth);
  const rows = new Float64Array(newWidth * height);
  for (let y = 0; y < height; y++) {
    across.forEach(({ first, weights }, x) => {
      let sum = 0;
      weights.forEach((weight, j) => (sum += weight * pixels[y * width + first + j]));
      rows[y * newWidth + x] = Math.fround(sum);
    });
  }
  const down = filters(height, newHeight);
  const result = new Float64Array(newWidth * newHeight);
  down.forEach(({ first, weights }, y) => {
    for (let x = 0; x < newWidth; x++) {
      let sum = 0;
      weights.forEach((weight, j) => (sum += weight * rows[(first + j) * newWidth + x]));
      result[y * newWidth + x] = Math.fround(sum);
    }
  });
  return { pixels: result, width: newWidth, height: newHeight };
}

function filters(size, newSize) {
  const scale = size / newSize;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: newSize }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - 3 * stretch + 0.5));
    const end = Math.min(size, Math.trunc(centre + 3 * stretch + 0.5));
    const weights = Array.from({ length: end - first }, (_, j) =>
      lanczos((first + j - centre + 0.5) / stretch),
    );
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

function lanczos(x) {
  if (x < -3 || x >= 3) return 0;
  return sinc(x) * sinc(x / 3);
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

// As Python and NumPy round: halves to the even neighbour.
function roundEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}
