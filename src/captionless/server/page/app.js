/** Brings the form, the backend, the images and the history together. */

import { Backend } from "./backend.js";
import { $, copy } from "./dom.js";
import { Form } from "./form.js";
import { History } from "./history.js";
import { Remembering } from "./memo.js";
import { squarePhoto } from "./photo.js";
import { pngTexts } from "./png.js";
import { RunView } from "./runs.js";
import { defaults, fromFragment, fromImage, randomSeed, requests, toFragment } from "./settings.js";
import { Viewer } from "./viewer.js";

/** Requests at once: browsers hold six connections to a server. */
const AT_ONCE = 4;
/** Milliseconds without a change after which a live run begins. */
const CALM = 250;
/** Milliseconds for which a button says that it has done what it is for. */
const READING = 2500;

class App {
  static async start() {
    const app = new App();
    app.listenToSentence();
    try {
      app.backend = new Remembering(new Backend(askForKey));
      app.about = await app.backend.describe();
    } catch (error) {
      app.complain(error);
      return;
    }
    const typed = $("prompts").value;
    const beginning = { ...defaults(app.about), prompts: typed.split("\n").filter((line) => line.trim()) };
    app.form = new Form(app.about, () => app.changed());
    app.form.show(fromFragment(location.hash.slice(1), beginning, app.about));
    const actions = {
      use: (settings) => app.use(settings),
      link: (settings, button) => app.link(settings, button),
      open: (view, image) => app.viewer.open(view, image),
      photo: (blob, use) => app.usePhoto(blob, use),
      remove: (view) => app.remove(view),
    };
    app.actions = actions;
    app.viewer = new Viewer(app.backend, app.about, actions);
    app.listen();
    app.history = await History.open();
    for (const run of await app.history.all()) $("runs").append(new RunView(run, actions).element);
    app.settle();
    $("go").disabled = false;
    if (app.early || typed.endsWith("\n")) app.generate();
  }

  /** Listen to Enter, also while the page is not ready: what was asked for early is done as soon as it is. */
  listenToSentence() {
    $("form").onsubmit = (event) => {
      event.preventDefault();
      if (this.running) this.running.abort();
      else this.generate();
    };
    $("prompts").onkeydown = (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      if ($("go").disabled) this.early = true;
      else this.generate();
    };
  }

  listen() {
    $("live").onchange = () => this.changed();
    $("reset").onclick = () => this.use({ ...defaults(this.about), prompts: this.form.prompts });
    $("link").onclick = () => this.attempt(() => this.link(this.form.settings, $("link")));
    $("clear").onclick = async () => {
      if (!window.confirm("Delete all images that this browser keeps?")) return;
      await this.history.clear();
      $("runs").replaceChildren();
      this.settle();
    };
    window.onhashchange = () => this.use(fromFragment(location.hash.slice(1), defaults(this.about), this.about));
    this.listenForFiles();
  }

  listenForFiles() {
    const choose = (button, input, action) => {
      $(button).onclick = () => $(input).click();
      $(input).onchange = () => {
        const [file] = $(input).files;
        $(input).value = "";
        if (file) action(file);
      };
    };
    choose("open", "file", (file) => this.restore(file));
    choose("add-photo", "photo-file", (file) => this.usePhoto(file));
    $("take-photo").onclick = () => this.usePhoto(this.offered);
    const files = (event) => event.dataTransfer?.types.includes("Files");
    document.ondragover = (event) => {
      if (!files(event)) return;
      event.preventDefault();
      $("drop").hidden = false;
    };
    document.ondragleave = (event) => {
      if (!event.relatedTarget) $("drop").hidden = true;
    };
    document.ondrop = (event) => {
      $("drop").hidden = true;
      if (!files(event)) return;
      event.preventDefault();
      if (event.dataTransfer.files.length) this.take(event.dataTransfer.files[0]);
    };
    document.onpaste = (event) => {
      if (event.clipboardData.files.length) this.take(event.clipboardData.files[0]);
    };
  }

  /** Take over the settings that an image file stores; return whether it has any. */
  async restore(file) {
    const texts = await pngTexts(file);
    const settings = fromImage(texts, defaults(this.about), this.about);
    if (settings) this.use(settings);
    else this.complain(new Error("This file has no settings. Images made here and downloaded as they are do."));
    if (texts?.like || texts?.init) this.say("The image was made with a photograph, which it does not hold.");
    return settings;
  }

  /** Do what is meant by a dropped file: take its settings, or else the photograph that it is. */
  async take(file) {
    if (!fromImage(await pngTexts(file), defaults(this.about), this.about)) return this.usePhoto(file);
    await this.restore(file);
    this.offered = file;
    $("offer").hidden = !this.form.photo.allowed;
  }

  /** Make a photograph a prompt, or something to edit. */
  async usePhoto(file, use = this.form.photo.use) {
    $("offer").hidden = true;
    const turn = ++this.form.photo.turn;
    const image = await squarePhoto(file);
    if (turn !== this.form.photo.turn) return null; // removed meanwhile, or another was chosen
    if (!image) return this.complain(new Error("This file is no image that the browser can read."));
    if (!this.form.photo.allowed) return this.complain(new Error("This model makes images from words only."));
    await this.form.showPhoto({ image, use, mask: null });
    this.complain(null);
    $("photo").scrollIntoView({ block: "nearest" });
    $(`use-${this.form.photo.use}`).focus({ preventScroll: true });
    return this.changed();
  }

