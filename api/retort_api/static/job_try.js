// Show what teacher, control and student find on a picture of one's own.

const root = document.getElementById("job"), place = document.getElementById("try");
const drop = document.getElementById("drop"), input = document.getElementById("picture");
const confidence = document.getElementById("confidence"), epoch = document.getElementById("epoch");
const told = document.getElementById("told");
const epochs = [...document.querySelectorAll("#epochs option")];
const LEAST = 0.05, COLOURS = ["series-1", "series-2", "series-3", "series-4", "series-5", "series-6"];
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
let picture = null, file = null, turn = 0;
const found = new Map();

function student() {
  return epoch && +epoch.value < epochs.length ? epochs[+epoch.value].dataset.network : "";
}

async function ask(figure, mine) {
  const said = figure.querySelector("[data-said]");
  said.textContent = "looks …";
  const network = figure.dataset.role === "student" ? student() : figure.dataset.network;
  const query = new URLSearchParams({ confidence: LEAST, ...(network ? { network } : {}) });
  const answer = await fetch(`/v1/jobs/${root.dataset.job}/predict?${query}`, {
    method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" },
  }).catch(() => null);
  const body = await answer?.json().catch(() => null);
  if (mine !== turn) return;
  if (!answer?.ok) {
    said.textContent = body ? `${body.detail ?? body.title}${body.hint ? `: ${body.hint}` : ""}` : "the service does not answer";
    found.delete(figure);
    return;
  }
  found.set(figure, body);
  paint(figure, body);
}

function paint(figure, body) {
  const boxes = body.boxes.filter((box) => box.score >= +confidence.value);
  const canvas = figure.querySelector("canvas"), pen = canvas.getContext("2d");
  const scale = Math.min(1, 1200 / Math.max(picture.width, picture.height));
  canvas.width = Math.round(picture.width * scale);
  canvas.height = Math.round(picture.height * scale);
  canvas.hidden = false;
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const thick = Math.max(2, canvas.width / 250), size = Math.max(12, canvas.width / 45);
  const names = [...new Set(body.boxes.map((box) => box.name))].sort();
  pen.font = `600 ${size}px system-ui, sans-serif`;
  for (const box of boxes.toReversed()) {
    const left = box.x1 * canvas.width, top = box.y1 * canvas.height;
    const colour = style(COLOURS[names.indexOf(box.name) % COLOURS.length]);
    pen.lineWidth = thick;
    pen.strokeStyle = colour;
    pen.strokeRect(left, top, (box.x2 - box.x1) * canvas.width, (box.y2 - box.y1) * canvas.height);
    const words = `${box.name} ${box.score.toFixed(2)}`, y = top > size * 1.4 ? top : top + size * 1.4;
    pen.fillStyle = "rgb(20 21 24 / 85%)";
    pen.fillRect(left, y - size * 1.3, pen.measureText(words).width + size * 0.6, size * 1.3);
    pen.fillStyle = "#fff";
    pen.fillText(words, left + size * 0.3, y - size * 0.3);
  }
  const which = body.epoch ? `, epoch ${body.epoch}` : "";
  const number = `${boxes.length} ${boxes.length === 1 ? "box" : "boxes"}`;
  figure.querySelector("[data-said]").textContent = `${number}${which}, ${body.took_ms} ms`;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${number} of the ${figure.dataset.role}; the table below has them`);
  list(figure, boxes, body);
}

function list(figure, boxes, body) {
  const rows = boxes.map((box) => {
    const row = document.createElement("tr"), head = document.createElement("th");
    head.scope = "row";
    head.textContent = box.name;
    row.append(head);
    for (const value of [box.score.toFixed(2), box.x1 * body.width, box.y1 * body.height, box.x2 * body.width, box.y2 * body.height]) {
      const cell = row.insertCell();
      cell.className = "n";
      cell.textContent = typeof value === "number" ? Math.round(value) : value;
    }
    return row;
  });
  figure.querySelector("tbody").replaceChildren(...rows);
  figure.querySelector("details").hidden = false;
}

async function look(only = null) {
  if (!picture) return;
  const mine = ++turn;
  const figures = [...document.querySelectorAll("#tries figure")].filter((one) => !only || one.dataset.role === only);
  for (const figure of figures) await ask(figure, mine);  // one after the other: a queue is short
}

async function choose(chosen) {
  if (!chosen) return;
  if (chosen.size > +place.dataset.largest) { told.textContent = `${chosen.name} is larger than the service takes.`; return; }
  try { picture = await createImageBitmap(chosen); } catch { told.textContent = `${chosen.name} is no picture that this browser can show.`; return; }
  file = chosen;
  told.textContent = `${chosen.name}, ${picture.width} by ${picture.height} pixels`;
  look();
}

input?.addEventListener("change", () => choose(input.files[0]));
for (const type of ["dragover", "dragenter"]) drop?.addEventListener(type, (event) => { event.preventDefault(); drop.classList.add("over"); });
for (const type of ["dragleave", "drop"]) drop?.addEventListener(type, () => drop.classList.remove("over"));
drop?.addEventListener("drop", (event) => { event.preventDefault(); choose(event.dataTransfer.files[0]); });
addEventListener("paste", (event) => choose([...event.clipboardData.files][0]));
confidence?.addEventListener("input", () => {
  document.getElementById("confidence-told").textContent = confidence.value;
  found.forEach((body, figure) => paint(figure, body));
});
epoch?.addEventListener("input", () => {
  const option = epochs[+epoch.value];
  document.getElementById("epoch-told").textContent = option ? option.label : "the end";
});
epoch?.addEventListener("change", () => look("student"));
