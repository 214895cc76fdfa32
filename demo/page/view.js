// What the examples draw with.

import { Chart } from "./chart.js";

const $ = (id) => document.getElementById(id);

/** A page's own name for its stream, so that it can have the server cut it. */
export const token = Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");

/** Draws the table of prices. */
export function drawPrices(prices) {
  $("prices").replaceChildren(...Array.from(prices, ([fish, price]) => {
    const row = document.createElement("tr");
    row.insertCell().textContent = fish;
    row.insertCell().textContent = price || "no price yet";
    return row;
  }));
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });

const shownNumbers = 36;
const shownNotes = 100;

/** The panel of the connection: it notes all that happens to a stream. */
class Connection {
  lastId = "";

  #chart = new Chart($("chart"));
  #skew = Infinity; // what the server's clock is behind ours
  #last = 0; // the last number; 0: none that the next one must follow
  #counts = { received: 0, missed: 0, repeated: 0, opened: 0, errors: 0 };

  /** A new EventSource was made. */
  made() {
    this.#note("new EventSource", 0);
    this.#state(0);
  }

  opened(readyState) {
    this.#add("opened", 1);
    this.#note(this.lastId ? "open, to go on after " + this.lastId : "open", readyState);
    this.#state(readyState);
  }

  failed(readyState) {
    this.#add("errors", 1);
    this.#note(readyState === 0 ? "error: the browser will come back" : "error: the browser will not come back", readyState);
    this.#mark();
    this.#state(readyState);
  }

  received(count, published, id) {
    if (this.#last && count > this.#last + 1) this.#add("missed", count - this.#last - 1);
    if (count <= this.#last) this.#add("repeated", 1);
    this.#last = Math.max(this.#last, count);
    this.lastId = id;
    this.#add("received", 1);
    $("panel-id").textContent = id;
    $("curl-resume").lastChild.data = $("curl-resume").dataset.text.replace("{id}", id);
    this.#show(String(count), "");
    const now = Date.now(), at = Date.parse(published);
    this.#skew = Math.min(this.#skew, now - at);
    this.#chart.add(count, at + this.#skew, now);
  }

  /** The server says that it cannot give all that was asked for. */
  gap(data, id) {
    this.#note("tidewire.gap " + data, 1);
    this.#mark();
    this.#last = 0;
    this.lastId = id;
  }

  closed(why) {
    this.#note("close(): " + why, 2);
    this.#mark();
    this.#state(2);
  }

  say(text) {
    this.#note(text);
  }

  #state(readyState) {
    for (const li of document.querySelectorAll(".ready li")) {
      const now = li.dataset.ready === String(readyState);
      li.toggleAttribute("aria-current", now);
      if (now) li.setAttribute("aria-current", "true");
    }
    this.#chart.state(readyState);
  }

  #add(name, n) {
    this.#counts[name] += n;
    $("panel-" + name).textContent = this.#counts[name];
    if (name === "missed" || name === "repeated") $("panel-" + name).classList.add("bad");
  }

  /** Marks the end of a connection in the sequence. */
  #mark() {
    const last = $("panel-sequence").lastChild;
    if (last && last.className !== "mark") this.#show("connection ended", "mark");
  }

  #show(text, className) {
    const span = document.createElement("span");
    span.className = className;
    span.textContent = text;
    const sequence = $("panel-sequence");
    sequence.append(span);
    while (sequence.childElementCount > shownNumbers) sequence.firstChild.remove();
  }

  #note(text, readyState) {
    const log = $("panel-log");
    const follow = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    const li = document.createElement("li");
    const at = li.appendChild(document.createElement("time"));
    at.textContent = clock.format(new Date());
    li.appendChild(document.createElement("span")).textContent = text;
    if (readyState !== undefined) li.appendChild(document.createElement("b")).textContent = "readyState " + readyState;
    log.append(li);
    while (log.childElementCount > shownNotes) log.firstChild.remove();
    if (follow) log.scrollTop = log.scrollHeight;
  }
}

export const connection = new Connection();
