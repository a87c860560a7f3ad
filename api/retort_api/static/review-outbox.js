// Decisions on their way to the service: kept in the browser until they are taken, sent one after the other.

import { equal } from "./review-boxes.js";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15000;
const WORTH_REPEATING = new Set([408, 425, 429, 500, 502, 503, 504, 507]);

/** Return whether a decision that the service has is the one that was wanted. */
function agrees(wanted, found) {
  if (wanted.decision === "open" || !found) return wanted.decision === "open" && !found;
  if (wanted.decision !== found.decision) return false;
  return wanted.decision !== "edit" || equal(wanted.boxes, found.boxes);
}

/**
 * What was decided and is not saved yet.
 *
 * Each entry has an item of its own in the browser's storage, so that pages side by side lose nothing of each other.
 * `tell` is called after each change; `settled` with each image as the service has it; `conflict` with an entry and
 * the image that somebody else has decided about.
 */
export class Outbox {
  constructor(job, owner, { tell, settled, conflict }) {
    this.home = `/v1/jobs/${job}/review/images`;
    this.prefix = `retort-review/${job}/${owner}/`;
    Object.assign(this, { tell, settled, conflict });
    this.entries = new Map();
    this.problem = "";
    this.kept = true;
    this.pause = FIRST_PAUSE_MS;
    this.sending = false;
    this.#load();
    addEventListener("online", () => this.wake());
    addEventListener("focus", () => this.wake());
  }

  get size() { return this.entries.size; }
  of(image) { return this.entries.get(image); }

  /** Keep a decision and send it; a later one about the same image takes its place. */
  put(entry) {
    const before = this.entries.get(entry.image);
    // What is on its way or waits was decided upon the version that was seen first.
    const seen = before ? { version: before.version, base: before.base } : {};
    this.#keep({ ...entry, ...seen, at: Date.now() + Math.random() });
    this.wake();
  }

  /** Decide again upon what somebody else has decided meanwhile. */
  resolve(entry) {
    this.#keep({ ...entry, at: Date.now() + Math.random() });
    this.wake();
  }

  drop(image) {
    this.entries.delete(image);
    try { localStorage.removeItem(this.prefix + image); } catch { /* nothing was kept */ }
    this.tell();
  }

  async wake() {
    clearTimeout(this.timer);
    if (this.sending) return;
    this.sending = true;
    try {
      for (let entry = this.#next(); entry; entry = this.#next()) {
        if (!(await this.#send(entry))) break;
      }
    } finally {
      this.sending = false;
      this.tell();
    }
  }

  #next() {
    return [...this.entries.values()].filter((one) => !one.refused && !one.theirs).sort((a, b) => a.at - b.at)[0];
  }

  /** Return whether to go on with the next one. */
  async #send(entry) {
    const answer = await this.#ask(entry).catch(() => null);
    const found = answer && (await answer.json().catch(() => null));
    if (!found || WORTH_REPEATING.has(answer.status)) return this.#later(answer, found);
    this.pause = FIRST_PAUSE_MS;
    this.problem = "";
    if (answer.ok) return this.#taken(entry, found);
    if (answer.status === 412) return this.#differs(entry);
    if (answer.status === 401) {
      this.problem = "You are logged out: log in again in another tab.";
      return false;
    }
    this.#keep({ ...this.entries.get(entry.image), refused: found.detail || `status ${answer.status}` });
    return true;
  }

  #ask(entry) {
    const headers = { "If-Match": `"${entry.version}"`, "Content-Type": "application/json" };
    const address = `${this.home}/${encodeURIComponent(entry.image)}`;
    if (entry.decision === "open") return fetch(address, { method: "DELETE", headers });
    const boxes = entry.decision === "edit" ? { boxes: entry.boxes } : {};
    const body = JSON.stringify({ decision: entry.decision, reviewer: entry.reviewer, ...boxes });
    return fetch(address, { method: "PUT", headers, body });
  }

  #later(answer, found) {
    this.problem = answer && found?.detail ? found.detail : "The service does not answer.";
    const asked = 1000 * Number(answer?.headers.get("Retry-After") || 0);
    this.timer = setTimeout(() => this.wake(), Math.max(asked, this.pause));
    this.pause = Math.min(LONGEST_PAUSE_MS, 2 * this.pause);
    return false;
  }

  #taken(entry, found) {
    const now = this.entries.get(entry.image);
    if (now && now.at !== entry.at) this.#keep({ ...now, version: found.version, base: entry.boxes });  // decided again
    else this.drop(entry.image);
    this.settled(found);
    return true;
  }

  /** Somebody has decided meanwhile, or an answer was lost on its way. */
  async #differs(entry) {
    const address = `${this.home}/${encodeURIComponent(entry.image)}`;
    const answer = await fetch(address).catch(() => null);
    const found = answer?.ok && (await answer.json().catch(() => null));
    if (!found) return this.#later(answer, null);
    const now = this.entries.get(entry.image) ?? entry;
    if (agrees(now, found.decision)) this.drop(entry.image);
    else if (!found.decision || agrees(entry, found.decision)) this.#keep({ ...now, version: found.version });
    else {
      this.#keep({ ...now, version: found.version, theirs: found });
      this.conflict(this.entries.get(entry.image), found);
    }
    this.settled(found);
    return true;
  }

  #keep(entry) {
    this.entries.set(entry.image, entry);
    try {
      localStorage.setItem(this.prefix + entry.image, JSON.stringify(entry));
      this.kept = true;
    } catch {
      this.kept = false;
    }
    this.tell();
  }

  #load() {
    let names = [];
    try { names = Object.keys(localStorage).filter((name) => name.startsWith(this.prefix)); } catch { return; }
    for (const name of names) {
      try {
        const entry = JSON.parse(localStorage.getItem(name));
        this.entries.set(entry.image, { ...entry, refused: undefined });
      } catch { localStorage.removeItem(name); }
    }
  }
}
