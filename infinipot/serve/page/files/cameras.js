// The grid of streams: a small picture, a name, how it does. Opens new ones.

import { picture, post, socket, streamPath } from "./api.js";
import { $, ago, make, pause } from "./dom.js";

const NAMES = { opening: "opening", live: "live", frozen: "picture frozen", gone: "no picture", over: "over", closed: "closed" };

export function stateOf(stream) {
  const source = stream.source, camera = source?.camera;
  if (source?.state === "failed") return { name: "failed", text: source.error };
  if (camera) {
    const lag = camera.state === "live" ? `${(camera.lag_seconds ?? 0).toFixed(1)} s lag` : camera.trouble;
    return { name: camera.state, text: [NAMES[camera.state], lag].filter(Boolean).join(", ") };
  }
  if (source) return { name: source.state === "playing" ? "live" : source.state, text: source.state };
  const since = stream.last_frame_at ? Date.now() / 1000 - stream.last_frame_at : null;
  if (since === null) return { name: "opening", text: "no frame yet" };
  return { name: since < 10 ? "live" : "over", text: `frame ${ago(since)}` };
}

function inView(element) {
  const { top, bottom, left, right } = element.getBoundingClientRect();
  return bottom > 0 && right > 0 && top < innerHeight && left < innerWidth;
}

export class Cameras {
  constructor(onChoose, onProblem) {
    this.onChoose = onChoose; this.onProblem = onProblem;
    this.cards = new Map();
    this.own = null;
    $("add").addEventListener("click", () => { $("add-error").hidden = true; $("add-dialog").showModal(); });
    $("add-cancel").addEventListener("click", () => $("add-dialog").close());
    $("add-form").addEventListener("submit", (event) => { event.preventDefault(); this.add(); });
    $("add-own").addEventListener("click", () => this.addOwn());
    this.refresh();
  }

  show(streams, chosen) {
    for (const [id, card] of this.cards) if (!streams.some((each) => each.id === id)) { card.item.remove(); this.cards.delete(id); }
    for (const stream of streams) {
      const card = this.cards.get(stream.id) ?? this.card(stream.id);
      const state = stateOf(stream);
      card.dot.className = `dot ${state.name}`;
      card.name.textContent = stream.id;
      if (card.state.textContent !== state.text) card.state.textContent = state.text;
      card.button.setAttribute("aria-current", String(stream.id === chosen));
      card.seen = stream.last_frame_at;
    }
  }

  lost() {
    for (const card of this.cards.values()) { card.dot.className = "dot gone"; card.state.textContent = "no connection"; }
  }

  card(id) {
    const [dot, name, state] = [make("span", { className: "dot" }), make("span"), make("small")];
    const image = make("img", { alt: "", className: "blank", width: 200, height: 125 });
    image.removeAttribute("src");
    const blank = make("span", { className: "blank" });
    const button = make("button", { type: "button", className: "camera", on: { click: () => this.onChoose(id) } }, blank, make("strong", { dir: "auto" }, dot, name), state);
    const card = { item: make("li", {}, button), button, image, blank, dot, name, state, drawn: null };
    $("cameras").append(card.item);
    this.cards.set(id, card);
    return card;
  }

  // Small pictures, one after the other: of those streams that have a newer frame.
  async refresh() {
    for (;;) {
      for (const [id, card] of this.cards) {
        if (document.hidden || !card.seen || card.seen === card.drawn || !inView(card.button)) continue;
        try {
          const found = await picture(streamPath(id, "/picture?side=320"));
          if (!found) continue;
          const old = card.image.src;
          card.image.src = URL.createObjectURL(found.blob);
          await card.image.decode();
          card.image.className = card.image.naturalWidth <= 128 ? "coarse" : "";
          if (card.blank.isConnected) card.blank.replaceWith(card.image);
          if (old) URL.revokeObjectURL(old);
          card.drawn = card.seen;
        } catch { /* it may have been closed; the list tells */ }
      }
      await pause(1000);
    }
  }

  async add() {
    const [source, id] = [$("add-source").value.trim(), $("add-name").value.trim()];
    try {
      const made = await post("/v1/streams", { source, ...(id ? { id } : {}) });
      $("add-dialog").close();
      $("add-form").reset();
      this.onChoose(made.id);
    } catch (error) { $("add-error").textContent = error.message; $("add-error").hidden = false; }
  }

  // Watches the camera of this device: its pictures go to the server twice a second.
  async addOwn() {
    let media = null;
    try {
      if (!navigator.mediaDevices) throw new Error("This browser allows camera access only to pages on https or localhost.");
      media = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
      const id = $("add-name").value.trim();
      const made = await post("/v1/streams", id ? { id } : {});
      $("add-dialog").close();
      $("add-form").reset();
      this.send(made.id, media);
      this.onChoose(made.id);
    } catch (error) { // the camera is not left on
      for (const track of media?.getTracks() ?? []) track.stop();
      $("add-error").textContent = error.message; $("add-error").hidden = false;
    }
  }

  async send(id, media) {
    const video = make("video", { muted: true, playsInline: true, srcObject: media });
    await video.play();
    const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
    const link = socket(streamPath(id, "/frames"));
    const end = (why) => { for (const track of media.getTracks()) track.stop(); if (why) this.onProblem({ message: why }); };
    link.addEventListener("message", (event) => { const said = JSON.parse(event.data).error; if (said) end(said.message); });
    link.addEventListener("close", () => end(media.active ? "The connection to this device's camera was lost." : ""));
    link.addEventListener("open", async () => {
      const begun = performance.now();
      while (media.active && link.readyState === WebSocket.OPEN) {
        canvas.getContext("2d").drawImage(video, 0, 0);
        const time = (performance.now() - begun) / 1000;
        const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.85));
        if (link.bufferedAmount === 0 && link.readyState === WebSocket.OPEN) { link.send(JSON.stringify({ time })); link.send(blob); }
        await pause(500);
      }
      link.close();
    });
  }
}
