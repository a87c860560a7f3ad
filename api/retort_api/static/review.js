// Review a teacher's labels: one picture at a time, by keys, mouse or touch; saved as one goes.

import { Drawing, box, equal, merge, plain, readable } from "./review-boxes.js";
import { Outbox } from "./review-outbox.js";
import { Stage } from "./review-stage.js";

const PAGE = 100;
const AHEAD = 6;
const KEPT = 16;
const LOOK_MS = 5000;
const MINUTES_OF_COMPANY = 10;
const STEP = 0.01;
const COLOURS = 10;
const REVIEWER = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$/;
const FIELDS = { accept: "num_accepted", reject: "num_rejected", edit: "num_edited", open: "num_open" };
const WORDS = { accept: "accepted", reject: "rejected", edit: "edited", open: "open" };

const at = (id) => document.getElementById(id);
const desk = at("desk");
const { job, owner } = desk.dataset;
const classes = JSON.parse(desk.dataset.classes);
const home = `/v1/jobs/${job}/review`;
const editable = desk.dataset.editable === "true";

const images = new Map();  // as the service has them
const order = [];
let whole = false;  // all are listed
let cursor = null;
let current = -1;
let drawing = null;
let newest = null;  // time of the newest decision that is known
let nameOfNew = classes[0];
let counts = null;  // as the service counted them
const done = [], undone = [];  // decisions that can be taken back, and done again
const pictures = new Map();
desk.dataset.late = 0;  // pictures that were not asked for before they were wanted

const colour = (name) => Math.max(0, classes.indexOf(name)) % COLOURS;
const stage = new Stage(at("stage"), { changed: () => changed(), className: () => nameOfNew, colour });
const outbox = new Outbox(job, owner, { tell: () => tell(), settled: (found) => settled(found), conflict: (entry) => conflict(entry) });

// What is known of the images.

async function read(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? `status ${answer.status}`);
  return answer.json();
}

