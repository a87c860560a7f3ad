// Send a dataset: packed, digested and resumed as by the command line, so that what either has sent is known to both.

const PART = 8 * 2 ** 20, MOST_PARTS = 20000, LEAST_GROUP = 2 ** 20, MOST_GROUPS = 8000, CUT = 4, BLOCK = 512;
const AT_A_TIME = 3, TRIES = 6, LONGEST_PAUSE_S = 60, LOOK_S = 1, SHOWN = 20;
const WORTH_REPEATING = new Set([429, 502, 503, 504]);
const at = (id) => document.getElementById(id);
const KINDS = new Set(at("form").dataset.kinds.split(" "));
const encoder = new TextEncoder();
let chosen = null;

class Refusal extends Error {
  constructor(detail, hint) { super(detail + (hint ? " (" + hint + ")" : "")); }
}

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
const sum = (pieces) => pieces.reduce((total, piece) => total + piece.size, 0);
const whole = (bytes) => ({size: bytes.length, read: () => bytes});
const slice = (file, from, to) => ({size: to - from, read: () => file.slice(from, to)});
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

function tell(text, done, total) {
  if (at("state").textContent !== text) { at("state").textContent = text; }
  at("progress").hidden = total === undefined;
  if (total !== undefined) { at("progress").max = total || 1; at("progress").value = done; }
}

function list(lines) {
  for (const line of lines) {
    const item = document.createElement("li");
    item.textContent = line;
    at("told").append(item);
  }
}

// A tar file as the command line makes it, so that what either has sent is not sent again by the other.

function head(name, size, type, mode) {
  const bytes = new Uint8Array(BLOCK);
  const put = (place, text) => bytes.set(encoder.encode(text), place);
  const octal = (number, digits) => number.toString(8).padStart(digits, "0") + "\0";
  put(0, Array.from(name, (one) => (one > "\x7f" ? "?" : one)).slice(0, 100).join(""));
  put(100, octal(mode, 7) + octal(0, 7) + octal(0, 7) + octal(size, 11) + octal(0, 11) + "        " + type);
  put(257, "ustar\x0000");
  put(148, octal(bytes.reduce((total, byte) => total + byte, 0), 6));
  return bytes;
}

function longName(name) {
  const rest = encoder.encode(" path=" + name + "\n").length;
  let size = rest;
  while (size !== rest + String(size).length) { size = rest + String(size).length; }
  const record = new Uint8Array(Math.ceil(size / BLOCK) * BLOCK);
  record.set(encoder.encode(size + " path=" + name + "\n"));
  return [head("././@PaxHeader", size, "x", 0), record];
}

function packed(name, file) {
  const plain = name.length <= 100 && /^[\x00-\x7f]*$/.test(name);
  const about = [...(plain ? [] : longName(name)), head(name, file.size, "0", 0o644)];
  const heads = new Uint8Array(about.reduce((total, one) => total + one.length, 0));
  about.reduce((place, one) => { heads.set(one, place); return place + one.length; }, 0);
  const padding = whole(new Uint8Array((BLOCK - (file.size % BLOCK)) % BLOCK));
  return [whole(heads), slice(file, 0, file.size), padding];
}

function cut([heads, , padding], file, parts) {
  const size = Math.max(PART, Math.ceil(file.size / (MOST_PARTS / 4)));
  for (let from = 0; from < file.size; from += size) {
    const end = Math.min(file.size, from + size);
    parts.push([...(from ? [] : [heads]), slice(file, from, end), ...(end === file.size ? [padding] : [])]);
  }
}

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) { crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0); }
  }
  return (crc ^ 0xffffffff) >>> 0;
}

function ofFolder(found) {
  const total = found.reduce((all, [, file]) => all + file.size, 0);
  const least = Math.max(LEAST_GROUP, Math.floor(total / MOST_GROUPS)), most = Math.max(PART, 2 * least);
  const parts = [];
  let group = [], held = 0;
  const end = () => { parts.push(group); group = []; held = 0; };
  for (const [name, file] of found) {
    const pieces = packed(name, file), size = sum(pieces);
    if (held && held + size > most) { end(); }
    if (size > most) { cut(pieces, file, parts); continue; }
    group.push(...pieces);
    held += size;
    if (held >= least && crc32(encoder.encode(name)) % CUT === 0) { end(); }
  }
  group.push(whole(new Uint8Array(2 * BLOCK)));
  end();
  return parts;
}

function ofArchive(file) {
  if (!file.size) { throw new Refusal("the file is empty", "choose another one"); }
  const size = Math.max(PART, Math.ceil(file.size / MOST_PARTS)), parts = [];
  for (let from = 0; from < file.size; from += size) {
    parts.push([slice(file, from, Math.min(file.size, from + size))]);
  }
  return parts;
}

