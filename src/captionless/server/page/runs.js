/** Shows runs: grids of images over prompts, guidance scales and seeds, which form while one looks. */

import { make } from "./dom.js";
import { axes } from "./settings.js";

/** The sides of a grid: what an image has, and the words for it. */
const AXES = {
  prompt: (value) => value,
  guidance: (value) => `guidance ${value}`,
  blend: (value) => `${Math.round(value * 100)}%`,
  seed: (value) => `seed ${value}`,
};

/** A run on the page. Events of `actions`: open(view, image), use(settings), link(settings, button), remove(view). */
export class RunView {
  constructor(run, actions) {
    this.run = run;
    this.actions = actions;
    this.before = null; // the run whose place this one takes, until it has ended
    this.tiles = new Map();
    this.element = make("article", { className: "run" }, this.#header(), ...this.#grid());
    for (const image of run.images) this.#showDone(image, image.frames.at(-1));
    this.warn();
  }

  /** Show a prediction of an image, or the image itself. */
  show(place, { seed, blob, done }) {
    const tile = this.tiles.get(key({ ...place, seed }));
    tile.frames.push(blob);
    tile.button.dataset.frames = tile.frames.length;
    if (!done) return tile.paint(blob);
    const image = { ...place, seed, frames: tile.frames };
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

  /** This run and those whose place it takes, the latest first. */
  get line() {
    return [this, ...(this.before?.line ?? [])];
  }

  /** Take away the places of images that will not come. */
  end() {
    for (const tile of this.tiles.values()) if (tile.button.disabled) tile.figure.remove();
    for (const row of this.element.querySelectorAll(".row")) if (!row.querySelector("figure")) row.remove();
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
    const button = (words, action) => make("button", { type: "button", className: "quiet", onclick: ({ target }) => action(target) }, words);
    return make("header", {},
      make("h2", {}, ...(settings.photo ? [picture(settings.photo.image, "source")] : []), title(settings)),
      make("p", { className: "facts" }, facts(settings)),
      make("p", { className: "actions" },
        button("Use again", () => this.actions.use(settings)),
        button("Copy link", (pressed) => this.actions.link(settings, pressed)),
        button("Delete", () => this.actions.remove(this))),
      make("div", { className: "warnings" }));
  }

  /** Return the rows; what has most values is side by side. */
  #grid() {
    const values = axes(this.run.settings);
    const names = Object.keys(AXES);
    // Between two prompts lies a way, which is seen at a glance in a row.
    const column = values.blend.length > 1 ? "blend"
      : names.reduce((most, axis) => (values[axis].length >= values[most].length ? axis : most));
    const outer = names.filter((axis) => axis !== column);
    const several = outer.filter((axis) => values[axis].length > 1);
    const rows = outer.reduce((places, axis) => places.flatMap((place) =>
      values[axis].map((value) => ({ ...place, [axis]: value }))), [{}]);
    return rows.map((place) => {
      const figures = values[column].map((value) => this.#tile({ ...place, [column]: value }, AXES[column](value)));
      const words = several.map((axis) => AXES[axis](place[axis]));
      return make("div", { className: `row ${figures.length > 4 ? "many" : figures.length > 1 ? "few" : "one"}` },
        ...(words.length ? [make("h3", {}, words.join(" · "))] : []),
        make("div", { className: "tiles" }, ...figures));
    });
  }

  #tile(place, caption) {
    const button = make("button", { type: "button", className: "tile", disabled: true });
    const words = [title(this.run.settings, place), `guidance ${place.guidance}`, `seed ${place.seed}`];
    button.ariaLabel = words.join(", ");
    const figure = make("figure", {}, button, make("figcaption", {}, caption));
    const tile = { button, figure, paint, frames: [], shown: null };
    function paint(blob) {
      tile.shown = blob;
      const img = picture(blob);
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

/** Return an element that shows an image file. */
function picture(blob, className = "") {
  const img = make("img", { alt: "", className, src: URL.createObjectURL(blob) });
  img.onload = () => URL.revokeObjectURL(img.src);
  return img;
}

/** Return in words what a run shows, or one image of it, which has a place in the grid. */
export function title({ prompts, towards, photo }, { prompt, blend } = {}) {
  const words = prompt ?? (prompts.length > 1 ? `${prompts.length} prompts` : prompts[0] ?? "");
  const source = photo && (photo.use === "edit" ? "a photograph, edited" : "a photograph");
  const named = [words || source, towards].filter(Boolean).join(" → ");
  return towards && blend !== undefined ? `${named}, ${AXES.blend(blend)}` : named;
}

/** Return the settings of a run in a few words. */
export function facts(settings) {
  const { guidance, variety, seed, count, steps, sampler, negative, size, model } = settings;
  const seeds = count > 1 ? `seeds ${seed}–${seed + count - 1}` : `seed ${seed}`;
  const words = [`guidance ${guidance.join(", ")}`, `variety ${variety}`, seeds, `${steps} steps`, sampler];
  words.push(...Object.entries(photoFacts(settings)).map(([name, value]) => `${name} ${value}`));
  if (size) words.push(`${size} pixels`);
  if (negative) words.push(`without ${negative}`);
  return [...words, model].join(" · ");
}

/** Return how a photograph was used, by the name for it. */
export function photoFacts({ prompts, photo, like_share, strength }) {
  if (photo?.use === "edit") return { strength };
  return photo && prompts.length ? { "weight of the photograph": like_share } : {};
}

function key({ prompt, guidance, blend, seed }) {
  return JSON.stringify([prompt, guidance, blend, seed]);
}
