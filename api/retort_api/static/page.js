// What every page does with JavaScript; all of it works without, too.
import { confine } from "./markup.js";

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

// What renews itself (hx-trigger="every …", data-live) rests while nobody looks, keeps what it shows where the service
// refuses or is away, and leads to the login where the session has ended.
document.addEventListener("htmx:before:request", (event) => {
  if (event.target.matches?.("[data-live]") && document.hidden) event.preventDefault();
});
document.addEventListener("htmx:before:response", (event) => {
  const answer = event.detail.ctx.response.raw;
  if (answer.redirected && new URL(answer.url).pathname === "/login") location.reload();
  else if (answer.ok || !event.target.matches?.("[data-live]")) return;
  event.preventDefault();
});

// On a phone a bar of links scrolls sideways: show where people are.
for (const here of document.querySelectorAll(":is(.tabs, .top nav) [aria-current]")) {
  const bar = here.closest("ul");
  bar.scrollLeft = here.offsetLeft - bar.offsetLeft - (bar.clientWidth - here.offsetWidth) / 2;
}

// Scripts show what only they can do.
document.documentElement.classList.add("js");
