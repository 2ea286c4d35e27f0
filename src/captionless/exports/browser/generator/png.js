/** Writes PNG files, without a canvas: some browsers alter what is read from one. */

const CRCS = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let i = 0; i < 8; i++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/**
 * Return an image as a PNG file.
 *
 * @param image values in [-1, 1], one channel after the other (1 is grey, 3 are RGB), and row by row
 * @param texts what to store in text chunks, by name
 * @returns {Promise<Uint8Array>}
 */
export async function encodePng(image, channels, size, texts = {}) {
  const stride = 1 + size * channels;
  const rows = new Uint8Array(size * stride);
  for (let c = 0, at = 0; c < channels; c++) {
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++) rows[y * stride + 1 + x * channels + c] = toByte(image[at++]);
    }
  }
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, size);
  header.setUint32(4, size);
  header.setUint8(8, 8);
  header.setUint8(9, channels === 1 ? 0 : 2);
  const stream = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const words = Object.entries(texts).map(([name, text]) =>
    chunk("iTXt", new TextEncoder().encode(`${name}\0\0\0\0\0${text}`)));
  const data = new Uint8Array(await new Response(stream).arrayBuffer());
  const parts = [chunk("IHDR", new Uint8Array(header.buffer)), ...words, chunk("IDAT", data), chunk("IEND", new Uint8Array())];
  return new Uint8Array(await new Blob([Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10), ...parts]).arrayBuffer());
}

function toByte(value) {
  return Math.round(127.5 * (Math.min(1, Math.max(-1, value)) + 1));
}

function chunk(kind, content) {
  const bytes = new Uint8Array(12 + content.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set(new TextEncoder().encode(kind), 4);
  bytes.set(content, 8);
  let crc = 0xffffffff;
  for (const byte of bytes.subarray(4, -4)) crc = CRCS[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  view.setUint32(8 + content.length, ~crc);
  return bytes;
}
