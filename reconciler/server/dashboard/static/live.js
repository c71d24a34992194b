"use strict";
// Everything works without this file. It replaces what changed on a page when the daemon says so, follows logs, and keeps ages right.

const main = document.getElementById("main");
const connection = document.getElementById("connection");
const RETRY_MS = 10000;
let ahead = null; // milliseconds that this machine's clock is ahead of the daemon's; until it is known, ages stay as they were sent
let tag = "";
let busy = false;
let again = false;
let change = "";

function say(text) {
  if (connection && connection.textContent !== text) connection.textContent = text;
}

// Make `old` equal to `fresh` with as few replacements as possible: focus, text that was typed, and open details stay.
function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || (old.id || "") !== (fresh.id || "")) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.isEqualNode(fresh)) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of [...fresh.attributes]) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const named = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let place = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const known = child.id ? named.get(child.id) : null;
    if (known && known !== place) old.insertBefore(known, place);
    const current = known || place;
    if (!current || (!known && current.id && [...fresh.children].some((other) => other.id === current.id))) {
      old.insertBefore(child, place);
      continue;
    }
    place = current.nextSibling;
    morph(current, child);
  }
  while (place) {
    const following = place.nextSibling;
    place.remove();
    place = following;
  }
}

async function refresh(event) {
  change = event && event.data ? event.data : ""; // which change: the daemon renders a page once for all who load it because of it
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  try {
    const headers = {};
    if (tag) headers["if-none-match"] = tag;
    if (change) headers["reconciler-change"] = change;
    const answer = await fetch(location.href, { headers, cache: "no-store" });
    if (answer.redirected && new URL(answer.url).pathname !== location.pathname) {
      location.reload(); // the session is over
    } else if (answer.status === 200) {
      tag = answer.headers.get("etag") || "";
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("main");
      if (fresh && fresh.dataset.live) {
        const status = main.querySelector(":scope > .done");
        morph(main, fresh);
        if (status && !main.querySelector(":scope > .done")) main.prepend(status);
        document.title = page.title;
      }
    }
  } catch {
    say("the daemon does not answer");
  } finally {
    busy = false;
    if (again) {
      again = false;
      setTimeout(() => refresh({ data: change }), 250);
    }
  }
}

function follow(place) {
  let stream = null;
  let missed = false;
  const open = () => {
    if (stream || document.hidden) return;
    stream = new EventSource(place);
    stream.addEventListener("open", () => {
      say("live");
      if (missed) refresh();
      missed = false;
    });
    stream.addEventListener("clock", (event) => { ahead = Date.now() - Number(event.data); });
    stream.addEventListener("change", refresh);
    stream.addEventListener("error", () => {
      missed = true;
      say("not live, connecting again");
      if (stream && stream.readyState === EventSource.CLOSED) {
        stream = null;
        setTimeout(() => { refresh(); open(); }, RETRY_MS);
      }
    });
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && stream) {
      stream.close(); // a hidden page holds no connection
      stream = null;
      missed = true;
    } else {
      open();
    }
  });
  addEventListener("pagehide", () => { if (stream) { stream.close(); stream = null; missed = true; } });
  addEventListener("pageshow", open);
  open();
}

function followLog(log) {
  const state = document.getElementById("log-state");
  const MAX_LINES = 20000;
  const stream = new EventSource(log.dataset.stream);
  state.textContent = "following";
  stream.addEventListener("log", (event) => {
    const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    log.append(JSON.parse(event.data).lines.map((line) => line + "\n").join(""));
    while (log.childNodes.length > MAX_LINES) log.firstChild.remove();
    if (atEnd) log.scrollTop = log.scrollHeight;
  });
  stream.addEventListener("end", () => { stream.close(); state.textContent = "complete"; });
  // The stream begins at the cursor of this page: after a cut it would repeat lines, so the page must be reloaded.
  stream.addEventListener("error", () => { stream.close(); state.textContent = "the stream was cut: reload the page"; });
}

function age(text) {
  const seconds = (Date.now() - ahead - Date.parse(text)) / 1000;
  const length = Math.abs(seconds);
  if (!(length >= 1)) return "now";
  const [size, unit] = length >= 86400 ? [86400, "d"] : length >= 3600 ? [3600, "h"] : length >= 60 ? [60, "m"] : [1, "s"];
  const number = Math.floor(length / size) + unit;
  return seconds > 0 ? number + " ago" : "in " + number;
}

setInterval(() => {
  if (document.hidden || ahead === null) return;
  for (const time of document.querySelectorAll("time[datetime]")) {
    const text = age(time.getAttribute("datetime"));
    if (time.textContent !== text) time.textContent = text;
  }
}, 5000);

// A form is sent once, however often its button is pressed.
addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "1";
});
addEventListener("pageshow", () => { for (const form of document.forms) delete form.dataset.sent; });

const here = new URL(location.href);
if (here.searchParams.has("done")) {
  here.searchParams.delete("done"); // what was done is said once, not at every reload
  history.replaceState(null, "", here);
}
if (main && main.dataset.live) follow(main.dataset.live);
const log = document.getElementById("log");
if (log && log.dataset.stream) followLog(log);
