/** The bridge `nearest`: from a text vector to the mixture of image vectors that an image is conditioned on. */

import { NumpyGenerator } from "./random.js";

/** The training images that match a text, with weights that sum to 1. See `captionless/conditioning/bridge.py`. */
export class Bridge {
  /**
   * @param bank unit image vectors, one after the other
   * @param width the length of a vector
   * @param about the bridge's constants, from captionless.json
   * @param sampling {neighbours, mean_shift_iterations}
   */
  constructor(bank, width, about, sampling) {
    Object.assign(this, { bank, width, about });
    this.count = bank.length / width;
    this.neighbours = sampling.neighbours;
    this.iterations = sampling.mean_shift_iterations;
  }

  /** Return the neighbourhood of a unit text vector, {indices, weights}; the best match comes first. */
  nearest(text) {
    const toText = standardised(this.#products(text));
    const share = this.about.text_share;
    let found = this.#weigh(toText);
    for (let i = 0; i < this.iterations; i++) {
      const toOthers = standardised(this.#agreement(found));
      found = this.#weigh(toText.map((score, j) => share * score + (1 - share) * toOthers[j]));
    }
    return found;
  }

  /** Return the unit vector of a random mixture; with a variety of 0, or without a seed, that of the mean. */
  draw({ indices, weights }, variety = 0, seed = 0) {
    if (variety) {
      const concentration = Math.max((1 - variety) / variety, 1e-6);
      const generator = new NumpyGenerator([this.about.draws, seed]);
      weights = generator.dirichlet(weights.map((weight) => Math.max(concentration * weight, 1e-12)));
    }
    return normalised(this.#mean(indices, weights));
  }

  #mean(indices, weights) {
    const { bank, width } = this;
    const mean = new Float64Array(width);
    indices.forEach((row, i) => {
      for (let j = 0; j < width; j++) mean[j] += weights[i] * bank[row * width + j];
    });
    return mean;
  }

  #products(vector) {
    const { bank, width } = this;
    return Float64Array.from({ length: this.count }, (_, row) => {
      let sum = 0;
      for (let j = 0, at = row * width; j < width; j++, at++) sum += vector[j] * bank[at];
      return sum;
    });
  }

  /** Return the cosine of every image to the mean of the neighbourhood without it. */
  #agreement({ indices, weights }) {
    const mean = this.#mean(indices, weights);
    const square = mean.reduce((sum, value) => sum + value * value, 0);
    const own = new Float64Array(this.count);
    indices.forEach((row, i) => (own[row] = weights[i]));
    return this.#products(mean).map((product, i) => {
      const rest = square - 2 * own[i] * product + own[i] ** 2;
      return (product - own[i]) / Math.sqrt(Math.max(rest, 1e-6));
    });
  }

  #weigh(scores) {
    const { neighbours, about } = this;
    scores = standardised(scores);
    const order = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a] || a - b);
    const indices = order.slice(0, 8 * neighbours);
    const weights = softmax(indices.map((i) => scores[i] / about.bandwidth), about.fewest, neighbours);
    return { indices, weights: limited(weights, Math.max(about.largest_share, 1 / neighbours)) };
  }
}

/** Interpolate spherically between two unit vectors. */
export function slerp(a, b, share) {
  const angle = Math.acos(Math.min(1, Math.max(-1, a.reduce((sum, value, i) => sum + value * b[i], 0))));
  const sine = Math.sin(angle);
  const [p, q] = sine < 1e-4 ? [1 - share, share] : [Math.sin((1 - share) * angle) / sine, Math.sin(share * angle) / sine];
  return normalised(Float64Array.from(a, (value, i) => p * value + q * b[i]));
}

/** Return a vector with a length of 1. */
export function normalised(vector) {
  const length = Math.hypot(...vector);
  return Float32Array.from(vector, (value) => value / length);
}

function standardised(scores) {
  const mean = scores.reduce((a, b) => a + b, 0) / scores.length;
  const std = Math.sqrt(scores.reduce((sum, score) => sum + (score - mean) ** 2, 0) / scores.length);
  return scores.map((score) => score / Math.max(std, 1e-6));
}

/** Return softmax(scores / T) with the T closest to 1 at which its perplexity is in bounds. */
function softmax(scores, fewest, most) {
  const at = (temperature) => {
    const powers = scores.map((score) => Math.exp((score - scores[0]) / temperature));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((power) => power / sum);
  };
  const perplexity = (weights) => Math.exp(-weights.reduce((sum, weight) => sum + (weight && weight * Math.log(weight)), 0));
  const found = perplexity(at(1));
  const wanted = Math.min(Math.max(found, fewest), most);
  if (wanted === found) return at(1);
  let [low, high] = wanted > found ? [0, 12] : [-12, 0];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (perplexity(at(Math.exp(middle))) > wanted) high = middle;
    else low = middle;
  }
  return at(Math.exp(low));
}

/** Limit falling weights, and scale the others up to a sum of 1. */
function limited(weights, largest) {
  largest = Math.max(largest, 1 / weights.length);
  const others = weights.map((weight) => Math.max(weight, 1e-100));
  for (let i = others.length - 2; i >= 0; i--) others[i] += others[i + 1];
  const scales = others.map((sum, k) => Math.max(1 - k * largest, 0) / sum);
  const k = Math.min(weights.filter((weight, i) => weight * scales[i] > largest).length, weights.length - 1);
  return weights.map((weight) => Math.min(weight * scales[k], largest));
}
