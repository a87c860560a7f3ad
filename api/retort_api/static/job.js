// Follow one job over one stream: progress at once, the parts that change a moment later.
import { parsed } from "./markup.js";
import { loggedOut, over, trouble } from "./trouble.js";

const root = document.getElementById("job");
const OFTEN = new Set(["state", "stage", "finished", "failed", "stopped", "awaiting_review", "artifact", "health", "end"]);
const QUIET_MS = 400, BUSY_MS = 2500, AGAIN_MS = 3000;
let pending = null, last = 0;

/** Seconds in words, as the server says them. */
function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds)), minutes = Math.floor(whole / 60), hours = Math.floor(minutes / 60);
  if (whole < 60) return `${whole} s`;
  if (!hours) return minutes < 10 && whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${hours / 24} d`;
}

function progress(data) {
  const bar = document.getElementById("job-progress");
  if (!bar) return refresh();
  bar.value = data.progress;
  const share = `${Math.round(100 * data.progress)} %`;
  document.getElementById("job-share").textContent = share;
  document.title = document.title.replace(/^\d+ %/, share);
  if (data.eta_s !== null) document.getElementById("job-eta").textContent = `${duration(data.eta_s)} to go`;
}

/** Whether somebody is about to act in a part: it then stays as it is. */
function inUse(part) {
  return part.contains(document.activeElement) || part.querySelector(".ask[open]") !== null;
}

function replace(part, fresh) {
  const open = [...part.querySelectorAll("details")].map((one) => one.open);
  const box = part.querySelector("#lines"), low = box && box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  const kept = box && box.scrollTop;
  part.replaceWith(fresh);
  fresh.querySelectorAll("details").forEach((one, at) => { if (open[at]) one.open = true; });
  const lines = fresh.querySelector("#lines");
  if (lines) lines.scrollTop = low ? lines.scrollHeight : kept;
}

/** What was told of a press of a button is over once the job is in another state or stage. */
function moved(stands) {
  if (stands !== root.dataset.stands) document.querySelector(".flash")?.remove();
  root.dataset.stands = stands;
}

/** Renew the parts of the page; return the page, or the answer where there was none. */
async function load() {
  pending = null;
  last = performance.now();
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer || loggedOut(answer) || !answer.ok) return answer;
  const page = parsed(await answer.text());
  document.title = page.title;
  moved(page.getElementById("job").dataset.stands);
  for (const part of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(part.id);
    if (part.id === "job-log" && !document.getElementById("follow")?.checked) continue;
    if (fresh && !inUse(part)) replace(part, document.adoptNode(fresh));
  }
  return page;
}

function refresh(quiet = QUIET_MS) {
  const wait = Math.max(quiet, last + BUSY_MS - performance.now());
  pending ??= setTimeout(load, wait);
}

function told(message) {
  const data = JSON.parse(message.data);
  const said = data.data ?? data;
  if (message.type === "progress") progress(said);
  else if (message.type === "metric") {
    document.dispatchEvent(new CustomEvent("job-metric", { detail: { ...said, at: data.at } }));
    refresh(BUSY_MS);
  } else if (OFTEN.has(message.type)) refresh();
  else if (document.getElementById("job-log") || ["warning", "error"].includes(data.level)) refresh();
}

// A browser tries again by itself where a stream breaks off, and gives up where the service refuses it.
let stream = null, seq = root?.dataset.seq, lost = false;

function follow() {
  stream = new EventSource(`/v1/jobs/${root.dataset.job}/stream?after=${seq}`);
  for (const type of [...OFTEN, "progress", "metric", "log", "checkpoint"]) {
    stream.addEventListener(type, (message) => { seq = message.lastEventId || seq; told(message); });
  }
  stream.addEventListener("open", found);
  stream.addEventListener("error", lose);
  stream.addEventListener("end", () => stream.close());
}

function found() {
  over("stream");
  if (lost) refresh();
  lost = false;
}

async function lose() {
  lost = true;
  const closed = stream.readyState === EventSource.CLOSED, page = closed ? await load() : null;
  if (page instanceof Document && "ended" in page.getElementById("job").dataset) return over("stream");
  if (page?.status === 404) return trouble("stream", "This job is gone.");
  if (lost) trouble("stream", "The connection is lost. The page shows how the job was, and goes on by itself.");
  if (closed && page?.status !== 401 && !page?.redirected) setTimeout(follow, AGAIN_MS);
}

if (root && !("ended" in root.dataset)) {
  follow();
  addEventListener("pagehide", () => stream.close());
  addEventListener("pageshow", (event) => { if (event.persisted) follow(); });
}

const lines = document.getElementById("lines");
if (lines && document.getElementById("follow")?.checked) lines.scrollTop = lines.scrollHeight;

// One question at a time: opening one closes the others, and Escape closes all.
document.addEventListener("toggle", (event) => {
  if (!event.target.matches?.(".ask[open]")) return;
  document.querySelectorAll(".ask[open]").forEach((one) => { if (one !== event.target) one.open = false; });
}, true);
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = document.querySelector(".ask[open]");
  if (open) { open.open = false; open.querySelector("summary").focus(); }
});
