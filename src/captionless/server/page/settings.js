/**
 * Settings: what the form shows, a link holds and an image stores.
 *
 * {prompts: [string], guidance: [number], variety, seed: number or null, count, steps, sampler, negative, size, model}
 */

export const MOST_SEEDS = 10;
/** Images at once; the server's queue has 64 places. */
export const MOST_IMAGES = 60;
const LARGEST_SEED = 2 ** 32 - MOST_SEEDS;

/** Return the settings of a new page. */
export function defaults({ models, fields }) {
  return {
    prompts: [], guidance: [fields.guidance.default], variety: fields.variety.default, seed: null, count: 1,
    steps: fields.steps.default, sampler: fields.sampler.default, negative: "", size: null, model: models[0].name,
  };
}

/** Return a seed that is short enough to be read and typed. */
export function randomSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
}

/** Whether this and the next few numbers can be seeds. */
export function isSeed(value) {
  return Number.isInteger(value) && value >= 0 && value <= LARGEST_SEED;
}

/** Return the requests of a run, one for each prompt and guidance scale; their seeds are consecutive. */
export function requests(settings) {
  const { variety, seed, count, steps, sampler, negative, size, model } = settings;
  const own = { variety, seed, n: count, steps, sampler, model };
  if (negative) own.negative_prompt = negative;
  if (size) own.size = `${size}x${size}`;
  return settings.prompts.flatMap((prompt) => settings.guidance.map((guidance) => ({ prompt, guidance, ...own })));
}

/** Return the settings as the fragment of an address, which never leaves the browser. */
export function toFragment(settings) {
  const words = new URLSearchParams();
  for (const prompt of settings.prompts) words.append("prompt", prompt);
  words.append("guidance", settings.guidance.join(","));
  for (const name of ["variety", "seed", "count", "steps", "sampler", "negative", "size", "model"]) {
    if (settings[name] !== null && settings[name] !== "") words.append(name, settings[name]);
  }
  return words.toString();
}

/** Return the settings in the fragment of an address that are valid here, over others. */
export function fromFragment(fragment, others, about) {
  const words = new URLSearchParams(fragment);
  if (![...words.keys()].length) return others;
  const given = Object.fromEntries(words);
  const prompts = words.getAll("prompt");
  return valid({ ...given, prompts, guidance: given.guidance?.split(",") }, others, about);
}

/** Return the settings stored in an image, over others; null if it has none. */
export function fromImage(texts, others, about) {
  if (!texts || !("seed" in texts)) return null;
  const { prompt = "", guidance, variety, seed, steps, sampler, negative = "", size, model } = texts;
  const one = { variety, seed, steps, sampler, negative, size, model, count: 1 };
  return valid({ ...one, prompts: [prompt], guidance: guidance && [guidance] }, { ...others, size: null }, about);
}

/** Return a test of whether a number fits a field. */
export function within({ type, minimum, maximum }) {
  return (value) => value >= minimum && value <= maximum && (type !== "integer" || Number.isInteger(value));
}

/** Return the given settings where they are valid, and the others elsewhere. */
function valid(given, others, { models, fields }) {
  const result = { ...others };
  const take = (name, value, right) => value !== undefined && value !== "" && right(value) && (result[name] = value);
  const number = (value) => (value ? Number(value) : undefined);
  if (given.prompts.length) result.prompts = given.prompts.map((prompt) => prompt.trim()).filter(Boolean);
  take("guidance", given.guidance?.map((value) => number(value) ?? NaN), (values) => values.every(within(fields.guidance)));
  take("variety", number(given.variety), within(fields.variety));
  take("steps", number(given.steps), within(fields.steps));
  take("seed", number(given.seed), isSeed);
  take("count", number(given.count), within({ type: "integer", minimum: 1, maximum: MOST_SEEDS }));
  take("sampler", given.sampler, (value) => fields.sampler.enum.includes(value));
  take("model", given.model, (value) => models.some(({ name }) => name === value));
  const { sizes } = models.find(({ name }) => name === result.model);
  take("size", number(given.size), (value) => sizes.slice(0, -1).includes(value));
  if (typeof given.negative === "string") result.negative = given.negative;
  return result;
}
