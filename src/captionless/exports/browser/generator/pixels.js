/**
 * Photographs as the model needs them: resized as Pillow resizes, to the last bit.
 *
 * A photograph or mask is {side, data}: a square of RGBA bytes, row by row.
 */

/** Pillow's `reducing_gap`: what shrinks more than this many times is first averaged over whole blocks. */
const GAP = 4;
/** Pillow's filter weights, and its shares of a mean, are multiples of 1 / UNIT and 1 / SHARE. */
const [UNIT, SHARE] = [2 ** 22, 2 ** 24];

const sinc = (x) => (x ? Math.sin(Math.PI * x) / (Math.PI * x) : 1);
/** By name, the reach of a filter, and its weight at a distance. */
const FILTERS = {
  box: [0.5, (x) => Number(x > -0.5 && x <= 0.5)],
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, (x) => cubic(Math.abs(x))],
  lanczos: [3, (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

function cubic(x) {
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? -0.5 * (((x - 5) * x + 8) * x - 4) : 0;
}

/** Return a photograph in [-1, 1], one channel after the other, as `photo_tensor` does. */
export function photoTensor(photo, size, channels) {
  const planes = square(rgb(photo), photo.side, size);
  const used = channels === 1 ? [grey(planes)] : planes;
  return Float32Array.from(used.flatMap((plane) => [...plane]), (value) => value / 127.5 - 1);
}

/** Return 1 where a mask is transparent and the image is to change, and 0 elsewhere, as `mask_tensor` does. */
export function maskTensor({ side, data }, size) {
  const [plane] = square([Float64Array.from({ length: side ** 2 }, (_, i) => 255 - data[4 * i + 3])], side, size, "box");
  return Float32Array.from(plane, (value) => value / 255);
}

/** Return a photograph as the image side of the encoder wants it; `about` says how. */
export function encoderPixels(photo, { size, filter, mean, std }) {
  const view = Math.min(photo.side, 2 * size);
  const planes = square(rgb(photo), photo.side, view).map((plane) => resized(plane, view, view, size, filter));
  return Float32Array.from(planes.flatMap((plane, c) => Array.from(plane, (value) => (value / 255 - mean[c]) / std[c])));
}

function rgb({ side, data }) {
  return [0, 1, 2].map((c) => Float64Array.from({ length: side ** 2 }, (_, i) => data[4 * i + c]));
}

function grey([red, green, blue]) {
  return red.map((value, i) => Math.floor((value * 19595 + green[i] * 38470 + blue[i] * 7471 + 0x8000) / 0x10000));
}

/** Resize square planes of bytes, as `crop_square` does. */
function square(planes, side, size, filter = "lanczos") {
  const factor = Math.max(1, Math.floor(side / size / GAP));
  const used = Math.fround(side / factor);
  return planes.map((plane) => resized(reduced(plane, side, factor), Math.ceil(side / factor), used, size, filter));
}

/** Return the means of blocks of a plane; those at the end may be narrower. */
function reduced(plane, side, factor) {
  if (factor === 1) return plane;
  const count = Math.ceil(side / factor);
  return Float64Array.from({ length: count ** 2 }, (_, i) => {
    const [x, y] = [(i % count) * factor, Math.floor(i / count) * factor];
    const [right, bottom] = [Math.min(x + factor, side), Math.min(y + factor, side)];
    let sum = 0;
    for (let row = y; row < bottom; row++) for (let at = x; at < right; at++) sum += plane[row * side + at];
    const number = (right - x) * (bottom - y);
    return Math.floor(((sum + Math.floor(number / 2)) * Math.floor(SHARE / number)) / SHARE);
  });
}

/** Resize the first `used` pixels of each side of a plane: rows, then columns, with bytes in between. */
function resized(plane, side, used, size, filter) {
  if (used === size) return plane;
  const taps = weights(side, used, size, FILTERS[filter]);
  return columns(columns(plane, side, taps), side, taps);
}

/** Return a plane whose rows are resized, transposed. */
function columns(plane, side, taps) {
  const rows = plane.length / side;
  const result = new Float64Array(taps.length * rows);
  taps.forEach(([first, factors], x) => {
    for (let y = 0; y < rows; y++) {
      let sum = UNIT / 2;
      for (let i = 0; i < factors.length; i++) sum += factors[i] * plane[y * side + first + i];
      result[x * rows + y] = Math.min(255, Math.max(0, Math.floor(sum / UNIT)));
    }
  });
  return result;
}

/** Return for every new pixel the first old one that counts, and the weights of this and the next. */
function weights(side, used, size, [reach, weight]) {
  const scale = used / size;
  const wide = Math.max(scale, 1);
  return Array.from({ length: size }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach * wide + 0.5));
    const end = Math.min(side, Math.trunc(centre + reach * wide + 0.5));
    const factors = Array.from({ length: end - first }, (_, j) => weight((j + first - centre + 0.5) * (1 / wide)));
    const sum = factors.reduce((a, b) => a + b, 0);
    return [first, factors.map((factor) => rounded((factor / sum) * UNIT))];
  });
}

/** Round half away from zero. */
function rounded(value) {
  return Math.sign(value) * Math.floor(Math.abs(value) + 0.5);
}
