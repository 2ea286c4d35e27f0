/** The random streams of PyTorch and NumPy, so that a seed gives the image that it gives in Python. */

/** Standard normal numbers as `torch.randn` draws them on a CPU: MT19937, and the method of Box and Muller. */
export class TorchNormal {
  /** @param seed an integer from 0 to 2^32 - 1 */
  constructor(seed) {
    const words = (this.words = new Uint32Array(624));
    words[0] = seed;
    for (let i = 1; i < 624; i++) words[i] = Math.imul(1812433253, words[i - 1] ^ (words[i - 1] >>> 30)) + i;
    this.at = 624;
  }

  /** Return at least 16 numbers: PyTorch draws fewer by another method, but no image has fewer. */
  draw(count) {
    if (count < 16) throw new RangeError(`at least 16 numbers can be drawn, not ${count}`);
    const values = Float32Array.from({ length: count }, () => this.#uniform());
    for (let i = 0; i + 16 <= count; i += 16) boxMuller(values.subarray(i, i + 16));
    if (count % 16) {
      const last = values.subarray(count - 16);
      for (let i = 0; i < 16; i++) last[i] = this.#uniform();
      boxMuller(last);
    }
    return values;
  }

  #uniform() {
    if (this.at === 624) this.#twist();
    let word = this.words[this.at++];
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return ((word ^ (word >>> 18)) & 0xffffff) / 2 ** 24;
  }

  #twist() {
    const { words } = this;
    for (let i = 0; i < 624; i++) {
      const word = (words[i] & 0x80000000) | (words[(i + 1) % 624] & 0x7fffffff);
      words[i] = words[(i + 397) % 624] ^ (word >>> 1) ^ (word & 1 ? 0x9908b0df : 0);
    }
    this.at = 0;
  }
}

function boxMuller(values) {
  for (let i = 0; i < 8; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - values[i]));
    const angle = 2 * Math.PI * values[i + 8];
    values[i] = radius * Math.cos(angle);
    values[i + 8] = radius * Math.sin(angle);
  }
}

const WORD = (1n << 64n) - 1n;
const STATE = (1n << 128n) - 1n;
const MULTIPLIER = (2549297995355413924n << 64n) | 4865540595714422341n;

/** The parts of `numpy.random.default_rng` that the bridge needs: PCG64, seeded by a SeedSequence. */
export class NumpyGenerator {
  /** @param entropy up to four integers from 0 to 2^32 - 1 */
  constructor(entropy) {
    const [high, low, seqHigh, seqLow] = seedWords(entropy);
    this.increment = ((((seqHigh << 64n) | seqLow) << 1n) | 1n) & STATE;
    this.state = 0n;
    this.#step();
    this.state = (this.state + ((high << 64n) | low)) & STATE;
    this.#step();
  }

  /** Draw from a Dirichlet distribution with positive concentrations. */
  dirichlet(concentrations) {
    if (Math.max(...concentrations) >= 0.1) {
      const drawn = concentrations.map((shape) => this.gamma(shape));
      const sum = drawn.reduce((a, b) => a + b, 0);
      return drawn.map((value) => value / sum);
    }
    // Stick-breaking, where the gamma variates would be too small.
    const rest = [...concentrations];
    for (let i = rest.length - 2; i >= 0; i--) rest[i] += rest[i + 1];
    let left = 1;
    return concentrations.map((shape, i) => {
      const part = i + 1 < rest.length ? left * this.#beta(shape, rest[i + 1]) : left;
      left -= part;
      return part;
    });
  }

  /** Draw from a gamma distribution: Ahrens and Dieter below 1, Marsaglia and Tsang above. */
  gamma(shape) {
    if (shape === 1) return this.#exponential();
    if (shape < 1) {
      for (;;) {
        const u = this.#uniform();
        const v = this.#exponential();
        const y = u <= 1 - shape ? 0 : -Math.log((1 - u) / shape);
        const x = (u <= 1 - shape ? u : 1 - shape + shape * y) ** (1 / shape);
        if (x <= v + y) return x;
      }
    }
    const b = shape - 1 / 3;
    const c = 1 / Math.sqrt(9 * b);
    for (;;) {
      let x, v;
      do {
        x = this.#normal();
        v = 1 + c * x;
      } while (v <= 0);
      v **= 3;
      const u = this.#uniform();
      if (u < 1 - 0.0331 * x ** 4 || Math.log(u) < 0.5 * x * x + b * (1 - v + Math.log(v))) return b * v;
    }
  }

