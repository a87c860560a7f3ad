// Say what stands between the page and its service: that it is away, does not answer, or that the session has ended.
const line = document.getElementById("trouble");
let told = "";

/** Say that something is in the way, until its cause is over. An ended session is over with the next page. */
export function trouble(cause, text) {
  if (told === "session") return;
  told = cause;
  line.textContent = text;
  line.hidden = false;
}

/** Say no more of a cause. */
export function over(cause) {
  if (told !== cause || cause === "session") return;
  told = "";
  line.hidden = true;
}

/** Say that nobody is logged in any more, where an answer shows that; what has been typed stays where it is. */
export function loggedOut(answer) {
  if (answer.status !== 401 && !(answer.redirected && new URL(answer.url).pathname === "/login")) return false;
  trouble("session", "Your session has ended, and this page is not renewed any more. ");
  const link = document.createElement("a");
  link.href = `/login?${new URLSearchParams({ next: location.pathname + location.search })}`;
  link.textContent = "Log in again";
  if (!line.querySelector("a")) line.append(link);
  return true;
}
