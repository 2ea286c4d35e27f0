// Calls the parts of the web page's generator: cases as JSON in, answers as JSON out.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, runtime] = process.argv.slice(2);
const part = (name) => import(pathToFileURL(join(folder, `${name}.js`)));
const { NumpyGenerator, TorchNormal } = await part("random");
const { Bridge, slerp } = await part("bridge");
const { Pieces, Tokens, Vocabulary } = await part("text");
const { predict, Process, SAMPLERS } = await part("samplers");

const answers = {
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
    await model.generate(request, ({ png, done }) => images.push([done, Buffer.from(png).toString("base64")]));
    return { images, remarks: model.remarks(request.prompt) };
  },
};

let input = "";
for await (const text of process.stdin) input += text;
const results = [];
for (const [kind, given] of JSON.parse(input)) results.push(await answers[kind](given));
process.stdout.write(JSON.stringify(results), () => process.exit());
