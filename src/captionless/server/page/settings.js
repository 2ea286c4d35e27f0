/**
 * Settings: what the form shows, a link holds and an image stores.
 *
 * {prompts: [string], towards: string, blend: [number], guidance: [number], variety, seed: number or null, count, steps,
 *  sampler, negative, size, model, photo: {image: Blob, use: "like" or "edit", mask: Blob or null} or null,
 *  like_share, strength}
 *
 * A link and an image hold all but the photograph.
 */

export const MOST_SEEDS = 10;
/** Images at once; the server's queue has 64 places. */
export const MOST_IMAGES = 60;
const LARGEST_SEED = 2 ** 32 - MOST_SEEDS;
const SHARE = { minimum: 0, maximum: 1 };
/** Strength of an edit: of a whole photograph, and of what is marked in it. */
export const STRENGTH = 0.6;
export const STRENGTH_MARKED = 1;

/** Return the settings of a new page. */
export function defaults({ models, fields }) {
  return {
    prompts: [], towards: "", blend: [0.5], guidance: [fields.guidance.default], variety: fields.variety.default,
    seed: null, count: 1, steps: fields.steps.default, sampler: fields.sampler.default, negative: "", size: null,
    model: models[0].name, photo: null, like_share: 0.5, strength: STRENGTH,
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

/** Return the sides of the grid of a run: the values of each. A photograph alone counts as an empty prompt. */
export function axes({ prompts, guidance, towards, blend, seed, count, photo }) {
  return {
    prompt: prompts.length || !photo ? prompts : [""],
    guidance,
    blend: towards ? blend : [null],
    seed: Array.from({ length: count }, (_, i) => seed + i),
  };
}

/** Return the requests of a run, each with its place in the grid; the seeds of a request are consecutive. */
export function requests(settings) {
  const { variety, seed, count, steps, sampler, negative, towards, size, model, photo } = settings;
  const own = { variety, seed, n: count, steps, sampler, model };
  if (negative) own.negative_prompt = negative;
  if (towards) own.towards = towards;
  if (size) own.size = `${size}x${size}`;
  if (photo?.use === "like") Object.assign(own, { like: photo.image, like_share: settings.like_share });
  if (photo?.use === "edit") Object.assign(own, { image: photo.image, strength: settings.strength });
  if (photo?.use === "edit" && photo.mask) own.mask = photo.mask;
  // Without words, a photograph is edited into others like it.
  if (photo?.use === "edit" && !settings.prompts.length) own.like = photo.image;
  const grid = axes(settings);
  return grid.prompt.flatMap((prompt) => grid.guidance.flatMap((guidance) => grid.blend.map((blend) => ({
    place: { prompt, guidance, blend },
    request: { prompt, guidance, ...own, ...(towards && { towards_share: blend }) },
  }))));
}

const ONE_VALUE = ["towards", "variety", "seed", "count", "steps", "sampler", "negative", "size", "model"];

/** Return the settings as the fragment of an address, which never leaves the browser. */
export function toFragment(settings) {
  const words = new URLSearchParams();
  for (const prompt of settings.prompts) words.append("prompt", prompt);
  words.append("guidance", settings.guidance.join(","));
  if (settings.towards) words.append("blend", settings.blend.join(","));
  for (const name of [...ONE_VALUE, ...(settings.photo ? ["like_share", "strength"] : [])]) {
    if ((settings[name] ?? "") !== "") words.append(name, settings[name]);
  }
  return words.toString();
}

/** Return the settings in the fragment of an address that are valid here, over others. */
export function fromFragment(fragment, others, about) {
  const words = new URLSearchParams(fragment);
  if (![...words.keys()].length) return others;
  const given = Object.fromEntries(words);
  const several = { guidance: given.guidance?.split(","), blend: given.blend?.split(",") };
  return valid({ ...given, prompts: words.getAll("prompt"), ...several }, others, about);
}

/** Return the settings stored in an image, over others; null if it has none. */
export function fromImage(texts, others, about) {
  if (!texts || !("seed" in texts)) return null;
  const { prompt = "", guidance, negative = "", towards = "", towards_share: share, ...one } = texts;
  const several = { prompts: [prompt], guidance: guidance && [guidance], blend: share && [share] };
  return valid({ ...one, negative, towards, ...several, count: 1 }, { ...others, size: null }, about);
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
  const all = (field) => (values) => values.every(within(field));
  if (given.prompts.length) result.prompts = given.prompts.map((prompt) => prompt.trim()).filter(Boolean);
  for (const [name, field] of Object.entries({ guidance: fields.guidance, blend: SHARE })) {
    take(name, given[name]?.map((value) => number(value) ?? NaN), all(field));
  }
  for (const name of ["variety", "steps"]) take(name, number(given[name]), within(fields[name]));
  for (const name of ["like_share", "strength"]) take(name, number(given[name]), within(SHARE));
  take("seed", number(given.seed), isSeed);
  take("count", number(given.count), within({ type: "integer", minimum: 1, maximum: MOST_SEEDS }));
  take("sampler", given.sampler, (value) => fields.sampler.enum.includes(value));
  take("model", given.model, (value) => models.some(({ name }) => name === value));
  const { sizes } = models.find(({ name }) => name === result.model);
  take("size", number(given.size), (value) => sizes.slice(0, -1).includes(value));
  for (const name of ["negative", "towards"]) if (typeof given[name] === "string") result[name] = given[name].trim();
  return result;
}
