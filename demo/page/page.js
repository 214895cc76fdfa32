// The page around the examples: it shows their text, and runs those that are on the
// screen, two at most.

import { showCode } from "./code.js";
import * as examples from "./examples.js";
import { connection, token } from "./view.js";

const $ = (id) => document.getElementById(id);

// A browser opens six HTTP/1.1 connections to one host, for all its tabs together. Two
// windows beside each other and what they publish fit.
const maxStreams = 2;

const stateNames = ["connecting", "open", "closed"];
const supported = typeof EventSource === "function";

/** A section of the page, and the stream of its example while that runs. */
class Example {
  source = null;
  wanted = true; // false: the reader has closed it
  #name;
  #element;
  #live;
  #state;
  #wire;
  #types;

  constructor(element) {
    this.#element = element;
    this.#name = element.dataset.example;
    this.#types = element.dataset.types.split(" ");
    this.#live = element.querySelector(".live");
    this.#state = element.querySelector(".state");
    this.#wire = element.querySelector(".wire");
    this.#say(supported ? "not opened yet" : "no EventSource in this browser");
  }

  /** How many pixels of the example are on the screen. */
  inSight() {
    const box = this.#live.getBoundingClientRect();
    return Math.max(0, Math.min(box.bottom, innerHeight) - Math.max(box.top, 0));
  }

  contains(node) {
    return this.#element.contains(node);
  }

  start() {
    const source = this.source = examples[this.#name]();
    this.#announceSoon();
    if (this.#name === "panel") connection.made();
    for (const type of ["open", "error"]) source.addEventListener(type, () => this.#show());
    for (const type of this.#types) source.addEventListener(type, (event) => this.#received(event));
    this.#show();
  }

  stop(why) {
    this.source.close();
    this.source = null;
    if (this.#name === "panel") connection.closed(why);
    this.#say("readyState 2, closed: " + why, 2);
    changed();
  }

  #show() {
    const state = this.source.readyState;
    if (state === 2) { // of itself: the answer was no stream
      this.source = null;
      this.wanted = false;
      this.#say("readyState 2, closed by the server’s answer", 2);
    } else {
      this.#say(`readyState ${state}, ${stateNames[state]}`, state);
    }
    changed();
  }

  /** Screen readers are told of what comes from now on, and not of the history. */
  #announceSoon() {
    const list = this.#element.querySelector("[data-announce]");
    if (!list) return;
    list.setAttribute("aria-live", "off");
    setTimeout(() => list.setAttribute("aria-live", "polite"), 1000);
  }

  #say(text, state = 2) {
    this.#state.textContent = text;
    this.#state.dataset.state = state;
  }

  #received(event) {
    if (this.#wire) this.#wire.textContent = asSent(event);
    this.#state.classList.remove("flash");
    void this.#state.offsetWidth; // so that the animation begins anew
    this.#state.classList.add("flash");
  }
}

/** An event in the form in which it came. */
function asSent({ type, data, lastEventId }) {
  const lines = data.split("\n").map((line) => "data: " + line);
  if (lastEventId) lines.unshift("id: " + lastEventId);
  if (type !== "message") lines.unshift("event: " + type);
  return lines.join("\n");
}

const all = Array.from(document.querySelectorAll("[data-example]"), (element) => new Example(element));
const panel = all.find((example) => example.contains($("panel-cut")));
let used = null; // the example that was last clicked or typed into

/** Opens the streams of the examples that are on the screen, and closes the others. */
function choose() {
  const hidden = document.visibilityState === "hidden";
  const weight = (example) => {
    const px = hidden || !example.wanted ? 0 : example.inSight();
    if (px < 40) return 0;
    return px + (example === used ? 1e6 : 0) + (example.source ? 100 : 0); // do not change for little
  };
  const chosen = all.map((example) => [weight(example), example]).filter(([w]) => w > 0)
    .sort((a, b) => b[0] - a[0]).slice(0, maxStreams).map(([, example]) => example);
  for (const example of all) {
    if (!example.source || chosen.includes(example)) continue;
    example.stop(hidden ? "the page is hidden" : example.inSight() < 40 ? "out of sight" : "two others are open");
  }
  for (const example of chosen) {
    if (!example.source) example.start();
  }
}

let chooseSoon = 0;
function later() {
  clearTimeout(chooseSoon);
  chooseSoon = setTimeout(choose, 100);
}

/** Shows what depends on which streams are open. */
function changed() {
  $("streams-open").textContent = all.filter((example) => example.source).length;
  $("panel-cut").disabled = panel.source?.readyState !== 1;
  $("panel-close").disabled = !panel.source;
  $("panel-reopen").disabled = panel.wanted;
}

/** Tells what the server answered to a publish. */
async function answer(output, request) {
  output.textContent = "";
  try {
    const response = await request;
    const body = await response.json();
    output.textContent = response.ok ? "stored as " + body.id : body.detail;
    return response.ok;
  } catch {
    output.textContent = "The server cannot be reached.";
    return false;
  }
}

$("article-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.currentTarget;
  if (await answer($("article-answer"), examples.publish(form))) form.reset();
});

$("types-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const type = event.submitter.value;
  const { item, price } = Object.fromEntries(new FormData(event.currentTarget));
  const body = type === "price" ? `${item} ${Number(price).toFixed(2)}` : item;
  answer($("types-answer"), fetch("/events/demo/types?type=" + type, { method: "POST", body }));
});

$("panel-cut").addEventListener("click", async () => {
  connection.say("asked the server to cut the connection");
  try {
    await fetch("/demo/cut?token=" + token, { method: "POST" });
  } catch {
    connection.say("the server cannot be reached");
  }
});

$("panel-close").addEventListener("click", () => {
  panel.wanted = false;
  panel.stop("the button");
  $("panel-reopen").focus();
});

$("panel-reopen").addEventListener("click", () => {
  panel.wanted = true;
  choose();
  changed();
  $("panel-close").focus();
});

showCode(examples);

if (supported) {
  $("streams").hidden = false;
  changed();
  for (const type of ["focusin", "pointerdown"]) {
    document.addEventListener(type, (event) => {
      used = all.find((example) => example.contains(event.target)) ?? used;
      later();
    });
  }
  addEventListener("scroll", later, { passive: true });
  addEventListener("resize", later);
  addEventListener("pageshow", choose);
  document.addEventListener("visibilitychange", choose);
  choose();
} else {
  $("unsupported").hidden = false;
}
