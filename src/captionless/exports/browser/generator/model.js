/** A model of captionless in JavaScript: prompts in, images out, as `captionless generate` makes them. */

import { Bridge, normalised, slerp } from "./bridge.js";
import { encoderPixels, maskTensor, photoTensor } from "./pixels.js";
import { encodePng } from "./png.js";
import { TorchNormal } from "./random.js";
import { predict, Process, SAMPLERS } from "./samplers.js";
import { BytePairs, Pieces, Tokens, Vocabulary } from "./text.js";

/** What an image file stores in place of a photograph. */
const PHOTO = "an image without a file";

export class Model {
  /**
   * Load a model from the files of `captionless export`.
   *
   * @param read a function from the name of a file to a promise of its bytes (Uint8Array)
   * @param ort the module of onnxruntime-web
   */
  static async load(read, ort) {
    const json = async (name) => JSON.parse(new TextDecoder().decode(await read(name)));
    const model = new Model();
    const about = (model.about = await json("captionless.json"));
    Object.assign(model, { ort, read });
    if (about.text) {
      const { kind, tokenizer, vocabulary, limit, bridge } = about.text;
      model.text = new { bytes: BytePairs, tokens: Tokens, pieces: Pieces }[kind](await json(tokenizer), limit);
      model.vocabulary = vocabulary && new Vocabulary(await json(vocabulary));
      model.bridge = new Bridge(halfTensor(await read(bridge.bank)), about.condition_width, bridge, about.sampling);
    }
    model.sessions = {};
    for (const { graph } of [about.text ?? [], ...about.stages].flat()) await model.#open(graph);
    return model;
  }

  /**
   * Generate the images of a request, one after the other (see backend.js). Its photographs are those of pixels.js.
   *
   * @param onImage receives {seed, png, done}: the prediction of every step, then the image
   * @param pause awaited before every step; throws to end the work
   */
  async generate(request, onImage, pause = async () => {}) {
    const size = Number((request.size ?? "").split("x")[0]) || Infinity;
    const last = this.about.stages.findIndex((stage) => stage.size >= size);
    const stages = this.about.stages.slice(0, last < 0 ? undefined : last + 1);
    const { channels } = this.about;
    const prompt = request.like && !request.prompt.trim() ? null : await this.#prompt(request.prompt);
    const like = request.like && (await this.#imageVector(request.like));
    const towards = request.towards && this.#condition(await this.#prompt(request.towards));
    const base = request.negative_prompt
      ? this.#condition(await this.#prompt(request.negative_prompt))
      : new Float32Array(this.about.condition_width);
    for (let seed = request.seed; seed < request.seed + request.n; seed++) {
      let condition = prompt ? this.#condition(prompt, request.variety, seed) : like;
      if (prompt && like) condition = slerp(condition, like, request.like_share);
      if (towards) condition = slerp(condition, towards, request.towards_share ?? 0.5);
      const noise = new TorchNormal(seed);
      let image = null;
      for (const stage of stages) {
        const onStep = async (x0) => {
          onImage({ seed, png: await encodePng(x0, channels, stage.size), done: false });
          await pause();
        };
        image = await this.#sample(stage, { ...request, condition, base, noise, small: image }, onStep);
      }
      const { size: side } = stages.at(-1);
      onImage({ seed, png: await encodePng(image, channels, side, this.#texts(request, seed, side)), done: true });
    }
  }

  /** Return remarks about a prompt. */
  remarks(prompt) {
    return [this.text?.remark(prompt), this.vocabulary?.remark(prompt)].filter(Boolean);
  }

  /**
   * Sample an image with one stage; `small` is the image of the stage before. A photograph to edit is the image that
   * sampling starts from, with noise, and outside the mask what every prediction is replaced by.
   */
  async #sample(stage, { condition, base, noise, small, steps, sampler, guidance, image, mask, strength }, onStep) {
    const { channels, sampling } = this.about;
    const start = image ? strength : 1;
    const known = image && photoTensor(image, stage.size, channels);
    const marked = mask && maskTensor(mask, stage.size);
    let lowRes = [];
    if (small) {
      [steps, sampler, guidance] = [sampling.upsample_steps, "dpmpp-2m", Math.min(0, Math.max(-1, guidance))];
      const level = sampling.upsample_noise;
      const eps = noise.draw(small.length);
      const noisy = small.map((value, i) => Math.min(1, Math.max(-1, value)) + level * eps[i]);
      lowRes = [...upsampled(noisy, stage.low_res.size, stage.size), ...plane(stage.size, level / stage.low_res.max_noise)];
    }
    const draw = () => noise.draw(channels * stage.size ** 2);
    const process = new Process(stage.schedule, steps, draw, start);
    const first = draw();
    const run = SAMPLERS[sampler](start < 1 ? process.noisy(known, first) : first, process);
    let asked = run.next();
    while (!asked.done) {
      const { x, t } = asked.value;
      const network = (inputs, rows) => this.#network(stage, inputs, rows);
      let x0 = await predict(network, stage, { x, t, lowRes, condition, base, scale: guidance, start });
      if (marked) x0 = x0.map((value, i) => known[i] + marked[i % marked.length] * (value - known[i]));
      if (t.step !== null) await onStep(x0);
      asked = run.next(x0);
    }
    return asked.value;
  }

  /** Return inputs of a stage as in sampling, to compare sessions with. */
  example(stage) {
    const { channels, condition_width: width } = this.about;
    const lowRes = stage.low_res ? channels + 1 : 0;
    const xt = new TorchNormal(0).draw(2 * (channels + lowRes) * stage.size ** 2);
    const condition = new Float32Array(2 * width);
    condition.set(normalised(xt.subarray(0, width)));
    return this.#feeds(stage, { xt, condition, t: Float32Array.of(0.9, 0.3), identity: Float32Array.of(0, 1) }, 2);
  }

  async #network(stage, inputs, rows) {
    return (await this.sessions[stage.graph].run(this.#feeds(stage, inputs, rows))).prediction.data;
  }

  #feeds(stage, inputs, rows) {
    const shapes = { xt: [rows, inputs.xt.length / rows / stage.size ** 2, stage.size, stage.size] };
    shapes.condition = [rows, this.about.condition_width];
    const feeds = stage.inputs.map((name) => [name, this.#tensor("float32", inputs[name], shapes[name] ?? [rows])]);
    return Object.fromEntries(feeds);
  }

  /** Return the neighbourhood of a prompt, or the one-hot vector of a class. */
  async #prompt(prompt) {
    const { classes } = this.about;
    if (classes.length) {
      if (!classes.includes(prompt)) throw new Error(`There is no class "${prompt}". Choose one of ${classes.join(", ")}.`);
      return Float32Array.from(classes, (name) => Number(name === prompt));
    }
    if (!prompt.trim()) throw new Error("The prompt is empty. Describe what the image should show.");
    const { name, type, data } = this.text.inputs(prompt);
    const input = this.#tensor(type, data, [1, data.length]);
    const { vectors } = await this.sessions[this.about.text.graph].run({ [name]: input });
    return this.bridge.nearest(vectors.data);
  }

  /** Return the unit vector of a photograph; the image side of the encoder is loaded for the first. */
  async #imageVector(photo) {
    const { graph, size } = this.about.image;
    await this.#open(graph);
    const pixels = this.#tensor("float32", encoderPixels(photo, this.about.image), [1, 3, size, size]);
    return normalised((await this.sessions[graph].run({ pixels })).vectors.data);
  }

  async #open(graph) {
    this.sessions[graph] ??= await this.ort.InferenceSession.create(await this.read(graph));
  }

  #condition(prompt, variety, seed) {
    return this.bridge ? this.bridge.draw(prompt, variety, seed) : prompt;
  }

  #tensor(type, data, shape) {
    return new this.ort.Tensor(type, data, shape);
  }

