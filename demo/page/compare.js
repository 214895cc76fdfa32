// The comparison: it runs the four ways, measures what they bring, and shows what the
// server has counted.

import { Bars, Chart } from "./chart.js";
import { showCode } from "./code.js";
import * as ways from "./ways.js";

const $ = (selector) => document.querySelector(selector);

const window_ = 15_000; // ms of latencies
const reportEvery = 1000; // ms
const smooth = 5; // reports that a rate is taken from
const drawnRate = 8; // events a second that are drawn at most

const page = Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
const base = new URL("/demo/compare/" + page, location.href).href;
const form = $("#controls");

/** What is set, with numbers. */
function settings() {
  const of = (name) => Number(form.elements[name].value);
  const on = (name) => (form.elements[name].checked ? of(name) : 0);
  return { rate: of("rate"), interval: of("interval"), delay: on("delay"), buffer: on("buffer"), cut: on("cut") };
}

const now = () => performance.timeOrigin + performance.now();

/** How far the server's clock is ahead of ours, from the quickest answer since either was set or drifted away. */
const clock = {
  ahead: 0,
  quickest: Infinity,
  note(sent, received, time) {
    const took = received - sent;
    const ahead = time - (sent + received) / 2; // give or take half of what it took, and a millisecond
    const moved = Math.abs(ahead - this.ahead) > (took + this.quickest) / 2 + 1;
    if (took > this.quickest && !moved) return;
    this.quickest = took;
    this.ahead = ahead;
  },
};

/** What all ways together know. */
const known = {
  ids: new Map(), // by number
  arrived: new Map(), // by number: when the first way had it
  first: 0,
  newest: 0,
  note(number, id) {
    this.first ||= number;
    this.newest = Math.max(this.newest, number);
    if (!this.ids.has(number)) {
      this.ids.set(number, id);
      this.arrived.set(number, now());
      this.ids.delete(number - 5000);
      this.arrived.delete(number - 5000);
    }
    return this.ids.get(number) === id;
  },
};

/** A way of waiting, and its column. */
class Way {
  /** The ids that have come, in order, the newest 5,000. */
  ids = [];
  missed = 0;
  repeated = 0;
  latencies = []; // {at, ms}
  bars = {};

  #name;
  #run;
  #element;
  #chart;
  #last = 0; // the newest number
  #from = ""; // the id to go on after
  #state = "";
  #running = null;

  constructor(name, run) {
    this.#name = name;
    this.#run = run;
    this.#element = $(`[data-way="${name}"]`);
    this.#chart = new Chart(this.#element.querySelector(".chart"), { span: 12_000, names: 0, above: "published", below: "received" });
    for (const svg of document.querySelectorAll(`[data-cell$="-${name}"] svg`)) {
      const row = svg.closest("td").dataset.cell.slice(0, -name.length - 1);
      if (row !== name) this.bars[row] = new Bars(svg);
    }
  }

