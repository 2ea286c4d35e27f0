/** Reads the text chunks of PNG files, where captionless stores the settings of an image. */

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const LARGEST = 32 * 1024 * 1024;

/** Return the texts of a PNG file by their names; null if the file is no PNG. Compressed texts are left out. */
export async function pngTexts(file) {
  const bytes = new Uint8Array(await file.slice(0, LARGEST).arrayBuffer());
  if (!SIGNATURE.every((byte, i) => bytes[i] === byte)) return null;
  const view = new DataView(bytes.buffer);
  const texts = {};
  for (let at = 8; at + 8 <= bytes.length; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const content = bytes.subarray(at + 8, at + 8 + length);
    if (kind === "iTXt") addInternational(texts, content);
    if (kind === "tEXt") {
      const end = content.indexOf(0);
      texts[latin(content.subarray(0, end))] = latin(content.subarray(end + 1));
    }
    at += length + 12;
  }
  return texts;
}

function addInternational(texts, content) {
  const name = content.indexOf(0);
  const compressed = content[name + 1];
  const language = content.indexOf(0, name + 3);
  const translated = content.indexOf(0, language + 1);
  if (!compressed && translated > 0) {
    texts[latin(content.subarray(0, name))] = new TextDecoder().decode(content.subarray(translated + 1));
  }
}

function latin(bytes) {
  return new TextDecoder("latin1").decode(bytes);
}
