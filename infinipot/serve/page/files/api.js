// The server's API, with the key that was entered once. Knows no page.

const KEPT = "infinipot-key";
let key = "";
try { key = localStorage.getItem(KEPT) ?? ""; } catch { /* a browser that keeps nothing: the key lasts as long as the page */ }

export class Problem extends Error {
  constructor(message, status) { super(message); this.status = status; }
}

export const hasKey = () => key !== "";

export function useKey(given) {
  key = given.trim();
  try { key ? localStorage.setItem(KEPT, key) : localStorage.removeItem(KEPT); } catch { /* as above */ }
}

export async function call(method, path, body, signal, headers = {}) {
  const sent = { ...headers };
  if (key) sent.Authorization = `Bearer ${key}`;
  const given = { method, headers: sent, signal };
  if (body instanceof Blob) given.body = body;
  else if (body !== undefined) { given.body = JSON.stringify(body); sent["Content-Type"] = "application/json"; }
  let reply;
  try { reply = await fetch(path, given); } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server cannot be reached.", 0);
  }
  if (reply.ok) return reply;
  let message = `The server answered with status ${reply.status}.`;
  try { message = (await reply.json()).error.message; } catch { /* it said no more */ }
  throw new Problem(message.charAt(0).toUpperCase() + message.slice(1), reply.status);
}

export const get = async (path, signal) => (await call("GET", path, undefined, signal)).json();
export const post = async (path, body, signal) => (await call("POST", path, body ?? {}, signal)).json();
export const remove = (path) => call("DELETE", path);

export async function picture(path, signal) {
  const reply = await call("GET", path, undefined, signal);
  if (reply.status === 204) return null;
  return { blob: await reply.blob(), time: Number(reply.headers.get("X-Time")) };
}

// Shows a picture in an element, or takes that away where there is none.
export async function fill(image, path) {
  try {
    const address = URL.createObjectURL((await picture(path)).blob);
    image.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
    image.src = address;
  } catch { image.remove(); }
}

// A WebSocket, which brings the key as a protocol, since browsers set no headers on one.
export function socket(path) {
  const protocols = ["infinipot", ...(key ? [`openai-insecure-api-key.${key}`] : [])];
  return new WebSocket(`${location.origin.replace(/^http/, "ws")}${path}`, protocols);
}

// Yields {event, data, id} of a response of server-sent events.
export async function* events(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => { throw error.name === "AbortError" ? error : new Problem("The connection to the server was lost.", 0); });
    if (done) return;
    held += value;
    let end;
    while ((end = held.indexOf("\n\n")) >= 0) {
      const lines = held.slice(0, end).split("\n");
      held = held.slice(end + 2);
      const found = { event: "message", data: "", id: "" };
      for (const line of lines) {
        const at = line.indexOf(":");
        if (at > 0) found[line.slice(0, at)] = line.slice(at + 1).trimStart();
      }
      if (found.data) yield { ...found, data: JSON.parse(found.data) };
    }
  }
}

export const streamPath = (id, rest = "") => `/v1/streams/${encodeURIComponent(id)}${rest}`;
