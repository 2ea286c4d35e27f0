/**
 * Noise schedules, guidance and samplers, as in `captionless/diffusion` (which names the papers).
 *
 * A sampler is a generator function: it yields {x, t} where it needs a prediction, is sent x0, and returns the image.
 * Images are Float32Arrays in about [-1, 1]; a noise level is {t, alpha, sigma, signal, step}, where `signal` is the
 * schedule's alpha, and `alpha` is 0 for pure noise.
 */

const ROUNDING = 1e-6;
/** If alpha is below this at the first time, sampling starts from pure noise. */
const TRACE = 0.05;

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const logit = (p) => Math.log(p / (1 - p));

/** By kind, functions of a schedule and a time that return [alpha, sigma]. */
const SCHEDULES = {
  cosine({ log_snr_max, log_snr_min, shift }, t) {
    const [first, last] = [log_snr_max, log_snr_min].map((value) => Math.atan(Math.exp(-0.5 * value)));
    const angle = first + t * (last - first);
    const sigma = Math.exp(-0.5 * shift) * Math.sin(angle);
    const length = Math.hypot(Math.cos(angle), sigma);
    return [Math.cos(angle) / length, sigma / length];
  },
  sigmoid({ start, end }, t) {
    const [low, high] = [sigmoid(start), sigmoid(end)];
    const trace = sigmoid(-13) * (high - low);
    const [first, last] = [logit(low + trace), logit(high - trace)];
    const square = (sigmoid(first + t * (last - first)) - low) / (high - low);
    return [Math.sqrt(1 - square), Math.sqrt(square)];
  },
  karras({ sigma_min, sigma_max, rho }, t) {
    const [first, last] = [sigma_min ** (1 / rho), sigma_max ** (1 / rho)];
    const level = (first + t * (last - first)) ** rho;
    const alpha = 1 / Math.sqrt(1 + level ** 2);
    return [alpha, level * alpha];
  },
  linear({ steps, beta_start, beta_end, zero_terminal_snr }, t) {
    const alphas = [1];
    for (let i = 0, product = 1; i < steps; i++) {
      product *= 1 - (beta_start + ((beta_end - beta_start) * i) / (steps - 1));
      alphas.push(Math.sqrt(product));
    }
    const [first, last] = [alphas[1], alphas[steps]];
    const below = Math.min(Math.floor(t * steps), steps - 1);
    const [a, b] = [alphas[below], alphas[below + 1]].map((alpha, i) =>
      zero_terminal_snr && below + i ? ((alpha - last) * first) / (first - last) : alpha);
    const alpha = a + (b - a) * (t * steps - below);
    return [alpha, Math.sqrt(1 - alpha ** 2)];
  },
  flow(_, t) {
    const trace = sigmoid(-6.5);
    const sigma = trace + t * (1 - 2 * trace);
    return [1 - sigma, sigma];
  },
};

/** The noise levels that a sampler passes through, from noise at a first time to the image at time 0. */
export class Process {
  /**
   * @param noise returns new standard normal noise
   * @param start the first time; below 1 for edits
   */
  constructor(schedule, steps, noise, start = 1) {
    const times = Array.from({ length: steps + 1 }, (_, i) => start * (1 - i / steps));
    const levels = times.map((t, step) => {
      const [alpha, sigma] = t ? SCHEDULES[schedule.kind](schedule, t) : [1, 0];
      return { t, alpha, sigma, signal: alpha, step };
    });
    if (start === 1 && levels[0].alpha < TRACE) levels[0].alpha = 0;
    this.steps = levels.slice(0, -1).map((t, i) => [t, { ...levels[i + 1], step: null }]);
    this.noise = noise;
  }

  /** Return an image with noise, at the first noise level. */
  noisy(image, noise) {
    const [[{ signal, sigma }]] = this.steps;
    return sum([signal, image], [sigma, noise]);
  }

  /** Return x with new noise of a standard deviation. */
  disturb(x, std) {
    return std > 0 ? sum([1, x], [std, this.noise()]) : x;
  }
}

/** Return the weighted sum of images, given pairs of a factor and an image. */
function sum(...terms) {
  return terms[0][1].map((_, i) => {
    let value = 0;
    for (const [factor, image] of terms) value += factor * image[i];
    return value;
  });
}

const lam = ({ alpha, sigma }) => (alpha === 0 ? -Infinity : sigma > 0 ? Math.log(alpha / sigma) : Infinity);
/** The factor by which sigma / alpha falls. */
const decay = (t, s) => Math.min((t.alpha * s.sigma) / (t.sigma * s.alpha), 1);
const ratio = (h, before) => (h < Infinity && before > 0 ? h / before : 0);
const posteriorStd = (t, s) => s.sigma * Math.sqrt(1 - decay(t, s) ** 2);
/** The solution of the probability-flow ODE from t to s for a constant prediction. */
const follow = (x, x0, t, s) => sum([s.sigma / t.sigma, x], [s.alpha * (1 - decay(t, s)), x0]);

