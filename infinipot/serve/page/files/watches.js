// Standing questions, and the events that they told of.

import { call, events, fill, get, post, remove, streamPath } from "./api.js";
import { $, make, pause, told } from "./dom.js";

const SHOWN = 100;
const STATES = { on: "yes, now", off: "not now", unknown: "not asked yet" };

export class Watches {
  constructor(onEvent, onProblem) {
    this.onEvent = onEvent; this.onProblem = onProblem;
    this.id = null; this.stream = null; this.secrets = new Map(); this.unseen = 0; this.offered = false; this.ending = new AbortController();
    $("watch").addEventListener("submit", (event) => { event.preventDefault(); this.add(); });
    let timer = 0;
    $("search").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => this.list(), 200); });
  }

  watch(id) {
    this.ending.abort();
    this.ending = new AbortController();
    this.id = id;
    $("watches").replaceChildren(); $("events").replaceChildren();
    this.seen();
    if (id) { this.refresh(); this.list(); this.follow(id, this.ending.signal); }
  }

  // Of a demo camera, offers a question that its world knows, once.
  show(stream) {
    this.stream = stream;
    if (!stream?.source?.camera?.demo || this.offered) return;
    this.offered = true;
    $("watch-question").value ||= "Is there a shape now?";
  }

  seen() { this.unseen = 0; $("fired").hidden = true; }

  async refresh() {
    const id = this.id;
    if (!id) return;
    try {
      const { data } = await get(streamPath(id, "/watches"));
      if (id !== this.id) return;
      const held = new Map([...$("watches").children].map((item) => [item.dataset.id, item]));
      for (const [name, item] of held) if (!data.some((each) => each.id === name)) item.remove();
      $("watches").querySelector(".empty")?.remove();
      for (const each of data) {
        let item = held.get(each.id);
        if (!item) {
          item = make("li", {}, make("div", { className: "head" }, make("p", { dir: "auto" }, each.question),
            make("button", { type: "button", className: "quiet", "aria-label": `Stop asking: ${each.question}`, on: { click: () => this.stop(each.id) } }, "Stop")), make("small"));
          item.dataset.id = each.id;
          $("watches").append(item);
        }
        const said = [STATES[each.state], `tells when ${typeof each.when === "string" ? each.when : "it fits"}`, each.about === "now" ? `about the last ${each.window_s} s` : "about everything remembered", `every ${each.every_s} s`];
        if (!each.keeps_pace) said.push(`cannot keep its pace: asked every ${each.asked_every_s.toFixed(1)} s`);
        if (each.unclear) said.push(`${each.unclear} unclear answers`);
        if (each.error) said.push(each.error);
        if (each.webhook_error) said.push(`its webhook rejected the newest event: ${each.webhook_error}`);
        if (this.secrets.has(each.id)) said.push(`deliveries are signed with ${this.secrets.get(each.id)}, which is shown only here, until you leave the page`);
        item.querySelector("small").textContent = said.join(" · ");
      }
      if (!data.length) $("watches").append(make("li", { className: "empty" }, "None yet."));
    } catch (error) { if (error.status !== 404) this.onProblem(error); }
  }

  async add() {
    const question = $("watch-question").value.trim();
    if (!question || !this.id) return;
    const [from, to, url] = [$("watch-from").value, $("watch-to").value, $("watch-webhook").value.trim()];
    try {
      if (Boolean(from) !== Boolean(to)) throw new Error("Quiet hours need a start and an end: give both times, or neither.");
      const made = await post(streamPath(this.id, "/watches"), {
        question, when: $("watch-when").value, about: $("watch-about").value, every_s: Number($("watch-every").value), cooldown_s: Number($("watch-cooldown").value),
        ...(from ? { quiet: { start: from, end: to } } : {}), ...(url ? { webhook: { url } } : {}),
      });
      $("watch-question").value = "";
      if (made.webhook?.secret) this.secrets.set(made.id, made.webhook.secret);
      await this.refresh();
    } catch (error) { this.onProblem(error); }
  }

  async stop(watch) {
    try { await remove(streamPath(this.id, `/watches/${watch}`)); await this.refresh(); } catch (error) { this.onProblem(error); }
  }

  async list() {
    const [id, query] = [this.id, $("search").value.trim()];
    try {
      const { data } = await get(streamPath(id, `/events?limit=${SHOWN}${query ? `&query=${encodeURIComponent(query)}` : ""}`));
      if (id !== this.id) return;
      $("events").replaceChildren(...data.map((each) => this.item(each)));
      if (!data.length) $("events").append(make("li", { className: "empty" }, query ? "Nothing found." : "Nothing has happened yet."));
    } catch (error) { if (error.status !== 404) this.onProblem(error); }
  }

  async follow(id, signal) {
    let last = null;
    while (!signal.aborted) {
      try {
        const headers = { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) };
        const reply = await call("GET", streamPath(id, "/events"), undefined, signal, headers);
        for await (const { event, data, id: number } of events(reply)) {
          if (number) last = number;
          if (event !== "event") continue;
          $("events").querySelector(".empty")?.remove();
          if (!$("search").value.trim()) $("events").prepend(this.item(data));
          while ($("events").children.length > SHOWN) $("events").lastChild.remove();
          if ($("panel-watch").hidden) { this.unseen += 1; $("fired").textContent = String(this.unseen); $("fired").hidden = false; }
          this.refresh();
        }
      } catch (error) {
        if (error.name === "AbortError" || signal.aborted) return;
      }
      await pause(1500, signal);
    }
  }

  item(each) {
    const image = make("img", { alt: "", width: 56, height: 42 });
    const show = make("button", { type: "button", "aria-label": `Show ${told(each.time, this.stream)}`, on: { click: () => this.onEvent(each) } }, image);
    if (each.picture) fill(image, each.picture);
    return make("li", {}, show, make("div", {}, make("p", { dir: "auto" }, each.question), make("small", {}, `${told(each.time, this.stream)} · ${each.answer}${each.quiet ? " · in quiet hours" : ""}`)));
  }
}
