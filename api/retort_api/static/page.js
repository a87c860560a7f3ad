// What every page does with JavaScript; all of it works without, too.
import { confine } from "./markup.js";
import { loggedOut, over, trouble } from "./trouble.js";

if (globalThis.htmx) confine(htmx);

/** Copy the text of the element that a button names in data-copy, or of the attribute itself. */
async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  const text = source ? source.value ?? source.textContent : button.dataset.text;
  await navigator.clipboard.writeText(text.trim());
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1500);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-copy], button[data-text]");
  if (button) copy(button);
});

// Ask before what cannot be undone: <form data-confirm="Delete 3 jobs?"> or a button of it.
document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});

// A form is sent once, however often its button is pressed, and says where the answer is late or the browser offline.
const LATE_MS = 2000, LOST_MS = 15_000;
let sent = new WeakSet(), timers = [];

function again() {
  timers.forEach(clearTimeout);
  sent = new WeakSet();
  document.querySelectorAll("[aria-busy]").forEach((one) => one.removeAttribute("aria-busy"));
  over("sent");
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (sent.has(form)) return event.preventDefault();
  if (!navigator.onLine) {
    trouble("offline", "This browser is offline: nothing was sent, and nothing is lost. Press the button again later.");
    return event.preventDefault();
  }
  sent.add(form);
  event.submitter?.setAttribute("aria-busy", "true");
  timers = [setTimeout(() => trouble("sent", "It is sent. The service has not answered yet."), LATE_MS), setTimeout(again, LOST_MS)];
});
addEventListener("pageshow", again);
addEventListener("online", () => over("offline"));

// What renews itself (hx-trigger="every …", data-live) rests while nobody looks, and keeps what it shows where the
// service refuses or is away, or the session has ended: each of them is said.
const isLive = (one) => one.matches?.("[data-live]");
const away = () => trouble("live", "The service does not answer. The page shows how things were, and goes on by itself.");

document.addEventListener("htmx:before:request", (event) => {
  if (isLive(event.target) && document.hidden) event.preventDefault();
});
document.addEventListener("htmx:before:response", (event) => {
  const answer = event.detail.ctx.response.raw;
  if (loggedOut(answer)) return event.preventDefault();
  if (!isLive(event.target)) return;
  if (answer.ok) return over("live");
  away();
  event.preventDefault();
});
document.addEventListener("htmx:error", (event) => { if (isLive(event.target)) away(); });

// On a phone a bar of links scrolls sideways: show where people are.
for (const here of document.querySelectorAll(":is(.tabs, .top nav) [aria-current]")) {
  const bar = here.closest("ul");
  bar.scrollLeft = here.offsetLeft - bar.offsetLeft - (bar.clientWidth - here.offsetWidth) / 2;
}

// All that this page's scripts do is ready.
document.documentElement.classList.add("js");