async function more() {
  if (whole) return false;
  const found = await read(`${home}/images?limit=${PAGE}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
  for (const image of found.data) {
    if (!images.has(image.image)) order.push(image.image);
    know(image);
  }
  cursor = found.next_cursor;
  whole = !found.has_more;
  return true;
}

function know(image) {
  images.set(image.image, image);
  mark(image.image);
}

function remember(found) {
  for (const { decision } of found) {
    if (decision && (!newest || Date.parse(decision.at) > Date.parse(newest))) newest = decision.at;
  }
}

/** Return what is decided, in the browser or on the service. */
function decided(name) {
  const mine = outbox.of(name);
  if (mine && !mine.theirs) return mine.decision === "open" ? null : mine;
  return images.get(name).decision;
}

function boxesOf(name) {
  const found = decided(name);
  return (found?.decision === "edit" ? found.boxes : images.get(name).boxes).map(plain);
}

function mark(name) {
  const badge = at(`state-${name}`);
  if (badge) badge.textContent = WORDS[decided(name)?.decision ?? "open"];
}

// Pictures are fetched and decoded before they are shown.

function picture(name) {
  let found = pictures.get(name);
  if (!found) {
    found = new Image();
    found.alt = "";
    found.draggable = false;
    found.src = images.get(name).links.picture;
    found.ready = found.decode().catch(() => { found.broken = true; });
  }
  pictures.delete(name);
  pictures.set(name, found);
  while (pictures.size > KEPT) pictures.delete(pictures.keys().next().value);
  return found;
}

function ahead() {
  const following = [current + 1, current - 1];
  for (let index = current + 1; index < order.length && following.length < AHEAD; index += 1) {
    if (!decided(order[index])) following.push(index);
  }
  for (const index of following) if (order[index]) picture(order[index]);
  if (!whole && order.length - current < PAGE / 2) more().then(ahead).catch(said);
}

async function show(index) {
  leave();
  while (index >= order.length && (await more()));
  if (index < 0 || index >= order.length) return;
  current = index;
  const name = order[index], image = images.get(name), entry = outbox.of(name);
  if (!pictures.has(name)) desk.dataset.late = Number(desk.dataset.late) + 1;
  const shown = picture(name);
  at("picture").hidden = false;
  at("finished").hidden = true;
  drawing = entry?.theirs ? merged(entry) : new Drawing(boxesOf(name), draft(name) ?? boxesOf(name));
  drawing.version = image.version;  // what is decided now is decided upon this
  stage.show(shown, image, drawing, { editable });
  at("stage").setAttribute("aria-label", `Picture ${index + 1}: ${readable(image.file)}`);
  history.replaceState(null, "", `#image-${name}`);
  note(entry?.theirs ? disagreement(entry) : "");
  tell();
  changed();
  ahead();
  await shown.ready;
  if (order[current] !== name) return;
  if (shown.broken) note("The picture cannot be loaded.");
  stage.render();
  at("stage").dataset.image = name;
}

// Boxes that were changed and not decided about are kept through a reload.

const draftKey = (name) => `retort-draft/${job}/${owner}/${name}`;

function draft(name) {
  try { return JSON.parse(localStorage.getItem(draftKey(name))); } catch { return null; }
}

function keepDraft() {
  const name = order[current];
  try {
    if (drawing.changed) localStorage.setItem(draftKey(name), JSON.stringify(drawing.boxes));
    else localStorage.removeItem(draftKey(name));
  } catch { /* it is kept in this page alone */ }
}

/** Leaving a picture whose boxes were changed saves them. */
function leave() {
  if (editable && drawing?.changed && !outbox.of(order[current])?.theirs) save("edit", drawing.boxes);
}

// Deciding.

function save(decision, boxes, record = true) {
  const name = order[current], image = images.get(name), entry = outbox.of(name), before = decided(name);
  const kind = decision === "edit" && equal(boxes, image.boxes) ? "accept" : decision;
  const wanted = { image: name, decision: kind, boxes, reviewer: reviewer(), version: drawing?.version ?? image.version, base: drawing?.before ?? boxesOf(name) };
  if (record) {
    done.push({ image: name, before: before && { decision: before.decision, boxes: before.boxes }, after: { decision: kind, boxes } });
    undone.length = 0;
  }
  drawing = Object.assign(new Drawing(boxes), { version: wanted.version });
  keepDraft();
  if (entry?.theirs) outbox.resolve({ ...wanted, version: entry.theirs.version });
  else outbox.put(wanted);
  mark(name);
}

async function decide(decision) {
  if (!editable || current < 0 || !at("finished").hidden) return;
  const name = order[current], was = decided(name), entry = outbox.of(name);
  const boxes = decision === "reject" ? boxesOf(name) : drawing.boxes;
  const same = was?.decision === "reject" ? decision === "reject" : was && decision !== "reject" && !drawing.changed;
  if (!same || entry?.theirs) save(decision === "accept" ? "edit" : decision, boxes);
  await next();
}

async function next() {
  const isOpen = (name) => !decided(name) || outbox.of(name)?.theirs;
  let index = current + 1;
  for (;;) {
    while (index < order.length && !isOpen(order[index])) index += 1;
    if (index < order.length) return show(index);
    if (!(await more())) break;
  }
  const first = order.findIndex(isOpen);
  return first < 0 ? finish() : show(first);
}

function finish() {
  leave();
  drawing = null;
  at("picture").hidden = true;
  at("finished").hidden = false;
  at("stage").dataset.image = "";
  tell();
  at("finished").focus();
}

async function undo() {
  if (drawing?.undo()) return changed();
  const last = done.pop();
  if (!last) return note("There is nothing to undo.");
  undone.push(last);
  return again(last, last.before, "Undone");
}

async function redo() {
  if (drawing?.redo()) return changed();
  const last = undone.pop();
  if (!last) return note("There is nothing to do again.");
  done.push(last);
  return again(last, last.after, "Done again");
}

async function again({ image }, wanted, word) {
  leave();
  drawing = null;
  current = order.indexOf(image);
  const now = images.get(image).decision;
  if (now && now.reviewer !== reviewer() && !outbox.of(image)) {
    await show(current);
    return note(`${now.reviewer} has ${WORDS[now.decision]} this picture since: nothing is changed.`);
  }
  const boxes = wanted?.decision === "edit" ? wanted.boxes : images.get(image).boxes;
  save(wanted?.decision ?? "open", boxes.map(plain), false);
  drawing = null;
  await show(current);
  note(`${word}: ${WORDS[wanted?.decision ?? "open"]}.`);
}

// Others who review at the same time.

function merged(entry) {
  const theirs = entry.theirs.decision.decision === "edit" ? entry.theirs.decision.boxes : entry.theirs.boxes;
  return new Drawing(theirs.map(plain), merge(entry.base, entry.boxes, theirs.map(plain)));
}

function disagreement({ decision, theirs }) {
  const { reviewer: who, decision: what } = theirs.decision;
  return `${who} has ${WORDS[what]} this picture meanwhile, you have ${WORDS[decision]} it. Shown are the boxes of both: decide again, or keep theirs.`;
}

function conflict(entry) {
  if (order[current] === entry.image) show(current).catch(said);
  tell();
}

function keepTheirs() {
  const entry = [...outbox.entries.values()].find((one) => one.theirs);
  if (!entry) return;
  outbox.drop(entry.image);
  if (order[current] === entry.image) drawing = null;
  know(entry.theirs);
  next();
}

function settled(found) {
  const before = images.get(found.image)?.decision?.decision ?? "open", after = found.decision?.decision ?? "open";
  if (counts) {
    counts[FIELDS[before]] -= 1;
    counts[FIELDS[after]] += 1;
  }
  know(found);
  if (order[current] === found.image && drawing) drawing.version = found.version;
}

async function look() {
  if (document.hidden) return;
  try {
    const since = newest ? `&decided_since=${encodeURIComponent(newest)}` : "";
    for (let behind = ""; behind !== null;) {
      const found = await read(`${home}/images?decided=true&limit=200${since}${behind && `&cursor=${encodeURIComponent(behind)}`}`);
      found.data.forEach(met);
      remember(found.data);
      behind = found.next_cursor;
    }
    counts = await read(home);
    if (counts.state !== "awaiting_review" && editable) location.reload();
  } catch { /* the outbox tells when the service does not answer */ }
  tell();
}

function met(image) {
  const known = images.get(image.image);
  if (!known || known.version === image.version || outbox.of(image.image)) return;
  know(image);
  if (order[current] !== image.image || drawing?.changed || at("picture").hidden) return;
  show(current).then(() => note(`${image.decision.reviewer} has just ${WORDS[image.decision.decision]} this picture.`));
}

/** Two who begin at the same time begin at different places. */
function start() {
  const again = order.findIndex((name) => outbox.of(name)?.theirs);
  if (again >= 0) return again;
  const named = order.indexOf(decodeURIComponent(location.hash).replace("#image-", ""));
  if (named >= 0) return named;
  const open = order.map((_, index) => index).filter((index) => !decided(order[index]));
  const since = Date.now() - 60000 * MINUTES_OF_COMPANY;
  const other = [...images.values()].find(({ decision }) => decision && decision.reviewer !== reviewer() && Date.parse(decision.at) > since);
  if (!other || open.length < 4) return open[0] ?? -1;
  said(`${other.decision.reviewer} reviews too: you begin in the middle.`);
  return open[Math.floor(open.length / 2)];
}

// What is told.

function note(text) {
  at("note").textContent = text;
  at("note").hidden = !text;
  at("theirs").hidden = !(order[current] && outbox.of(order[current])?.theirs);
}

function said(error) { note(error.message ?? String(error)); }

function changed() {
  if (!drawing) return;
  if (editable) keepDraft();
  stage.drawing = drawing;
  stage.render();
  const name = order[current], found = decided(name), chosen = drawing.box;
  at("file").textContent = readable(images.get(name).file);
  at("place").textContent = `${current + 1} of ${desk.dataset.images}`;
  const by = found ? ` by ${found.reviewer}` : "";
  at("verdict").textContent = drawing.changed ? "changed, not yet decided" : WORDS[found?.decision ?? "open"] + by;
  at("picture").classList.toggle("rejected", found?.decision === "reject");
  const list = drawing.boxes.map((one, index) => {
    const item = document.createElement("li"), button = document.createElement("button");
    const score = images.get(name).boxes.find((other) => equal([other], [one]))?.score;
    button.type = "button";
    button.className = `quiet hue${colour(one.name)}`;
    button.textContent = readable(one.name) + (score === undefined ? "" : ` ${score.toFixed(2)}`);
    button.setAttribute("aria-pressed", index === drawing.selected);
    button.addEventListener("click", () => { drawing.select(index); changed(); at("stage").focus(); });
    item.append(button);
    return item;
  });
  at("boxes").replaceChildren(...list);
  at("chosen").textContent = chosen ? `Box ${drawing.selected + 1} of ${drawing.boxes.length}: ${readable(chosen.name)}` : "";
  at("new-class").textContent = readable(chosen?.name ?? nameOfNew);
  for (const button of desk.querySelectorAll("[data-act=delete]")) button.disabled = !chosen;
}

function tell() {
  const entries = [...outbox.entries.values()];
  const conflicts = entries.filter((one) => one.theirs).length;
  const refused = entries.find((one) => one.refused);
  const waiting = entries.length - conflicts;
  const words = [waiting ? `${waiting} not saved yet. ${outbox.problem}` : "All is saved."];
  if (conflicts) words.push(`${conflicts} to decide again.`);
  if (refused) words.push(`Not taken: ${refused.refused}`);
  if (!outbox.kept) words.push("This browser keeps nothing: do not close the page.");
  at("saved").textContent = words.join(" ");
  at("discard").hidden = !refused;
  at("again").hidden = !entries.some((one) => one.theirs && one.image !== order[current]);
  at("saved").classList.toggle("bad", Boolean(refused || conflicts || outbox.problem));
  if (counts) progress(entries);
}

function progress(entries) {
  const now = Object.fromEntries(Object.entries(FIELDS).map(([what, field]) => [what, counts[field]]));
  for (const { image, decision, theirs } of entries) {
    if (!images.has(image) || theirs) continue;
    now[images.get(image).decision?.decision ?? "open"] -= 1;
    now[decision] += 1;
  }
  const total = counts.num_images - now.open;
  at("progress").value = total;
  at("counts").textContent = `${total} of ${counts.num_images} decided: ${now.accept} accepted, ${now.reject} rejected, ${now.edit} edited`;
  for (const part of document.querySelectorAll("[data-open]")) part.textContent = now.open;
  for (const part of document.querySelectorAll("[data-if-open]")) part.hidden = (part.dataset.ifOpen === "true") !== now.open > 0;
}

function reviewer() {
  const given = at("reviewer").value.trim();
  return REVIEWER.test(given) ? given : owner;
}

// Keys and buttons: each act has a name.

const acts = {
  accept: () => decide("accept"),
  reject: () => decide("reject"),
  next: () => show(current + 1),
  previous: () => show(at("picture").hidden ? order.length - 1 : current - 1),
  open: () => { leave(); return next(); },
  undo, redo,
  draw: () => {
    if (!editable || !drawing) return;
    stage.free = !stage.free;
    at("stage").classList.toggle("free", stage.free);
    for (const button of desk.querySelectorAll("[data-act=draw]")) button.setAttribute("aria-pressed", stage.free);
  },
  add: () => edit(() => drawing.add(box(nameOfNew, 0.4, 0.4, 0.6, 0.6))),
  delete: () => edit(() => drawing.remove()),
  teacher: () => edit(() => drawing.set(images.get(order[current]).boxes)),
  doubtful: () => edit(() => drawing.set([...drawing.boxes, ...images.get(order[current]).doubtful])),
  after: () => { drawing?.cycle(1); changed(); },
  before: () => { drawing?.cycle(-1); changed(); },
  none: () => { drawing?.select(-1); changed(); },
  hide: () => { stage.hidden = !stage.hidden; stage.render(); },
  larger: () => stage.enlarge(1.5),
  smaller: () => stage.enlarge(1 / 1.5),
  fit: () => stage.fit(),
  class: () => editable && openClasses(),
  help: () => at("keys").showModal(),
  theirs: keepTheirs,
  again: () => show(order.findIndex((name) => name !== order[current] && outbox.of(name)?.theirs)),
  discard: () => [...outbox.entries.values()].filter((one) => one.refused).forEach((one) => outbox.drop(one.image)),
};

const KEYS = {
  a: "accept", Enter: "accept", r: "reject", j: "next", k: "previous", o: "open", u: "undo", z: "undo", y: "redo",
  d: "draw", n: "add", x: "delete", Delete: "delete", Backspace: "delete", t: "teacher", g: "doubtful", ".": "after",
  ",": "before", Escape: "none", h: "hide", "+": "larger", "=": "larger", "-": "smaller", f: "fit", c: "class", "?": "help",
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function edit(change) {
  if (!editable || !drawing) return;
  change();
  changed();
}

function rename(name) {
  if (!name) return;
  nameOfNew = name;
  edit(() => drawing.rename(name));
}

function arrow([x, y], event) {
  if (!drawing?.box) {
    if (x) show(current + x).catch(said);
    return;
  }
  const step = STEP / stage.zoom / (event.altKey ? 4 : 1);
  edit(() => drawing.nudge(event.shiftKey ? "se" : "move", x * step, y * step));
}

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (target.closest("input, select, textarea, dialog")) return;
  if (event.ctrlKey || event.metaKey) {
    const act = { z: event.shiftKey ? "redo" : "undo", Z: "redo", y: "redo" }[key];
    if (act) { event.preventDefault(); run(act); }
    return;
  }
  if (!at("single").checked && target !== at("stage")) return;
  if (target.closest("button, a, summary") && ["Enter", " "].includes(key)) return;
  const act = KEYS[key.length === 1 ? key.toLowerCase() : key];
  if (ARROWS[key] && !at("picture").hidden) { event.preventDefault(); return void arrow(ARROWS[key], event); }
  if (/^[0-9]$/.test(key)) return void rename(classes[(Number(key) + 9) % 10]);
  if (act) { event.preventDefault(); run(act); }
});

