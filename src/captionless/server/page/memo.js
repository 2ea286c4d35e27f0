/** Remembers the latest images of a backend, so that going back to earlier settings shows them at once. */

const MOST_REQUESTS = 60;

export class Remembering {
  constructor(backend) {
    this.backend = backend;
    this.known = new Map();
    this.numbers = new WeakMap();
    this.blobs = 0;
  }

  describe() {
    return this.backend.describe();
  }

  nearest(request) {
    return this.backend.nearest(request);
  }

  async generate(request, { signal, onImage }) {
    const key = this.#key(request);
    const known = this.known.get(key) ?? { images: [] };
    if (known.warnings) known.images.forEach(onImage);
    else {
      known.warnings = await this.backend.generate(request, {
        signal,
        onImage: (image) => {
          known.images.push(image);
          onImage(image);
        },
      });
    }
    this.known.delete(key);
    this.known.set(key, known);
    if (this.known.size > MOST_REQUESTS) this.known.delete(this.known.keys().next().value);
    return known.warnings;
  }

  /** Return a text that equal requests share; files are equal if they are the same object. */
  #key(request) {
    return JSON.stringify(request, (_, value) => {
      if (!(value instanceof Blob)) return value;
      if (!this.numbers.has(value)) this.numbers.set(value, ++this.blobs);
      return this.numbers.get(value);
    });
  }
}
