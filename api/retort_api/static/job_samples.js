// Move through the epochs of the sample images with a slider; without scripts there are links.
import { parsed } from "./markup.js";

const slider = document.getElementById("epoch");
const epochs = slider.dataset.epochs.split(" ");
const pages = new Map();
let wanted = null;

/** Return a page of an epoch; each is asked for once. */
function pageOf(epoch) {
  if (!pages.has(epoch)) {
    const asked = fetch(`?epoch=${epoch}`).then(async (answer) => {
      if (!answer.ok) throw new Error(answer.statusText);
      return parsed(await answer.text());
    });
    asked.catch(() => pages.delete(epoch));
    pages.set(epoch, asked);
  }
  return pages.get(epoch);
}

async function show(epoch) {
  wanted = epoch;
  document.querySelector("output[for=epoch]").textContent = epoch;
  const page = await pageOf(epoch).catch(() => null);
  if (!page || wanted !== epoch) return;
  for (const id of ["over-told", "over-images"]) document.getElementById(id).replaceWith(document.adoptNode(page.getElementById(id).cloneNode(true)));
  for (const link of document.querySelectorAll(".job-epochs a")) {
    if (link.textContent === epoch) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
  }
  history.replaceState(null, "", `?epoch=${epoch}`);
}

slider.addEventListener("input", () => show(epochs[+slider.value]));
