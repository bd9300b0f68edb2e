// Questions about a stream, and answers as they come: with the moments they rest on.

import { call, events, fill, get, post, remove, streamPath } from "./api.js";
import { $, make, span, told } from "./dom.js";

const HISTORY = 50, SUGGESTED = 5, NOW = 2; // the last: seconds

export class Chat {
  // streamOf: what the server last told of a stream, by its id; undefined before it told anything.
  constructor(streamOf, onEvidence, onFork, onAgain, onProblem) {
    this.streamOf = streamOf; this.onEvidence = onEvidence; this.onFork = onFork; this.onAgain = onAgain; this.onProblem = onProblem;
    this.id = null; this.turns = new Map();
    $("ask").addEventListener("submit", (event) => { event.preventDefault(); this.ask($("question").value); });
    $("question").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); this.ask($("question").value); }
    });
    $("question").addEventListener("input", () => this.grow());
    $("fork").addEventListener("click", () => this.fork());
  }

  watch(id) {
    this.id = id;
    $("send").disabled = !id;
    $("fork").disabled = !id;
    $("turns").replaceChildren(...(this.turns.get(id) ?? []));
    $("suggested").replaceChildren();
    this.suggestedAt = 0;
    this.blank();
  }

  blank() {
    if (!$("turns").children.length) $("turns").append(make("li", { className: "empty" }, "Ask about what is visible now, or about anything before. Questions do not change the memory."));
  }

  show(stream) {
    const demo = Boolean(stream?.source?.camera?.demo);
    if (demo && performance.now() - this.suggestedAt > 4000) this.suggest(stream.id);
    if (!demo) $("suggested").replaceChildren();
  }

  // A demo camera that has shown all its shapes gives way to one with others.
  async another(id) {
    try {
      const { next } = await get(streamPath(id, "/truth"));
      await remove(streamPath(id));
      this.turns.delete(id);
      await post("/v1/streams", { id, source: next, memory: this.streamOf(id).cap });
      this.onAgain(id);
    } catch (error) { this.onProblem(error); }
  }

  grow() {
    const box = $("question");
    box.style.height = "auto";
    box.style.height = `${Math.min(box.scrollHeight + 2, 140)}px`;
  }

  async suggest(id) {
    this.suggestedAt = performance.now();
    try {
      const { questions, time, seconds } = await get(streamPath(id, "/truth"));
      if (id !== this.id) return;
      const isNow = (each) => each.kind === "now"; // comes first: it is never among those that are too many
      const few = [...questions.filter(isNow), ...questions.filter((each) => !isNow(each))].slice(0, SUGGESTED);
      const wanted = few.map((each) => [each.question, () => this.ask(each.question)]);
      if (time > seconds) wanted.push(["That was the whole clip: start another one", () => this.another(id)]);
      const now = [...$("suggested").children].map((each) => each.textContent).join("\n");
      if (now === wanted.map(([text]) => text).join("\n")) return;
      if ($("suggested").contains(document.activeElement)) return; // what one is about to press does not move
      $("suggested").replaceChildren(...wanted.map(([text, press]) => make("button", { type: "button", on: { click: press } }, text)));
    } catch (error) { if (error.status !== 404) this.onProblem(error); }
  }

  async ask(text) {
    const [question, id] = [text.trim(), this.id];
    if (!question || !id) return;
    const [answer, meta, moments] = [make("p", { className: "a waiting", dir: "auto" }), make("p", { className: "meta" }), make("div", { className: "evidence" })];
    const turn = make("li", { className: "turn", "aria-busy": "true" }, make("p", { className: "q", dir: "auto" }, question), answer, meta, moments);
    $("turns").querySelector(".empty")?.remove();
    $("turns").append(turn);
    this.turns.set(id, [...(this.turns.get(id) ?? []), turn].slice(-HISTORY));
    $("question").value = "";
    this.grow();
    turn.scrollIntoView({ block: "nearest" });
    const begun = performance.now();
    const window = $("now").checked ? NOW : null;
    let whole = false;
    try {
      const reply = await call("POST", streamPath(id, "/ask"), { question, stream: true, remember: $("remember").checked, window_s: window });
      for await (const { event, data } of events(reply)) {
        answer.classList.remove("waiting");
        if (event === "delta") this.growing(() => { answer.textContent += data.text; });
        else if (event === "error") throw new Error(data.error.message);
        else if (event === "done") { whole = true; await this.finish(id, question, data, { answer, meta, moments, window, took: performance.now() - begun }); }
      }
      if (!whole) throw new Error("The server ended the answer before it was complete.");
    } catch (error) {
      answer.classList.remove("waiting");
      this.growing(() => meta.replaceChildren(make("span", { className: "error" }, error.message)));
      if (error.status === 401) this.onProblem(error);
    }
    turn.removeAttribute("aria-busy"); // now it is read out, once
  }

  // Keeps the end in view of who looks at it, and leaves alone who has scrolled back.
  growing(change) {
    const box = $("turns");
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
    change();
    if (atEnd) box.scrollTop = box.scrollHeight;
  }

  async finish(id, question, data, { answer, meta, moments, window, took }) {
    const stream = this.streamOf(id);
    const said = [`at ${told(data.time, stream)}`, window ? `about the last ${window} s` : `asked on ${data.usage.prompt_tokens.toLocaleString()} tokens`, `${(took / 1000).toFixed(2)} s`];
    if (data.remembered) said.push("remembered");
    this.growing(() => {
      answer.textContent = data.answer;
      meta.textContent = said.join(" · ");
      moments.append(...(data.evidence ?? []).slice(0, 4).map((each) => this.moment(id, stream, each)));
    });
    if (!stream?.source?.camera?.demo) return;
    try {
      const { answer: truth } = await get(streamPath(id, `/truth?question=${encodeURIComponent(question)}&time=${data.time}`));
      if (truth === null) return;
      const right = truth === data.answer;
      answer.append(" ", make("span", { className: right ? "mark-right" : "mark-wrong" }, right ? "✓ right" : `✗ wrong: it was ${truth}`));
    } catch { /* the answer stands without a mark */ }
  }

  moment(id, stream, each) {
    const image = make("img", { alt: "", width: 48, height: 36 });
    fill(image, streamPath(id, `/thumbnail?time=${each.time}`));
    const name = span(each.start, each.end, stream);
    const share = `${Math.round(each.weight * 100)}%`;
    return make("button", { type: "button", title: `Show this moment: ${share} of what the answer rests on`, on: { click: () => this.onEvidence(each) } },
      image, make("span", {}, make("b", {}, share), " ", name));
  }

  async fork() {
    try { this.onFork((await post(streamPath(this.id, "/fork"))).id); } catch (error) { this.onProblem(error); }
  }
}