function run(name) { Promise.resolve(acts[name]()).catch(said); }

desk.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (button) run(button.dataset.act);
});

// Classes by name: any number of them.

function openClasses() {
  at("class-search").value = "";
  listClasses();
  at("class-dialog").showModal();
}

function listClasses() {
  const words = at("class-search").value.toLowerCase();
  const found = classes.filter((name) => name.toLowerCase().includes(words));
  at("class-list").replaceChildren(...found.map((name) => {
    const item = document.createElement("li"), button = document.createElement("button");
    button.className = `quiet hue${colour(name)}`;
    button.value = name;
    button.textContent = readable(name);
    item.append(button);
    return item;
  }));
}

at("class-search").addEventListener("input", listClasses);
at("class-dialog").addEventListener("close", () => at("stage").focus());
at("class-dialog").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = event.submitter?.value || at("class-list").querySelector("button")?.value;
  at("class-dialog").close();
  rename(name);  // at once: the next key may already decide
});
at("keys").addEventListener("close", () => at("stage").focus());

at("reviewer").addEventListener("change", () => {
  at("reviewer").setAttribute("aria-invalid", !REVIEWER.test(at("reviewer").value.trim()));
  try { localStorage.setItem("retort-reviewer", reviewer()); } catch { /* it counts in this page */ }
});