// What no dataset is read from stays where it is, as with the command line; each such file is told.

function sortedOut(files) {
  const found = [], left = [];
  for (const [name, file] of files) {
    const ending = (/[^/]\.[^./]*$/.exec(name) || [""])[0].slice(1).toLowerCase();
    const hidden = name.split("/").some((one) => one.startsWith("."));
    if (/[\ud800-\udfff]/u.test(name)) { left.push(name + ": its name is no text"); }
    else if (file.size >= 8 ** 11) { left.push(name + ": too large for a file of a folder; send an archive"); }
    else if (hidden || !KINDS.has(ending)) { left.push(name + ": no image, label or description"); }
    else { found.push([name, file]); }
  }
  found.sort(([one], [other]) => (one < other ? -1 : 1));
  if (left.length) {
    list(["Not sent: " + left.length + (left.length === 1 ? " file" : " files"), ...left.slice(0, SHOWN)]);
    if (left.length > SHOWN) { list(["and " + (left.length - SHOWN) + " more"]); }
  }
  if (!found.length) { throw new Refusal("the folder holds no image, label or description", "choose a dataset's"); }
  return found;
}

async function read(part) {
  try { return await new Blob(part.map((piece) => piece.read())).arrayBuffer(); }
  catch (error) { throw new Refusal("a file cannot be read, or has changed since it was chosen", "choose it again"); }
}

async function digest(bytes) { return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)); }

async function ask(method, address, content, headers = {}) {
  const request = {method, headers};
  if (content instanceof ArrayBuffer) { request.body = content; headers["Content-Type"] = "application/octet-stream"; }
  else if (content) { request.body = JSON.stringify(content); headers["Content-Type"] = "application/json"; }
  for (let tries = 1; ; tries += 1) {
    const answer = await fetch(address, request).catch(() => null);
    const found = answer && (await answer.json().catch(() => null));
    if (answer && answer.ok && found) { return found; }
    const again = !found || WORTH_REPEATING.has(answer.status) || found.code === "bad_digest";
    if (!again || tries === TRIES) {
      if (found && found.detail) { throw new Refusal(found.detail, found.hint); }
      throw new Refusal("the service does not answer", "press Send to go on where it was");
    }
    const asked = Number(answer && answer.headers.get("Retry-After")) || 0;
    await pause(Math.min(LONGEST_PAUSE_S, Math.max(asked, 2 ** (tries - 2)) * (1 + Math.random() / 4)));
  }
}

async function announced(parts) {
  const total = parts.reduce((all, part) => all + sum(part), 0), digests = [];
  let done = 0;
  for (const part of parts) {
    digests.push(await digest(await read(part)));
    done += sum(part);
    tell("Reading: " + Math.floor((100 * done) / total) + " %", done, total);
  }
  return {total, digests};
}

// An upload that was begun earlier is kept in mind by its parts; should that be lost, its parts are still known.

async function begun(parts, {total, digests}, name) {
  const mark = "upload " + hex(await digest(await new Blob(digests).arrayBuffer()));
  const kept = localStorage.getItem(mark);
  if (kept) {
    const answer = await fetch("/v1/uploads/" + encodeURIComponent(kept)).catch(() => null);
    if (answer && answer.ok) { return [await answer.json(), mark]; }
  }
  const told = digests.map((one, number) => ({sha256: hex(one), size_bytes: sum(parts[number])}));
  const plain = Array.from(name).slice(0, 200).join("").replace(/[\x00-\x1f\x7f-\x9f/\\]|[\ud800-\udfff]/gu, "_");
  const wanted = {size_bytes: total, name: plain, parts: told};
  if (told.length === 1) { wanted.sha256 = told[0].sha256; }
  const upload = await ask("POST", "/v1/uploads", wanted);
  localStorage.setItem(mark, upload.id);
  return [upload, mark];
}

async function sent(parts, name) {
  const {total, digests} = await announced(parts);
  const [upload, mark] = await begun(parts, {total, digests}, name);
  if (upload.state === "complete") { return [upload, mark]; }
  const missing = [...upload.missing];
  let done = total - missing.reduce((all, number) => all + sum(parts[number - 1]), 0);
  const show = () => tell("Sending: " + Math.floor((100 * done) / total) + " %", done, total);
  const carry = async () => {
    for (let number = missing.shift(); number; number = missing.shift()) {
      const proof = btoa(String.fromCharCode(...digests[number - 1]));
      const headers = {"Repr-Digest": "sha-256=:" + proof + ":"};
      await ask("PUT", upload.links.self + "/parts/" + number, await read(parts[number - 1]), headers);
      done += sum(parts[number - 1]);
      show();
    }
  };
  show();
  await Promise.all(Array.from({length: AT_A_TIME}, () => carry().finally(() => { missing.length = 0; })));
  tell("Sent. The service puts it together.");
  return [await ask("POST", upload.links.complete), mark];
}

