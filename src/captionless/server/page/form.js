/** The form: what it shows is the settings, and the settings are what it shows. */

import { $, make } from "./dom.js";
import { Photo } from "./photo.js";
import { axes, defaults, isSeed, MOST_IMAGES, MOST_SEEDS, STRENGTH, within } from "./settings.js";

/** Sentences to begin with, for the model in the package. */
const EXAMPLES = ["a red rose", "a field of yellow sunflowers", "a white daisy with a yellow center", "pink tulips"];
const BUNDLED = "bundled";
const MOST_VALUES = 12;
/** The fields that hold numbers beside a slider, and the sliders that show their number. */
const NUMBERS = ["guidance", "variety", "steps", "blend"];
const SLIDERS = ["like_share", "strength"];
const WAY = [0, 0.2, 0.4, 0.6, 0.8, 1];

export class Form {
  /**
   * @param about the models and fields (see backend.js).
   * @param onChange called after every change by the user.
   */
  constructor(about, onChange) {
    this.about = about;
    this.onChange = onChange;
    this.count = 1;
    this.photo = new Photo(() => this.#changed());
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
    $("towards").value = settings.towards;
    $("blend").value = settings.blend.join(", ");
    for (const name of SLIDERS) $(name).value = settings[name];
    this.#showBlend(settings.towards !== "");
    this.photo.show(settings.photo);
    $("size").value = settings.size ?? "";
    if (settings.negative || settings.size || this.#differs(settings)) $("advanced").open = true;
    $("seed").value = settings.seed ?? "";
    this.lock(settings.seed !== null);
    this.#setCount(settings.count);
    this.#settle();
  }

  /** Show a photograph instead of the one before, or none. */
  async showPhoto(photo) {
    $("strength").value = STRENGTH;
    await this.photo.show(photo);
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
    const blending = !$("blending").hidden;
    const settings = {
      prompts: this.prompts,
      guidance: [...new Set(numbers("guidance", fields.guidance, MOST_VALUES))],
      towards: blending ? $("towards").value.trim() : "",
      blend: blending ? [...new Set(numbers("blend", { minimum: 0, maximum: 1 }, MOST_VALUES))] : [0.5],
      photo: this.photo.value,
      like_share: Number($("like_share").value), strength: Number($("strength").value),
      variety: numbers("variety", fields.variety, 1)[0],
      steps: numbers("steps", fields.steps, 1)[0],
      seed: $("seed").value.trim() ? Number($("seed").value) : null,
      count: this.count, sampler: $("sampler").value, negative: $("negative").value.trim(),
      size: Number($("size").value) || null, model: $("model").value,
    };
    if (settings.seed !== null && !isSeed(settings.seed)) throw wrong("seed", "The seed is a whole number from 0 to about 4 billion.");
    const images = Object.values(axes(settings)).reduce((product, values) => product * values.length, 1);
    if (images > MOST_IMAGES) throw wrong("prompts", `That would be ${images} images; up to ${MOST_IMAGES} can be made at once.`);
    return settings;
  }

  #listen() {
    const changed = () => this.#changed();
    for (const name of SLIDERS) $(name).oninput = changed;
    for (const name of NUMBERS) {
      $(name).oninput = changed;
      $(`${name}-range`).oninput = () => {
        $(name).value = $(`${name}-range`).value;
        changed();
      };
    }
    window.addEventListener("resize", fitPrompts);
    for (const name of ["prompts", "negative", "towards"]) $(name).oninput = changed;
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
      $("prompts").placeholder = "One prompt on each line";
      this.#settle();
      $("prompts").focus();
    };
    $("add-blend").onclick = () => {
      this.#showBlend(true);
      $("towards").focus();
    };
    $("remove-blend").onclick = () => {
      this.#showBlend(false);
      $("add-blend").focus();
      changed();
    };
    $("way").onclick = () => {
      $("blend").value = WAY.join(", ");
      changed();
    };
  }

  #changed() {
    this.#settle();
    this.onChange();
  }

  /** Show the fields of a blend, or the button that does. */
  #showBlend(shown) {
    const possible = this.model.can.includes("blend");
    $("blending").hidden = !shown || !possible;
    $("add-blend").hidden = shown || !possible;
  }

  #setCount(count) {
    this.count = Math.max(1, Math.min(MOST_SEEDS, count));
    $("count").value = this.count;
    $("fewer").disabled = this.count === 1;
    $("more").disabled = this.count === MOST_SEEDS;
  }

  /** What the backend says about the chosen model. */
  get model() {
    return this.about.models.find(({ name }) => name === $("model").value);
  }

  /** Show what the model can do: its classes or sentences to begin with, and its sizes. */
  #showModel() {
    const { name, sizes, classes, can } = this.model;
    this.#showBlend(!$("blending").hidden);
    this.photo.allow(can);
    $("classes").replaceChildren(...classes.map((text) => new Option(text)));
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
    for (const name of NUMBERS) $(`${name}-range`).classList.toggle("several", /\d[\s,;]+\S/.test($(name).value));
    for (const name of SLIDERS) $(`${name}-value`).value = $(name).value;
    for (const chip of $("suggestions").children) chip.ariaPressed = String(lines().includes(chip.textContent));
    for (const name of NUMBERS) {
      const value = Number.parseFloat($(name).value);
      if (!Number.isNaN(value)) $(`${name}-range`).value = value;
    }
    for (const name of [...NUMBERS, "seed", "prompts"]) $(name).removeAttribute("aria-invalid");
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
