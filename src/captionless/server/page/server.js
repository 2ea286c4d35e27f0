/** The backend that asks the server this page came from (see backend.js). */

import { BackendError } from "./errors.js";

const KEY = "captionless-key";
/** Times that a request is repeated while the server is busy. */
const TRIES = 20;
const BROKEN = "The server broke off in the middle of an image. See whether it is still running, then generate again.";

export class ServerBackend {
  /** @param askForKey asks the user for the API key, told whether the one before was refused; returns a promise of it. */
  constructor(askForKey) {
    this.askForKey = askForKey;
  }

  async describe() {
    const [list, api] = await Promise.all([this.#json("v1/models"), this.#json("openapi.json")]);
    const { schema } = api.paths["/v1/images/generations"].post.requestBody.content["application/json"];
    return { models: list.data.map(({ id, captionless }) => ({ name: id, ...captionless })), fields: schema.properties };
  }

  async nearest({ model, image }) {
    const answer = await this.#fetch("v1/images/nearest", { method: "POST", body: form({ model, image }) });
    return answer.json();
  }

  async generate(request, { signal, onImage }) {
    // The steps on the way are JPEG files of this quality.
    const body = form({ ...request, stream: true, trajectory: true, output_compression: 85 });
    const route = request.image ? "edits" : "generations";
    const answer = await this.#fetch(`v1/images/${route}`, { method: "POST", body, signal });
    const warnings = new Set();
    let left = request.n;
    for await (const event of serverSentEvents(answer.body)) {
      if (event.error) throw new BackendError(capital(event.error.message));
      for (const warning of event.warnings ?? []) warnings.add(warning);
      const blob = decode(event.b64_json, event.output_format);
      const done = event.type.endsWith(".completed");
      left -= done;
      onImage({ seed: event.seed, blob, done });
    }
    if (left) throw new BackendError(BROKEN);
    return [...warnings];
  }

  async #json(path) {
    return (await this.#fetch(path)).json();
  }

  /** Fetch with the key, which is asked for where it is missing or wrong; wait where the server is busy. */
  async #fetch(path, options = {}) {
    for (let tries = 1; ; tries++) {
      const key = localStorage.getItem(KEY);
      const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) };
      let answer;
      try {
        answer = await fetch(path, { ...options, headers, cache: "no-store" });
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new BackendError("The server does not answer. Is it still running?");
      }
      if (answer.ok) return answer;
      if (answer.status === 401) {
        // Several requests may have found the key missing; the user is asked once.
        if (localStorage.getItem(KEY) === key) await (this.asking ??= this.#ask(key !== null));
        continue;
      }
      const error = await answer.json().then(({ error }) => error.message, () => answer.statusText);
      if (![429, 503].includes(answer.status) || tries === TRIES) throw new BackendError(capital(error), answer.status);
      await pause(Number(answer.headers.get("retry-after")) || 1, options.signal);
    }
  }

  async #ask(refused) {
    localStorage.setItem(KEY, await this.askForKey(refused));
    this.asking = null;
  }
}

/** Return the body of a request, in which images are files. */
function form(fields) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  return body;
}

/** Yield the data of server-sent events. Lines end with \n here; comments, which keep a stream alive, are skipped. */
async function* serverSentEvents(stream) {
  let text = "";
  for await (const part of chunks(stream.pipeThrough(new TextDecoderStream()))) {
    const events = (text + part).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice(6));
    }
  }
}

/** Yield the parts of a stream; not every browser iterates over streams. */
async function* chunks(stream) {
  const reader = stream.getReader();
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new BackendError(BROKEN);
    });
    if (done) return;
    yield value;
  }
}

function decode(base64, format) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: `image/${format}` });
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    });
  });
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