function* ddpm(x, process) {
  for (const [t, s] of process.steps) {
    const x0 = yield { x, t };
    const beta = t.sigma ** 2 * (1 - decay(t, s) ** 2);
    const a = t.alpha / s.alpha;
    x = sum([(a * s.sigma ** 2) / t.sigma ** 2, x], [(s.alpha * beta) / t.sigma ** 2, x0]);
    x = process.disturb(x, posteriorStd(t, s));
  }
  return x;
}

function* euler(x, process) {
  for (const [t, s] of process.steps) x = follow(x, yield { x, t }, t, s);
  return x;
}

function* eulerAncestral(x, process) {
  for (const [t, s] of process.steps) {
    const x0 = yield { x, t };
    const up = Math.min(posteriorStd(t, s), s.sigma);
    x = process.disturb(follow(x, x0, t, { ...s, sigma: Math.sqrt(s.sigma ** 2 - up ** 2) }), up);
  }
  return x;
}

function* multistep(x, process, eta) {
  let [before, hBefore] = [x, Infinity];
  for (const [t, s] of process.steps) {
    const x0 = yield { x, t };
    const h = lam(s) - lam(t);
    const extra = 0.5 * ratio(h, hBefore);
    const middle = sum([1 + extra, x0], [-extra, before]);
    const e = decay(t, s);
    x = sum([(s.sigma / t.sigma) * e ** eta, x], [s.alpha * (1 - e ** (1 + eta)), middle]);
    x = process.disturb(x, s.sigma * Math.sqrt(1 - e ** (2 * eta)));
    [before, hBefore] = [x0, h];
  }
  return x;
}

function* heun(x, process) {
  for (const [t, s] of process.steps) {
    const x0 = yield { x, t };
    let next = follow(x, x0, t, s);
    if (s.sigma > 0 && t.alpha > 0) {
      const share = 1 / (2 * decay(t, s));
      next = follow(x, sum([1 - share, x0], [share, yield { x: next, t: s }]), t, s);
    }
    x = next;
  }
  return x;
}

function* unipc(x, process) {
  let r, xr, m0, change;
  let [h, part] = [Infinity, 0];
  for (const [t, s] of process.steps) {
    const x0 = yield { x, t };
    if (t.step) {
      const [slope, end] = unicWeights(h, part);
      x = follow(xr, sum([1 - end, m0], [slope, change], [end, x0]), r, t);
      part = ratio(lam(s) - lam(t), h);
      change = sum([part, x0], [-part, m0]);
    } else change = x.map(() => 0);
    h = lam(s) - lam(t);
    [r, xr, m0] = [t, x, x0];
    x = follow(x, sum([1, m0], [0.5, change]), t, s);
  }
  return x;
}

function unicWeights(h, part) {
  if (part <= 0) return [0, 0.5];
  const b = Math.expm1(-h);
  const phi2 = b / -h - 1;
  const phi3 = phi2 / -h - 0.5;
  const slope = (((phi2 - 2 * phi3) / b) * part) / (1 + part);
  return [slope, phi2 / b - slope];
}

export const SAMPLERS = {
  "dpmpp-2m": (x, process) => multistep(x, process, 0),
  unipc,
  "dpmpp-2m-sde": (x, process) => multistep(x, process, 1),
  heun,
  euler,
  "euler-ancestral": eulerAncestral,
  ddim: euler,
  ddpm,
};

/**
 * Predict x0 with guidance in one call of the network, and limit it to [-1, 1].
 *
 * @param run calls the network: ({xt, t, condition, identity}, rows) => Float32Array, each input with its rows joined
 * @param stage what captionless.json says about the stage
 * @param x the noisy image, with channels of a low-resolution image behind it in `lowRes`
 * @param condition the condition vector; `base` is that to guide away from
 * @param start the first time, which scales those at which guidance changes
 */
export async function predict(run, stage, { x, t, lowRes = [], condition, base, scale, start = 1 }) {
  const [low, high] = scale > 0 ? stage.guidance_interval.map((time) => start * time) : [0, 1];
  const guided = scale !== 0 && (low === 0 || t.t > low + ROUNDING) && t.t <= high + ROUNDING;
  const perturbed = guided && scale > 0 && t.t > start * stage.perturbed_above + ROUNDING;
  const rows = guided ? 2 : 1;
  const inputs = {
    xt: joined(Array(rows).fill([x, lowRes]).flat()),
    t: new Float32Array(rows).fill(t.t),
    condition: joined([condition, base].slice(0, rows)),
    identity: Float32Array.of(0, Number(perturbed)).subarray(0, rows),
  };
  const output = await run(inputs, rows);
  const uncond = output.subarray(-x.length);
  const [a, b] = { v: [-t.sigma, t.signal], eps: [0, 1], x0: [1, 0] }[stage.prediction];
  const factor = 1 / (b * t.signal - a * t.sigma);
  return x.map((value, i) => {
    const prediction = output[i] + (guided ? scale * (output[i] - uncond[i]) : 0);
    return Math.min(1, Math.max(-1, (b * value - t.sigma * prediction) * factor));
  });
}

function joined(parts) {
  const all = new Float32Array(parts.reduce((length, part) => length + part.length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
}