  /** Return what an image file stores, as `GeneratedImage.metadata` does. */
  #texts(request, seed, size) {
    const { prompt, guidance, variety, steps, sampler, negative_prompt, towards, towards_share } = request;
    const { model, version, sampling, stages } = this.about;
    const given = { guidance, variety, steps, sampler, size: size === stages.at(-1).size ? null : size };
    const own = { prompt, seed, model, negative: negative_prompt, towards, towards_share, version };
    if (request.like) Object.assign(own, { like: PHOTO, like_share: request.like_share });
    if (request.image) Object.assign(own, { init: PHOTO, strength: request.strength, mask: request.mask && PHOTO });
    const interval = guidance > 0 ? scaled(stages[0].guidance_interval, request) : [0, 1];
    const values = { ...own, ...sampling, ...given, guidance_interval: interval, precision: "float32" };
    return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null && value !== undefined)
      .map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]));
  }
}

/** Enlarge square channels with bilinear interpolation, like `F.interpolate(..., align_corners=False)`. */
function upsampled(image, side, size) {
  const places = Array.from({ length: size }, (_, i) => {
    const place = Math.max(0, ((i + 0.5) * side) / size - 0.5);
    const below = Math.floor(place);
    return [below, Math.min(below + 1, side - 1), place - below];
  });
  const large = new Float32Array((image.length / side ** 2) * size ** 2);
  for (let start = 0, at = 0; start < image.length; start += side ** 2) {
    for (const [y, yNext, v] of places) {
      const [row, next] = [start + y * side, start + yNext * side];
      for (const [x, xNext, u] of places) {
        const above = (1 - u) * image[row + x] + u * image[row + xNext];
        large[at++] = (1 - v) * above + v * ((1 - u) * image[next + x] + u * image[next + xNext]);
      }
    }
  }
  return large;
}

/** Return times as a share of those that an edit samples through. */
function scaled(times, { image, strength }) {
  return image ? times.map((time) => strength * time) : times;
}

function plane(size, value) {
  return new Float32Array(size ** 2).fill(value);
}

/** Return the numbers of a safetensors file with one tensor of half precision. */
function halfTensor(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = 8 + Number(view.getBigUint64(0, true));
  return Float32Array.from({ length: (bytes.byteLength - start) / 2 }, (_, i) => {
    const bits = view.getUint16(start + 2 * i, true);
    const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
    const value = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
    return bits & 0x8000 ? -value : value;
  });
}
