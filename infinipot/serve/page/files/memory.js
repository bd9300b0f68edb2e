// What the memory holds: a bar for each moment, and the cells of one.

import { told } from "./dom.js";

export function cellsOf(patch) {
  return Uint8Array.from(atob(patch.cells), (letter) => letter.charCodeAt(0));
}

export function overFrame(patches) {
  const last = patches.at(-1);
  if (!last) return null;
  const sum = new Float64Array(last.rows * last.columns);
  for (const patch of patches) {
    if (patch.rows !== last.rows || patch.columns !== last.columns) continue;
    cellsOf(patch).forEach((held, cell) => { sum[cell] += held / 255; });
  }
  return { rows: last.rows, columns: last.columns, sum };
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Timeline {
  constructor(canvas, onSelect) {
    this.canvas = canvas;
    this.onSelect = onSelect;
    this.held = null; this.stream = null; this.selected = null; this.marks = [];
    canvas.addEventListener("click", (event) => this.select(this.near(event.offsetX)));
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  show(held, stream) { this.held = held; this.stream = stream; this.draw(); }

  near(x) {
    const { patches } = this.held ?? { patches: [] };
    const away = (patch) => Math.max(Math.abs(this.x(patch.time) - x), 5); // of those under a finger, the tallest
    let best = null;
    for (const patch of patches) {
      if (best === null || away(patch) < away(best) || (away(patch) === away(best) && patch.tokens > best.tokens)) best = patch;
    }
    return best;
  }

  key(event) {
    const patches = this.held?.patches ?? [];
    const now = this.selected === null ? patches.length : patches.findIndex((patch) => patch.time >= this.selected);
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
    if (event.key === "Escape") this.select(null);
    else if (event.key in steps && patches.length) {
      event.preventDefault();
      const next = Math.max(0, now + steps[event.key]);
      this.select(next >= patches.length ? null : patches[next]);
    }
  }

  select(patch) {
    this.selected = patch ? patch.time : null;
    this.onSelect(patch);
    this.draw();
  }

  // From the first moment that is held, which may be long after the beginning, to now.
  get from() { return this.held?.patches[0]?.time ?? 0; }
  get length() { return Math.max((this.held?.time ?? 0) - this.from, 1); }

  x(time) {
    const width = this.canvas.clientWidth;
    return 6 + (width - 12) * (Math.max(time - this.from, 0) / this.length);
  }

  draw() {
    const { canvas, held } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const scale = devicePixelRatio || 1;
    canvas.width = width * scale; canvas.height = height * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const floor = height - 18;
    pen.strokeStyle = colour("--line");
    pen.beginPath(); pen.moveTo(0, floor + 0.5); pen.lineTo(width, floor + 0.5); pen.stroke();
    canvas.setAttribute("aria-valuemin", String(Math.round(this.from)));
    canvas.setAttribute("aria-valuemax", String(Math.round(held?.time ?? 0)));
    canvas.setAttribute("aria-valuenow", String(Math.round(this.selected ?? held?.time ?? 0)));
    canvas.setAttribute("aria-valuetext", this.selected === null ? "live" : told(this.selected, this.stream));
    if (!held?.patches.length) return;
    const most = Math.max(...held.patches.map((patch) => patch.tokens));
    const wide = Math.max(1.5, Math.min(7, (width / this.length) * 0.8));
    for (const mark of this.marks) {
      pen.fillStyle = colour("--tint");
      const [from, to] = [this.x(mark.start) - wide, this.x(mark.end) + wide];
      pen.fillRect(from, 0, Math.max(to - from, 4), floor);
    }
    for (const patch of held.patches) {
      const tall = Math.max(1.5, (floor - 6) * (patch.tokens / most));
      pen.fillStyle = colour(patch.time === this.selected ? "--ink" : "--accent");
      pen.globalAlpha = this.selected === null || patch.time === this.selected ? 1 : 0.45;
      pen.fillRect(this.x(patch.time) - wide / 2, floor - tall, wide, tall);
    }
    pen.globalAlpha = 1;
    pen.fillStyle = colour("--soft");
    pen.font = "11px ui-sans-serif, system-ui, sans-serif";
    const ticks = Math.max(2, Math.floor(width / 180));
    for (let tick = 0; tick <= ticks; tick += 1) {
      const time = this.from + (this.length * tick) / ticks;
      pen.textAlign = tick === 0 ? "left" : tick === ticks ? "right" : "center";
      pen.fillText(told(time, this.stream), this.x(time), height - 4);
    }
  }
}