at("complete")?.addEventListener("submit", async (event) => {
  leave();
  event.target.elements.reviewer.value = reviewer();
  if (!outbox.size) return;
  event.preventDefault();
  event.stopPropagation();
  await outbox.wake();
  if (outbox.size) note("Not everything is saved yet: complete the review when it is.");
  else event.target.requestSubmit(event.submitter);
});

for (const link of document.querySelectorAll("[data-image-link]")) {
  link.addEventListener("click", async (event) => {
    event.preventDefault();
    while (!images.has(link.dataset.imageLink) && (await more()));
    await show(order.indexOf(link.dataset.imageLink)).catch(said);
    at("stage").focus();
    desk.scrollIntoView();
  });
}

addEventListener("beforeunload", (event) => {
  if (outbox.size && !outbox.kept) event.preventDefault();
});

try { at("reviewer").value = localStorage.getItem("retort-reviewer") || owner; } catch { /* as the page has it */ }
desk.hidden = false;
try {
  counts = await read(home);
  await more();
  remember(images.values());
  while (!order.some((name) => !decided(name)) && (await more()));
  outbox.wake();
  const first = start();
  if (first < 0) finish();
  else await show(first);
  at("stage").focus({ preventScroll: true });
  setInterval(look, LOOK_MS);
  tell();
} catch (error) {
  said(error);
}
