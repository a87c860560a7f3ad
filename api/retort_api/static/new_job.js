// Keep form and YAML in step as somebody types: the service, which reads both, says what each means by the other.
import { parsed } from "./markup.js";
import { loggedOut, over, trouble } from "./trouble.js";

const form = document.getElementById("job-form");
const WAIT_MS = 350, LOOK_AGAIN_MS = 5000;
let timer = 0, running = null, again = false;

const fields = () => [...form.elements].filter((one) => one.name && !["token", "parent", "do", "before"].includes(one.name));
const held = (field) => (["radio", "checkbox"].includes(field.type) ? field.checked : field.value);
const renew = (part, other) => part.replaceChildren(...[...other.childNodes].map((node) => document.importNode(node, true)));

/** Find the same control in the page that came back. */
const twin = (page, field) => [...page.querySelectorAll(`[name="${CSS.escape(field.name)}"]`)].find(
  (one) => one.type === field.type && (!["radio", "checkbox", "hidden"].includes(field.type) || one.value === field.value),
);

/** Take the groups of lists that have other controls now, and keep the focus where it was. */
function reshape(page) {
  for (const part of form.querySelectorAll("[data-variants]")) {
    const other = page.getElementById(part.id);
    if (!other || part.dataset.variants === other.dataset.variants) continue;
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    renew(part, other);
    part.dataset.variants = other.dataset.variants;
    (part.querySelector("[autofocus]") ?? document.getElementById(focused))?.focus();
  }
}

function take(page, sent) {
  reshape(page);
  for (const field of fields()) {
    const other = twin(page, field);
    if (!other) continue;
    field.toggleAttribute("aria-invalid", false);
    if (other.hasAttribute("aria-invalid")) {
      field.setAttribute("aria-invalid", "true");
      field.closest("details")?.setAttribute("open", "");
    }
    if (sent.has(field) && held(field) !== sent.get(field)) { again = true; continue; } // it was changed while the answer was on its way
    if (field.tagName === "SELECT" && field.innerHTML !== other.innerHTML) renew(field, other);
    if (["radio", "checkbox"].includes(field.type)) field.checked = other.checked;
    else if (field.type !== "hidden" && field.value !== other.value) field.value = other.value;
  }
  for (const part of form.querySelectorAll("[data-live]")) {
    const other = page.getElementById(part.id);
    if (other && part.innerHTML !== other.innerHTML) renew(part, other);
  }
  document.getElementById("before").value = page.getElementById("before").value;
  if (form.querySelector("[data-waits]")) later(LOOK_AGAIN_MS);
}

async function check(act = "check") {
  if (running) { again = true; return; }
  again = false;
  const sent = new Map(fields().map((field) => [field, held(field)]));
  const body = new URLSearchParams(new FormData(form));
  body.set("do", act);
  running = fetch(form.action, { method: "POST", body, headers: { Accept: "text/html" } });
  try {
    const answer = await running;
    loggedOut(answer);
    over("check");
    const page = parsed(await answer.text());
    if (page.getElementById("job-form")) take(page, sent);
    form.dataset.checked = String(Number(form.dataset.checked ?? 0) + 1);
  } catch {
    trouble("check", "The service does not answer: what you typed stays, and is not checked yet.");
  } finally {
    running = null;
  }
  if (again) later();
}

function later(wait = WAIT_MS) {
  clearTimeout(timer);
  timer = setTimeout(() => check(), wait);
}

form.addEventListener("input", (event) => {
  if (event.target.id === "f-data-other") form.querySelector('[name="data"][value="other"]').checked = true;
  later();
});
form.addEventListener("submit", async (event) => {
  clearTimeout(timer);
  const act = event.submitter?.value ?? "check";
  if (act !== "submit") { // everything but the submission changes this page alone
    event.preventDefault();
    while (running) await running.catch(() => {}).then(() => new Promise((done) => { setTimeout(done); }));
    check(act);
    return;
  }
  // Twice the same job by a double click the service knows to be one; the second need not be sent at all.
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
});
addEventListener("pageshow", () => { delete form.dataset.sent; });
if (form.querySelector("[data-waits]")) later(LOOK_AGAIN_MS);