  /** Show settings in the form, as far as they are possible here: those of a kept run may be of another server. */
  use(settings) {
    const others = { ...defaults(this.about), photo: settings.photo };
    const possible = fromFragment(toFragment(settings), others, this.about);
    this.form.show(possible);
    const gone = possible.model !== settings.model;
    this.complain(gone ? new Error(`The model ${settings.model} is not served here; this is ${possible.model}.`) : null);
    $("offer").hidden = true;
    window.scrollTo({ top: 0 });
    $("prompts").focus({ preventScroll: true });
    this.changed();
  }

  /** Copy a link, and say so on the button, too: the status may be out of sight. */
  async link(settings, button) {
    if (!(await copy(`${location.origin}${location.pathname}#${toFragment(settings)}`))) return;
    this.say(settings.photo ? "Link copied. It leads to everything but the photograph." : "Link copied.");
    button.textContent = settings.photo ? "Copied without the photograph" : "Copied";
    setTimeout(() => (button.textContent = "Copy link"), READING);
  }

  /** Do what follows a change of the settings. */
  changed() {
    clearTimeout(this.timer);
    if ($("live").checked) this.timer = setTimeout(() => this.generate(true), CALM);
  }

  /** Make the images of the settings; a live run takes the place of the one before, if it gets as far as an image. */
  async generate(live = false) {
    await this.form.photo.ready;
    const settings = this.attempt(() => this.form.settings);
    if (!settings) return;
    if (!settings.prompts.length && !settings.photo) {
      if (!live) $("prompts").focus();
      return;
    }
    settings.seed ??= (live && this.form.lastSeed) || randomSeed();
    this.form.lastSeed = settings.seed;
    this.running?.abort();
    const stop = (this.running = new AbortController());
    const view = new RunView({ id: Date.now(), settings, warnings: [], images: [] }, this.actions);
    view.stop = stop;
    const before = live && this.live?.element.isConnected ? this.live : null;
    if (before) {
      view.before = before;
      view.beginWith(before);
      before.element.replaceWith(view.element);
    } else $("runs").prepend(view.element);
    if (!live) view.element.scrollIntoView({ block: "nearest" });
    this.live = live ? view : null;
    history.replaceState(null, "", `#${toFragment({ ...settings, seed: this.form.locked ? settings.seed : null })}`);
    this.settle();
    await this.run(view, stop);
    if (this.running === stop) this.running = null;
    this.settle();
  }

  async run(view, stop) {
    const { run } = view;
    const waiting = requests(run.settings);
    const all = waiting.length * run.settings.count;
    const work = async () => {
      for (let next; (next = waiting.shift()); ) {
        const { request, place } = next;
        const warnings = await this.backend.generate(request, {
          signal: stop.signal,
          onImage: (image) => {
            if (stop.signal.aborted) return;
            view.show(place, image);
            this.say(`${run.images.length} of ${all} ${all === 1 ? "image" : "images"}`);
          },
        });
        run.warnings = [...new Set([...run.warnings, ...warnings])];
        view.warn();
      }
    };
    this.complain(null);
    this.say(all === 1 ? "Making an image" : `Making ${all} images`);
    try {
      await Promise.all(Array.from({ length: AT_ONCE }, work));
    } catch (error) {
      if (!stop.signal.aborted) this.complain(error);
      else if (this.running === stop) this.say("Stopped"); // else another run began
      waiting.length = 0;
      stop.abort();
    }
    view.end();
    if (view.element.isConnected) await this.keep(view); // else it was deleted, or a later run took its place
  }

  /** Keep a run that has ended instead of those before; where it has no image, the last of them that has comes back. */
  async keep(view) {
    const kept = view.line.find(({ run }) => run.images.length);
    if (!kept) return view.element.remove();
    if (kept !== view) view.element.replaceWith(kept.element);
    if (this.live === view) this.live = kept;
    try {
      await this.history.put(kept.run);
    } catch {
      this.complain(new Error("The browser has no room to keep these images. Download those you want."));
    }
    for (const { run } of kept.line.slice(1)) await this.history.delete(run.id);
    kept.before = null;
  }

  async remove(view) {
    view.stop?.abort();
    for (const { run } of view.line) await this.history.delete(run.id);
    const next = view.element.nextElementSibling ?? view.element.previousElementSibling;
    view.element.remove();
    (next?.querySelector(".actions button") ?? $("prompts")).focus();
    this.settle();
  }

  /** Return what a function returns; show the user what is wrong instead, at the field it is wrong in. */
  attempt(action) {
    try {
      return action();
    } catch (error) {
      if (!error.field) throw error;
      this.complain(error);
      $(error.field).setAttribute("aria-invalid", "true");
      return null;
    }
  }

  say(words) {
    $("status").textContent = words;
  }

  complain(error) {
    $("problem").hidden = !error;
    $("problem").textContent = error?.message ?? "";
    if (error) this.say("");
  }

  settle() {
    $("go").textContent = this.running ? "Stop" : "Generate";
    $("past").hidden = !$("runs").childElementCount;
    $("empty").hidden = !$("past").hidden;
  }
}

function askForKey(refused) {
  $("key-refused").hidden = !refused;
  $("key-dialog").oncancel = (event) => event.preventDefault();
  $("key-dialog").showModal();
  return new Promise((resolve) => {
    $("key-form").onsubmit = () => {
      resolve($("key").value);
      $("key").value = "";
    };
  });
}

App.start();