async function lookedThrough(dataset) {
  while (!dataset.ended_at) {
    tell("Sent. A worker looks through it: " + dataset.state + ".");
    await pause(LOOK_S);
    dataset = await ask("GET", dataset.links.self);
  }
  list(dataset.findings.map((one) => (
    one.message + (one.number > 1 ? ": " + one.number : "") + (one.places.length ? ": " + one.places.join(", ") : "") + (one.hint ? " (" + one.hint + ")" : "")
  )));
  list(dataset.notes);
  at("ways").hidden = false;
  at("look").href = "/data/" + encodeURIComponent(dataset.name) + "?version=" + dataset.id;
  at("use").hidden = dataset.state !== "ready";
  if (dataset.state !== "ready") { tell("The dataset is " + dataset.state + "."); return; }
  at("use").href = "/new?dataset=" + encodeURIComponent(dataset.reference);
  tell("The dataset is ready. A spec names it in data.dataset:");
  at("reference").textContent = dataset.reference;
}

async function send() {
  const name = at("name").value;
  if (!chosen) { throw new Refusal("nothing is chosen", "choose an archive or a folder"); }
  const parts = chosen.archive ? ofArchive(chosen.archive) : ofFolder(sortedOut(chosen.files));
  const [upload, mark] = await sent(parts, chosen.archive ? chosen.archive.name : name + ".tar");
  const dataset = await ask("POST", "/v1/datasets", {name, upload: upload.id});
  localStorage.removeItem(mark);
  at("list").dispatchEvent(new Event("sent"));
  await lookedThrough(dataset);
  at("list").dispatchEvent(new Event("sent"));
}

/** Keep what is to be sent: one archive, or the files of a folder as pairs of path and file. */
function choose(called, found) {
  chosen = found;
  const what = found.archive ? found.archive.name : called + ": " + found.files.length + (found.files.length === 1 ? " file" : " files");
  at("chosen").textContent = "To be sent: " + what;
  at("chosen").hidden = false;
  at("name").value ||= called.replace(/[^A-Za-z0-9._-]/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 63);
}

const bare = (name) => name.replace(/\.(zip|tgz|tar(\.\w+)?)$/i, "");

at("archive").addEventListener("change", () => {
  const [archive] = at("archive").files;
  if (!archive) { return; }
  at("folder").value = "";
  choose(bare(archive.name), {archive});
});
at("folder").addEventListener("change", () => {
  const files = Array.from(at("folder").files);
  if (!files.length) { return; }
  at("archive").value = "";
  const inside = (file) => file.webkitRelativePath.split("/").slice(1).join("/");
  choose(files[0].webkitRelativePath.split("/")[0], {files: files.map((file) => [inside(file), file])});
});

async function* under(entry, path) {
  if (entry.isFile) {
    yield [path, await new Promise((resolve, reject) => entry.file(resolve, reject))];
    return;
  }
  const reader = entry.createReader();
  for (;;) { // a reader gives some entries at a time
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) { return; }
    for (const one of some) { yield* under(one, path ? path + "/" + one.name : one.name); }
  }
}

async function dropped(transfer) {
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry()).filter(Boolean);
  if (entries.length !== 1) { throw new Refusal("one archive or one folder is sent at a time", "drop the folder that holds all"); }
  const [entry] = entries, found = [];
  at("archive").value = at("folder").value = "";
  for await (const one of under(entry, entry.isFile ? entry.name : "")) { found.push(one); }
  if (entry.isFile) { choose(bare(entry.name), {archive: found[0][1]}); }
  else if (!found.length) { throw new Refusal("the folder is empty", "choose a dataset's"); }
  else { choose(entry.name, {files: found}); }
}

const drop = at("drop"), mark = (over) => drop.classList.toggle("over", over);
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, (event) => { event.preventDefault(); mark(!at("fields").disabled); });
}
drop.addEventListener("dragleave", () => mark(false));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  mark(false);
  if (!at("fields").disabled) { dropped(event.dataTransfer).catch((error) => tell("Not done: " + error.message)); }
});

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  at("fields").disabled = true;
  at("ways").hidden = true;
  at("reference").textContent = "";
  at("told").replaceChildren();
  try { await send(); }
  catch (error) { tell("Not done: " + error.message); }
  at("fields").disabled = false;
});
if (window.isSecureContext && crypto.subtle) { tell("Nothing is sent yet."); }
else {
  tell("Browsers compute digests on https pages and on this machine alone: open this page by https.");
  at("fields").disabled = true;
}
