/** The photograph of the form: a prompt, or something to edit where a mask drawn on it says so. */

import { $ } from "./dom.js";
import { STRENGTH, STRENGTH_MARKED } from "./settings.js";

/** Side of the square that is sent, in pixels; models are smaller. */
const SIDE = 512;
const MOST_UNDONE = 20;
const MARK = "#a8326b";
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Photo {
  /** @param onChange called after every change by the user. */
  constructor(onChange) {
    this.onChange = onChange;
    this.canvas = $("mask");
    this.canvas.width = this.canvas.height = SIDE;
    this.pen = this.canvas.getContext("2d", { willReadFrequently: true });
    this.cursor = { x: SIDE / 2, y: SIDE / 2 };
    this.image = this.mask = null;
    /** Changes whenever a photograph is shown or removed, or one begins to be read, which the next of these takes back. */
    this.turn = 0;
    this.#listen();
  }

  /** The photograph and its use, as in the settings; null if there is none. */
  get value() {
    return this.image && { image: this.image, use: this.use, mask: this.use === "edit" ? this.mask : null };
  }

  get use() {
    return $("use-edit").checked ? "edit" : "like";
  }

  /** Say what the model can do with a photograph. */
  allow(can) {
    for (const use of ["like", "edit"]) $(`use-${use}`).disabled = !can.includes(use);
    this.allowed = can.includes("like") || can.includes("edit");
    if ($(`use-${this.use}`).disabled) $(this.use === "like" ? "use-edit" : "use-like").checked = true;
    this.#settle();
  }

  /** Show a photograph of the settings, or none. */
  async show(photo) {
    this.turn++;
    this.image = photo?.image ?? null;
    this.mask = photo?.mask ?? null;
    this.undone = [];
    $("marked").value = "";
    this.pen.clearRect(0, 0, SIDE, SIDE);
    if (photo && !$(`use-${photo.use}`).disabled) $(`use-${photo.use}`).checked = true;
    URL.revokeObjectURL($("photo-image").src);
    if (photo) $("photo-image").src = URL.createObjectURL(photo.image);
    this.#settle();
    if (photo?.mask) {
      const shown = await createImageBitmap(photo.mask);
      if (this.mask !== photo.mask) return;
      this.pen.globalCompositeOperation = "source-over";
      this.#fill();
      this.pen.globalCompositeOperation = "destination-out";
      this.pen.drawImage(shown, 0, 0);
    }
  }

  #settle() {
    const { use } = this;
    $("photo").hidden = !this.image || !this.allowed;
    $("add-photo").hidden = !$("photo").hidden || !this.allowed;
    this.canvas.hidden = $("mask-tools").hidden = $("strength-control").hidden = use !== "edit";
    $("like-control").hidden = use !== "like";
    $("photo").classList.toggle("editing", use === "edit");
    $("undo").disabled = !this.undone?.length;
    $("clear-mask").disabled = $("invert").disabled = !this.mask;
    this.#showRing();
  }

  #listen() {
    for (const use of ["like", "edit"]) $(`use-${use}`).onchange = () => this.#changed();
    $("remove-photo").onclick = () => {
      this.show(null);
      $("add-photo").focus();
      this.onChange();
    };
    $("brush").oninput = () => this.#showRing();
    $("clear-mask").onclick = () => this.#edit(() => this.pen.clearRect(0, 0, SIDE, SIDE));
    $("invert").onclick = () => this.#edit(() => {
      this.pen.globalCompositeOperation = "xor";
      this.#fill();
    });
    $("undo").onclick = () => this.#undo();
    this.#listenToPointer();
    this.canvas.onkeydown = (event) => this.#key(event);
  }

  #listenToPointer() {
    const { canvas } = this;
    canvas.onpointerdown = (event) => {
      if (event.button > 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.drawing = true;
      this.#remember();
      this.#move(event);
      this.#line(this.cursor);
    };
    canvas.onpointermove = (event) => {
      const from = this.cursor;
      this.#move(event);
      if (this.drawing) this.#line(from);
    };
    canvas.onpointerup = canvas.onpointercancel = () => {
      if (this.drawing) this.#changed();
      this.drawing = false;
    };
  }

  /** Arrow keys move the brush, and draw with the shift key; the space bar draws a dot. */
  #key(event) {
    const arrow = ARROWS[event.key];
    const undo = event.key === "z" && (event.ctrlKey || event.metaKey);
    if (!arrow && event.key !== " " && !undo) return;
    event.preventDefault();
    if (undo) return this.#undo();
    const from = this.cursor;
    const step = Number($("brush").value) / 2;
    if (arrow) this.cursor = { x: inside(from.x + arrow[0] * step), y: inside(from.y + arrow[1] * step) };
    if (!arrow || event.shiftKey) this.#edit(() => this.#line(from));
    this.#showRing();
  }

  /** Move the brush to a pointer. */
  #move({ clientX, clientY }) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    this.cursor = { x: ((clientX - left) / width) * SIDE, y: ((clientY - top) / height) * SIDE };
    this.#showRing();
  }

  #showRing() {
    const { style } = $("ring");
    style.left = `${(100 * this.cursor.x) / SIDE}%`;
    style.top = `${(100 * this.cursor.y) / SIDE}%`;
    style.width = `${(100 * $("brush").value) / SIDE}%`;
  }

  /** Draw, or erase, from a place to the brush. */
  #line(from) {
    const { pen, cursor } = this;
    pen.globalCompositeOperation = $("erase").checked ? "destination-out" : "source-over";
    Object.assign(pen, { lineCap: "round", lineWidth: Number($("brush").value), strokeStyle: MARK });
    pen.beginPath();
    pen.moveTo(from.x, from.y);
    pen.lineTo(cursor.x + 0.01, cursor.y);
    pen.stroke();
  }

  #fill() {
    this.pen.fillStyle = MARK;
    this.pen.fillRect(0, 0, SIDE, SIDE);
  }

  #edit(change) {
    this.#remember();
    change();
    this.#changed();
  }

  #remember() {
    this.undone.push(this.pen.getImageData(0, 0, SIDE, SIDE));
    if (this.undone.length > MOST_UNDONE) this.undone.shift();
  }

  #undo() {
    if (!this.undone.length) return;
    this.pen.putImageData(this.undone.pop(), 0, 0);
    this.#changed();
  }

  /** Make the mask follow what is drawn; settings wait for it (see `ready`). */
  #changed() {
    this.ready = this.#readMask();
    this.ready.then(() => {
      this.#settle();
      this.onChange();
    });
  }

  async #readMask() {
    const had = this.mask;
    const { data } = this.pen.getImageData(0, 0, SIDE, SIDE);
    let marked = 0;
    for (let i = 3; i < data.length; i += 4) marked += data[i] > 127;
    this.mask = marked ? await this.#maskFile() : null;
    $("marked").value = marked ? `${Math.ceil((100 * marked) / SIDE ** 2)}% marked` : "";
    if (!had !== !this.mask) $("strength").value = this.mask ? STRENGTH_MARKED : STRENGTH;
  }

  /** Return a mask that is transparent where the image is to change. */
  #maskFile() {
    const mask = new OffscreenCanvas(SIDE, SIDE);
    const pen = mask.getContext("2d");
    pen.fillRect(0, 0, SIDE, SIDE);
    pen.globalCompositeOperation = "destination-out";
    pen.drawImage(this.canvas, 0, 0);
    return mask.convertToBlob();
  }
}

/** Return the central square of an image file as a PNG, upright and without what else the file holds; null if it is none. */
export async function squarePhoto(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return null;
  }
  const { width, height } = bitmap;
  const side = Math.min(width, height);
  const canvas = new OffscreenCanvas(SIDE, SIDE);
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, SIDE, SIDE);
  pen.drawImage(bitmap, (width - side) / 2, (height - side) / 2, side, side, 0, 0, SIDE, SIDE);
  return canvas.convertToBlob();
}

function inside(value) {
  return Math.max(0, Math.min(SIDE, value));
}