  /** Johnk's method if both shapes are at most 1. */
  #beta(a, b) {
    if (a > 1 || b > 1) {
      const first = this.gamma(a);
      return first / (first + this.gamma(b));
    }
    for (;;) {
      const u = this.#uniform();
      const v = this.#uniform();
      const x = u ** (1 / a);
      const y = v ** (1 / b);
      if (x + y > 1 || u + v === 0) continue;
      if (x + y > 0) return x / (x + y);
      return 1 / (1 + Math.exp(Math.log(v) / b - Math.log(u) / a));
    }
  }

  #step() {
    this.state = (this.state * MULTIPLIER + this.increment) & STATE;
  }

  #word() {
    this.#step();
    const mixed = (this.state >> 64n) ^ (this.state & WORD);
    const turn = this.state >> 122n;
    return ((mixed >> turn) | (mixed << (64n - turn))) & WORD;
  }

  #uniform() {
    return Number(this.#word() >> 11n) / 2 ** 53;
  }

  #exponential() {
    const { edges, heights } = EXPONENTIAL;
    for (;;) {
      const word = this.#word() >> 3n;
      const i = Number(word & 0xffn);
      const share = Number(word >> 8n) / 2 ** 53;
      const x = share * edges[i];
      if (share < inside(edges, i)) return x;
      if (i === 0) return EXPONENTIAL.tail - Math.log1p(-this.#uniform());
      if ((heights[i - 1] - heights[i]) * this.#uniform() + heights[i] < Math.exp(-x)) return x;
    }
  }

  #normal() {
    const { edges, heights, tail } = NORMAL;
    for (;;) {
      const word = this.#word();
      const i = Number(word & 0xffn);
      const bits = (word >> 9n) & 0xfffffffffffffn;
      const share = Number(bits) / 2 ** 52;
      const x = share * edges[i] * ((word >> 8n) & 1n ? -1 : 1);
      if (share < inside(edges, i)) return x;
      if (i === 0) {
        for (;;) {
          const far = -Math.log1p(-this.#uniform()) / tail;
          if (-2 * Math.log1p(-this.#uniform()) > far * far) return (bits >> 8n) & 1n ? -(tail + far) : tail + far;
        }
      }
      if ((heights[i - 1] - heights[i]) * this.#uniform() + heights[i] < Math.exp(-0.5 * x * x)) return x;
    }
  }
}

/** The layers of the ziggurat method (Marsaglia and Tsang 2000) for a falling density; layer 0 has the tail. */
function ziggurat(tail, area, density, inverse) {
  const edges = new Float64Array(256);
  const heights = new Float64Array(256);
  edges[0] = area / density(tail);
  heights[0] = 1;
  for (let i = 255, x = tail; i >= 1; i--) {
    edges[i] = x;
    heights[i] = density(x);
    x = inverse(area / x + density(x));
  }
  return { edges, heights, tail };
}

/** The share of a layer that lies wholly under the density. */
function inside(edges, i) {
  if (i === 0) return edges[255] / edges[0];
  return i === 1 ? 0 : edges[i - 1] / edges[i];
}

const EXPONENTIAL = ziggurat(7.69711747013104972, 3.949659822581556e-3, (x) => Math.exp(-x), (y) => -Math.log(y));
const NORMAL = ziggurat(
  3.6541528853610088, 4.928673233974658e-3, (x) => Math.exp(-0.5 * x * x), (y) => Math.sqrt(-2 * Math.log(y)),
);

/** Return the first four 64-bit words of NumPy's SeedSequence. */
function seedWords(entropy) {
  let factor = 0x43b0d7e5;
  const hash = (value) => {
    value ^= factor;
    factor = Math.imul(factor, 0x931e8875);
    value = Math.imul(value, factor);
    return value ^ (value >>> 16);
  };
  const mix = (x, y) => {
    const mixed = Math.imul(0xca01f9dd, x) - Math.imul(0x4973f715, y);
    return mixed ^ (mixed >>> 16);
  };
  const pool = [0, 1, 2, 3].map((i) => hash(entropy[i] ?? 0));
  for (let i = 0; i < 4; i++) for (let j = 0; j < 4; j++) if (i !== j) pool[j] = mix(pool[j], hash(pool[i]));
  factor = 0x8b51f9dd;
  const words = Array.from({ length: 8 }, (_, i) => {
    let value = pool[i % 4] ^ factor;
    factor = Math.imul(factor, 0x58f38ded);
    value = Math.imul(value, factor);
    return BigInt((value ^ (value >>> 16)) >>> 0);
  });
  return [0, 2, 4, 6].map((i) => words[i] | (words[i + 1] << 32n));
}
