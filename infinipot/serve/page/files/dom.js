// Makes elements, and says times and amounts as people read them.

export const $ = (id) => document.getElementById(id);

export function make(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, call] of Object.entries(value)) made.addEventListener(event, call);
    else if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds + 1e-6));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

// When a second of a camera's stream was; null where streams have no time of the day.
function moment(seconds, stream) {
  const camera = stream?.source?.camera;
  return !camera || camera.speed !== 1 || camera.demo ? null : new Date(Date.parse(camera.begun) + seconds * 1000);
}

const hour = (date) => date.toLocaleTimeString([], { hourCycle: "h23" });
const day = (date) => (date.toDateString() === new Date().toDateString() ? "" : `${date.toLocaleDateString([], { day: "numeric", month: "short" })} `);

// A time of a stream: of a camera the time of the day, and the day unless it is today; else the time since the beginning.
export function told(seconds, stream) {
  const date = moment(seconds, stream);
  return date ? day(date) + hour(date) : clock(seconds);
}

export function span(start, end, stream) {
  const [from, to] = [told(start, stream), told(end, stream)];
  if (from === to) return from;
  const [first, last] = [moment(start, stream), moment(end, stream)];
  return `${from} to ${first && first.toDateString() === last.toDateString() ? hour(last) : to}`;
}

export function amount(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit += 1; }
  return `${bytes >= 100 || unit === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
}

export const ago = (seconds) => (seconds < 1 ? "now" : seconds < 90 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`);
export const pause = (milliseconds, signal) => new Promise((done) => {
  const timer = setTimeout(done, milliseconds);
  signal?.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
});
