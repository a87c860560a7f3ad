// Log in by the one-time link whose secret stands behind the #: a browser sends that to nobody.
const state = document.getElementById("state");
const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname + location.search);
if (token) {
  state.textContent = "Logging in\u2026";
  const body = JSON.stringify({ token });
  const answer = await fetch("/login", { method: "POST", headers: { "Content-Type": "application/json" }, body });
  const found = await answer.json();
  if (answer.ok) location.replace(document.getElementById("by-key").dataset.next);
  else state.textContent = found.detail + (found.hint ? ` (${found.hint})` : "");
}