  get name() { return this.#name; }

  start(from) {
    this.#from ||= from;
    const running = this.#running = new AbortController();
    const on = {
      interval: settings().interval,
      event: (event) => { if (this.#running === running) this.#event(event); },
      gap: () => { if (this.#running === running) anew(); },
      state: (state) => { if (this.#running === running) this.#changed(state); },
    };
    this.#run(`${base}/${this.#name}`, this.#from, on, running.signal);
  }

  stop() {
    const running = this.#running;
    this.#running = null;
    running?.abort();
  }

  restart() {
    if (!this.#running) return;
    this.stop();
    this.start();
  }

  /** Forgets all, as if the page had just been opened. */
  reset() {
    Object.assign(this, { ids: [], missed: 0, repeated: 0, latencies: [] });
    this.#last = 0;
    this.#from = "";
    this.#chart.state(2);
  }

  #event({ id, data }) {
    const { count, time } = JSON.parse(data);
    const arrived = now();
    const same = known.note(count, id);
    const wanted = this.#last ? this.#last + 1 : known.first;
    if (count > wanted) this.missed += count - wanted;
    if (!same) this.missed++;
    if (this.#last && count <= this.#last) this.repeated++;
    this.#last = Math.max(this.#last, count);
    this.#from = id;
    this.ids.push(id);
    if (this.ids.length > 5000) this.ids.shift();

    const published = Date.parse(time) - clock.ahead;
    this.latencies.push({ at: arrived, ms: Math.max(0, arrived - published) });
    if (count % Math.ceil(settings().rate / drawnRate) === 0) {
      const drawn = Date.now(); // the chart's clock, which goes on while the machine is asleep
      this.#chart.add(count, drawn - Math.max(0, arrived - published), drawn);
    }
  }

  #changed(state) {
    if (state === "closed") setTimeout(() => this.restart(), 1000); // the server has lost this page
    if (state === this.#state) return;
    this.#state = state;
    this.#chart.state({ open: 1, asks: 1, rests: "rests" }[state] ?? 0);
    this.say();
  }

  /** Whether what others have does not come by this way. */
  #held() {
    const { interval, delay } = settings();
    const missing = known.arrived.get((this.#last || known.first - 1) + 1);
    return now() - missing > 2500 + 2 * delay + (this.#name === "polling" ? interval : 0);
  }

  /** Tells the state of the connection, or how far what comes is behind. */
  say() {
    const { interval } = settings();
    const held = this.#held();
    const behind = known.newest - (this.#last || known.first - 1);
    const words = {
      open: this.#name === "long-polling" ? "waits for an answer" : "open",
      asks: `asks every ${interval / 1000} s`,
      rests: `asks every ${interval / 1000} s`,
      broken: this.#name === "polling" ? "cut: asks again later" : "cut: comes back in 0.5 s",
      refused: "not available: refused",
      closed: "closed: comes back in 1 s",
    };
    const text = !this.#running ? "not running" : held ? "held back" : words[this.#state] ?? "connecting";
    // Not in what a screen reader speaks, as it changes all the time.
    this.#element.querySelector(".behind").textContent = this.#running && held ? `${behind} behind` : "";
    const mark = !this.#running ? "2" : held ? "held" : { open: "1", asks: "1", rests: "rests", refused: "2" }[this.#state] ?? "0";
    const element = this.#element.querySelector(".state");
    if (element.textContent !== text) element.textContent = text;
    element.dataset.state = mark;
  }

  /** The median and the worst of the latencies of the last seconds, in ms. */
  latency() {
    const oldest = now() - window_;
    this.latencies = this.latencies.filter(({ at }) => at > oldest);
    const all = this.latencies.map(({ ms }) => ms);
    if (this.#held()) {
      for (let n = this.#last + 1; n <= known.newest; n++) {
        if (known.arrived.has(n)) all.push(now() - known.arrived.get(n));
      }
    }
    const sorted = all.sort((a, b) => a - b);
    return { median: sorted[sorted.length >> 1], worst: sorted.at(-1) };
  }
}

export const all = [
  new Way("polling", ways.polling),
  new Way("long-polling", ways.longPolling),
  new Way("sse", ways.serverSentEvents),
  new Way("websocket", ways.webSocket),
];

const reports = []; // the newest of the server

/** Sends the settings, which keeps the comparison running, and takes what it has cost. */
async function report() {
  const { rate, delay, buffer, cut } = settings();
  const sent = now();
  const response = await fetch(base, { method: "PUT", body: JSON.stringify({ rate, delay, buffer, cut }) });
  const received = now();
  if (!response.ok) throw new Error(await response.text());
  const body = await response.json();
  const at = Date.parse(body.time);
  clock.note(sent, received, at);
  if (reports.length && at - reports.at(-1).at < reportEvery / 2) return; // only a setting has changed
  const before = reports.at(-1);
  if (before && all.some(({ name }) => body.ways[name].requests < before.ways[name].requests)) reports.length = 0; // it has restarted
  reports.push({ at, ways: body.ways });
  while (reports.length > smooth + 1) reports.shift();
  show();
}

const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const texts = {
  requests: (v) => (v < 9.95 ? v.toFixed(1) : v.toFixed(0)),
  bytes: (v) => (v < 1000 ? v.toFixed(0) : number.format(v / 1000) + " kB"),
  median: milliseconds, worst: milliseconds,
  held: (v) => v.toFixed(1),
  missed: String, repeated: String,
};

function milliseconds(v) {
  if (v === undefined) return "-";
  if (v < 1) return "< 1 ms";
  return v < 999.5 ? `${v.toFixed(0)} ms` : `${(v / 1000).toFixed(1)} s`;
}

function show() {
  const newest = reports.at(-1), oldest = reports[0], before = reports.at(-2);
  const rate = (way, row, from) => (newest.ways[way][row] - from.ways[way][row]) / ((newest.at - from.at) / 1000);
  for (const way of all) {
    const values = { missed: way.missed, repeated: way.repeated, ...way.latency() };
    if (before) {
      for (const row of ["requests", "bytes", "held"]) {
        values[row] = rate(way.name, row, oldest);
        way.bars[row].add(rate(way.name, row, before));
      }
      way.bars.median.add(values.median ?? 0);
    }
    for (const [row, value] of Object.entries(values)) {
      const b = $(`[data-cell="${row}-${way.name}"] b`);
      b.textContent = value === undefined ? "-" : texts[row](value);
      b.classList.toggle("bad", (row === "missed" || row === "repeated") && value > 0);
    }
  }
  for (const row of ["requests", "bytes", "held", "median"]) {
    const most = Math.max(...all.flatMap((way) => way.bars[row].values));
    for (const way of all) way.bars[row].draw(most);
  }
}

/** Tells what is wrong, if anything is, and speaks it once. */
function tell(text) {
  const problem = $("#problem");
  if (problem.textContent !== text) problem.textContent = text;
  problem.hidden = !text;
}

let session = null; // while the page is in sight

/** Sets up the comparison, and reports until it ends. */
async function run() {
  const mine = session = new AbortController();
  let started = false;
  while (!mine.signal.aborted) {
    const next = ways.pause(reportEvery, mine.signal);
    try {
      await report();
      if (!started && !mine.signal.aborted) {
        // All begin at the same place, which is not where a page of before has begun.
        const response = await fetch(`${base}/polling?limit=1`, { headers: { Accept: "application/json" }, cache: "no-store", signal: mine.signal });
        const { last_id } = await response.json();
        started = true;
        for (const way of all) way.start(last_id);
      }
      tell("");
    } catch (error) {
      if (mine.signal.aborted) return;
      tell(error instanceof TypeError ? "The server cannot be reached." : error.message);
    }
    await next;
  }
}

/** Begins again where the server's history has: after a restart of it, or a long sleep. */
function anew() {
  leave();
  setTimeout(come, 1000);
}

function come() {
  if (!session && document.visibilityState === "visible") run();
}

function leave() {
  session?.abort();
  session = null;
  for (const way of all) {
    way.stop();
    way.reset();
    way.say();
  }
  reports.length = 0;
  known.ids.clear();
  known.arrived.clear();
  known.first = known.newest = 0;
}

form.addEventListener("change", (event) => {
  if (event.target.name === "interval") return all[0].restart();
  report().catch(() => {}); // the next one tells
});
form.addEventListener("submit", (event) => event.preventDefault());
setInterval(() => { for (const way of all) way.say(); }, 250);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") leave();
  else come();
});
addEventListener("pagehide", leave);
addEventListener("pageshow", come);

showCode(ways);
come();
