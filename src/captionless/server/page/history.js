/**
 * Keeps runs in the browser's database.
 *
 * A run is {id, settings, warnings, images: [{prompt, guidance, blend, seed, frames: [Blob]}]}; its id is the time it
 * began, and the last frame of an image is the image itself.
 */

const MOST_RUNS = 100;

export class History {
  /** Open the database; where the browser offers none, as in some private windows, nothing is kept. */
  static async open() {
    try {
      const request = indexedDB.open("captionless", 2);
      request.onupgradeneeded = () => {
        const { result } = request;
        if (result.objectStoreNames.contains("runs")) result.deleteObjectStore("runs");
        result.createObjectStore("runs", { keyPath: "id" });
      };
      return new History(await result(request));
    } catch {
      return new History(null);
    }
  }

  constructor(database) {
    this.database = database;
  }

  /** Return all runs, the newest first. */
  async all() {
    return this.database ? (await result(this.#store("readonly").getAll())).reverse() : [];
  }

  /** Store a run; the oldest ones make room for it. Throws where the disk is full. */
  async put(run) {
    if (!this.database) return;
    await result(this.#store("readwrite").put(run));
    const ids = await result(this.#store("readonly").getAllKeys());
    for (const id of ids.slice(0, -MOST_RUNS)) await this.delete(id);
  }

  async delete(id) {
    if (this.database) await result(this.#store("readwrite").delete(id));
  }

  async clear() {
    if (this.database) await result(this.#store("readwrite").clear());
  }

  #store(mode) {
    return this.database.transaction("runs", mode).objectStore("runs");
  }
}

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
