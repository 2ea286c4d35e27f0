/** From prompts to the inputs of the text side, and remarks about prompts. */

const PRINTABLE = /[!-~\u00a1-\u00ac\u00ae-\u00ff]/;
const LETTERS = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte));
const HIDDEN = LETTERS.filter((letter) => !PRINTABLE.test(letter));
/** GPT-2's printable letter for each byte. */
const SYMBOLS = LETTERS.map((letter) => (PRINTABLE.test(letter) ? letter : String.fromCharCode(256 + HIDDEN.indexOf(letter))));

/** What tokenizers have in common: `encode` returns the ids of a text, of which the network reads the first `limit`. */
class Tokenizer {
  /** Return the ids that are read: the first ones, and the end. */
  inputs(text) {
    const ids = this.encode(text);
    const read = ids.length > this.limit ? [...ids.slice(0, this.limit - 1), ids.at(-1)] : ids;
    return { name: "ids", type: "int64", data: BigInt64Array.from(read, BigInt) };
  }

  remark(text) {
    const count = this.encode(text).length;
    return count > this.limit ? `The prompt has ${count} tokens, but only the first ${this.limit} are read.` : null;
  }
}

/** Splits texts into word pieces, as `tokenizers` does with the normaliser, splitter and model of BERT. */
export class Tokens extends Tokenizer {
  /** @param file the content of tokenizer.json */
  constructor(file, limit) {
    super();
    this.ids = new Map(Object.entries(file.model.vocab));
    this.longest = file.model.max_input_chars_per_word;
    this.limit = limit;
  }

  /** Return all token ids of a text, with start and end. */
  encode(text) {
    const plain = [...text].filter((letter) => !/[\0\ufffd]|\p{C}/u.test(letter) || /[\t\n\r]/.test(letter)).join("")
      .replace(/[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu, " $& ")
      .normalize("NFD").replace(/\p{Mn}/gu, "").toLowerCase();
    const words = plain.match(/[!-/:-@[-`{-~]|\p{P}|(?:(?![!-/:-@[-`{-~]|\p{P})\S)+/gu) ?? [];
    return [this.ids.get("[CLS]"), ...words.flatMap((word) => this.#pieces([...word])), this.ids.get("[SEP]")];
  }

  /** Split a word into the longest pieces there are, from its start. */
  #pieces(letters) {
    const found = [];
    for (let start = 0; start < letters.length; ) {
      let end = letters.length > this.longest ? start : letters.length;
      const id = () => this.ids.get((start ? "##" : "") + letters.slice(start, end).join(""));
      while (end > start && id() === undefined) end--;
      if (end === start) return [this.ids.get("[UNK]")];
      found.push(id());
      start = end;
    }
    return found;
  }
}

/** Splits texts into byte pairs, as `tokenizers` does with the normaliser, splitter and model of CLIP. */
export class BytePairs extends Tokenizer {
  /** @param file the content of tokenizer.json */
  constructor(file, limit) {
    super();
    const { vocab, merges, end_of_word_suffix: end } = file.model;
    Object.assign(this, { limit, end, ids: new Map(Object.entries(vocab)) });
    this.ranks = new Map(merges.map((pair, rank) => [Array.isArray(pair) ? pair.join(" ") : pair, rank]));
    [this.first, this.last] = ["<|startoftext|>", "<|endoftext|>"].map((name) => this.ids.get(name));
  }

  /** Return all token ids of a text, with start and end. */
  encode(text) {
    const plain = [...text.normalize("NFC").replace(/\p{White_Space}+/gu, " ")].map((letter) => letter.toLowerCase()).join("");
    const words = plain.match(/'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\p{White_Space}\p{L}\p{N}]+/gu) ?? [];
    return [this.first, ...words.flatMap((word) => this.#pairs(word)), this.last];
  }

  #pairs(word) {
    const parts = Array.from(new TextEncoder().encode(word), (byte) => SYMBOLS[byte]);
    parts.push(parts.pop() + this.end);
    while (parts.length > 1) {
      const ranks = parts.slice(1).map((part, i) => this.ranks.get(`${parts[i]} ${part}`) ?? Infinity);
      const least = Math.min(...ranks);
      if (least === Infinity) break;
      const at = ranks.indexOf(least);
      parts.splice(at, 2, parts[at] + parts[at + 1]);
    }
    return parts.map((part) => this.ids.get(part) ?? this.last);
  }
}

/** Splits texts into words and parts of words, as `captionless/encoders/name_text.py` does. */
export class Pieces {
  /** @param file the content of tokenizer.json: pairs of piece and weight, and how texts are cut */
  constructor(file) {
    Object.assign(this, { lengths: file.lengths, share: file.piece_weight });
    this.weights = file.pieces.map(([, weight]) => weight);
    this.index = new Map(file.pieces.map(([piece], i) => [piece, i]));
  }

  inputs(text) {
    const data = new Float32Array(this.weights.length);
    const add = (piece, weight) => {
      const i = this.index.get(piece);
      if (i !== undefined) data[i] += weight * this.weights[i];
    };
    for (const word of splitWords(text)) {
      add(`=${word}`, 1);
      const marked = [..."<", ...word, ...">"];
      for (const length of this.lengths) {
        const count = marked.length - length + 1;
        for (let i = 0; i < count; i++) add(marked.slice(i, i + length).join(""), this.share / Math.sqrt(count));
      }
    }
    return { name: "pieces", type: "float32", data };
  }

  remark() {
    return null;
  }
}

/** Knows which words the encoder has learned; see `captionless/conditioning/familiarity.py`. */
export class Vocabulary {
  /** @param file the content of vocabulary.json */
  constructor({ subject, kinds, subjects, words }) {
    Object.assign(this, { subject, kinds, subjects: new Set(subjects), words: new Set(words) });
  }

  /** Return a remark about a prompt that names something else than the encoder has learned; null if there is none. */
  remark(prompt) {
    const known = (set, word) => singulars(word).some((one) => set.has(one));
    const words = splitWords(prompt);
    const unknown = words.filter((word) => !known(this.words, word));
    const named = words.some((word) => known(this.subjects, word));
    if (named && unknown.length < prompt.split(/\s+/).filter(Boolean).length / 3) return null;
    const parts = [];
    if (!named) parts.push(`it names none of the ${this.subject} that the encoder knows (${listed(this.kinds)})`);
    const shown = unknown.slice(0, 10).map((word) => `"${word}"`);
    if (unknown.length > 10) shown.push(`${unknown.length - 10} other words`);
    if (unknown.length) parts.push(`the encoder does not know ${listed(shown)}`);
    const result = named ? "follow its other words only" : "not match it";
    return `The prompt "${prompt}" is unfamiliar: ${parts.join(", and ")}. The images will ${result}.`;
  }
}

function splitWords(text) {
  return text.toLowerCase().match(/[\p{L}\p{N}]{2,}/gu) ?? [];
}

/** Return an English word with its possible singular forms. */
function singulars(word) {
  const endings = [["ies", "y"], ["ves", "f"], ["es", ""], ["s", ""]].filter(([plural]) => word.endsWith(plural));
  return [word, ...endings.map(([plural, end]) => word.slice(0, -plural.length) + end)];
}

function listed(words) {
  return words.length > 1 ? `${words.slice(0, -1).join(", ")} and ${words.at(-1)}` : words[0];
}
