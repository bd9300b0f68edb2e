// One stream, large: its newest picture or a moment that is held, and the cells of it that are.

import { picture, streamPath } from "./api.js";
import { $, pause, told } from "./dom.js";
import { cellsOf, overFrame } from "./memory.js";

const canvas = $("canvas");

export class Stage {
  constructor(onProblem) {
    this.onProblem = onProblem;
    this.stream = null; this.held = null; this.patch = null; this.image = null; this.time = null;
    this.ending = new AbortController();
    $("cells").addEventListener("change", () => this.draw());
  }

  watch(id) {
    this.ending.abort();
    this.ending = new AbortController();
    this.held = this.patch = this.time = null;
    this.use(null);
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    $("veil").hidden = false;
    $("veil").textContent = id ? "Waiting for a picture" : "Add a stream to begin";
    canvas.setAttribute("aria-label", "No picture yet");
    if (id) this.follow(id, this.ending.signal);
  }

  async follow(id, signal) {
    while (!signal.aborted) {
      try {
        if (this.patch) { await pause(250, signal); continue; }
        const after = this.time === null ? "" : `&after=${this.time}`;
        const found = await picture(streamPath(id, `/picture?side=1280${after}`), signal);
        if (found && !this.patch) {
          const image = await createImageBitmap(found.blob);
          if (signal.aborted) return;
          this.use(image); this.time = found.time;
          $("veil").hidden = true;
          this.draw();
        } else if (!found) await pause(200, signal);
      } catch (error) {
        if (error.name === "AbortError" || signal.aborted) return;
        if (error.status !== 404 && error.status !== 410) this.onProblem(error); // a stream that is closed is told by the list
        await pause(1500, signal);
      }
    }
  }

  // A picture takes the place of another, which may be megabytes that nobody else frees soon.
  use(image) { this.image?.close(); this.image = image; }

  show(stream, held) {
    this.stream = stream; this.held = held;
    if (this.patch) {
      const gone = held.patches.length === held.all ? { ...this.patch, tokens: 0, cells: btoa("\0".repeat(this.patch.rows * this.patch.columns)) } : this.patch;
      this.patch = held.patches.find((each) => each.time === this.patch.time) ?? gone;
    }
    this.draw();
  }

  // Shows a moment: its small picture, large, and what is held of it.
  async select(patch) {
    const signal = this.ending.signal;
    this.patch = patch;
    $("live").hidden = !patch;
    if (!patch) { this.time = null; return; }
    try {
      const found = await picture(streamPath(this.stream.id, `/thumbnail?time=${patch.time}`), signal);
      if (this.patch?.time !== patch.time) return;
      this.use(await createImageBitmap(found.blob));
    } catch (error) {
      if (error.name === "AbortError") return;
      this.use(null);
    }
    this.draw();
  }

  draw() {
    const pen = canvas.getContext("2d");
    const image = this.image;
    const [width, height] = image ? [image.width, image.height] : [640, 640];
    const times = Math.max(1, Math.ceil(720 / Math.max(width, height)));
    canvas.width = width * times; canvas.height = height * times;
    canvas.style.aspectRatio = `${width} / ${height}`;
    pen.imageSmoothingEnabled = Math.max(width, height) > 256 || width !== height;
    if (image) pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    else { pen.fillStyle = "#888"; pen.fillRect(0, 0, canvas.width, canvas.height); }
    const at = this.patch ? this.patch.time : this.time;
    const tokens = this.patch ? `, ${this.patch.tokens.toFixed(1)} of ${this.patch.rows * this.patch.columns} tokens held` : "";
    $("when").textContent = at === null ? "" : `${told(at, this.stream)}${tokens}`;
    canvas.setAttribute("aria-label", at === null ? "No picture yet" : `Picture of ${this.stream?.id ?? "the stream"} at ${told(at, this.stream)}${tokens}`);
    if ($("cells").checked) this.patch ? this.drawPatch(pen) : this.drawHeld(pen);
  }

  drawPatch(pen) {
    const { rows, columns } = this.patch;
    this.grid(pen, rows, columns, (cell) => ["20 20 18", 0.78 * (1 - cellsOf(this.patch)[cell] / 255)]);
  }

  drawHeld(pen) {
    const found = this.held && overFrame(this.held.patches);
    if (!found) return;
    const most = Math.max(...found.sum, 1e-9);
    this.grid(pen, found.rows, found.columns, (cell) => ["20 20 18", 0.62 * (1 - found.sum[cell] / most)]);
  }

  grid(pen, rows, columns, fill) {
    const [wide, tall] = [canvas.width / columns, canvas.height / rows];
    for (let cell = 0; cell < rows * columns; cell += 1) {
      const [colour, alpha] = fill(cell);
      const [x, y] = [(cell % columns) * wide, Math.floor(cell / columns) * tall];
      pen.fillStyle = `rgb(${colour} / ${alpha})`;
      pen.fillRect(x, y, wide, tall);
      if (columns <= 40) { pen.strokeStyle = "rgb(255 255 255 / 0.16)"; pen.strokeRect(x + 0.5, y + 0.5, wide, tall); }
    }
  }
}
