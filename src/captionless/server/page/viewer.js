/** Shows one image large: its settings, the steps it formed in, and what can be done with it. */

import { $, make } from "./dom.js";

export class Viewer {
  /** @param actions {use(settings), link(settings)} */
  constructor(actions) {
    this.dialog = $("viewer");
    $("previous").onclick = () => this.#turn(-1);
    $("next").onclick = () => this.#turn(1);
    $("close").onclick = () => this.dialog.close();
    $("use").onclick = () => {
      this.dialog.close();
      actions.use(this.settings);
    };
    $("large-link").onclick = () => actions.link(this.settings);
    $("scrub").oninput = () => this.#paint(this.image.frames[$("scrub").value]);
    this.dialog.onclick = (event) => {
      if (event.target === this.dialog) this.dialog.close();
    };
    this.dialog.onkeydown = (event) => {
      if (event.target.type === "range") return;
      if (event.key === "ArrowLeft") this.#turn(-1);
      if (event.key === "ArrowRight") this.#turn(1);
    };
    this.dialog.onclose = () => this.view.button(this.image).focus();
  }

  open(view, image) {
    Object.assign(this, { view, image });
    const { prompt, guidance, seed, frames } = image;
    const run = view.run.settings;
    this.settings = { ...run, prompts: [prompt], guidance: [guidance], seed, count: 1 };
    this.#paint(frames.at(-1));
    $("large").alt = prompt;
    $("large-prompt").textContent = prompt;
    Object.assign($("scrub"), { max: frames.length - 1, value: frames.length - 1 });
    $("scrub-label").hidden = frames.length < 2;
    const { variety, steps, sampler, negative, size, model } = run;
    const facts = { guidance, variety, seed, steps, sampler, avoid: negative, size: size && `${size} pixels`, model };
    $("large-settings").replaceChildren(...Object.entries(facts)
      .filter(([, value]) => value !== null && value !== "")
      .map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    const words = prompt.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60);
    URL.revokeObjectURL($("download").href);
    $("download").href = URL.createObjectURL(frames.at(-1));
    $("download").download = `${words || "image"}-${seed}.png`;
    const { images } = view;
    $("previous").disabled = images[0] === image;
    $("next").disabled = images.at(-1) === image;
    if (!this.dialog.open) this.dialog.showModal();
  }

  #turn(by) {
    const { images } = this.view;
    const image = images[images.indexOf(this.image) + by];
    if (image) this.open(this.view, image);
    // A button that has focus and is disabled would swallow the next arrow key.
    if (document.activeElement.disabled) $("download").focus();
  }

  #paint(blob) {
    URL.revokeObjectURL($("large").src);
    $("large").src = URL.createObjectURL(blob);
  }
}
