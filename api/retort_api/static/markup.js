// The one place where text becomes elements. The policy of pages has browsers refuse it anywhere else (Trusted Types).
// What is made here is a document of its own, in which nothing loads and nothing runs.

const rules = { createHTML: (text) => text, createScript: () => "" };
const policy = globalThis.trustedTypes?.createPolicy("retort", rules) ?? rules;

/** Return the document that a page of ours is, from its text. */
export function parsed(text) {
  return new DOMParser().parseFromString(policy.createHTML(text), "text/html");
}

/** Have htmx make its elements here, and never a program: neither of attributes, nor of scripts in what it swaps. */
export function confine(htmx) {
  const refuse = function refuse() { throw new Error("no program is made of text here"); };
  htmx.registerExtension("retort", { init: (api) => api.initSecurity(policy, refuse, refuse) });
}
