// Before the first paint: what only scripts can do is shown at once, so that nothing jumps later.
document.documentElement.classList.add("scripted");
