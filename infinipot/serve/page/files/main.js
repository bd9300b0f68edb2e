// Puts the page together: which stream is shown, how everything does, and what goes wrong, in words.

import { get, hasKey, remove, streamPath, useKey } from "./api.js";
import { Cameras, stateOf } from "./cameras.js";
import { Chat } from "./chat.js";
import { $, amount, pause, span } from "./dom.js";
import { Timeline } from "./memory.js";
import { Stage } from "./stage.js";
import { Watches } from "./watches.js";

let chosen = null, streams = [], model = "";
let declined = false; // a key
const HINT = $("memory-hint").textContent;

function tell(message) {
  if (message && $("notice-text").textContent !== message) $("notice-text").textContent = message; // what is the same is not read out again
  $("notice").hidden = !message;
}

function problem(error) {
  if (error?.name === "AbortError") return;
  if (error?.status === 401 && declined) tell("This server asks for a key: press Key to give one.");
  else if (error?.status === 401) askForKey(hasKey() ? "The server does not know this key." : "This server asks for a key. It is kept in this browser.");
  else tell(error?.message ?? String(error));
}
$("notice-close").addEventListener("click", () => tell(""));

let lost = false, closing = null; // the connection; the stream that is closed from here

const timeline = new Timeline($("timeline"), (patch) => stage.select(patch));
const stage = new Stage(problem);
const streamOf = (id) => streams.find((each) => each.id === id);
const chat = new Chat(streamOf, (moment) => look(moment), (id) => choose(id), (id) => { chosen = null; choose(id); }, problem);
const watches = new Watches((event) => look({ ...event, start: event.time, end: event.time }), problem);
const cameras = new Cameras((id) => choose(id), problem);

function choose(id) {
  if (id === chosen) return;
  chosen = id;
  tell("");
  $("memory-hint").textContent = HINT;
  timeline.selected = null; timeline.marks = []; timeline.show(null, null);
  stage.watch(id); chat.watch(id); watches.watch(id);
  $("live").hidden = true;
  history.replaceState(null, "", id ? `#${encodeURIComponent(id)}` : " ");
  list();
}

// Shows the moment of an answer or an event: the held patch next to it.
function look(moment) {
  timeline.marks = [{ start: moment.start, end: moment.end }];
  const patches = timeline.held?.patches ?? [];
  const nearest = patches.reduce((best, patch) => (best && Math.abs(best.time - moment.time) <= Math.abs(patch.time - moment.time) ? best : patch), null);
  timeline.select(nearest);
  $("picture").scrollIntoView({ block: "nearest", behavior: "smooth" });
}

function named() {
  try { return decodeURIComponent(location.hash.slice(1)); } catch { return ""; } // what was typed there is no name
}

async function list() {
  const before = chosen;
  try {
    const [found, models] = await Promise.all([get("/v1/streams"), model ? null : get("/v1/models")]);
    model ||= models.data[0]?.id ?? "";
    if (chosen !== before) return; // what was asked for before may not have the stream that was opened since
    streams = found.data;
    if (lost) { lost = false; tell(""); }
    if (chosen && !streamOf(chosen)) {
      const gone = chosen;
      choose(streams[0]?.id ?? null);
      if (gone !== closing) tell(`${gone} was closed.`);
      return;
    }
    if (!chosen && streams.length) {
      choose(streamOf(named())?.id ?? streams[0].id);
      return;
    }
    cameras.show(streams, chosen);
    const stream = streamOf(chosen) ?? null;
    chat.show(stream); watches.show(stream);
    describe(stream);
    const facts = [model, `${amount(found.bytes_reserved)} of ${amount(found.bytes_total)} reserved`];
    if (stream) facts.push(`${stream.frames.toLocaleString()} frames watched`);
    $("facts").textContent = facts.filter(Boolean).join("  ·  ");
  } catch (error) {
    problem(error);
    if (error.status !== 0) return;
    lost = true;
    cameras.lost();
    if (chosen) $("stage-state").textContent = "no connection";
  }
}

