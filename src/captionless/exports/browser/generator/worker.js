/**
 * Runs the model beside the page. Messages in: {id, request} and {id, stop}; out: {id, …}, {loaded, total}, {ready} and
 * {failed}.
 */

import * as ort from "../runtime/ort.wasm.min.mjs";
import { moveStages } from "./graphics.js";
import { Model } from "./model.js";

const THREADS = 8;
const ABOUT = "captionless.json";
const place = (name) => new URL(`../model/${name}`, import.meta.url);
const RUNTIME = new URL("../runtime/", import.meta.url);
const PHOTOS = ["image", "mask", "like"];
const stopped = new Set();
const sizes = { loaded: 0, total: 0 };

/** Read a file, decompress it, and tell how far loading is. */
async function read(url) {
  const answer = await fetch(url).catch(() => ({ ok: false, status: "no network" }));
  if (!answer.ok) throw new Error(`${url.pathname.split("/").at(-1)} could not be loaded (${answer.status}). Reload the page.`);
  const parts = [];
  for (let reader = answer.body.getReader(), part; !(part = await reader.read()).done; ) {
    parts.push(part.value);
    sizes.loaded += part.value.length;
    if (sizes.total) postMessage(sizes);
  }
  const blob = new Blob(parts);
  const [first, second] = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
  const packed = first === 0x1f && second === 0x8b;  // a server may have unpacked it
  const stream = packed ? blob.stream().pipeThrough(new DecompressionStream("gzip")) : blob.stream();
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Prepare a build of the runtime, of which there are two: `runtime.env` belongs to each. */
async function prepare(runtime, folder, wasm, threads) {
  Object.assign(runtime.env.wasm, { numThreads: threads, wasmPaths: folder.href });
  runtime.env.wasm.wasmBinary = await read(new URL(`${wasm}.gzip`, folder));
  runtime.env.logLevel = "error";
  return runtime;
}

async function load() {
  sizes.total = JSON.parse(new TextDecoder().decode(await read(place(ABOUT)))).download;
  const threads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, THREADS) : 1;
  await prepare(ort, RUNTIME, "ort-wasm-simd-threaded.wasm", threads);
  const graphics = await hasGraphics();
  const kept = new Map();
  const model = await Model.load(async (name) => {
    const bytes = await read(place(name === ABOUT ? name : `${name}.gzip`));
    if (graphics) kept.set(name, bytes);
    return bytes;
  }, ort);
  model.read = (name) => readLater(name, model.about.image.download);
  sizes.total = 0;
  postMessage({ ready: true });
  if (graphics) openGraphics(kept).then((open) => (queue = queue.then(() => tryGraphics(model, open))), () => {});
  return model;
}

/** Read the file of the model that not all need: the image side of the encoder. */
async function readLater(name, total) {
  Object.assign(sizes, { loaded: 0, total });
  const bytes = await read(place(`${name}.gzip`));
  sizes.total = 0;
  postMessage({ ready: true });
  return bytes;
}

/** Whether there is a graphics processor, and not one that the CPU imitates. */
async function hasGraphics() {
  const adapter = "Suspending" in WebAssembly ? await navigator.gpu?.requestAdapter().catch(() => null) : null;
  return Boolean(adapter && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter));
}

/** Load the runtime for it; return a function from the name of a graph to a promise of its session there. */
async function openGraphics(files) {
  const folder = new URL("graphics/", RUNTIME);
  const runtime = await import(new URL("ort.jspi.min.mjs", folder));
  await prepare(runtime, folder, "ort-wasm-simd-threaded.jspi.wasm", 1);
  const options = { executionProviders: ["webgpu"], logSeverityLevel: 3 };
  return (graph) => runtime.InferenceSession.create(files.get(graph), options);
}

async function tryGraphics(model, open) {
  const results = await moveStages(model, open);
  console.info("WebGPU", results);
  if (results.some(({ used }) => used)) postMessage({ ready: true, graphics: true });
}

const loading = load();
/** The requests, one after the other. */
let queue = loading;

async function answer(id, request) {
  try {
    const model = await loading;
    const pause = async () => {
      await new Promise((resume) => setTimeout(resume));  // lets messages arrive
      if (stopped.has(id)) throw new DOMException("stopped", "AbortError");
    };
    await pause();
    for (const name of PHOTOS) if (request[name]) request[name] = await pixels(request[name]);
    await model.generate(request, (image) => postMessage({ id, image }), pause);
    postMessage({ id, warnings: request.prompt.trim() ? model.remarks(request.prompt) : [] });
  } catch (error) {
    postMessage({ id, error: { name: error.name, message: error.message } });
  }
  stopped.delete(id);
}

/** Return the pixels of a square image file, as in pixels.js. */
async function pixels(file) {
  const bitmap = await createImageBitmap(file, { premultiplyAlpha: "none" });
  const { width: side } = bitmap;
  const pen = new OffscreenCanvas(side, side).getContext("2d");
  pen.drawImage(bitmap, 0, 0);
  return { side, data: pen.getImageData(0, 0, side, side).data };
}

loading.catch((error) => postMessage({ failed: error.message }));
onmessage = ({ data: { id, request, stop } }) => {
  if (stop) stopped.add(id);
  else queue = queue.then(() => answer(id, request), () => answer(id, request));
};
