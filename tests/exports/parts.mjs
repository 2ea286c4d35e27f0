// Calls the parts of the web page's generator: cases as JSON in, answers as JSON out.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, runtime] = process.argv.slice(2);
const part = (name) => import(pathToFileURL(join(folder, `${name}.js`)));
const { NumpyGenerator, TorchNormal } = await part("random");
const { Bridge, slerp } = await part("bridge");
const { BytePairs, Pieces, Tokens, Vocabulary } = await part("text");
const { compare, moveStages } = await part("graphics");
const { encoderPixels, maskTensor, photoTensor } = await part("pixels");
const { predict, Process, SAMPLERS } = await part("samplers");

/** A photograph as in pixels.js, from its bytes in base64. */
const photo = ({ side, data }) => ({ side, data: new Uint8ClampedArray(Buffer.from(data, "base64")) });
const photos = (request) => Object.fromEntries(Object.entries(request).map(([name, value]) => [name, value?.side ? photo(value) : value]));

/** A session that answers with numbers after some milliseconds, or fails from a call on. */
function session(numbers, milliseconds, good = Infinity) {
  let calls = 0;
  return {
    async run() {
      await new Promise((resume) => setTimeout(resume, milliseconds));
      if (++calls > good) throw new Error("the device is lost");
      return { prediction: { data: Float32Array.from(numbers, (value) => value ?? NaN) } };
    },
  };
}

const answers = {
  photo: ({ given, size, channels }) => [...photoTensor(photo(given), size, channels)],
  mask: ({ given, size }) => [...maskTensor(photo(given), size)],
  encoder: ({ given, about }) => [...encoderPixels(photo(given), about)],
  bytes: ({ file, text }) => new BytePairs(file, 77).encode(text),
  compare: ({ here, there }) => compare(session(...here), session(...there), {}),
  // The results of a trial, and what the model answers in two calls after it.
  move: async ({ here, there }) => {
    const model = { about: { stages: [{ graph: "base" }] }, sessions: { base: session(...here) }, example: () => ({}) };
    const open = there ? async () => session(...there) : async () => { throw new Error("no such device"); };
    const results = await moveStages(model, open);
    const after = [];
    for (let i = 0; i < 2; i++) after.push([...(await model.sessions.base.run({})).prediction.data]);
    return { results, after };
  },
  normal: ({ seed, counts }) => {
    const stream = new TorchNormal(seed);
    return counts.map((count) => [...stream.draw(count)]);
  },
  dirichlet: ({ entropy, concentrations }) => new NumpyGenerator(entropy).dirichlet(concentrations),
  bridge: ({ bank, text, about, sampling, variety, seed }) => {
    const bridge = new Bridge(Float32Array.from(bank.flat()), text.length, about, sampling);
    return [...bridge.draw(bridge.nearest(text), variety, seed)];
  },
  slerp: ({ a, b, share }) => [...slerp(Float32Array.from(a), Float32Array.from(b), share)],
  tokens: ({ file, text }) => new Tokens(file, 64).encode(text),
  pieces: ({ file, text }) => [...new Pieces(file).inputs(text).data],
  remark: ({ file, text }) => new Vocabulary(file).remark(text),
  levels: ({ schedule, steps }) => new Process(schedule, steps).steps.map(([t]) => [t.t, t.signal, t.sigma]),
  // The "network" of this case answers with a fixed function of its inputs.
  sample: async ({ stage, sampler, steps, seed, scale, size, condition, base }) => {
    const noise = new TorchNormal(seed);
    const draw = () => noise.draw(size);
    const network = ({ xt, t, condition: given, identity }, rows) => xt.map((value, i) => {
      const row = Math.floor(i / (xt.length / rows));
      return Math.sin(value + 2 * t[row] + given[row * condition.length] + identity[row]);
    });
    const run = SAMPLERS[sampler](draw(), new Process(stage.schedule, steps, draw));
    let asked = run.next();
    while (!asked.done) asked = run.next(await predict(network, stage, { ...asked.value, condition, base, scale }));
    return [...asked.value];
  },
  // A whole model, in ONNX Runtime Web.
  model: async ({ folder: files, request }) => {
    const ort = await import(pathToFileURL(join(runtime, "ort.wasm.min.mjs")));
    ort.env.wasm.numThreads = 1;
    const { Model } = await part("model");
    const model = await Model.load(async (name) => new Uint8Array(await readFile(join(files, name))), ort);
    const images = [];
    await model.generate(photos(request), ({ png, done }) => images.push([done, Buffer.from(png).toString("base64")]));
    return { images, remarks: model.remarks(request.prompt) };
  },
};

let input = "";
for await (const text of process.stdin) input += text;
const results = [];
for (const [kind, given] of JSON.parse(input)) results.push(await answers[kind](given));
process.stdout.write(JSON.stringify(results), () => process.exit());