function describe(stream) {
  $("stage-title").textContent = stream?.id ?? "No stream";
  $("close").hidden = !stream;
  if (!stream) {
    for (const id of ["stage-state", "when", "memory-state"]) $(id).textContent = "";
    $("veil").textContent = "Add a stream to begin";
    return;
  }
  const state = stateOf(stream);
  const behind = stream.behind_seconds > 1 ? ` · ${stream.behind_seconds.toFixed(1)} s behind` : "";
  const dropped = Object.values(stream.dropped).reduce((sum, each) => sum + each, stream.source?.camera?.dropped ?? 0);
  $("stage-state").textContent = `${state.text}${behind}${dropped ? ` · ${dropped} dropped` : ""}`;
  const gap = stream.source?.camera?.gaps?.at(-1);
  if (gap && stream.source.camera.state !== "live") { $("veil").textContent = gap.text.charAt(0).toUpperCase() + gap.text.slice(1); $("veil").hidden = false; }
  else if (stage.image) $("veil").hidden = true;
  const turns = stream.turns ? ` · ${stream.turns} remembered turn${stream.turns > 1 ? "s" : ""}` : "";
  $("memory-state").textContent = `${stream.tokens.toLocaleString()} of ${stream.cap.toLocaleString()} tokens · ${stream.compressions} compressions${turns}`;
}

async function hold() {
  if (!chosen || document.hidden) return;
  const id = chosen;
  try {
    const held = await get(streamPath(id, "/contents?most=256"));
    if (id !== chosen) return;
    const stream = streamOf(id) ?? null;
    timeline.show(held, stream);
    stage.show(stream, held);
    const first = held.patches[0];
    if (first) $("memory-hint").textContent = `${held.all} moments from ${span(first.time, held.time, stream)}. A bar's height is how many tokens of it are still held; select one to see which cells.`;
  } catch (error) { if (error.status !== 404 && error.status !== 410) problem(error); }
}

function askForKey(why) {
  $("key-why").textContent = why;
  if ($("key-dialog").open) return;
  $("key-dialog").returnValue = "";
  $("key-dialog").showModal();
}
$("key-dialog").addEventListener("close", () => { declined = $("key-dialog").returnValue !== "use"; });
$("key").addEventListener("click", () => askForKey("The key is kept in this browser. Leave it empty to forget it."));
$("key-cancel").addEventListener("click", () => $("key-dialog").close());
$("key-form").addEventListener("submit", () => { useKey($("key-value").value); $("key-value").value = ""; tell(""); begin(); });

$("close").addEventListener("click", () => {
  closing = chosen;
  $("close-title").textContent = `Close ${chosen}?`;
  $("close-dialog").returnValue = "";
  $("close-dialog").showModal();
});
$("close-dialog").addEventListener("close", async () => {
  if ($("close-dialog").returnValue !== "close") { closing = null; return; }
  try { await remove(streamPath(closing)); } catch (error) { problem(error); }
  await list();
  closing = null;
});
$("skip").addEventListener("click", (event) => { event.preventDefault(); $($("panel-ask").hidden ? "watch-question" : "question").focus(); });

const THEMES = ["system", "light", "dark"];
function theme(name) {
  if (name === "system") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = name;
  $("theme").textContent = { system: "Theme: system", light: "Theme: light", dark: "Theme: dark" }[name];
  try { localStorage.setItem("infinipot-theme", name); } catch { /* it lasts as long as the page */ }
  timeline.draw();
}
$("theme").addEventListener("click", () => theme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % 3]));
let kept = "system";
try { kept = localStorage.getItem("infinipot-theme") ?? "system"; } catch { /* as above */ }
theme(THEMES.includes(kept) ? kept : "system");

const tabs = [$("tab-ask"), $("tab-watch")];
function tab(chosenTab) {
  for (const each of tabs) {
    const own = each === chosenTab;
    each.setAttribute("aria-selected", String(own));
    each.tabIndex = own ? 0 : -1;
    $(each.getAttribute("aria-controls")).hidden = !own;
  }
  if (chosenTab === tabs[1]) { watches.seen(); watches.refresh(); }
}
for (const each of tabs) {
  each.addEventListener("click", () => tab(each));
  each.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = tabs[1 - tabs.indexOf(each)];
    tab(other); other.focus();
  });
}
$("live").addEventListener("click", () => { timeline.marks = []; timeline.select(null); });

async function begin() {
  await list();
  await hold();
}

async function rounds() {
  for (let round = 1; ; round += 1) {
    await pause(1000);
    if (document.hidden || $("key-dialog").open) continue;
    await list();
    await hold();
    if (round % 2 === 0 && !$("panel-watch").hidden) await watches.refresh();
  }
}
begin();
rounds();
