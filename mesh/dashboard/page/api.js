// Token, calls and polling. The API is HTTP/JSON (Connect protocol) on this origin.

const key = "sluice.token";

// takeToken moves a token from the address (#token=...) to this tab's storage.
export function takeToken() {
  const params = new URLSearchParams(location.hash.slice(1));
  const token = params.get("token");
  if (token === null) return;
  sessionStorage.setItem(key, token);
  params.delete("token");
  history.replaceState(null, "", params.size ? "#" + params : location.pathname);
}

export const token = () => sessionStorage.getItem(key);
export const setToken = (value) => sessionStorage.setItem(key, value.trim());
export const dropToken = () => sessionStorage.removeItem(key);

export class Failure extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

// call asks the API; it fails with a Failure whose code is Connect's, or "network".
export async function call(method, request = {}) {
  let response;
  try {
    response = await fetch("/sluice.v1.SluiceService/" + method, {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        "Connect-Protocol-Version": "1",
        "Connect-Timeout-Ms": "5000",
        Authorization: "Bearer " + token(),
      },
      body: JSON.stringify(request),
      credentials: "omit",
      cache: "no-store",
      signal: AbortSignal.timeout(6000),
    });
  } catch {
    throw new Failure("network", "the control plane does not answer");
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Failure(body?.code || "http " + response.status, body?.message || `answer ${response.status} ${response.statusText}`);
  if (body === null || typeof body !== "object") throw new Failure("malformed", "the answer is not JSON");
  return body;
}

const everyMillis = 1000;
const mostMillis = 15000;

// poll runs work once a second, backing off while it fails. tell gets null when all is
// well, else {error, retryAt}. It returns a function that ends it.
export function poll(work, tell) {
  let timer, ended = false, wait = everyMillis;
  const round = async () => {
    let error = null;
    try {
      await work();
    } catch (e) {
      error = e;
    }
    if (ended) return;
    wait = error ? Math.min(wait * 2, mostMillis) : everyMillis;
    tell(error ? { error, retryAt: Date.now() + wait } : null);
    timer = setTimeout(round, document.hidden ? Math.max(wait, 5000) : wait);
  };
  const now = () => {
    if (document.hidden || ended) return;
    clearTimeout(timer);
    wait = everyMillis;
    timer = setTimeout(round, 0);
  };
  document.addEventListener("visibilitychange", now);
  addEventListener("online", now);
  round();
  return () => {
    ended = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", now);
    removeEventListener("online", now);
  };
}

// h makes an element; text is always text.
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

// show replaces what is in element if signature is news, and keeps the focus.
export function show(element, signature, build) {
  const text = JSON.stringify(signature);
  if (element.dataset.shown === text) return;
  element.dataset.shown = text;
  const focused = element.contains(document.activeElement) && document.activeElement.dataset.key;
  const known = new Map([...element.querySelectorAll("details")].map((d) => [d.dataset.key, d.open]));
  const scroll = [...element.querySelectorAll("[data-scroll]")].map((e) => e.scrollTop);
  element.replaceChildren(...[build()].flat().filter((c) => c !== null && c !== undefined && c !== false));
  element.querySelectorAll("details").forEach((d) => { d.open = known.get(d.dataset.key) ?? d.open; });
  element.querySelectorAll("[data-scroll]").forEach((e, i) => { e.scrollTop = scroll[i] || 0; });
  if (focused) element.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

// The figures as people read them.
export const millis = (s) => (!s ? "–" : s < 0.01 ? (s * 1000).toFixed(1) + " ms" : s < 1 ? Math.round(s * 1000) + " ms" : s.toFixed(2) + " s");
export const percent = (share) => (!share ? "0 %" : share < 0.001 ? "<0.1 %" : (share * 100).toFixed(share < 0.1 ? 1 : 0) + " %");
export const rate = (r) => (!r ? "0/s" : r < 10 ? r.toFixed(1) + "/s" : Math.round(r) + "/s");
export const seconds = (ms) => (ms < 10000 ? (ms / 1000).toFixed(2) : ms < 100000 ? (ms / 1000).toFixed(1) : Math.round(ms / 1000)) + " s";
export const clock = (at) => (at ? new Date(at).toLocaleTimeString([], { hour12: false }) : "–");
