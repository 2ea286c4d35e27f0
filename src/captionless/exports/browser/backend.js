/** The backend that makes images in the browser itself; its interface is that of the server's page. */

import { $ } from "./dom.js";
import { BackendError } from "./errors.js";

/** Milliseconds after which the page goes on without the service worker. */
const PATIENCE = 5000;
const READY = ["Ready.", "Ready. From now on the page works without a network."];
const ON_GRAPHICS = " The graphics processor computes.";
const RELOADED = "captionless-reloaded";

export class Backend {
  async describe() {
    await isolated().catch(() => {}); // a browser that blocks site data refuses to store anything: one thread, then
    const answer = await fetch("model/captionless.json").catch(() => null);
    if (!answer?.ok) throw new BackendError("The model could not be loaded. Reload the page.");
    const { model, stages, channels, classes, image, settings } = await answer.json();
    this.#start();
    const can = ["edit", ...(classes.length ? [] : ["blend"]), ...(image ? ["like"] : [])];
    const fields = { ...settings, towards_share: { type: "number", default: 0.5, minimum: 0, maximum: 1 } };
    return { models: [{ name: model, sizes: stages.map(({ size }) => size), channels, classes, can }], fields };
  }

  generate(request, { signal, onImage }) {
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.open.set(id, { resolve, reject, onImage });
      signal?.addEventListener("abort", () => this.worker.postMessage({ id, stop: true }));
      if (this.failure) return reject(new BackendError(this.failure));
      this.worker.postMessage({ id, request });
    }).finally(() => this.open.delete(id));
  }

  #start() {
    // What is fetched before the service worker is in charge is not kept.
    this.kept = Boolean(navigator.serviceWorker?.controller);
    this.next = 0;
    this.open = new Map();
    this.worker = new Worker(new URL("generator/worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => this.#receive(data);
    this.worker.onerror = () => this.#fail("This browser cannot run the model.");
  }

  #receive({ id, image, warnings, error, failed, ready, graphics, loaded, total }) {
    if (failed) this.#fail(failed);
    if (ready) $("status").textContent = this.open.size ? "Making images" : this.#readiness(graphics);
    if (total) $("status").textContent = `Loading the model: ${megabytes(loaded)} of ${megabytes(total)} MB`;
    const { resolve, reject, onImage } = this.open.get(id) ?? {};
    if (image) onImage?.({ seed: image.seed, done: image.done, blob: new Blob([image.png], { type: "image/png" }) });
    if (warnings) resolve?.(warnings);
    if (error) reject?.(error.name === "AbortError" ? new DOMException("stopped", "AbortError") : new BackendError(error.message));
  }

  #readiness(graphics) {
    return READY[Number(this.kept)] + (graphics ? ON_GRAPHICS : "");
  }

  #fail(message) {
    this.failure = message;
    $("status").textContent = "";
    for (const { reject } of this.open.values()) reject(new BackendError(message));
    if (!this.open.size) $("problem").replaceChildren(message);
    $("problem").hidden = !$("problem").textContent;
  }
}

function megabytes(bytes) {
  return (bytes / 1e6).toFixed(0);
}

/**
 * Install the service worker, which keeps the page for use without a network. It also sends the headers that threads
 * need, which many hosts cannot: the page reloads once to get them. Without it, the model runs in one thread.
 */
async function isolated() {
  const { serviceWorker } = navigator;
  if (!serviceWorker) return;
  const installed = serviceWorker.register("sw.js").then(() => serviceWorker.ready).catch(() => null);
  if (crossOriginIsolated && serviceWorker.controller) return;
  const inCharge = new Promise((resolve) => serviceWorker.addEventListener("controllerchange", resolve, { once: true }));
  const late = new Promise((resolve) => setTimeout(resolve, PATIENCE, null));
  if (!(await Promise.race([installed, late]))) return;
  // It may take charge after it is ready; only from then on it keeps what the page loads.
  if (crossOriginIsolated && !serviceWorker.controller) await Promise.race([inCharge, late]);
  if (crossOriginIsolated || sessionStorage.getItem(RELOADED)) return;
  sessionStorage.setItem(RELOADED, "yes");
  location.reload();
  await new Promise(() => {});
}
