/** Shows one image large: its settings, the steps it formed in, the training images near it, and what can be done with it. */

import { $, make } from "./dom.js";
import { photoFacts, title } from "./runs.js";

/** Milliseconds that all steps take when they are played. */
const PLAYING = 2400;
/** Milliseconds for which an image is looked at before its neighbours are asked for. */
const CALM = 200;

export class Viewer {
  /**
   * @param backend finds the nearest training images.
   * @param about the models (see backend.js).
   * @param actions {use(settings), link(settings, button), photo(blob, use)}
   */
  constructor(backend, about, actions) {
    Object.assign(this, { backend, about, dialog: $("viewer"), found: new WeakMap() });
    const closing = (action) => () => {
      this.dialog.close();
      action();
    };
    $("previous").onclick = () => this.#turn(-1);
    $("next").onclick = () => this.#turn(1);
    $("close").onclick = () => this.dialog.close();
    $("use").onclick = closing(() => actions.use(this.settings));
    $("more-like").onclick = closing(() => actions.photo(this.image.frames.at(-1), "like"));
    $("edit").onclick = closing(() => actions.photo(this.image.frames.at(-1), "edit"));
    $("large-link").onclick = () => actions.link(this.settings, $("large-link"));
    $("scrub").oninput = () => {
      this.#stop();
      this.#showStep();
    };
    $("play").onclick = () => (this.playing ? this.#stop() : this.#play());
    this.dialog.onclick = (event) => {
      if (event.target === this.dialog) this.dialog.close();
    };
    this.dialog.onkeydown = (event) => {
      if (event.target.type === "range") return;
      if (event.key === "ArrowLeft") this.#turn(-1);
      if (event.key === "ArrowRight") this.#turn(1);
    };
    this.dialog.onclose = () => {
      this.#stop();
      this.view.button(this.image).focus();
    };
  }

  open(view, image) {
    this.#stop();
    Object.assign(this, { view, image });
    const { prompt, guidance, blend, seed, frames } = image;
    const run = view.run.settings;
    const own = { guidance: [guidance], blend: run.towards ? [blend] : run.blend, seed, count: 1 };
    this.settings = { ...run, prompts: prompt ? [prompt] : [], ...own };
    $("large").alt = $("large-prompt").textContent = title(run, image);
    Object.assign($("scrub"), { max: frames.length - 1, value: frames.length - 1 });
    $("scrubber").hidden = frames.length < 2;
    this.#showStep();
    const { variety, steps, sampler, negative, size, model } = run;
    const facts = {
      guidance, variety, seed, steps, sampler, ...photoFacts(run), avoid: negative, size: size && `${size} pixels`, model,
    };
    $("large-settings").replaceChildren(...Object.entries(facts)
      .filter(([, value]) => value !== null && value !== "")
      .map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    const words = title(run, image).toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60);
    URL.revokeObjectURL($("download").href);
    $("download").href = URL.createObjectURL(frames.at(-1));
    $("download").download = `${words || "image"}-${seed}.png`;
    const { images } = view;
    $("previous").disabled = images[0] === image;
    $("next").disabled = images.at(-1) === image;
    const can = this.about.models.find(({ name }) => name === model)?.can ?? [];
    $("more-like").hidden = !can.includes("like");
    $("edit").hidden = !can.includes("edit");
    if (!this.dialog.open) this.dialog.showModal();
    this.#showNearest(can.includes("nearest"), model, image);
  }

  #turn(by) {
    const { images } = this.view;
    const image = images[images.indexOf(this.image) + by];
    if (image) this.open(this.view, image);
    // A button that has focus and is disabled would swallow the next arrow key.
    if (document.activeElement.disabled) $("download").focus();
  }

  /** Show the image of the step that is chosen. */
  #showStep() {
    const step = Number($("scrub").value);
    URL.revokeObjectURL($("large").src);
    $("large").src = URL.createObjectURL(this.image.frames[step]);
    $("scrub-value").value = `${step + 1}/${this.image.frames.length}`;
  }

  /** Show the steps one after the other. */
  #play() {
    const { length } = this.image.frames;
    $("scrub").value = 0;
    this.#showStep();
    $("play").ariaLabel = "Stop";
    this.playing = setInterval(() => {
      $("scrub").value = Number($("scrub").value) + 1;
      this.#showStep();
      if (Number($("scrub").value) === length - 1) this.#stop();
    }, PLAYING / length);
  }

  #stop() {
    clearInterval(this.playing);
    this.playing = null;
    $("play").ariaLabel = "Play";
  }

  /** Show the training images nearest to an image, which are asked for once. */
  async #showNearest(possible, model, image) {
    $("nearest").hidden = !possible;
    if (!possible) return;
    const show = (words, ...images) => {
      if (this.image !== image) return;
      $("nearest-words").textContent = words;
      $("nearest-images").replaceChildren(...images);
    };
    try {
      if (!this.found.has(image)) {
        show("Comparing …");
        await new Promise((resolve) => setTimeout(resolve, CALM));
        if (this.image !== image || !this.dialog.open) return;
        this.found.set(image, await this.backend.nearest({ model, image: image.frames.at(-1) }));
      }
      const found = this.found.get(image);
      show(verdict(found), ...found.images.map(nearImage));
    } catch (error) {
      show(error.message);
    }
  }
}

/** Say what the similarity of an image to its nearest training image can be held against. */
function verdict({ typical, compared, of, images }) {
  const [{ similarity }] = images;
  const usual = `Training images that are neighbours usually have a similarity of ${typical.toFixed(2)}.`;
  const words = similarity > typical ? "This image is nearer to one: compare them before you call it new." : "This image is no nearer to any.";
  const part = compared < of ? ` Compared with ${compared.toLocaleString("en")} of ${of.toLocaleString("en")} training images.` : "";
  return `${usual} ${words}${part}`;
}

function nearImage({ name, similarity, credit, link, thumbnail }) {
  const words = credit || name.split("/").at(-1);
  const source = webAddress(link);
  return make("li", {},
    ...(thumbnail ? [make("img", { src: thumbnail, alt: name, width: 64, height: 64 })] : []),
    make("div", { title: `${words}, ${name}` },
      source ? make("a", { href: source, target: "_blank", rel: "noreferrer" }, words) : make("span", {}, words),
      make("span", { className: "hint" }, name),
      make("span", { className: "hint" }, `similarity ${similarity.toFixed(2)}`)));
}

/** Return a link if it leads to the web. */
function webAddress(link) {
  return /^https?:/.test(link ?? "") ? link : null;
}
