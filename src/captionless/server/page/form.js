/** The form: what it shows is the settings, and the settings are what it shows. */

import { $, make } from "./dom.js";
import { defaults, isSeed, MOST_IMAGES, MOST_SEEDS, within } from "./settings.js";

/** Sentences to begin with, for the model in the package. */
const EXAMPLES = ["a red rose", "a field of yellow sunflowers", "a white daisy with a yellow center", "pink tulips"];
const BUNDLED = "bundled";
const MOST_SCALES = 8;

export class Form {
  /**
   * @param about the models and fields (see backend.js).
   * @param onChange called after every change by the user.
   */
  constructor(about, onChange) {
    this.about = about;
    this.onChange = onChange;
    this.count = 1;
    const { models, fields } = about;
    $("model").append(...models.map(({ name }) => new Option(name)));
    $("model-choice").hidden = models.length < 2;
    $("sampler").append(...fields.sampler.enum.map((name) => new Option(name)));
    $("steps-range").max = Math.min(50, fields.steps.maximum ?? 50);
    this.#listen();
    this.show(defaults(about));
  }

  show(settings) {
    $("model").value = settings.model;
    this.#showModel();
    $("prompts").value = settings.prompts.join("\n");
    $("guidance").value = settings.guidance.join(", ");
    $("variety").value = settings.variety;
    $("steps").value = settings.steps;
    $("sampler").value = settings.sampler;
    $("negative").value = settings.negative;
    $("size").value = settings.size ?? "";
    if (settings.negative || settings.size || this.#differs(settings)) $("advanced").open = true;
    $("seed").value = settings.seed ?? "";
    this.lock(settings.seed !== null);
    this.#setCount(settings.count);
    this.#settle();
  }

  /** Hold the seed, or let each run choose its own. */
  lock(locked) {
    $("lock").ariaPressed = String(locked);
    if (!locked) $("seed").value = "";
  }

  get locked() {
    return $("lock").ariaPressed === "true";
  }

  /** The prompts, each once. */
  get prompts() {
    return [...new Set(lines().filter(Boolean))];
  }

  /** Return the settings; throws an Error with the `field` that cannot be used. */
  get settings() {
    const { fields } = this.about;
    const settings = {
      prompts: this.prompts,
      guidance: [...new Set(numbers("guidance", fields.guidance, MOST_SCALES))],
      variety: numbers("variety", fields.variety, 1)[0],
      steps: numbers("steps", fields.steps, 1)[0],
      seed: $("seed").value.trim() ? Number($("seed").value) : null,
      count: this.count, sampler: $("sampler").value, negative: $("negative").value.trim(),
      size: Number($("size").value) || null, model: $("model").value,
    };
    if (settings.seed !== null && !isSeed(settings.seed)) throw wrong("seed", "The seed is a whole number from 0 to about 4 billion.");
    const images = settings.prompts.length * settings.guidance.length * settings.count;
    if (images > MOST_IMAGES) throw wrong("prompts", `That would be ${images} images; up to ${MOST_IMAGES} can be made at once.`);
    return settings;
  }

  #listen() {
    const changed = () => {
      this.#settle();
      this.onChange();
    };
    for (const name of ["guidance", "variety", "steps"]) {
      $(name).oninput = changed;
      $(`${name}-range`).oninput = () => {
        $(name).value = $(`${name}-range`).value;
        changed();
      };
    }
    window.addEventListener("resize", fitPrompts);
    for (const name of ["prompts", "negative"]) $(name).oninput = changed;
    for (const name of ["sampler", "size"]) $(name).onchange = changed;
    $("model").onchange = () => {
      this.#showModel();
      changed();
    };
    $("seed").oninput = () => {
      $("lock").ariaPressed = String($("seed").value.trim() !== "");
      changed();
    };
    $("lock").onclick = () => {
      this.lock(!this.locked);
      if (this.locked && !$("seed").value) $("seed").value = this.lastSeed ?? 0;
      changed();
    };
    $("fewer").onclick = () => this.#setCount(this.count - 1) || changed();
    $("more").onclick = () => this.#setCount(this.count + 1) || changed();
    $("another").onclick = () => {
      $("prompts").value = `${$("prompts").value.trimEnd()}\n`.trimStart();
      this.#settle();
      $("prompts").focus();
    };
  }

  #setCount(count) {
    this.count = Math.max(1, Math.min(MOST_SEEDS, count));
    $("count").value = this.count;
    $("fewer").disabled = this.count === 1;
    $("more").disabled = this.count === MOST_SEEDS;
  }

  /** Show what the model can do: its classes or sentences to begin with, and its sizes. */
  #showModel() {
    const { name, sizes, classes } = this.about.models.find(({ name }) => name === $("model").value);
    const suggestions = classes.length ? classes : name === BUNDLED ? EXAMPLES : [];
    $("suggestions").replaceChildren(...suggestions.map((text) => make("button", {
      type: "button", className: "chip", onclick: () => this.#suggest(text),
    }, text)));
    const smaller = sizes.slice(0, -1).map((size) => new Option(`${size} pixels, sooner`, size));
    $("size").replaceChildren(new Option(`${sizes.at(-1)} pixels`, ""), ...smaller);
    $("size-control").hidden = !smaller.length;
    $("prompts").placeholder = classes.length ? "Choose a class" : "Describe an image";
  }

  /** Add a suggestion to the prompts, or take it out again. */
  #suggest(text) {
    const { prompts } = this;
    const others = prompts.filter((prompt) => prompt !== text);
    $("prompts").value = (others.length < prompts.length ? others : [...prompts, text]).join("\n");
    this.#settle();
    this.onChange();
  }

  /** Make everything that depends on the fields follow them. */
  #settle() {
    fitPrompts();
    $("guidance-range").classList.toggle("several", /\d[\s,;]+\S/.test($("guidance").value));
    for (const chip of $("suggestions").children) chip.ariaPressed = String(lines().includes(chip.textContent));
    for (const name of ["guidance", "variety", "steps"]) {
      const value = Number.parseFloat($(name).value);
      if (!Number.isNaN(value)) $(`${name}-range`).value = value;
    }
    for (const name of ["guidance", "variety", "steps", "seed", "prompts"]) $(name).removeAttribute("aria-invalid");
  }

  #differs({ steps, sampler }) {
    return steps !== this.about.fields.steps.default || sampler !== this.about.fields.sampler.default;
  }
}

/** Make the field of the prompts as high as its words. */
function fitPrompts() {
  $("prompts").style.height = "auto";
  $("prompts").style.height = `${$("prompts").scrollHeight}px`;
}

function lines() {
  return $("prompts").value.split("\n").map((line) => line.trim());
}

/** Return the numbers in a field, separated by commas or spaces. */
function numbers(name, field, most) {
  const values = $(name).value.split(/[\s,;]+/).filter(Boolean).map(Number);
  if (!values.length || values.length > most || !values.every(within(field))) {
    const many = most > 1 ? `up to ${most} numbers` : field.type === "integer" ? "a whole number" : "a number";
    throw wrong(name, `For ${name}, enter ${many} from ${field.minimum} to ${field.maximum}.`);
  }
  return values;
}

function wrong(field, message) {
  return Object.assign(new Error(message), { field });
}
