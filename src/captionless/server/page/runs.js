/** Shows runs: grids of images over prompts, guidance scales and seeds, which form while one looks. */

import { make } from "./dom.js";

/** The sides of a grid: what an image has, and the words for it. */
const AXES = {
  prompt: (value) => value,
  guidance: (value) => `guidance ${value}`,
  seed: (value) => `seed ${value}`,
};

/** A run on the page. Events of `actions`: open(view, image), use(settings), link(settings), remove(view). */
export class RunView {
  constructor(run, actions) {
    this.run = run;
    this.actions = actions;
    this.tiles = new Map();
    this.element = make("article", { className: "run" }, this.#header(), ...this.#grid());
    for (const image of run.images) this.#showDone(image, image.frames.at(-1));
    this.warn();
  }

  /** Show a prediction of an image, or the image itself. */
  show({ prompt, guidance }, { seed, blob, done }) {
    const tile = this.tiles.get(key({ prompt, guidance, seed }));
    tile.frames.push(blob);
    tile.button.dataset.frames = tile.frames.length;
    if (!done) return tile.paint(blob);
    const image = { prompt, guidance, seed, frames: tile.frames };
    this.run.images.push(image);
    this.#showDone(image, blob);
  }

  /** Show the images of another run until those of this one come. */
  beginWith(other) {
    const others = [...other.tiles.values()];
    [...this.tiles.values()].forEach((tile, i) => others[i]?.shown && tile.paint(others[i].shown));
  }

  /** Show the remarks about the prompts. */
  warn() {
    this.element.querySelector(".warnings").replaceChildren(...this.run.warnings.map((text) => make("p", {}, text)));
  }

  /** Take away the places of images that will not come; return whether any image is left. */
  end() {
    for (const tile of this.tiles.values()) if (tile.button.disabled) tile.figure.remove();
    for (const row of this.element.querySelectorAll(".row")) if (!row.querySelector("figure")) row.remove();
    return this.run.images.length > 0;
  }

  /** The images in the order in which they are seen. */
  get images() {
    const order = [...this.tiles.keys()];
    return [...this.run.images].sort((a, b) => order.indexOf(key(a)) - order.indexOf(key(b)));
  }

  button(image) {
    return this.tiles.get(key(image)).button;
  }

  #header() {
    const { settings } = this.run;
    const button = (words, action) => make("button", { type: "button", className: "quiet", onclick: action }, words);
    const title = settings.prompts.length === 1 ? settings.prompts[0] : `${settings.prompts.length} prompts`;
    return make("header", {},
      make("h2", {}, title),
      make("p", { className: "facts" }, facts(settings)),
      make("p", { className: "actions" },
        button("Use again", () => this.actions.use(settings)),
        button("Copy link", () => this.actions.link(settings)),
        button("Delete", () => this.actions.remove(this))),
      make("div", { className: "warnings" }));
  }

  /** Return the rows; what has most values is side by side. */
  #grid() {
    const { prompts, guidance, seed, count } = this.run.settings;
    const values = { prompt: prompts, guidance, seed: Array.from({ length: count }, (_, i) => seed + i) };
    const several = Object.keys(AXES).filter((axis) => values[axis].length > 1);
    const column = Object.keys(AXES).reduce((most, axis) => (values[axis].length >= values[most].length ? axis : most));
    const [outer, inner] = Object.keys(AXES).filter((axis) => axis !== column);
    return values[outer].flatMap((first) => values[inner].map((second) => {
      const fixed = { [outer]: first, [inner]: second };
      const words = [outer, inner].filter((axis) => several.includes(axis)).map((axis) => AXES[axis](fixed[axis]));
      const figures = values[column].map((value) => this.#tile({ ...fixed, [column]: value }, AXES[column](value)));
      return make("div", { className: `row ${figures.length > 4 ? "many" : figures.length > 1 ? "few" : "one"}` },
        ...(words.length ? [make("h3", {}, words.join(" · "))] : []),
        make("div", { className: "tiles" }, ...figures));
    }));
  }

  #tile(place, caption) {
    const button = make("button", { type: "button", className: "tile", disabled: true });
    button.ariaLabel = `${place.prompt}, guidance ${place.guidance}, seed ${place.seed}`;
    const figure = make("figure", {}, button, make("figcaption", {}, caption));
    const tile = { button, figure, paint, frames: [], shown: null };
    function paint(blob) {
      tile.shown = blob;
      const img = make("img", { alt: "", src: URL.createObjectURL(blob) });
      img.onload = () => URL.revokeObjectURL(img.src);
      // The image before stays beneath while the new one fades in.
      while (button.childElementCount > 1) button.firstElementChild.remove();
      button.append(img);
    }
    this.tiles.set(key(place), tile);
    return figure;
  }

  #showDone(image, blob) {
    const { button, paint } = this.tiles.get(key(image));
    paint(blob);
    button.disabled = false;
    button.onclick = () => this.actions.open(this, image);
  }
}

/** Return the settings of a run in a few words. */
export function facts({ guidance, variety, seed, count, steps, sampler, negative, size, model }) {
  const seeds = count > 1 ? `seeds ${seed}–${seed + count - 1}` : `seed ${seed}`;
  const words = [`guidance ${guidance.join(", ")}`, `variety ${variety}`, seeds, `${steps} steps`, sampler];
  if (size) words.push(`${size} pixels`);
  if (negative) words.push(`without ${negative}`);
  return [...words, model].join(" · ");
}

function key({ prompt, guidance, seed }) {
  return JSON.stringify([prompt, guidance, seed]);
}
