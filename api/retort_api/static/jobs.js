// The list of jobs: tick all of a page, and say how many are ticked. The list renews itself (page.js) and keeps both.
const list = () => document.getElementById("list");
const boxes = () => [...list().querySelectorAll('input[name="ids"]')];

function say() {
  const ticked = boxes().filter((box) => box.checked).length;
  const all = document.getElementById("tick-all");
  const said = document.getElementById("ticked");
  if (!said) return;
  all.checked = ticked > 0 && ticked === boxes().length;
  all.indeterminate = ticked > 0 && !all.checked;
  const text = ticked ? `${ticked} ticked` : "Tick jobs, then choose what to do with them.";
  if (said.textContent !== text) said.textContent = text;
}

document.addEventListener("change", (event) => {
  if (event.target.id === "tick-all") for (const box of boxes()) box.checked = event.target.checked;
  if (event.target.closest("#list")) say();
});
document.addEventListener("htmx:after:swap", say);
say();
