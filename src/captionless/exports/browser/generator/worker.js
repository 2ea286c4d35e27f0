/** Runs the model beside the page. Messages in: {id, request} and {id, stop}; out: {id, …} and {loaded, total}. */

import * as ort from "../runtime/ort.wasm.min.mjs";
import { Model } from "./model.js";

const THREADS = 8;
const ABOUT = "captionless.json";
const place = (name) => new URL(`../model/${name}`, import.meta.url);
const RUNTIME = new URL("../runtime/", import.meta.url);
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
    postMessage(sizes);
  }
  const blob = new Blob(parts);
  const [first, second] = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
  const packed = first === 0x1f && second === 0x8b;  // a server may have unpacked it
  const stream = packed ? blob.stream().pipeThrough(new DecompressionStream("gzip")) : blob.stream();
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function load() {
  sizes.total = JSON.parse(new TextDecoder().decode(await read(place(ABOUT)))).download;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, THREADS) : 1;
  ort.env.wasm.wasmPaths = RUNTIME.href;
  ort.env.wasm.wasmBinary = await read(new URL("ort-wasm-simd-threaded.wasm.gzip", RUNTIME));
  const model = await Model.load((name) => read(place(name === ABOUT ? name : `${name}.gzip`)), ort);
  postMessage({ ready: true });
  return model;
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
    await model.generate(request, (image) => postMessage({ id, image }), pause);
    postMessage({ id, warnings: model.remarks(request.prompt) });
  } catch (error) {
    postMessage({ id, error: { name: error.name, message: error.message } });
  }
  stopped.delete(id);
}

loading.catch((error) => postMessage({ failed: error.message }));
onmessage = ({ data: { id, request, stop } }) => {
  if (stop) stopped.add(id);
  else queue = queue.then(() => answer(id, request), () => answer(id, request));
};
